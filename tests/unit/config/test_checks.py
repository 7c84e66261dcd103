"""Cross-checks (behaviour.md section 15) and the sizing rule."""

import pytest

from pgpool.config.settings import NodeLimits, check, load_text, size_findings

from .support import faults, messages, settings

NODE = "backend_hostname{0} = 'h{0}'\nbackend_port{0} = {1}\nbackend_weight{0} = 1\n"
BASE = "sr_check_user = 'u'\n" + NODE.format(0, 5432) + NODE.format(1, 5433)

FAULTS = [
    ("process_management_mode = dynamic\nmin_spare_children = 10", 2,
     "invalid configuration, max_spare_children:10 must be greater than min_spare_children:10"),
    ("num_init_children = 9\nprocess_management_mode = dynamic", 1,
     "invalid configuration, max_spare_children:10 can't be greater than num_init_children:9"),
    ("recovery_1st_stage_command = 'x'\n" + BASE + "backend_data_directory1 = '/d'", 1,
     "invalid configuration, recovery_1st_stage_command and recovery_2nd_stage_command requires "
     "backend_data_directory to be set (not set for backend 0)"),
    ("recovery_2nd_stage_command = 'x'\n" + BASE, 1,
     "invalid configuration, recovery_1st_stage_command and recovery_2nd_stage_command requires "
     "backend_data_directory to be set (not set for backend 0, 1)"),
    ("memqcache_maxcache = 2MB", 1, "invalid memory cache configuration: memqcache_cache_block_size 1048576 should be "
     "greater or equal to memqcache_maxcache 2097152"),
    ("memqcache_total_size = 70000", 1, "invalid memory cache configuration: memqcache_total_size 70000 should be "
     "greater or equal to memqcache_cache_block_size 1048576"),
    ("unix_socket_directories = '/" + "x" * 100 + "'", 1,
     "unix socket path \"/" + "x" * 100 + "/.s.PGSQL.9999\" is longer than 107 bytes"),
]


@pytest.mark.parametrize("text, line, message", FAULTS)
def test_fatal(text, line, message):
    assert faults(text) == [(line, message)]


def test_all_of_them_at_once():
    text = "\n".join(text for text, _, _ in FAULTS if "2nd" not in text)
    assert len(faults(text)) == len(FAULTS) - 1


@pytest.mark.parametrize("text", [
    "process_management_mode = dynamic", "min_spare_children = 50", "num_init_children = 1",
    "recovery_1st_stage_command = 'x'", "memqcache_method = memcached\nmemqcache_maxcache = 2MB",
    "unix_socket_directories = '/" + "x" * 91 + "'",
])
def test_allowed(text):
    assert faults(text) == []


WARNINGS = [
    ("", "no backend is configured"),
    ("num_init_children = 3\nreserved_connections = 3", "reserved_connections:3 leaves none of num_init_children:3"),
    ("serialize_accept = on", "serialize_accept has no effect"),
    ("port = 9898", "port and pcp_port are both 9898"),
    ("ssl = on\nssl_cert = 'x'", "ssl is on"),
    ("backend_hostname3 = 'x'", "backend_hostname3 is not used"),
    (NODE.format(2, 5432).replace("h2", "h0"), "backends 0 and 2 are the same server, h0:5432"),
    ("backend_weight0 = 0\nbackend_weight1 = 0", "every backend_weight is 0"),
    ("backend_flag0 = ALWAYS_PRIMARY\nbackend_flag1 = ALWAYS_PRIMARY", "more than one backend is flagged"),
    ("backend_clustering_mode = slony", "slony mode was removed"),
    ("recovery_password = 'md5e8a48653851e28c69d0506508fb27fc5'", "recovery_password cannot be given as an md5 hash"),
    ("read_only_function_list = 'a'\nwrite_function_list = 'b'", "are both set"),
    ("dml_adaptive_object_relationship_list = 'a:b'", "has no effect unless disable_load_balance_on_write"),
    ("disable_load_balance_on_write = lsn\nbackend_clustering_mode = logical_replication", "lsn acts as always"),
    ("disable_load_balance_on_write = dml_adaptive_global", "set delay_threshold_by_time"),
    ("auto_failback = on\nsr_check_period = 0", "auto_failback has no effect without"),
    ("detach_false_primary = on\nbackend_clustering_mode = raw", "detach_false_primary has no effect without"),
    ("auto_failback = on\nbackend_application_name0 = 'x'", "needs backend_application_name (not set for backend 1)"),
    ("delay_threshold_by_time = 5", "delay_threshold_by_time needs backend_application_name"),
    ("prefer_lower_delay_standby = on", "has no effect without delay_threshold"),
    ("sr_check_user = ''", "sr_check_user is empty"),
    ("health_check_period1 = 5", "the health check of backend 1 cannot log in"),
]


