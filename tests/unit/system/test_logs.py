"""The server log: order of levels, prefix, layout, one write a record."""

import json
import os
import re
from types import SimpleNamespace

import pytest

from pgpool.errors import PgpoolError, SessionFatal
from pgpool.system import logs
from pgpool.system.logs import DEBUG1, DEBUG5, ERROR, FATAL, INFO, LOG, NOTICE, PANIC, WARNING, Level, Log


def settings(**more):
    values = {
        "log_min_messages": "warning",
        "log_line_prefix": "",
        "log_error_verbosity": "default",
        "log_destination": "stderr",
        "log_format": "text",
        "syslog_facility": "LOCAL0",
        "syslog_ident": "pgpool",
    }
    return SimpleNamespace(**(values | more))


@pytest.fixture
def written(monkeypatch):
    """A new Log and the list of what it wrote, one item a write(2)."""
    records: list[str] = []
    log = Log()
    log.configure(settings())

    def write(fd: int, data: bytes) -> int:
        assert fd == 2
        records.append(data.decode())
        return len(data)

    monkeypatch.setattr(os, "write", write)
    return log, records


def test_log_ranks_between_error_and_fatal():
    ordered = sorted(Level, key=logs.rank)
    assert ordered[-4:] == [ERROR, LOG, FATAL, PANIC]
    assert ordered[:5] == [DEBUG5, Level.DEBUG4, Level.DEBUG3, Level.DEBUG2, DEBUG1]
    assert ordered[5:8] == [INFO, NOTICE, WARNING]


@pytest.mark.parametrize(
    ("minimum", "shown"),
    [
        ("warning", [WARNING, ERROR, LOG, FATAL, PANIC]),
        ("error", [ERROR, LOG, FATAL, PANIC]),
        ("log", [LOG, FATAL, PANIC]),
        ("fatal", [FATAL, PANIC]),
        ("debug1", [DEBUG1, INFO, NOTICE, WARNING, ERROR, LOG, FATAL, PANIC]),
        ("debug", [Level.DEBUG2, DEBUG1, INFO, NOTICE, WARNING, ERROR, LOG, FATAL, PANIC]),
    ],
)
def test_minimum_level(minimum, shown):
    log = Log()
    log.configure(settings(log_min_messages=minimum))
    assert {level for level in Level if log.enabled(level)} == set(shown)


def test_option_d_lowers_the_minimum_and_survives_a_reload():
    log = Log()
    log.configure(settings(log_min_messages="error"), debug=True)
    assert log.enabled(DEBUG1)
    log.configure(settings(log_min_messages="error"))
    assert log.enabled(DEBUG1)
    log.configure(settings(log_min_messages="debug5"))
    assert log.enabled(DEBUG5), "it never raises it"


def test_a_record_is_one_write(written):
    log, records = written
    log.warning("first", detail="d", hint="h", context="c")
    assert records == ["WARNING:  first\nDETAIL:  d\nHINT:  h\nCONTEXT:  c\n"]


def test_nothing_is_written_below_the_minimum(written):
    log, records = written
    log.notice("not this")
    log.debug1("nor this")
    assert records == []


def test_debug_levels_are_all_called_debug(written):
    log, records = written
    log.configure(settings(log_min_messages="debug5"))
    log.debug5("five")
    log.log(DEBUG1, "one")
    assert records == ["DEBUG:  five\n", "DEBUG:  one\n"]


def test_further_lines_of_a_text_begin_with_a_tab(written):
    log, records = written
    log.error("a\nb", detail="c\nd")
    assert records == ["ERROR:  a\n\tb\nDETAIL:  c\n\td\n"]


def test_terse_and_verbose(written):
    log, records = written
    log.configure(settings(log_error_verbosity="terse"))
    log.error("short", detail="not shown", hint="nor this")
    log.configure(settings(log_error_verbosity="verbose"))
    log.error("long", detail="d")
    assert records[0] == "ERROR:  short\n"
    assert re.fullmatch(r"ERROR:  long\nDETAIL:  d\nLOCATION:  test_terse_and_verbose, test_logs.py:\d+\n", records[1])


def test_every_escape_of_the_prefix(written):
    log, records = written
    log.configure(settings(log_line_prefix="%a|%P|%u|%d|%p|%%|%l|%q|%m|%t: "))
    log.error("x")
    pattern = (
        r"main\|MAIN\|\[No Connection\]\|\[No Connection\]\|" + str(os.getpid()) + r"\|%\|1\|\|"
        r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\.\d{3}\|(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d): ERROR:  x\n"
    )
    match = re.fullmatch(pattern, records[0])
    assert match, records
    assert match[1] == match[2]


def test_prefix_in_a_session(written):
    log, records = written
    log.configure(settings(log_line_prefix="%a %u@%d: "))
    log.set_process("child", "CHILD")
    log.set_session("alice", "", "")
    log.error("one")
    log.set_session("alice", "shop", "psql")
    log.error("two")
    log.clear_session()
    log.error("three")
    assert records == [
        "child alice@[unknown]: ERROR:  one\n",
        "psql alice@shop: ERROR:  two\n",
        "child [No Connection]@[No Connection]: ERROR:  three\n",
    ]


