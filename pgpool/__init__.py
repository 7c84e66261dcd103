"""A PostgreSQL proxy that takes the place of Pgpool-II: pooling, load balancing, failover."""

__version__ = "0.1.0"
COMPAT_VERSION = "4.7.2"
"""The Pgpool-II level whose files, commands and reports we speak."""
PRODUCT_NAME = "pgpool-py"


def version_text() -> str:
    """The text of `pgpool --version` and `SHOW pool_version`: ``NUMBER (NAME)`` (commands.md section 4)."""
    return f"{COMPAT_VERSION} ({PRODUCT_NAME} {__version__})"