@pytest.mark.parametrize("text, part", WARNINGS)
def test_warning(text, part):
    found = messages(BASE + text if text else "sr_check_user = 'u'", "WARNING")
    assert [message for _, message in found if part in message]


WATCHDOG = "use_watchdog = on\nwd_hostname = 'a'\nother_pgpool_hostname0 = 'b'\nother_wd_port0 = 9000\n" \
           "other_pgpool_port0 = 9999\nwd_heartbeat_port = 9694\nheartbeat_destination_port0 = 9694\n" + BASE


@pytest.mark.parametrize("text, part", [
    ("", ""),
    ("failover_when_quorum_exists = off", "failover_require_consensus has no effect"),
    ("backend_clustering_mode = native_replication", "should be off in native replication mode"),
])
def test_watchdog_warnings(text, part):
    found = [message for _, message in messages(WATCHDOG + text, "WARNING") if "now called" not in message]
    assert [part in message for message in found] == [True] * bool(part)


def test_watchdog_needs_others():
    assert faults("use_watchdog = on\nwd_hostname = 'a'") == [
        (1, "invalid watchdog configuration. other pgpools setting is not defined")]


def test_heartbeat_needs_ports():
    text = WATCHDOG.replace("heartbeat_destination_port0 = 9694\n", "")
    reason = "the heartbeat lifecheck needs heartbeat_port (not set for node 1)"
    assert (1, reason) in messages(text, "WARNING")
    assert (1, reason) not in messages(text + "wd_lifecheck_method = query", "WARNING")


def test_check_of_settings_made_by_hand():
    findings = check(settings(BASE).replace(process_management_mode="dynamic", max_spare_children=99))
    assert [(finding.level, finding.names) for finding in findings] == [
        ("FATAL", ("max_spare_children", "num_init_children"))]
    assert findings[0].place(settings("# x\nnum_init_children = 5")) == ("pgpool.conf", 2)
    assert findings[0].place(settings()) == ("pgpool.conf", 0)


@pytest.mark.parametrize("children, pool, limits, levels", [
    (32, 4, [(0, 300, 3)], []),
    (32, 4, [(0, 131, 3)], ["INFO"]),
    (32, 4, [(0, 130, 3)], ["WARNING", "INFO"]),
    (32, 4, [(0, 100, 3), (1, 500, 3), (2, 20, 3)], ["WARNING", "WARNING", "INFO"]),
    (32, 0, [(0, 35, 3)], ["INFO"]),
    (32, 4, [], []),
])
def test_sizing(children, pool, limits, levels):
    s = load_text(f"num_init_children = {children}\nmax_pool = {pool}").settings
    assert [finding.level for finding in size_findings(s, [NodeLimits(*limit) for limit in limits])] == levels


def test_sizing_says_what_would_fit():
    *_, advice = size_findings(settings(), [NodeLimits(0, 100), NodeLimits(1, 90)])
    assert advice.text == ("this would fit: max_pool = 2, or num_init_children = 21, or max_connections of at least "
                           "128 plus superuser_reserved_connections on every backend")
    first, advice = size_findings(settings(), [NodeLimits(0, 5)])
    assert first.text == ("backend 0 allows 2 connections (max_connections 5 - superuser_reserved_connections 3), not "
                          "even one for each of num_init_children 32")
    assert "max_pool" not in advice.text
