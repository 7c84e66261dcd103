"""What sessions write to the log, and how (behaviour.md 13)."""

import re

import pytest

from pgpool.system import sockets
from tests.support.pcp import client
from tests.support.places import wait_until

pytestmark = pytest.mark.needs_pgpool


def test_connections_and_disconnections(make_pgpool):
    pgpool = make_pgpool({"log_connections": True, "log_disconnections": True, "num_init_children": 1})
    mark = pgpool.mark()
    with pgpool.connect() as conn:
        conn.execute("SELECT 1")
    pgpool.wait_for_log(r"LOG:  new connection received\n.*DETAIL:  connecting host=127\.0\.0\.1 port=\d+", mark)
    pgpool.wait_for_log(
        r"LOG:  frontend disconnection: session time: 0:00:0\d\.\d{3} user=postgres database=app host=127\.0\.0\.1 port=\d+",
        mark,
    )


def test_host_names(make_pgpool):
    pgpool = make_pgpool({"log_connections": True, "log_hostname": True, "num_init_children": 1})
    mark = pgpool.mark()
    with pgpool.connect() as conn:
        pgpool.wait_for_log(r"DETAIL:  connecting host=\S+ port=\d+", mark)
        title = " ".join(pgpool.child_of(conn).cmdline())
    shown = re.findall(r"connecting host=(\S+)", pgpool.log_since(mark))[-1]
    assert f"postgres app {shown}(" in title
    assert shown == sockets.host_name("127.0.0.1")


def test_prefix(make_pgpool):
    pgpool = make_pgpool({"log_line_prefix": "%m|%a|%p|%u|%d|%l|%%|", "num_init_children": 1, "log_statement": True})
    mark = pgpool.mark()
    with pgpool.connect(application_name="my app") as conn:
        conn.execute("SELECT 'prefix'")
        pid = pgpool.child_of(conn).pid
    pgpool.wait_for_log(
        r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"
        rf"\|my app\|{pid}\|postgres\|app\|\d+\|%\|LOG:  statement: SELECT 'prefix'$",
        mark,
    )


def test_statements_simple_and_extended(make_pgpool):
    pgpool = make_pgpool(
        {"log_statement": True, "log_per_node_statement": True, "num_init_children": 1, "backend_weight0": 0}
    )
    with pgpool.connect() as conn:
        mark = pgpool.mark()
        conn.execute("SELECT 'simple'")
        conn.execute("SELECT 'extended', %s::int", (1,))
    pgpool.wait_for_log(r"LOG:  statement: SELECT 'simple'", mark)
    pgpool.wait_for_log(r"LOG:  DB node id: 1 backend pid: \d+ statement: SELECT 'simple'", mark)
    pgpool.wait_for_log(r"LOG:  statement: .*SELECT 'extended', \$1::int", mark)
    for part in ("Parse", "Bind", "Execute"):
        pgpool.wait_for_log(rf"LOG:  DB node id: 1 backend pid: \d+ statement: {part}: SELECT 'extended'", mark)


def test_the_unnamed_statement_is_told_by_its_text_also_when_it_was_known(make_pgpool):
    """The relay parses it alone then."""
    pgpool = make_pgpool({"log_statement": True, "log_per_node_statement": True, "num_init_children": 1})
    with pgpool.connect() as conn:
        conn.prepare_threshold = None
        for text in ("SELECT 'one', %s::int", "SELECT 'two', %s::int") * 2:
            mark = pgpool.mark()
            conn.execute(text, (1,))
            for part in ("statement: Execute", "backend pid: .* statement: Bind", "backend pid: .* statement: Execute"):
                pgpool.wait_for_log(f"{part}: {text.partition(',')[0]}", mark)


def test_client_messages(make_pgpool):
    pgpool = make_pgpool({"log_client_messages": True, "num_init_children": 1})
    with pgpool.connect() as conn:
        mark = pgpool.mark()
        conn.execute("SELECT 'simple'")
        conn.execute("SELECT %s::int", (1,))
        conn.close()
    for text in (
        r'LOG:  Query message from frontend\.\n.*DETAIL:  query: "SELECT \'simple\'"',
        r'LOG:  Parse message from frontend\.\n.*DETAIL:  statement: "", query: "SELECT \$1::int"',
        r'LOG:  Bind message from frontend\.\n.*DETAIL:  portal: "", statement: ""',
        r'LOG:  Describe message from frontend\.\n.*DETAIL:  portal: ""',
        r'LOG:  Execute message from frontend\.\n.*DETAIL:  portal: ""',
        r"LOG:  Sync message from frontend\.",
        r"LOG:  Terminate message from frontend\.",
    ):
        pgpool.wait_for_log(text, mark, 5)


