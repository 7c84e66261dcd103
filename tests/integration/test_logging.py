"""What sessions write to the log, and how (behaviour.md 13)."""

import re

import pytest

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
