"""One door to the servers of the tests."""

from .faultproxy import FaultProxy
from .pgpool import DEBIAN, Pgpool, show
from .places import free_port, pg_bin, pg_version, run, wait_until
from .postgres import Cluster, Postgres

__all__ = [
    "DEBIAN",
    "Cluster",
    "FaultProxy",
    "Pgpool",
    "Postgres",
    "free_port",
    "pg_bin",
    "pg_version",
    "run",
    "show",
    "wait_until",
]
