"""Names that older versions knew and that are more than a renamed row: each says what becomes of its value.

Plain renames are ``old_names`` of the parameter's own row.
"""

from __future__ import annotations

from dataclasses import dataclass

from .param import BOOL, ENUM, INT, STRING

MODE = "mode"
"""One of the switches that backend_clustering_mode replaced; oldnames.py folds them together."""
LOCAL = "local"
"""Described this pgpool itself; now the value of its own watchdog node."""
OTHER = "other"
"""Described the other pgpools, counted from 0; now the values of the watchdog nodes that are not our own."""
GONE = "gone"
"""Has no effect any more."""
GONE_IF_ON = "gone if on"
"""Has no effect any more, which is only worth a warning when it asked for something."""


@dataclass(frozen=True, slots=True)
class OldName:
    """``name`` was a parameter of ``type`` until version ``removed``; ``target`` is the parameter that has its value
    now ('' none); ``note`` ends the warning."""

    name: str
    type: str
    kind: str
    removed: str
    target: str = ""
    note: str = ""
    indexed: bool = False
    choices: tuple[str, ...] = ()


_PARALLEL = "parallel query was removed"

OLD_NAMES = (
    OldName("master_slave_mode", BOOL, MODE, "4.2", "backend_clustering_mode"),
    OldName("master_slave_sub_mode", ENUM, MODE, "4.2", "backend_clustering_mode",
            choices=("stream", "slony", "logical")),
    OldName("replication_mode", BOOL, MODE, "4.2", "backend_clustering_mode"),

    OldName("wd_hostname", STRING, LOCAL, "4.2", "hostname"),
    OldName("wd_port", INT, LOCAL, "4.2", "wd_port"),
    OldName("wd_heartbeat_port", INT, LOCAL, "4.2", "heartbeat_port"),
    OldName("other_pgpool_hostname", STRING, OTHER, "4.2", "hostname", indexed=True),
    OldName("other_pgpool_port", INT, OTHER, "4.2", "pgpool_port", indexed=True),
    OldName("other_wd_port", INT, OTHER, "4.2", "wd_port", indexed=True),
    OldName("heartbeat_destination", STRING, OTHER, "4.2", "heartbeat_hostname", indexed=True),
    OldName("heartbeat_destination_port", INT, OTHER, "4.2", "heartbeat_port", indexed=True),

    OldName("debug_level", INT, GONE_IF_ON, "3.6", note="use log_min_messages, or the option -d"),
    OldName("print_timestamp", BOOL, GONE, "3.6", note="use log_line_prefix"),
    OldName("print_user", BOOL, GONE, "3.6", note="use log_line_prefix"),
    OldName("enable_query_cache", BOOL, GONE_IF_ON, "3.4",
            note="the query cache on disk was removed; see memory_cache_enabled"),
    OldName("backend_socket_dir", STRING, GONE, "3.5", note="use a backend_hostname that begins with /"),
    OldName("allow_inet_domain_socket", BOOL, GONE, "3.6", note="use listen_addresses"),
    OldName("pcp_timeout", INT, GONE, "3.5"),
    OldName("parallel_mode", BOOL, GONE_IF_ON, "3.5", note=_PARALLEL),
    OldName("pgpool2_hostname", STRING, GONE, "3.5", note=_PARALLEL),
    OldName("system_db_hostname", STRING, GONE, "3.5", note=_PARALLEL),
    OldName("system_db_port", INT, GONE, "3.5", note=_PARALLEL),
    OldName("system_db_dbname", STRING, GONE, "3.5", note=_PARALLEL),
    OldName("system_db_schema", STRING, GONE, "3.5", note=_PARALLEL),
    OldName("system_db_user", STRING, GONE, "3.5", note=_PARALLEL),
    OldName("system_db_password", STRING, GONE, "3.5", note=_PARALLEL),
    OldName("replication_strict", BOOL, GONE, "3.0"),
    OldName("replication_timeout", INT, GONE, "3.0"),
    OldName("replication_enabled", BOOL, GONE, "3.0", note="use backend_clustering_mode"),
)
