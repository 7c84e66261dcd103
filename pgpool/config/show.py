"""PGPOOL SHOW and SHOW pool_status as rows of text (commands.md section 4). State comes from the caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pgpool.errors import SettingError

from . import param as p
from .params import BY_NAME, PARAMS, split_index
from .values import code, human

if TYPE_CHECKING:
    from .snapshot import Settings

Row = tuple[str, str, str]
StateHook = Callable[[str, int | None], str]

_HEALTH = ("health_check_period", "health_check_timeout", "health_check_user", "health_check_password",
           "health_check_database", "health_check_max_retries", "health_check_retry_delay", "connect_timeout")
GROUPS: dict[str, tuple[str, ...]] = {
    "backend": ("backend_hostname", "backend_port", "backend_weight", "backend_data_directory",
                "backend_application_name", "backend_flag"),
    "watchdog": ("hostname", "pgpool_port", "wd_port"),
    "heartbeat": ("heartbeat_device", "heartbeat_hostname", "heartbeat_port"),
    "health_check": _HEALTH,
    "backend_tls": ("backend_sslmode", "backend_sslrootcert", "backend_sslcert", "backend_sslkey"),
}

_BEFORE_NODES = """backend_clustering_mode listen_addresses port unix_socket_directories unix_socket_group
unix_socket_permissions pcp_listen_addresses pcp_port pcp_socket_dir enable_pool_hba pool_passwd authentication_timeout
allow_clear_text_frontend_auth ssl ssl_key ssl_cert ssl_ca_cert ssl_ca_cert_dir ssl_crl_file ssl_ciphers
ssl_prefer_server_ciphers ssl_ecdh_curve ssl_dh_params_file ssl_passphrase_command listen_backlog_multiplier
serialize_accept reserved_connections max_pool process_management_mode process_management_strategy num_init_children
min_spare_children max_spare_children child_life_time child_max_connections connection_life_time client_idle_limit
log_destination log_line_prefix log_error_verbosity client_min_messages log_min_messages log_connections
log_disconnections log_pcp_processes log_hostname log_statement log_per_node_statement notice_per_node_statement
log_client_messages log_backend_messages log_standby_delay syslog_facility syslog_ident pid_file_name work_dir
connection_cache reset_query_list replicate_select insert_lock lobj_lock_table replication_stop_on_mismatch
failover_if_affected_tuples_mismatch load_balance_mode ignore_leading_white_space read_only_function_list
write_function_list primary_routing_query_pattern_list disable_load_balance_on_write
dml_adaptive_object_relationship_list statement_level_load_balance sr_check_period sr_check_user sr_check_database
delay_threshold delay_threshold_by_time prefer_lower_delay_standby follow_primary_command user_redirect_preference_list
database_redirect_preference_list app_name_redirect_preference_list allow_sql_comments health_check_period
health_check_timeout health_check_user health_check_database health_check_max_retries health_check_retry_delay
connect_timeout failover_command failback_command failover_on_backend_error failover_on_backend_shutdown
detach_false_primary auto_failback auto_failback_interval recovery_user recovery_database recovery_1st_stage_command
recovery_2nd_stage_command recovery_timeout search_primary_node_timeout client_idle_limit_in_recovery relcache_expire
relcache_size check_temp_table check_unlogged_table enable_shared_relcache relcache_query_target use_watchdog
wd_ipc_socket_dir wd_lifecheck_method clear_memqcache_on_escalation wd_escalation_command wd_de_escalation_command
trusted_servers trusted_server_command delegate_ip wd_priority wd_interval ping_path if_cmd_path if_up_cmd if_down_cmd
arping_path arping_cmd wd_heartbeat_keepalive wd_heartbeat_deadtime wd_life_point wd_lifecheck_query wd_lifecheck_dbname
wd_lifecheck_user"""
_AFTER_NODES = """wd_monitoring_interfaces_list memory_cache_enabled memqcache_method memqcache_memcached_host
memqcache_memcached_port memqcache_total_size memqcache_max_num_cache memqcache_expire memqcache_auto_cache_invalidation
memqcache_maxcache memqcache_cache_block_size memqcache_oiddir"""
_STATUS_LISTS = ("cache_safe_memqcache_table_list", "cache_unsafe_memqcache_table_list")
_STATUS_NAMES = {"memqcache_oiddir": "memqcache_cache_oiddir"}
_COUNTERS = {"memqcache_stats_start_time": "Since when the query cache counts.",
             "memqcache_no_cache_hits": "SELECTs not answered from the query cache.",
             "memqcache_cache_hits": "SELECTs answered from the query cache."}


def show(settings: Settings, name: str) -> str:
    """The value of one parameter, with index if it has one. Raises SettingError: not found."""
    stem, index = split_index(name.lower())
    param = BY_NAME.get(stem)
    if param is None or param.hidden or (index is None and not param.has_plain_value):
        raise _not_found(name)
    if index is not None and (not param.indexed or index > param.max_index):
        raise _not_found(name)
    return human(param, settings.value(stem, index))


def show_many(settings: Settings, name: str) -> list[Row] | None:
    """Rows for 'all', a group or an array name; None when ``name`` is one parameter. Raises SettingError: not found."""
    name = name.lower()
    if name == "all":
        rows = [row for group in GROUPS for row in _group(settings, group)]
        plain = [param for param in PARAMS if not param.indexed and not param.hidden]
        return rows + [(param.name, human(param, settings.value(param.name)), param.help) for param in plain]
    if name in GROUPS:
        return _group(settings, name)
    param = BY_NAME.get(name)
    if param is not None and param.indexed:
        return [row for index in _indexes(settings, param) for row in [_row(settings, param, index)]]
    show(settings, name)
    return None


def _not_found(name: str) -> SettingError:
    return SettingError(f'config variable "{name}" not found')


def _row(settings: Settings, param: p.Param, index: int | None) -> Row:
    name = param.name if index is None else f"{param.name}{index}"
    return name, human(param, settings.value(param.name, index)), param.help


def _indexes(settings: Settings, param: p.Param) -> list[int | None]:
    """Which values exist: the index-free one if any, then those of the configured backends or nodes."""
    if param.indexing == p.WATCHDOG:
        nodes = settings.heartbeats if param.name.startswith("heartbeat_") else settings.watchdog_nodes
        return [node.id for node in nodes]
    ids: list[int | None] = [backend.id for backend in settings.backends if backend.used]
    return [None, *ids] if param.has_plain_value else ids


def _group(settings: Settings, group: str) -> list[Row]:
    params = [BY_NAME[name] for name in GROUPS[group]]
    indexes = sorted({index for param in params for index in _indexes(settings, param)},
                     key=lambda index: -1 if index is None else index)
    return [_row(settings, param, index) for index in indexes for param in params]


def show_status(settings: Settings, state: StateHook | None = None) -> list[Row]:
    """All items of SHOW pool_status in the reference's order."""
    def ask(item: str, index: int | None) -> str:
        return state(item, index) if state is not None else ""

    def plain(name: str) -> Row:
        param = BY_NAME[name]
        return _STATUS_NAMES.get(name, name), code(param, settings.value(name)), param.help

    rows = [plain(name) for name in _BEFORE_NODES.split()]
    rows += _status_nodes(settings)
    rows += [plain(name) for name in _AFTER_NODES.split()]
    rows += [(item, ask(item, None), text) for item, text in _COUNTERS.items()]
    rows += [plain(name) for name in _STATUS_LISTS]
    total = sum(backend.weight for backend in settings.backends if backend.used) or 1.0
    for backend in settings.backends:
        for name in ("backend_hostname", "backend_port", "backend_weight", "backend_data_directory"):
            text = code(BY_NAME[name], settings.value(name, backend.id))
            if name == "backend_weight":
                text = f"{backend.weight / total if backend.used else 0.0:.6f}"
            rows.append((f"{name}{backend.id}", text, BY_NAME[name].help))
        rows.append((f"backend_status{backend.id}", ask("backend_status", backend.id), "State of the backend."))
        rows.append((f"standby_delay{backend.id}", ask("standby_delay", backend.id), "How far the standby is behind."))
        rows += [_row(settings, BY_NAME[name], backend.id) for name in ("backend_flag", "backend_application_name")]
    return rows


def _status_nodes(settings: Settings) -> list[Row]:
    rows = []
    for node in settings.watchdog_nodes:
        rows += [_row(settings, BY_NAME[name], node.id) for name in ("hostname", "pgpool_port", "wd_port")]
    for beat in settings.heartbeats:
        rows += [_row(settings, BY_NAME[name], beat.id)
                 for name in ("heartbeat_hostname", "heartbeat_device", "heartbeat_port")]
    return rows