def test_widths(written):
    log, records = written
    log.configure(settings(log_line_prefix="%-8a|%8a|%2a|"))
    log.error("x")
    assert records == ["main    |    main|main|ERROR:  x\n"]


def test_lines_are_counted_one_by_one_and_per_process(written):
    log, records = written
    log.configure(settings(log_line_prefix="%l "))
    log.error("x", detail="y")
    log.error("z")
    assert records == ["1 ERROR:  x\n2 DETAIL:  y\n", "3 ERROR:  z\n"]
    log._line_pid = -1  # as after a fork
    log.error("again")
    assert records[-1] == "1 ERROR:  again\n"


@pytest.mark.parametrize("prefix", ["%", "%-", "%5", "abc%", "%z", "%-5z"])
def test_a_broken_prefix_does_not_break_the_log(written, prefix):
    log, records = written
    log.configure(settings(log_line_prefix=prefix))
    log.error("x")
    assert records[0].endswith("ERROR:  x\n")


def test_an_error_of_ours_keeps_its_severity(written):
    log, records = written
    log.problem(SessionFatal("go away", detail="why", hint="how"))
    log.problem(PgpoolError("odd", severity="WEIRD"))
    assert records == ["FATAL:  go away\nDETAIL:  why\nHINT:  how\n", "ERROR:  odd\n"]


def test_bytes_that_are_no_utf8_pass_through(monkeypatch):
    seen = []
    monkeypatch.setattr(os, "write", lambda fd, data: seen.append(bytes(data)) or len(data))
    log = Log()
    log.configure(settings())
    log.error(b"caf\xe9".decode("utf-8", "surrogateescape"))
    assert seen == [b"ERROR:  caf\xe9\n"]


def test_a_broken_stderr_is_no_error(monkeypatch):
    def write(fd, data):
        raise BrokenPipeError

    monkeypatch.setattr(os, "write", write)
    Log().error("nobody reads this")


def test_a_short_write_is_continued(monkeypatch):
    seen = []

    def write(fd, data):
        seen.append(data[:4])
        return len(data[:4])

    monkeypatch.setattr(os, "write", write)
    log = Log()
    log.configure(settings())
    log.error("x" * 10)
    assert b"".join(seen) == b"ERROR:  " + b"x" * 10 + b"\n"


def test_the_session_id_is_there_from_the_first_record(written):
    log, records = written
    log.configure(settings(log_line_prefix="%c|"))
    log.begin_session(1_700_000_000.25)
    log.set_session("alice", "shop")
    log.error("x")
    log.clear_session()
    log.error("y")
    assert records == [f"{int(1_700_000_000.25 * 1e6):x}.{os.getpid():x}|ERROR:  x\n", "|ERROR:  y\n"]


def test_json_has_the_same_fields_in_one_line(written):
    log, records = written
    log.configure(settings(log_format="json", log_error_verbosity="verbose"))
    log.set_process("child", "CHILD")
    log.begin_session(1.0)
    log.set_session("alice", "shop", "psql")
    log.error('say "x"\n', detail="d", hint="h", context="c")
    assert records[0].count("\n") == 1 and records[0].endswith("}\n")
    record = json.loads(records[0])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", record.pop("timestamp"))
    assert record.pop("file_line_num") > 0
    assert record == {
        "pid": os.getpid(), "backend_type": "CHILD", "application_name": "psql", "user": "alice", "dbname": "shop",
        "session_id": f"f4240.{os.getpid():x}", "line_num": 1, "error_severity": "ERROR", "message": 'say "x"\n',
        "detail": "d", "hint": "h", "context": "c", "file_name": "test_logs.py",
        "func_name": "test_json_has_the_same_fields_in_one_line",
    }  # fmt: skip


@pytest.mark.parametrize("text", [b"caf\xe9".decode("utf-8", "surrogateescape"), "\ud800", "caf\xe9", "\0"])
def test_json_is_always_utf8(written, text):
    log, records = written
    log.configure(settings(log_format="json"))
    log.error(text)
    assert len(json.loads(records[0])["message"]) == len(text)


def test_syslog_gets_the_record_and_stderr_only_when_asked(written, monkeypatch):
    log, records = written
    sent = []

    def send(self, word, record, whole=False):
        sent.append((word, record, whole))
        return True

    monkeypatch.setattr(logs.Syslog, "send", send)
    log.configure(settings(log_destination="syslog"))
    log.error("one")
    log.configure(settings(log_destination="stderr,syslog", log_format="json"))
    log.warning("two")
    assert sent[0] == ("ERROR", b"ERROR:  one\n", False)
    assert sent[1][0] == "WARNING" and sent[1][2]
    assert len(records) == 1 and json.loads(records[0])["message"] == "two"


def test_without_a_syslog_daemon_the_record_goes_to_stderr(written, monkeypatch):
    monkeypatch.setenv("PGPOOL_SYSLOG_SOCKET", "/nowhere")
    log, records = written
    log.configure(settings(log_destination="syslog"))
    log.error("one")
    assert records == ["ERROR:  one\n"]


def test_level_names():
    assert logs.level_named("Warning") is WARNING
    assert logs.level_named("debug") is Level.DEBUG2
    with pytest.raises(KeyError):
        logs.level_named("loud")
