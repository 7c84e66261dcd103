"""load: whole files, all faults at once, reload, what Settings give."""

import pytest

from pgpool.config.params import PARAMS, RENAMED, split_index
from pgpool.config.settings import Settings, diff, load, load_text
from pgpool.errors import ConfigFaults
from pgpool.model import ClusterMode

from .support import GOLDEN, faults, messages, settings

TWO = "backend_hostname0 = 'a'\nbackend_port0 = 5432\nbackend_weight0 = 1\n" \
      "backend_hostname1 = 'b'\nbackend_port1 = 5433\nbackend_weight1 = 2\nsr_check_user = 'u'\n"


def test_no_file_means_defaults():
    loaded = load(None)
    assert loaded.settings.num_init_children == 32
    assert loaded.settings.confdir == ""
    assert loaded.settings.backends == ()
    assert not diff(loaded.settings, Settings())


def test_missing_file_is_a_warning(tmp_path):
    path = str(tmp_path / "pgpool.conf")
    loaded = load(path)
    assert loaded.messages[0].level == "WARNING"
    assert loaded.messages[0].text == f'could not open configuration file: "{path}"'
    assert loaded.settings.port == 9999
    assert loaded.settings.confdir == str(tmp_path)
    with pytest.raises(ConfigFaults):
        load(path, base=loaded.settings)


def test_values_of_every_type():
    s = settings("port = 5000\nssl = on\nchild_life_time = 2min\nread_only_function_list = 'a, b'\n"
                 "log_min_messages = INFO\ntrack_table_mutation_ttl_factor = 2.5\n"
                 "reset_query_list = 'ABORT; RESET ALL'\n")
    assert (s.port, s.ssl, s.child_life_time, s.log_min_messages) == (5000, True, 120, "info")
    assert (s.read_only_function_list, s.track_table_mutation_ttl_factor) == (("a", "b"), 2.5)
    assert s.reset_query_list == ("ABORT", "RESET ALL")


def test_backends_with_a_gap():
    s = settings("backend_hostname0 = 'a'\nbackend_port0 = 5432\nbackend_hostname2 = '/tmp'\nbackend_port2 = 5433\n"
                 "backend_flag2 = 'ALWAYS_PRIMARY'\nbackend_weight2 = 1.5\nhealth_check_user = 'h'\n"
                 "health_check_user2 = 'i'\nconnect_timeout = 3s\nbackend_hostname9 = 'unused'")
    assert [(b.id, b.hostname, b.port, b.used) for b in s.backends] == [
        (0, "a", 5432, True), (1, "", 0, False), (2, "/tmp", 5433, True)]
    assert s.backends[2].flags == {"ALLOW_TO_FAILOVER", "ALWAYS_PRIMARY"}
    assert s.backends[0].flags == {"ALLOW_TO_FAILOVER"}
    assert [b.health_check.user for b in s.backends] == ["h", "h", "i"]
    assert s.backends[0].health_check.connect_timeout == 3000
    assert s.value("health_check_user") == "h" and s.value("health_check_user", 2) == "i"


def test_settings_cannot_be_changed():
    s = settings()
    with pytest.raises(AttributeError):
        s.port = 1
    with pytest.raises(AttributeError):
        del s.port
    with pytest.raises(AttributeError):
        s.backend_hostname()
    with pytest.raises(KeyError):
        s.replace(nonsense=1)
    with pytest.raises(KeyError):
        s.replace(port1=1)
    assert s.replace(port=5000, backend_port1=5432).port == 5000
    assert s.replace(backend_port1=5432).backends[1].port == 5432
    assert s.port == 9999 and s.backends == ()


def test_passwords_are_not_in_repr():
    s = settings(TWO + "health_check_password = 'geheim'")
    assert "geheim" not in repr(s) + repr(s.backends)


def test_files_are_relative_to_the_directory_of_the_configuration(tmp_path):
    (tmp_path / "pgpool.conf").write_text("pool_passwd = 'pw'\npid_file_name = '/run/x.pid'\nssl_key = ''")
    s = load(str(tmp_path / "pgpool.conf")).settings
    assert s.path("pool_passwd") == str(tmp_path / "pw")
    assert s.path("pid_file_name") == "/run/x.pid"
    assert s.path("ssl_key") == ""


