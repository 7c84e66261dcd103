"""Configuration: the parameter table, the reader of pgpool.conf, and the immutable Settings made of both."""
