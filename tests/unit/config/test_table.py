"""The parameter table against what the reference says, and its own order."""

import pytest

from pgpool.config import param as p
from pgpool.config.params import BY_NAME, PARAMS, REMOVED, RENAMED, split_index
from pgpool.config.settings import Settings
from pgpool.config.values import parse

from .support import rows

FACTS = rows("parameters.tsv")


def test_the_table_has_exactly_the_names_of_the_reference_and_ours():
    ours = {param.name for param in PARAMS if param.since == "ours"}
    assert {param.name for param in PARAMS} - ours == {row[0] for row in FACTS}
    assert ours == {
        "auth_query",
        "allow_root",
        "auth_query_database",
        "auth_query_password",
        "backend_discovery",
        "auth_query_user",
        "backend_sslcert",
        "backend_sslkey",
        "backend_sslmode",
        "backend_sslrootcert",
        "eager_backend_connections",
        "failover_client_policy",
        "failover_command_timeout",
        "failover_owner",
        "failover_wait_timeout",
        "log_format",
        "max_logins_per_host",
        "metrics_listen_addresses",
        "metrics_port",
        "notice_routing_reason",
        "pcp_protocol_version",
        "prepared_statement_memory",
        "protect_memory",
        "read_only_transactions_on_standby",
        "recovery_method",
    }


def octal_or_decimal(digits):
    return int(digits, 8 if digits.startswith("0") else 10)


@pytest.mark.parametrize("row", FACTS, ids=[row[0] for row in FACTS])
def test_row_says_what_the_reference_says(row):
    name, kind, indexing, default, unit, limits, context = row
    param = BY_NAME[name]
    if name == "failover_on_backend_error":  # check is ours, and our default; booleans are still understood
        assert (param.type, param.default) == (p.ENUM, "check")
        assert {parse(param, text) for text in ("on", "TRUE", "yes", "1", "t")} == {"on"}
        assert {parse(param, text) for text in ("off", "False", "no", "0", "f")} == {"off"}
        return
    assert param.type == kind
    assert param.indexing == (None if indexing == "-" else indexing)
    assert param.context == context
    assert param.unit == ("" if unit == "-" else unit)
    text = default[1:-1] if default.startswith("'") else default
    assert parse(param, text) == param.default
    if "=" in limits:
        ours = {"lsn": 7} if name == "disable_load_balance_on_write" else {}
        assert dict(param.choices) == ours | {word.split("=")[0]: int(word.split("=")[1]) for word in limits.split()}
    elif limits != "-":
        low, high = limits.split("..")
        number = float if kind == "double" else octal_or_decimal
        assert (param.min, param.max) == (number(low), number(high))
    else:
        assert not param.choices


def test_old_names_are_no_names_of_today():
    assert not RENAMED.keys() & BY_NAME.keys()
    both = REMOVED.keys() & BY_NAME.keys()
    assert both == {"wd_port", "replication_mode"}
    assert not RENAMED.keys() & REMOVED.keys()


def test_no_parameter_hides_something_of_settings():
    mine = set(dir(Settings())) - {param.name for param in PARAMS}
    assert not mine & {param.name for param in PARAMS}
    assert not {param.name for param in PARAMS} & set(vars(Settings))
    for name in ("mode", "backends", "confdir", "config_file", "node_id", "origins", "watchdog_nodes", "heartbeats"):
        assert name not in BY_NAME


@pytest.mark.parametrize("param", PARAMS, ids=lambda param: param.name)
def test_every_row_is_complete(param):
    assert param.help.endswith((".", "'.")), "help is a sentence"
    assert param.section
    assert param.context in (p.INIT, p.RELOAD, p.SESSION)
    assert isinstance(param.default, {p.BOOL: bool, p.INT: int, p.INT64: int, p.DOUBLE: float, p.ENUM: str,
                                      p.STRING: str, p.LIST: tuple}[param.type])
    assert set(param.aliases.values()) <= set(param.choices)
    if param.type == p.ENUM:
        assert param.default in param.choices


def test_passwords_are_secret():
    for param in PARAMS:
        assert param.secret == ("password" in param.name or param.name in ("pool_passwd", "wd_authkey")), param.name


@pytest.mark.parametrize("name, parts", [
    ("backend_port12", ("backend_port", 12)), ("wd_port0", ("wd_port", 0)), ("port", ("port", None)),
    ("heartbeat_destination_port3", ("heartbeat_destination_port", 3)), ("backend_port", ("backend_port", None)),
    ("backend_port007", ("backend_port", 7)), ("recovery_1st_stage_command", ("recovery_1st_stage_command", None)),
    ("x" + "9" * 5000, ("x" + "9" * 5000, None)), ("17", ("", 17)), ("", ("", None)),
    ("backend_port\u0661", ("backend_port\u0661", None)),
])
def test_split_index(name, parts):
    assert split_index(name) == parts
