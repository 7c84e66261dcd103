"""PGPOOL SHOW/SET/RESET and SHOW pool_status: texts as the incumbent gives them."""

import pytest

from pgpool.config.params import PARAMS
from pgpool.errors import SettingError

from .support import GOLDEN, settings

SOME = """backend_hostname0 = '/tmp/orc'
backend_port0 = 27410
backend_weight0 = 1
backend_data_directory0 = '/tmp/orc/d0'
backend_hostname1 = 'localhost'
backend_port1 = 27411
backend_weight1 = 2.5
backend_flag1 = 'ALWAYS_PRIMARY'
health_check_timeout1 = 7
health_check_password = 'geheim'
wd_authkey = 'geheim'
child_life_time = 90
read_only_function_list = 'a, b ,c'
"""
NODES = """hostname0 = 'localhost'
wd_port0 = 27422
pgpool_port0 = 27420
hostname1 = 'other'
wd_port1 = 27423
pgpool_port1 = 27424
heartbeat_hostname0 = 'localhost'
heartbeat_port0 = 27425
heartbeat_device0 = 'eth0'
heartbeat_hostname1 = 'other'
heartbeat_port1 = 27426
"""


@pytest.mark.parametrize("name, value", [
    ("child_life_time", "90s"), ("search_primary_node_timeout", "5min"), ("log_rotation_age", "1d"),
    ("memqcache_total_size", "64MB"), ("memqcache_maxcache", "400kB"), ("connection_life_time", "0"),
    ("ssl", "off"), ("load_balance_mode", "on"), ("max_pool", "4"), ("log_min_messages", "warning"),
    ("backend_clustering_mode", "streaming_replication"), ("pool_passwd", "*****"), ("health_check_password", "*****"),
    ("health_check_password1", "*****"), ("sr_check_password", "*****"), ("wd_authkey", "*****"),
    ("backend_weight1", "2"), ("BACKEND_WEIGHT1", "2"), ("health_check_timeout", "20"), ("health_check_timeout1", "7"),
    ("health_check_timeout7", "20"), ("backend_hostname5", ""), ("connect_timeout", "10000"),
    ("backend_flag1", "ALLOW_TO_FAILOVER|ALWAYS_PRIMARY"), ("reset_query_list", "ABORT;DISCARD ALL"),
    ("read_only_function_list", "a,b,c"), ("unix_socket_permissions", "0777"), ("listen_addresses", "localhost"),
    ("replication_mode", "off"), ("delegate_ip", ""),
])
def test_show_one(name, value):
    assert settings(SOME).show(name) == value


@pytest.mark.parametrize("name", ["nope", "logdir", "other_pgpool", "backend_hostname128", "port1", "",
                                  "wd_port0x", "backend_hostname"])
def test_show_not_found(name):
    with pytest.raises(SettingError) as caught:
        settings(SOME).show(name)
    assert caught.value.message == f'config variable "{name}" not found'
    assert (caught.value.severity, caught.value.sqlstate) == ("ERROR", "XX000")


def test_show_group_backend():
    rows = settings(SOME).show_many("backend")
    assert [row[:2] for row in rows] == [
        ("backend_hostname0", "/tmp/orc"), ("backend_port0", "27410"), ("backend_weight0", "1"),
        ("backend_data_directory0", "/tmp/orc/d0"), ("backend_application_name0", ""),
        ("backend_flag0", "ALLOW_TO_FAILOVER"),
        ("backend_hostname1", "localhost"), ("backend_port1", "27411"), ("backend_weight1", "2"),
        ("backend_data_directory1", ""), ("backend_application_name1", ""),
        ("backend_flag1", "ALLOW_TO_FAILOVER|ALWAYS_PRIMARY")]
    assert all(row[2] for row in rows)