def test_backend_messages(make_pgpool):
    pgpool = make_pgpool(
        {"log_backend_messages": "terse", "log_disconnections": True, "num_init_children": 1, "backend_weight1": 0}
    )
    with pgpool.connect(application_name="first") as conn:  # our own questions about the function come here
        conn.execute("SELECT generate_series(1, 5)")
    pgpool.wait_for_log("frontend disconnection.*database=app")
    mark = pgpool.mark()
    with pgpool.connect() as conn:
        conn.pgconn.exec_(b"SELECT generate_series(1, 5)")
        conn.pgconn.exec_(b"PGPOOL SET log_backend_messages = verbose")
        conn.pgconn.exec_(b"SELECT generate_series(1, 3)")
        conn.pgconn.exec_(b"PGPOOL SET log_backend_messages = none")
        conn.pgconn.exec_(b"SELECT 1")
    pgpool.wait_for_log("frontend disconnection", mark)
    text = pgpool.log_since(mark)
    seen = re.findall(r"LOG:  (?:last )?(\w+) message from backend 0(?: repeated (\d+) times)?\n", text)
    end = [("CommandComplete", ""), ("ReadyForQuery", "")]
    first = [("RowDescription", ""), ("DataRow", ""), ("DataRow", "4"), *end]
    assert seen[-len(first) - 6 :] == [*first, ("RowDescription", ""), *[("DataRow", "")] * 3, *end]


def test_backend_messages_of_a_long_pipeline_are_all_there(make_pgpool):
    pgpool = make_pgpool({"log_backend_messages": "verbose", "num_init_children": 1, "backend_weight1": 0})
    with pgpool.connect() as conn:
        mark = pgpool.mark()
        with conn.pipeline():
            for number in range(500):
                conn.execute("SELECT %s::int", (number,), prepare=True)
    wait_until(lambda: pgpool.log_since(mark).count("DataRow message from backend 0") >= 500, "the last row to be logged")
    assert pgpool.log_since(mark).count("DataRow message from backend 0") == 500
    assert pgpool.log_since(mark).count("BindComplete message from backend 0") == 500


def test_quiet_by_default(pgpool):
    """A thousand ordinary statements write nothing."""
    with pgpool.connect() as conn:
        conn.execute("SELECT 1")
        mark = pgpool.mark()
        for number in range(1000):
            conn.execute(f"SELECT {number}")
        assert not re.search(r"SELECT \d+", pgpool.log_since(mark))


def test_client_min_messages(make_pgpool):
    """Log messages of pgpool reach the client only as the setting says: at notice, nothing of the above."""
    pgpool = make_pgpool({"log_statement": True, "num_init_children": 1})
    heard = []
    with pgpool.connect() as conn:
        conn.add_notice_handler(lambda diag: heard.append(diag.message_primary))
        conn.execute("SELECT 1")
    assert heard == []


def test_our_own_records_reach_the_client(make_pgpool):
    """client_min_messages = log: what is logged for this session, in front of the answer; the session can change it."""
    pgpool = make_pgpool(
        {"client_min_messages": "log", "log_statement": True, "log_per_node_statement": True, "num_init_children": 1}
    )
    heard: list[str] = []
    with pgpool.connect() as conn:
        conn.add_notice_handler(lambda d: heard.append(f"{d.severity}:{d.sqlstate}: {d.message_primary}"))
        pid = conn.info.backend_pid
        conn.execute("CREATE TEMP TABLE told (i int)")
        assert heard == [
            "LOG:XX000: statement: CREATE TEMP TABLE told (i int)",
            f"LOG:XX000: DB node id: 0 backend pid: {pid} statement: CREATE TEMP TABLE told (i int)",
        ]
        for number in range(5):
            assert conn.execute("SELECT %s::int, repeat('x', 100000)", (number,)).fetchone()[0] == number
        conn.execute("PGPOOL SET client_min_messages TO warning")
        heard.clear()
        conn.execute("SELECT 1")
        assert heard == []


def test_pcp_processes(make_pgpool):
    """log_pcp_processes tells of each worker's begin and end, and a reload ends that."""
    pgpool = make_pgpool({"log_pcp_processes": True, "num_init_children": 1})

    def ask() -> None:
        with client(pgpool) as admin:
            assert admin.node_count() == 2

    mark = pgpool.mark()
    ask()
    pid = pgpool.wait_for_log(r"LOG:  forked new pcp worker, pid=(\d+)", mark)[1]
    pgpool.wait_for_log(rf"LOG:  PCP process with pid: {pid} exits with status \d", mark)
    pgpool.write_conf(log_pcp_processes=False)
    pgpool.reload()

    def silent() -> bool:
        begin = pgpool.mark()
        ask()
        return "pcp worker" not in pgpool.log_since(begin)

    wait_until(silent, "the reload to reach the PCP process", 10)


def test_pcp_needs_no_client_slot(make_pgpool):
    """With every child taken and no place for another client an administrator still gets in."""
    pgpool = make_pgpool({"num_init_children": 1})
    with pgpool.connect(), client(pgpool) as admin:
        assert admin.node_count() == 2