def test_all_faults_at_once_with_file_and_line(tmp_path):
    (tmp_path / "pgpool.conf").write_text(
        "port = abc\n"
        "nonsense = 5\n"
        "include 'more.conf'\n"
        "ssl = maybe\n"
        "process_management_mode = dynamic\n"
        "backend_port0 = 80\n"
        "backend_port = 5432\n"
        "backend_weight200 = 1\n"
        "listen_addresses = \"a\"\n"
        "delegate_IP\n"
        "use_watchdog = on\n"
        "logdir = 'x' y\n")
    (tmp_path / "more.conf").write_text("\nmax_spare_children = 5\nmin_spare_children = 5\nlog_statement = 'x\n")
    with pytest.raises(ConfigFaults) as caught:
        load(str(tmp_path / "pgpool.conf"))
    main, more = str(tmp_path / "pgpool.conf"), str(tmp_path / "more.conf")
    assert [(fault.file, fault.line) for fault in caught.value.faults] == [
        (main, 1), (main, 4), (main, 6), (main, 7), (main, 8), (main, 9), (main, 11), (main, 11), (main, 12),
        (more, 2), (more, 4)]
    text = str(caught.value)
    assert f'{main}:1: invalid value for parameter "port": "abc"' in text
    assert f'{main}:7: parameter "backend_port" expects the index value' in text
    assert f'{main}:8: 200 index outside the valid range for parameter "backend_weight200" (0 .. 127)' in text
    assert f"{main}:11: Pgpool node id file {tmp_path}/pgpool_node_id does not exist" in text
    assert "must be greater than min_spare_children:5" in text


def test_unknown_names_are_information_with_a_guess():
    loaded = load_text("nonsense = 5\nPORT = 5000\nnum_init_childen = 3\nbackend_hostnam0 = 'a'\nport0 = 4")
    found = [(m.line, m.level, m.text, m.detail) for m in loaded.messages if "unrecognized" in m.text]
    assert found == [
        (1, "INFO", 'unrecognized configuration parameter "nonsense"', ""),
        (2, "INFO", 'unrecognized configuration parameter "PORT"', 'did you mean "port"?'),
        (3, "INFO", 'unrecognized configuration parameter "num_init_childen"', 'did you mean "num_init_children"?'),
        (4, "INFO", 'unrecognized configuration parameter "backend_hostnam0"', 'did you mean "backend_hostname0"?'),
        (5, "INFO", 'unrecognized configuration parameter "port0"', 'did you mean "port"?')]
    assert loaded.settings.port == 9999


def test_a_fault_in_a_value_brings_no_follow_up_faults():
    text = "process_management_mode = dynamic\nmax_spare_children = x\nmin_spare_children = 20"
    assert [line for line, _ in faults(text)] == [2]


def test_the_last_line_counts():
    assert settings("port = 5000\nport = 5001").port == 5001


def test_huge_number_of_unknown_names_is_quick():
    load_text("\n".join(f"x{'y' * 50}{n} = 1" for n in range(300)))
    load_text("x" * 200_000 + " = 1")


# ---- reload


def reload(old, new, **more):
    loaded = load_text(new, base=settings(old), **more)
    kept = [message.text for message in loaded.messages if "restart" in message.text]
    return loaded.settings, kept


def test_reload_takes_what_may_change_and_keeps_the_rest():
    s, kept = reload(TWO + "port = 5000\nlog_statement = off", TWO + "port = 5001\nlog_statement = on\nmax_pool = 9")
    assert (s.port, s.log_statement, s.max_pool) == (5000, True, 4)
    assert kept == ['parameter "port" cannot be changed without restarting pgpool',
                    'parameter "max_pool" cannot be changed without restarting pgpool']


def test_reload_with_a_line_removed():
    s, kept = reload(TWO + "port = 5000\nlog_statement = on", TWO)
    assert (s.port, s.log_statement) == (5000, False)
    assert len(kept) == 1