def test_show_group_health_check():
    rows = [row[:2] for row in settings(SOME).show_many("health_check")]
    names = ["health_check_period", "health_check_timeout", "health_check_user", "health_check_password",
             "health_check_database", "health_check_max_retries", "health_check_retry_delay", "connect_timeout"]
    assert [name for name, _ in rows] == names + [f"{n}0" for n in names] + [f"{n}1" for n in names]
    assert dict(rows)["health_check_timeout"] == "20" and dict(rows)["health_check_timeout1"] == "7"
    assert dict(rows)["health_check_password0"] == "*****"


def test_show_groups_of_the_watchdog():
    assert settings(SOME).show_many("watchdog") == []
    s = settings(NODES)
    assert [row[:2] for row in s.show_many("watchdog")] == [
        ("hostname0", "localhost"), ("pgpool_port0", "27420"), ("wd_port0", "27422"),
        ("hostname1", "other"), ("pgpool_port1", "27424"), ("wd_port1", "27423")]
    assert [row[:2] for row in s.show_many("heartbeat")] == [
        ("heartbeat_device0", "eth0"), ("heartbeat_hostname0", "localhost"), ("heartbeat_port0", "27425"),
        ("heartbeat_device1", ""), ("heartbeat_hostname1", "other"), ("heartbeat_port1", "27426")]


def test_show_array_without_index():
    s = settings(SOME)
    assert [row[:2] for row in s.show_many("backend_hostname")] == [
        ("backend_hostname0", "/tmp/orc"), ("backend_hostname1", "localhost")]
    assert [row[0] for row in s.show_many("health_check_timeout")] == [
        "health_check_timeout", "health_check_timeout0", "health_check_timeout1"]
    assert s.show_many("port") is None
    assert s.show_many("backend_weight1") is None
    with pytest.raises(SettingError):
        s.show_many("nope")


def test_show_all():
    rows = settings(SOME + NODES).show_many("all")
    names = [row[0] for row in rows]
    assert len(names) == len(set(names))
    first = ("backend_hostname0", "hostname0", "heartbeat_device0", "health_check_period")
    groups = [names.index(name) for name in first]
    assert groups[0] == 0 and groups == sorted(groups)
    for param in PARAMS:
        assert (param.name in names) == param.has_plain_value
    assert not any("geheim" in row[1] for row in rows)


def status_items(backends, nodes):
    """The golden order with every block of N items repeated."""
    lines = [line for line in (GOLDEN / "pool_status.txt").read_text().splitlines() if line[0] != "#"]
    blocks = {"hostnameN": ("hostnameN pgpool_portN wd_portN", nodes),
              "heartbeat_hostnameN": ("heartbeat_hostnameN heartbeat_deviceN heartbeat_portN", nodes)}
    items = []
    for line in lines:
        if line in blocks:
            names, count = blocks[line]
            items += [name[:-1] + str(n) for n in range(count) for name in names.split()]
        elif not line.endswith("N"):
            items.append(line)
        elif line == "backend_hostnameN":
            block = lines[lines.index(line):]
            items += [name[:-1] + str(n) for n in range(backends) for name in block]
    return items


def test_show_status_order():
    s = settings(SOME + NODES)
    assert [row[0] for row in s.show_status()] == status_items(2, 2)
    assert [row[0] for row in settings().show_status()] == status_items(0, 0)


def test_show_status_values():
    rows = {row[0]: row[1] for row in settings(SOME).show_status()}
    expected = {
        "backend_clustering_mode": "1", "authentication_timeout": "60", "ssl": "0", "connection_cache": "1",
        "pool_passwd": "pool_passwd", "client_min_messages": "18", "log_min_messages": "19", "log_error_verbosity": "1",
        "log_standby_delay": "2", "syslog_facility": "LOCAL0", "reset_query_list": "ABORT;DISCARD ALL",
        "disable_load_balance_on_write": "2", "check_temp_table": "1", "memqcache_total_size": "67108864",
        "memqcache_cache_oiddir": "/var/log/pgpool/oiddir", "unix_socket_permissions": "0777",
        "backend_weight0": "0.285714", "backend_weight1": "0.714286",
        "backend_flag1": "ALLOW_TO_FAILOVER|ALWAYS_PRIMARY",
        "health_check_timeout": "20", "connect_timeout": "10000", "child_life_time": "90",
        "app_name_redirect_preference_list": "", "memqcache_cache_hits": "", "backend_status0": ""}
    assert {name: rows[name] for name in expected} == expected
    assert not any("geheim" in value for value in rows.values())
    assert not {"wd_authkey", "health_check_timeout1"} & rows.keys()
    assert not any("password" in name for name in rows)


