"""Checks across parameters (behaviour.md section 15), all at once. Pure: files and backends are not looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pgpool.model import ClusterMode

from .forms import ALWAYS_PRIMARY
from .params import split_index
from .snapshot import Settings

FATAL = "FATAL"
WARNING = "WARNING"
MAX_SOCKET_PATH = 107
"""sockaddr_un.sun_path has 108 bytes, one of them for the NUL."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``level`` FATAL: cannot be used. ``names`` are the parameters to blame, with index, the first one first."""

    level: str
    text: str
    names: tuple[str, ...] = ()

    @property
    def params(self) -> set[str]:
        return {split_index(name)[0] for name in self.names}

    def place(self, settings: Settings) -> tuple[str, int]:
        """File and line of the first named parameter that was set; line 0 when none was."""
        for name in self.names:
            if (key := split_index(name)) in settings.origins:
                return settings.origins[key]
        return settings.config_file, 0


def _fatal(text: str, *names: str) -> Finding:
    return Finding(FATAL, text, names)


def _warning(text: str, *names: str) -> Finding:
    return Finding(WARNING, text, names)


def check(settings: Settings) -> list[Finding]:
    """Everything that does not go together."""
    return [*_processes(settings), *_sockets(settings), *_backends(settings), *_recovery(settings), *_cache(settings),
            *_watchdog(settings), *_routing(settings), *_streaming(settings), *_users(settings)]


def _processes(s: Settings) -> Iterator[Finding]:
    spare = f"invalid configuration, max_spare_children:{s.max_spare_children}"
    if s.process_management_mode == "dynamic":
        if s.max_spare_children <= s.min_spare_children:
            yield _fatal(f"{spare} must be greater than min_spare_children:{s.min_spare_children}",
                         "max_spare_children", "min_spare_children")
        if s.max_spare_children > s.num_init_children:
            yield _fatal(f"{spare} can't be greater than num_init_children:{s.num_init_children}",
                         "max_spare_children", "num_init_children")
    if s.reserved_connections >= s.num_init_children:
        yield _warning(f"reserved_connections:{s.reserved_connections} leaves none of "
                       f"num_init_children:{s.num_init_children} for clients",
                       "reserved_connections", "num_init_children")
    if s.serialize_accept and s.child_life_time > 0:
        yield _warning("serialize_accept has no effect unless child_life_time is 0",
                       "serialize_accept", "child_life_time")


def _sockets(s: Settings) -> Iterator[Finding]:
    if s.port == s.pcp_port:
        yield _warning(f"port and pcp_port are both {s.port}", "pcp_port", "port")
    for name, port in (("unix_socket_directories", s.port), ("pcp_socket_dir", s.pcp_port)):
        for directory in getattr(s, name):
            path = f"{directory}/.s.PGSQL.{port}"
            if len(path.encode("utf-8", "surrogateescape")) > MAX_SOCKET_PATH:
                yield _fatal(f'unix socket path "{path}" is longer than {MAX_SOCKET_PATH} bytes', name)
    if s.ssl and not (s.ssl_cert and s.ssl_key):
        yield _warning("ssl is on, but clients cannot use it without ssl_cert and ssl_key", "ssl")


def _backends(s: Settings) -> Iterator[Finding]:
    used = [backend for backend in s.backends if backend.used]
    if not used:
        yield _warning("no backend is configured: set backend_hostname0 and backend_port0", "backend_port0")
    numbers = {backend.id for backend in used}
    for (name, index), _ in s.items():
        if name == "backend_hostname" and index not in numbers:
            yield _warning(f"backend_hostname{index} is not used: backend_port{index} is not set",
                           f"backend_hostname{index}", f"backend_port{index}")
    places: dict[tuple[str, int], int] = {}
    for backend in used:
        first = places.setdefault((backend.hostname, backend.port), backend.id)
        if first != backend.id:
            yield _warning(f"backends {first} and {backend.id} are the same server, "
                           f"{backend.hostname or '/tmp'}:{backend.port}", f"backend_port{backend.id}")
    if used and s.load_balance_mode and s.mode is not ClusterMode.RAW and not any(b.weight for b in used):
        yield _warning("load_balance_mode is on, but every backend_weight is 0",
                       *(f"backend_weight{backend.id}" for backend in used))
    always = [backend.id for backend in used if ALWAYS_PRIMARY in backend.flags]
    if len(always) > 1:
        yield _warning(f"more than one backend is flagged ALWAYS_PRIMARY: {_numbers(always)}",
                       *(f"backend_flag{index}" for index in reversed(always)))
    if s.mode is ClusterMode.SLONY:
        yield _warning("slony mode was removed from Pgpool-II in 4.7; it is served like logical_replication",
                       "backend_clustering_mode")


def _numbers(ids: list[int]) -> str:
    return ", ".join(map(str, ids))


def _recovery(s: Settings) -> Iterator[Finding]:
    commands = [name for name in ("recovery_1st_stage_command", "recovery_2nd_stage_command") if getattr(s, name)]
    missing = [b.id for b in s.backends if b.used and not b.data_directory]
    if commands and missing:
        yield _fatal("invalid configuration, recovery_1st_stage_command and recovery_2nd_stage_command requires "
                     f"backend_data_directory to be set (not set for backend {_numbers(missing)})",
                     *commands, "backend_data_directory")
    for name in ("recovery_password", "wd_lifecheck_password"):
        if re.fullmatch("md5[0-9a-f]{32}", getattr(s, name)):
            yield _warning(f"{name} cannot be given as an md5 hash", name)