def test_reload_says_where_and_what_stays():
    loaded = load_text("# x\nchild_life_time = 1h", base=settings("child_life_time = 2h"))
    (message,) = [message for message in loaded.messages if "restart" in message.text]
    assert (message.line, message.detail) == (2, "it stays 2h")
    again = load_text("child_life_time = 1h", base=loaded.settings)
    assert again.settings.child_life_time == 7200


def test_reload_adds_backends_and_weights_but_moves_none():
    more = TWO.replace("'b'", "'c'").replace("5433", "5434") + "backend_hostname2 = 'd'\nbackend_port2 = 5435\n" \
        "backend_data_directory0 = '/new'"
    s, kept = reload(TWO, more.replace("weight1 = 2", "weight1 = 7"))
    assert [(b.hostname, b.port, b.weight) for b in s.backends] == [("a", 5432, 1), ("b", 5433, 7), ("d", 5435, 0)]
    assert s.backends[0].data_directory == ""
    assert [text.split('"')[1] for text in kept] == ["backend_hostname1", "backend_port1", "backend_data_directory0"]


def test_reload_moves_a_backend_that_is_down():
    s, kept = reload(TWO, TWO.replace("'b'", "'c'").replace("5433", "5434"), down=frozenset({1}))
    assert (s.backends[1].hostname, s.backends[1].port, kept) == ("c", 5434, [])


@pytest.mark.parametrize("down", [frozenset(), frozenset({1})])
def test_reload_does_not_remove_a_backend(down):
    s, kept = reload(TWO, "\n".join(TWO.splitlines()[:3]), down=down)
    assert [(b.hostname, b.port) for b in s.backends] == [("a", 5432), ("b", 5433)]
    assert [text.split('"')[1] for text in kept] == ["backend_hostname1", "backend_port1"]


def test_reload_with_faults_raises():
    with pytest.raises(ConfigFaults):
        load_text("log_statement = x", base=settings())


def test_reload_checks_what_will_be_in_force():
    base = settings("process_management_mode = dynamic\nnum_init_children = 20")
    with pytest.raises(ConfigFaults, match="can't be greater than num_init_children:20"):
        load_text("process_management_mode = dynamic\nnum_init_children = 50\nmax_spare_children = 40", base=base)


def test_diff():
    old = settings(TWO + "port = 5000")
    new = settings(TWO.replace("weight1 = 2", "weight1 = 3") + "health_check_period0 = 5\nlog_statement = on")
    assert [(c.name, c.old, c.new, c.context) for c in diff(old, new)] == [
        ("port", 5000, 9999, "INIT"), ("backend_weight1", 2.0, 3.0, "RELOAD"),
        ("log_statement", False, True, "SESSION"), ("health_check_period0", 0, 5, "RELOAD")]
    assert old == old.replace() and old != new


# ---- the golden files


def test_configuration_of_3_7():
    loaded = load(str(GOLDEN / "pgpool-3.7.conf"))
    s = loaded.settings
    assert s.mode is ClusterMode.LOGICAL_REPLICATION
    assert [(b.hostname, b.port, sorted(b.flags)) for b in s.backends] == [
        ("10.0.3.30", 5432, ["ALLOW_TO_FAILOVER"]), ("10.0.3.31", 5432, ["ALWAYS_PRIMARY", "DISALLOW_TO_FAILOVER"])]
    assert [(b.health_check.period, b.health_check.max_retries) for b in s.backends] == [(5, 3), (7, 9)]
    assert s.write_function_list == ("currval", "lastval", "nextval", "setval")
    assert (s.work_dir, s.unix_socket_directories) == ("/var/log/pgpool", ("/var/run/pgpool",))
    assert s.delegate_ip == "10.0.3.50"
    assert (s.check_temp_table, s.insert_lock, s.delay_threshold) == ("catalog", False, 10000000)
    assert s.failover_command == "/etc/pgpool2/failover.sh %d %M %m"
    assert s.failover_on_backend_error == "off"
    assert s.client_idle_limit_in_recovery == -1
    assert [(n.hostname, n.wd_port, n.pgpool_port) for n in s.watchdog_nodes] == [
        ("10.0.3.40", 9000, 9999), ("10.0.3.41", 9000, 9999)]
    assert [(n.hostname, n.port, n.device) for n in s.heartbeats] == [("", 9694, "eth0"), ("10.0.3.41", 9694, "")]
    assert not [message for message in loaded.messages if "unrecognized" in message.text]


