"""The bench: ours beside Debian's Pgpool-II, PgBouncer, a byte relay and no proxy at all, in one interleaved run.

Read README.md. Run from the top of the repository, never with bench/ as the current directory.
"""