def _cache(s: Settings) -> Iterator[Finding]:
    if s.memqcache_method != "shmem":
        return
    block = s.memqcache_cache_block_size
    if s.memqcache_total_size < block:
        yield _fatal(f"invalid memory cache configuration: memqcache_total_size {s.memqcache_total_size} should be "
                     f"greater or equal to memqcache_cache_block_size {block}",
                     "memqcache_total_size", "memqcache_cache_block_size")
    if s.memqcache_maxcache > block:
        yield _fatal(f"invalid memory cache configuration: memqcache_cache_block_size {block} should be greater or "
                     f"equal to memqcache_maxcache {s.memqcache_maxcache}",
                     "memqcache_maxcache", "memqcache_cache_block_size")


def _watchdog(s: Settings) -> Iterator[Finding]:
    if not s.use_watchdog:
        return
    ids = [node.id for node in s.watchdog_nodes]
    if s.node_id >= 0 and s.node_id not in ids:
        yield _fatal("invalid watchdog configuration: no watchdog configuration for local pgpool node, "
                     f"pgpool node id: {s.node_id}", "use_watchdog", f"wd_port{s.node_id}")
    elif len(ids) < 2:
        yield _fatal("invalid watchdog configuration. other pgpools setting is not defined",
                     "use_watchdog", "wd_port", "hostname")
    for node in s.watchdog_nodes:
        if not node.pgpool_port:
            yield _warning(f"pgpool_port{node.id} is not set", f"wd_port{node.id}", "pgpool_port")
    if s.failover_require_consensus and not s.failover_when_quorum_exists:
        yield _warning("failover_require_consensus has no effect while failover_when_quorum_exists is off",
                       "failover_require_consensus", "failover_when_quorum_exists")
    if s.mode is ClusterMode.NATIVE_REPLICATION and s.failover_when_quorum_exists:
        yield _warning("failover_when_quorum_exists should be off in native replication mode: backends that only some "
                       "pgpools write to drift apart", "failover_when_quorum_exists", "backend_clustering_mode")
    if s.wd_lifecheck_method == "heartbeat":
        beats = {beat.id for beat in s.heartbeats}
        missing = [number for number in ids if number not in beats]
        if missing:
            yield _warning(f"the heartbeat lifecheck needs heartbeat_port (not set for node {_numbers(missing)})",
                           "wd_lifecheck_method", "use_watchdog", "heartbeat_port")


def _routing(s: Settings) -> Iterator[Finding]:
    if s.read_only_function_list and s.write_function_list:
        yield _warning("read_only_function_list and write_function_list are both set: the former wins",
                       "write_function_list", "read_only_function_list")
    adaptive = s.disable_load_balance_on_write in ("dml_adaptive", "dml_adaptive_global")
    if s.dml_adaptive_object_relationship_list and not adaptive:
        yield _warning("dml_adaptive_object_relationship_list has no effect unless disable_load_balance_on_write is "
                       "dml_adaptive", "dml_adaptive_object_relationship_list", "disable_load_balance_on_write")
    if s.disable_load_balance_on_write == "lsn" and s.mode is not ClusterMode.STREAMING_REPLICATION:
        yield _warning("disable_load_balance_on_write = lsn acts as always outside of streaming_replication mode: there "
                       "is no position to compare", "disable_load_balance_on_write", "backend_clustering_mode")
    by_time = s.delay_threshold_by_time or s.replication_delay_source_cmd
    if s.disable_load_balance_on_write == "dml_adaptive_global" and not by_time:
        yield _warning("dml_adaptive_global needs the delay of the standbys in time: set delay_threshold_by_time",
                       "disable_load_balance_on_write", "delay_threshold_by_time")


def _streaming(s: Settings) -> Iterator[Finding]:
    streaming = s.mode is ClusterMode.STREAMING_REPLICATION
    for name in ("auto_failback", "detach_false_primary"):
        if getattr(s, name) and not (streaming and s.sr_check_period):
            yield _warning(f"{name} has no effect without streaming_replication mode and sr_check_period",
                           name, "sr_check_period", "backend_clustering_mode")
    if s.backend_discovery and not (streaming and s.sr_check_period and s.failover_owner == "external"):
        yield _warning("backend_discovery has no effect without streaming_replication mode, sr_check_period and "
                       "failover_owner = external", "backend_discovery", "sr_check_period", "failover_owner")
    if not streaming:
        return
    unnamed = [b.id for b in s.backends if b.used and not b.application_name]
    for name in ("auto_failback", "delay_threshold_by_time"):
        if unnamed and getattr(s, name):
            yield _warning(f"{name} needs backend_application_name (not set for backend {_numbers(unnamed)})",
                           name, "backend_application_name")
    if s.prefer_lower_delay_standby and not (s.delay_threshold or s.delay_threshold_by_time):
        yield _warning("prefer_lower_delay_standby has no effect without delay_threshold or delay_threshold_by_time",
                       "prefer_lower_delay_standby")


def _users(s: Settings) -> Iterator[Finding]:
    if s.mode is ClusterMode.STREAMING_REPLICATION and s.sr_check_period and not s.sr_check_user and s.backends:
        yield _warning("sr_check_user is empty: standbys cannot be checked", "sr_check_user", "sr_check_period")
    for backend in s.backends:
        if backend.used and backend.health_check.period and not backend.health_check.user:
            yield _warning(f"health_check_user is empty: the health check of backend {backend.id} cannot log in",
                           f"health_check_user{backend.id}", "health_check_user", "health_check_period")