def test_configuration_of_4_3(tmp_path):
    path = tmp_path / "pgpool.conf"
    path.write_bytes((GOLDEN / "pgpool-4.3.conf").read_bytes())
    (tmp_path / "pgpool_node_id").write_text("1")
    loaded = load(str(path))
    s = loaded.settings
    warned = {message.text.split('"')[1] for message in loaded.messages if "is now called" in message.text}
    assert warned == {"socket_dir", "logdir", "delegate_IP"}
    assert not [message for message in loaded.messages if "unrecognized" in message.text]
    assert (s.node_id, s.mode, len(s.backends)) == (1, ClusterMode.STREAMING_REPLICATION, 3)
    assert [b.weight for b in s.backends] == [0.5, 2.0, 1.25]
    assert (s.log_file_mode, s.log_rotation_age, s.log_rotation_size) == (0o640, 60, 1024)
    assert s.log_line_prefix == r"%m: %a pid %p: \\"
    assert s.primary_routing_query_pattern_list == (r"SELECT .*\.secret", "TABLE t")
    assert s.backends[0].health_check.database == "" and s.backends[1].health_check.database == "template1"
    assert s.memqcache_total_size == 128 << 20
    unchanged = [name for (name, index), value in s.items()
                 if index is None and value == Settings().value(name) and name not in
                 ("backend_clustering_mode", "ssl", "write_function_list")]
    assert not unchanged


@pytest.mark.parametrize("name", ["pgpool-3.7.conf", "pgpool-4.3.conf"])
def test_golden_files_miss_no_name_of_their_time(name):
    version = tuple(map(int, name[7:10].split(".")))
    text = (GOLDEN / name).read_text()
    used = {split_index(line.split()[0])[0] for line in text.splitlines() if line and line[0] not in "# "}
    used |= {RENAMED[old].name for old in used if old in RENAMED}
    used |= {"hostname", "pgpool_port", "heartbeat_hostname", "heartbeat_port"} if version < (4, 2) else set()
    for param in PARAMS:
        since = tuple(map(int, param.since.split("."))) if param.since[:1].isdigit() else (3, 0)
        if since <= version and param.since != "ours" and param.name != "replication_mode":
            assert param.name in used, param.name


@pytest.mark.parametrize("data", [b"port = '\0'", b"\xff\xfe\0p\0o", b"\x80\x81 = 1\n", b"port = 5000 \xff",
                                  b"'" * 10000])
def test_hostile_files_are_faults_not_crashes(tmp_path, data):
    path = tmp_path / "pgpool.conf"
    path.write_bytes(data)
    with pytest.raises(ConfigFaults):
        load(str(path))


@pytest.mark.parametrize("text, reason", [
    ("", "pgpool_node_id file is empty"), ("\n", "pgpool_node_id file is empty"),
    ("x", "pgpool_node_id is not a numeric value"), ("-1", "pgpool_node_id is not a numeric value"),
    ("1 2", "pgpool_node_id is not a numeric value"), ("129", "Invalid pgpool node id 129"),
    ("2", "no watchdog configuration for local pgpool node, pgpool node id: 2")])
def test_node_id_file(tmp_path, text, reason):
    (tmp_path / "pgpool_node_id").write_text(text)
    path = tmp_path / "pgpool.conf"
    path.write_text("use_watchdog = on\nwd_port0 = 9000\nwd_port1 = 9000\npgpool_port0 = 9999\npgpool_port1 = 9999")
    with pytest.raises(ConfigFaults, match=reason):
        load(str(path))
    (tmp_path / "pgpool_node_id").write_text("1\n")
    assert load(str(path)).settings.node_id == 1


def test_a_quiet_configuration_has_no_messages():
    assert messages(TWO) == []