def test_show_status_asks_for_state():
    asked = []

    def state(item, index):
        asked.append((item, index))
        return f"<{item}/{index}>"

    rows = {row[0]: row[1] for row in settings(SOME).show_status(state)}
    assert asked == [("memqcache_stats_start_time", None), ("memqcache_no_cache_hits", None),
                     ("memqcache_cache_hits", None), ("backend_status", 0), ("standby_delay", 0),
                     ("backend_status", 1), ("standby_delay", 1)]
    assert rows["backend_status1"] == "<backend_status/1>"
    assert rows["memqcache_cache_hits"] == "<memqcache_cache_hits/None>"


@pytest.mark.parametrize("name, text, value", [
    ("client_idle_limit", "90", 90), ("client_idle_limit", "2min", 120), ("log_statement", "on", True),
    ("LOG_STATEMENT", "TRUE", True), ("log_error_verbosity", "VERBOSE", "verbose"),
    ("client_min_messages", "debug", "debug2"),
    ("client_idle_limit_in_recovery", "-1", -1), ("notice_routing_reason", "on", True),
])
def test_set(name, text, value):
    before = settings()
    after = before.with_text(name, text)
    assert getattr(after, name.lower()) == value
    assert getattr(before, name.lower()) != value
    assert after.reset(name, before) == before


@pytest.mark.parametrize("name, text, message, hint", [
    ("nope", "5", 'unrecognized configuration parameter "nope"', ""),
    ("debug_level", "1", 'unrecognized configuration parameter "debug_level"', ""),
    ("port", "5000", 'invalid Context, value for parameter "port" cannot be changed', ""),
    ("backend_weight0", "5", 'invalid Context, value for parameter "backend_weight0" cannot be changed', ""),
    ("health_check_timeout", "1", 'invalid Context, value for parameter "health_check_timeout" cannot be changed', ""),
    ("check_temp_table", "trace", 'invalid Context, value for parameter "check_temp_table" cannot be changed', ""),
    ("backend_hostname", "1", 'parameter "backend_hostname" expects the index value', ""),
    ("client_idle_limit", "-1",
     '-1 is outside the valid range for parameter "client_idle_limit" (0 .. 2147483647)', ""),
    ("client_idle_limit", "x", 'invalid value for parameter "client_idle_limit": "x"', ""),
    ("client_idle_limit", "", 'invalid value for parameter "client_idle_limit": ""', ""),
    ("client_idle_limit", "90foo", 'invalid value for parameter "client_idle_limit": "90foo"',
     'Valid units for this parameter are "us", "ms", "s", "min", "h", and "d".'),
    ("log_error_verbosity", "loud", 'invalid value for parameter "log_error_verbosity": "loud"',
     "Available values: terse, default, verbose."),
    ("log_min_messages", "loud", 'invalid value for parameter "log_min_messages": "loud"',
     "Available values: debug5, debug4, debug3, debug2, debug1, info, notice, warning, error, log, fatal, panic."),
])
def test_set_refused(name, text, message, hint):
    with pytest.raises(SettingError) as caught:
        settings(SOME).with_text(name, text)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize("name, message", [
    ("nope", 'unrecognized configuration parameter "nope"'),
    ("port", 'invalid Context, value for parameter "port" cannot be changed')])
def test_reset_refused(name, message):
    with pytest.raises(SettingError, match=message):
        settings().reset(name, settings())
