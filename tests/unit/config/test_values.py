"""Text <-> value for every type."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpool.config import forms
from pgpool.config import param as p
from pgpool.config.forms import join_list, parse_redirects, parse_relations, split_list
from pgpool.config.params import BY_NAME
from pgpool.config.values import MEMORY_UNITS, TIME_UNITS, BadValue, file_text, human, parse, with_unit


def make(kind, **fields):
    return p.Param("x", kind, fields.pop("default", 0), p.SESSION, "", "", **fields)


def error(param, text):
    with pytest.raises(BadValue) as caught:
        parse(param, text)
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize("text, value", [
    *((text, True) for text in ("t", "tr", "tru", "true", "TRUE", "y", "ye", "yes", "Yes", "1", "on", "On", " on ")),
    *((text, False) for text in ("f", "fa", "fal", "fals", "false", "n", "no", "NO", "0", "of", "off", "OFF"))])
def test_booleans(text, value):
    assert parse(make(p.BOOL), text) is value


@pytest.mark.parametrize("text", ["", "o", "maybe", "2", "truee", "-1", "01"])
def test_no_booleans(text):
    assert error(make(p.BOOL), text)[0] == f'invalid value for parameter "x": "{text}"'


@pytest.mark.parametrize("text, value", [
    ("0", 0), ("17", 17), ("+5", 5), ("-1", -1), ("0x1F", 31), ("0X1f", 31), ("010", 8), ("00", 0), ("1e3", 1000),
    ("2.5", 2), ("3.5", 4), ("1.9", 2), (".6", 1), ("1.", 1), (" 7 ", 7), ("2147483647", 2147483647), ("-0", 0),
])
def test_integers(text, value):
    assert parse(make(p.INT, min=-5), text) == value


@pytest.mark.parametrize("text", ["", "x", "5x", "5min", "0x", "08", "1e", "--1", "1 2", "0x1.5", "nan", "inf", "1e999",
                                  "9" * 5000, "\u0661", "1_000"])
def test_no_integers(text):
    assert error(make(p.INT), text)[0].startswith('invalid value for parameter "x": "')


def test_ranges_are_named():
    assert error(make(p.INT), "-1")[0] == '-1 is outside the valid range for parameter "x" (0 .. 2147483647)'
    assert error(make(p.INT), "2147483648")[0] == \
        '2147483648 is outside the valid range for parameter "x" (0 .. 2147483647)'
    assert error(make(p.INT, min=1024, max=65535), "500")[0] == \
        '500 is outside the valid range for parameter "x" (1024 .. 65535)'
    assert error(make(p.DOUBLE, max=100000000.0), "-1")[0] == \
        '-1.000000 is outside the valid range for parameter "x" (0.000000 .. 100000000.000000)'
    assert parse(make(p.INT64), str(2**63 - 1)) == 2**63 - 1
    assert "outside the valid range" in error(make(p.INT64), str(2**63))[0]


FACTOR = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400}


@pytest.mark.parametrize("own", TIME_UNITS)
@pytest.mark.parametrize("unit", TIME_UNITS)
def test_times(own, unit):
    param = make(p.INT64, unit=own)
    for number in (1, 7, 36):
        assert parse(param, f"{number}{unit}") == round(number * FACTOR[unit] / FACTOR[own])
        assert parse(param, f"{number} {unit}") == parse(param, f"{number}{unit}")
    assert parse(param, f"1.5{unit}") == round(1.5 * FACTOR[unit] / FACTOR[own])
    assert parse(param, "7") == 7


@pytest.mark.parametrize("own", MEMORY_UNITS)
@pytest.mark.parametrize("unit", MEMORY_UNITS)
def test_sizes(own, unit):
    power = list(MEMORY_UNITS).index(unit) - list(MEMORY_UNITS).index(own)
    assert parse(make(p.INT64, unit=own), f"3{unit}") == round(3 * 1024.0 ** power)


def test_units_are_case_sensitive_and_of_the_right_kind():
    for text in ("5MIN", "5kB", "5foo"):
        assert error(make(p.INT, unit="s"), text) == (
            f'invalid value for parameter "x": "{text}"',
            'Valid units for this parameter are "us", "ms", "s", "min", "h", and "d".')
    for text in ("5KB", "5mb", "5s"):
        assert error(make(p.INT, unit="B"), text)[1] == \
            'Valid units for this parameter are "B", "kB", "MB", "GB", and "TB".'
    assert error(make(p.INT, unit="kB", max=2097151), "3GB")[0] == \
        '3145728 is outside the valid range for parameter "x" (0 .. 2097151)'
    assert "outside" in error(make(p.INT, unit="s"), "99999999999d")[0]


@pytest.mark.parametrize("unit, value, text", [
    ("s", 300, "5min"), ("s", 90, "90s"), ("s", 86400, "1d"), ("s", 7200, "2h"), ("s", 0, "0"), ("s", -1, "-1"),
    ("ms", 10000, "10s"), ("ms", 1500, "1500ms"), ("min", 90, "90min"), ("min", 1440, "1d"), ("B", 409600, "400kB"),
    ("B", 67108864, "64MB"), ("B", 71681024, "70001kB"), ("kB", 10240, "10MB"), ("B", 5, "5B"),
])
def test_human_units(unit, value, text):
    assert with_unit(unit, value) == text


def test_enums():
    param = make(p.ENUM, choices={"terse": 0, "default": 1, "verbose": 2}, aliases={"loud": "verbose"})
    assert parse(param, "VERBOSE") == "verbose"
    assert parse(param, "loud") == "verbose"
    assert error(param, "ter") == ('invalid value for parameter "x": "ter"',
                                   "Available values: terse, default, verbose.")


def test_strings_and_long_values_in_messages():
    assert parse(make(p.STRING), " a ") == " a "
    assert len(error(make(p.INT), "x" * 10_000)[0]) < 300
    assert "line end" in error(make(p.STRING), "a\nb")[0]


@pytest.mark.parametrize("text, value", [
    ("ALLOW_TO_FAILOVER", "ALLOW_TO_FAILOVER"),
    ("DISALLOW_TO_FAILOVER", "DISALLOW_TO_FAILOVER"),
    ("ALWAYS_PRIMARY", "ALLOW_TO_FAILOVER|ALWAYS_PRIMARY"),
    ("ALWAYS_MASTER | DISALLOW_TO_FAILOVER", "DISALLOW_TO_FAILOVER|ALWAYS_PRIMARY"),
])
def test_backend_flags(text, value):
    assert parse(BY_NAME["backend_flag"], text) == value


@pytest.mark.parametrize("text, reason", [
    ("foo", "unknown backend flag:foo"), ("ALLOW_TO_FAILOVER|", "unknown backend flag:"),
    ("ALLOW_TO_FAILOVER|DISALLOW_TO_FAILOVER",
     "cannot set ALLOW_TO_FAILOVER and DISALLOW_TO_FAILOVER at the same time"),
])
def test_wrong_backend_flags(text, reason):
    assert reason in error(BY_NAME["backend_flag"], text)[0]


def test_log_destination():
    assert parse(BY_NAME["log_destination"], " syslog , stderr,syslog") == "syslog,stderr"
    assert "unknown destination :foo" in error(BY_NAME["log_destination"], "stderr,foo")[0]


def test_redirects():
    assert parse_redirects(" postgres:primary , mydb[0-4]:1(0.25), a:b : STANDBY ( 0 )") == (
        forms.Redirect("postgres", "primary", 1.0), forms.Redirect("mydb[0-4]", "1", 0.25),
        forms.Redirect("a:b", "standby", 0.0))
    assert parse_redirects("x:master") == (forms.Redirect("x", "primary", 1.0),)
    assert parse_redirects("") == ()


@pytest.mark.parametrize("text", ["x", "x:", ":1", "x:nobody", "x:1(2)", "x:1(a)", "x:1(1.2.3)", "x:1()", "x:128",
                                  "x:-1"])
def test_wrong_redirects(text):
    with pytest.raises(ValueError):
        parse_redirects(text)
    assert "app_name" in error(BY_NAME["app_name_redirect_preference_list"], text)[0]


def test_relations():
    assert parse_relations("t1:t2, f():t3") == (("t1", "t2"), ("f", "t3"))
    for text in ("t1", "t1:", ":t2", "a:b:c"):
        with pytest.raises(ValueError):
            parse_relations(text)


@pytest.mark.parametrize("text, items", [
    ("a, b ,c", ("a", "b", "c")), ("", ()), (" , ,", ()), (r"x{1\,3},y", ("x{1,3}", "y")), (r"a\.b", (r"a\.b",)),
    (r"a\\,b", (r"a\\", "b")), ("a\\", ("a\\",)),
])
def test_lists(text, items):
    assert split_list(text, ",") == items


@settings(deadline=None)
@given(st.text("ab,;\\ .'"))
def test_lists_read_back(text):
    items = split_list(text, ",")
    assert split_list(join_list(items, ","), ",") == items


def test_human_forms():
    assert human(make(p.BOOL), True) == "on"
    assert human(make(p.STRING, secret=True), "geheim") == "*****"
    assert human(make(p.STRING, secret=True), "") == "*****"
    assert human(BY_NAME["backend_weight"], 2.5) == "2"
    assert human(BY_NAME["connect_timeout"], 10000) == "10000"
    assert human(BY_NAME["unix_socket_permissions"], 0o777) == "0777"
    assert human(BY_NAME["log_file_mode"], 0o600) == "384"
    assert human(BY_NAME["reset_query_list"], ("ABORT", "DISCARD ALL")) == "ABORT;DISCARD ALL"
    assert human(BY_NAME["track_table_mutation_ttl_factor"], 5.0) == "5"


def test_file_forms():
    assert file_text(BY_NAME["unix_socket_permissions"], 0o770) == "0770"
    assert file_text(BY_NAME["unix_socket_permissions"], 0) == "00"
    assert file_text(BY_NAME["log_line_prefix"], "it's") == "'it''s'"
    assert file_text(BY_NAME["backend_weight"], 1.0) == "1"
