"""Names and values of older versions."""

import pytest

from pgpool.config.param import DOUBLE, ENUM, INT
from pgpool.config.params import BY_NAME, PARAMS, REMOVED, RENAMED, split_index
from pgpool.config.settings import load, load_text
from pgpool.config.values import file_text
from pgpool.model import ClusterMode

from .support import faults, messages, rows

CASES = rows("oldnames.tsv")


@pytest.mark.parametrize("lines, name, text", CASES, ids=[row[0] for row in CASES])
def test_old_line(lines, name, text):
    loaded = load_text(lines.replace(" ; ", "\n"))
    if name != "-":
        stem, index = split_index(name)
        assert file_text(BY_NAME[stem], loaded.settings.value(stem, index)) == text
    old = [line.split()[0] for line in lines.split(" ; ")]
    for key in old:
        if split_index(key)[0] not in BY_NAME or key in REMOVED:
            assert any(message.level == "WARNING" and f'"{key}"' in message.text for message in loaded.messages)
    assert not any("unrecognized" in message.text for message in loaded.messages)


def test_every_old_name_has_a_case():
    used = {line.split()[0].rstrip("0123456789") for row in CASES for line in row[0].split(" ; ")}
    assert (RENAMED.keys() | REMOVED.keys()) <= used


@pytest.mark.parametrize("order", [1, -1])
def test_the_name_of_today_wins_wherever_it_stands(order):
    lines = ["logdir = '/old'", "work_dir = '/new'", "wd_port = 9001", "wd_port0 = 9002"]
    assert load_text("\n".join(lines[::order])).settings.work_dir == "/new"
    assert load_text("\n".join(lines[::order])).settings.watchdog_nodes[0].wd_port == 9002


def test_an_empty_old_value_does_not_wipe_out_a_default():
    loaded = load_text("logdir = ''\nsocket_dir = ''\nblack_function_list = ''")
    assert (loaded.settings.work_dir, loaded.settings.unix_socket_directories) == ("/tmp", ("/tmp",))
    assert loaded.settings.write_function_list == ()


def test_warnings_name_the_new_name_and_the_line():
    assert (2, 'parameter "delegate_IP" is now called "delegate_ip"') in \
        messages("\ndelegate_IP = '192.0.2.1'", "WARNING")
    assert (1, 'parameter "master_slave_mode" was replaced by "backend_clustering_mode"') in \
        messages("master_slave_mode = on", "WARNING")
    assert (1, 'parameter "print_timestamp" is no longer used') in messages("print_timestamp = on", "WARNING")


def test_an_old_file_is_told_of_defaults_that_changed():
    text = 'parameter "load_balance_mode" is not set; its default was off before 4.3, now it is on'
    assert (0, text) in messages("master_slave_mode = on", "INFO")
    assert (0, text) not in messages("master_slave_mode = on\nload_balance_mode = on", "INFO")
    assert (0, text) not in messages("master_slave_mode = on\nbackend_clustering_mode = raw", "INFO")
    assert (0, text) not in messages("", "INFO")


def test_what_is_switched_off_anyway_is_no_warning():
    assert (1, 'parameter "parallel_mode" is no longer used') in messages("parallel_mode = off", "INFO")


def test_two_modes_at_once_are_a_fault():
    assert faults("master_slave_mode = on\n\nreplication_mode = on") == [
        (3, "master_slave_mode and replication_mode cannot both be on")]


def test_wrong_values_of_old_switches():
    assert faults("master_slave_mode = perhaps\nmaster_slave_sub_mode = 'ring'\nreplication_mode = 7") == [
        (1, 'invalid value for parameter "master_slave_mode": "perhaps" (Available values: on, off.)'),
        (2, 'invalid value for parameter "master_slave_sub_mode": "ring" (Available values: stream, slony, logical.)'),
        (3, 'invalid value for parameter "replication_mode": "7" (Available values: on, off.)')]


def test_a_wrong_value_under_an_old_name_is_reported_where_it_stands():
    assert faults("port = 5000\nfail_over_on_backend_error = perhaps\nother_wd_port0 = 7") == [
        (2, 'invalid value for parameter "failover_on_backend_error": "perhaps" (Available values: off, on, check.)'),
        (3, '7 is outside the valid range for parameter "wd_port1" (1024 .. 65535)')]


def test_own_node_number_from_the_file(tmp_path):
    (tmp_path / "pgpool.conf").write_text(
        "use_watchdog = on\nwd_hostname = 'c'\nother_pgpool_hostname0 = 'a'\nother_pgpool_hostname1 = 'b'\n"
        "other_pgpool_hostname2 = 'd'\nother_wd_port0 = 9000\nother_wd_port1 = 9000\nother_wd_port2 = 9000\n")
    (tmp_path / "pgpool_node_id").write_text("2\n")
    settings = load(str(tmp_path / "pgpool.conf")).settings
    assert [node.hostname for node in settings.watchdog_nodes] == ["a", "b", "c", "d"]
    assert settings.node_id == 2
    assert settings.watchdog_nodes[2].pgpool_port == 9999


def test_without_the_file_this_pgpool_is_node_0_and_says_so():
    loaded = load_text("use_watchdog = on\nwd_hostname = 'a'\nother_pgpool_hostname0 = 'b'\nother_wd_port0 = 9000\n"
                       "wd_lifecheck_method = external")
    assert loaded.settings.node_id == 0
    assert [node.hostname for node in loaded.settings.watchdog_nodes] == ["a", "b"]
    explained = [message for message in loaded.messages if "pgpool_node_id" in message.detail]
    assert [(message.line, message.level) for message in explained] == [(2, "WARNING")]


def test_modes():
    assert load_text("").settings.mode is ClusterMode.STREAMING_REPLICATION
    for choice in BY_NAME["backend_clustering_mode"].choices:
        assert load_text(f"backend_clustering_mode = {choice}").settings.mode.name.lower() == choice


def test_indexed_names_of_today_are_not_taken_for_old_ones():
    for param in PARAMS:
        if param.indexed:
            value = "5000" if param.type == INT else "1" if param.type == DOUBLE else "'ALWAYS_PRIMARY'"
            if param.type == ENUM:
                value = next(iter(param.choices))
            assert not any("is now called" in text for _, text in messages(f"{param.name}1 = {value}"))
