"""Prepared statements over two nodes, by protocol and by SQL (what_users_ask.md B4)."""

import psycopg
import pytest

from tests.support.nodes import where
from tests.support.wire import FLUSH, SYNC, Message, RawClient, bind, close, describe, execute, parse, query

pytestmark = pytest.mark.needs_pgpool


@pytest.fixture
def conn(standby_reads):
    with standby_reads.connect() as made:
        yield made


@pytest.fixture
def client(standby_reads):
    with RawClient.login(standby_reads) as made:
        yield made


def port(messages) -> int:
    return int(row(messages).columns[0])


def row(messages) -> Message:
    """The first DataRow."""
    rows = [m for m in messages if m.kind == "D"]
    assert rows, messages
    return rows[0]


def run(name: str, *values: str) -> bytes:
    return bind(name, values=values) + execute() + SYNC


PORT = "SELECT inet_server_port()"


def test_read_parsed_outside_runs_inside_a_writing_transaction(client, cluster, table):
    name = table()
    client.ask(parse(PORT, "p"), SYNC)
    assert port(client.ask(run("p"))) == cluster.standby.port
    client.ask(query("BEGIN"))
    client.ask(query(f"INSERT INTO {name} VALUES (1, 'x')"))
    assert port(client.ask(run("p"))) == cluster.primary.port
    client.ask(query("COMMIT"))
    assert port(client.ask(run("p"))) == cluster.standby.port


def test_parse_only_then_bind_after_begin(client, cluster):
    client.ask(parse(PORT, "p"), SYNC)
    client.ask(query("BEGIN"))
    assert port(client.ask(run("p"))) == cluster.standby.port
    client.ask(query("ROLLBACK"))


def test_parsed_in_a_writing_transaction_runs_outside(client, cluster, table):
    name = table()
    client.ask(query("BEGIN"))
    client.ask(query(f"INSERT INTO {name} VALUES (1, 'x')"))
    client.ask(parse(PORT, "p"), SYNC)
    client.ask(query("COMMIT"))
    assert port(client.ask(run("p"))) in (cluster.standby.port, cluster.primary.port)
    assert port(client.ask(run("p"))) in (cluster.standby.port, cluster.primary.port)
    client.ask(close("S", "p"), SYNC)
    assert client.ask(bind("p"), SYNC)[0].fields["C"] == "26000"


def test_close_closes_on_both(client, cluster, table):
    """Used on both nodes, closed, and made again with another text."""
    name = table()
    client.ask(parse(PORT, "p"), SYNC)
    client.ask(run("p"))
    client.ask(query("BEGIN"))
    client.ask(query(f"INSERT INTO {name} VALUES (1, 'x')"))
    client.ask(run("p"))
    client.ask(query("ROLLBACK"))
    client.ask(close("S", "p"), SYNC)
    client.ask(parse("SELECT 'new'", "p"), SYNC)
    for begin in ("SELECT 1", f"BEGIN; INSERT INTO {name} VALUES (1, 'x')"):
        client.ask(query(begin))
        assert row(client.ask(run("p"))).columns == [b"new"]
    client.ask(query("ROLLBACK"))


def test_parsed_in_a_transaction_that_is_rolled_back(client):
    """Named statements are not transactional: it survives."""
    client.ask(query("BEGIN"))
    client.ask(parse("SELECT 'kept'", "p"), SYNC)
    client.ask(query("ROLLBACK"))
    assert row(client.ask(run("p"))).columns == [b"kept"]


def test_write_statement_by_name(client, cluster, table):
    name = table()
    client.ask(parse(f"INSERT INTO {name} VALUES ($1, 'x')", "w"), SYNC)
    for number in range(5):
        assert client.ask(run("w", str(number)))[-2].tag == "INSERT 0 1"
    assert cluster.primary.value(f"SELECT count(*) FROM {name}") == 5


def test_describe_statement_answers_from_where_it_is(client):
    messages = client.ask(parse("SELECT $1::int AS a, $2::text AS b", "d"), describe("S", "d"), SYNC)
    assert [m.kind for m in messages] == ["1", "t", "T", "Z"]
    assert [m.kind for m in client.ask(describe("S", "d"), SYNC)] == ["t", "T", "Z"]


def test_sql_prepare(conn, cluster, table):
    name = table()
    conn.prepare_threshold = None  # an EXECUTE in the extended protocol runs on the primary
    conn.execute("PREPARE r AS SELECT inet_server_port()")
    conn.execute(f"PREPARE w AS INSERT INTO {name} VALUES (1, 'x') RETURNING inet_server_port()")
    assert where(conn, cluster, "EXECUTE r") == "standby"
    conn.execute("BEGIN")
    assert where(conn, cluster, "EXECUTE r") == "standby"
    assert where(conn, cluster) == "standby"  # it counted as the read it is
    assert where(conn, cluster, "EXECUTE w") == "primary"
    assert where(conn, cluster, "EXECUTE r") == "primary"
    conn.execute("ROLLBACK")
    assert where(conn, cluster, "EXECUTE r") == "standby"
    conn.execute("DEALLOCATE r")
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        conn.execute("EXECUTE r")
    conn.execute("PREPARE r AS SELECT inet_server_port(), 2")
    assert where(conn, cluster, "EXECUTE r") == "standby"
    conn.execute("DEALLOCATE PREPARE ALL")
    for name in ("r", "w"):
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            conn.execute(f"EXECUTE {name}")


def test_execute_does_what_its_statement_does(conn, table):
    """It makes a temporary table that hides another, and pins the session."""
    name = table(rows="VALUES (1, 'seen by all')")
    body = f"BEGIN CREATE TEMP TABLE {name} (id int, t text); RETURN 1; END"
    conn.execute(f"CREATE FUNCTION {name}_hide() RETURNS int LANGUAGE plpgsql AS '{body}'")
    assert conn.execute(f"SELECT t FROM {name}").fetchone() == ("seen by all",)
    conn.execute(f"PREPARE hide AS SELECT {name}_hide()")
    conn.execute("EXECUTE hide")
    assert conn.execute(f"SELECT t FROM {name}").fetchone() is None
    conn.execute("PREPARE s AS SELECT set_config('my.own', 'set', false)")
    conn.execute("EXECUTE s")
    assert conn.execute("SELECT current_setting('my.own', true)").fetchone() == ("set",)
    conn.execute(f"DROP FUNCTION {name}_hide()")


def test_sql_prepare_with_parameters_and_types(conn, table):
    name = table(rows="SELECT g, 't' || g FROM generate_series(1, 9) g")
    conn.execute(f"PREPARE q (int, text) AS SELECT t FROM {name} WHERE id = $1 AND t <> $2")
    assert [conn.execute(f"EXECUTE q({n}, 'x')").fetchone()[0] for n in (1, 5, 9)] == ["t1", "t5", "t9"]
    assert conn.execute("EXECUTE q(1, 't1')").fetchone() is None


def test_prepare_in_rolled_back_transaction(conn):
    """SQL PREPARE is not transactional either."""
    conn.execute("BEGIN")
    conn.execute("PREPARE k AS SELECT 'kept'")
    conn.execute("ROLLBACK")
    assert conn.execute("EXECUTE k").fetchone() == ("kept",)


def test_discard_all_forgets_on_every_node(conn, cluster):
    conn.execute("PREPARE g AS SELECT inet_server_port()")
    assert where(conn, cluster, "EXECUTE g") == "standby"
    conn.execute("DISCARD ALL")
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        conn.execute("EXECUTE g")
    conn.execute("PREPARE g AS SELECT inet_server_port() + 0")
    assert where(conn, cluster, "EXECUTE g") == "standby"


def test_discard_plans_and_sequences_keep_statements(conn):
    conn.execute("PREPARE d AS SELECT 1")
    for what in ("PLANS", "SEQUENCES", "TEMP"):
        conn.execute(f"DISCARD {what}")
        assert conn.execute("EXECUTE d").fetchone() == (1,)


def test_names_do_not_leak_into_the_next_session(shared):
    """One child, pooled connection, the same names again: both by protocol and by SQL."""
    pgpool = shared(num_init_children=1, backend_weight0=0)
    for text in ("one", "two", "three"):
        with RawClient.login(pgpool) as client:
            assert client.ask(parse(f"SELECT '{text}'", "same"), SYNC)[0].kind == "1"
            assert client.ask(run("same"))[1].columns == [text.encode()]
            assert client.ask(query(f"PREPARE sql AS SELECT '{text}'"))[0].kind == "C"
            assert client.ask(query("EXECUTE sql"))[1].columns == [text.encode()]
            client.send(b"X\0\0\0\4")
            client.wait_closed()


def test_temporary_statement_names_with_special_characters(conn):
    conn.execute('PREPARE "Odd ""Name" AS SELECT 1')
    assert conn.execute('EXECUTE "Odd ""Name"').fetchone() == (1,)
    conn.execute("PREPARE CamelCase AS SELECT 2")
    assert conn.execute("EXECUTE camelcase").fetchone() == (2,)
    conn.execute('DEALLOCATE "Odd ""Name"')


def test_prepared_statement_follows_settings(conn):
    """A plan made under one search_path or DateStyle answers under the next as PostgreSQL would."""
    ask = "SELECT %s::date::text"
    assert conn.execute(ask, ("2020-02-03",), prepare=True).fetchone() == ("2020-02-03",)
    conn.execute("SET DateStyle = 'German'")
    assert conn.execute(ask, ("2020-02-03",), prepare=True).fetchone() == ("03.02.2020",)


def test_long_lived_statement_after_ddl(conn, cluster, table):
    """B4: 0A000 comes through once, the session lives, a new Parse works."""
    name = table(rows="VALUES (1, 'x')")
    with conn.cursor() as cursor:
        ask = f"SELECT * FROM {name}"
        assert cursor.execute(ask, prepare=True).fetchall() == [(1, "x")]
        cluster.execute(f"ALTER TABLE {name} ADD COLUMN n int DEFAULT 3")
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            cursor.execute(ask, prepare=True)
        conn.execute("DEALLOCATE ALL")
        assert conn.execute(f"SELECT n FROM {name}").fetchone() == (3,)


# -- memory -----------------------------------------------------------------------------------------------------------

SMALL = {"backend_weight0": 0, "prepared_statement_memory": "64kB"}


def errors(messages) -> list[str]:
    return [m.fields["C"] for m in messages if m.kind == "E"]


def test_the_memory_of_statements_is_bounded(shared):
    """Past it a statement is refused, whichever way it is prepared; what was there works on, and closing makes room."""
    long = PORT + " -- " + "x" * 5000
    with RawClient.login(shared(**SMALL)) as client:
        names = []
        while not (found := errors(client.ask(parse(long, f"p{len(names)}"), SYNC))):
            names.append(f"p{len(names)}")
        assert found == ["53400"]
        assert 3 < len(names) < 13
        assert errors(client.ask(query("PREPARE q AS " + long))) == ["53400"]
        assert errors(client.ask(parse("PREPARE q AS " + long), bind(), execute(), SYNC)) == ["53400"]
        assert errors(client.ask(parse(long), bind(), execute(), SYNC)) == []  # the unnamed one replaces itself
        for name in names:
            assert row(client.ask(run(name)))
        client.ask(close("S", names[0]), SYNC)
        assert errors(client.ask(query("PREPARE q AS " + long))) == []
        assert errors(client.ask(parse(long, "one_more"), SYNC)) == ["53400"]
        client.ask(query("DEALLOCATE q"))
        assert errors(client.ask(parse(long, "one_more"), SYNC)) == []
        client.ask(query("DISCARD ALL"))
        assert errors(client.ask(*(parse(long, f"n{i}") for i in range(4)), SYNC)) == []


def test_a_refused_statement_fails_its_transaction(shared, cluster, table):
    name = table()
    long = PORT + " -- " + "x" * 40000
    with RawClient.login(shared(**SMALL)) as client:
        client.ask(query("BEGIN"))
        client.ask(query(f"INSERT INTO {name} VALUES (1, 'x')"))
        found = client.ask(parse(long, "p"), bind("p"), execute(), SYNC)
        assert errors(found) == ["53400"]
        assert found[-1].body == b"E"
        assert errors(client.ask(query("SELECT 1"))) == ["25P02"]
        client.ask(query("COMMIT"))
        # a batch is a transaction: what came before goes too
        found = client.ask(
            parse(f"INSERT INTO {name} VALUES (2, 'x')"), bind(), execute(), parse(long, "p"), bind("p"), execute(), SYNC
        )
        assert errors(found) == ["53400"]
        assert found[-1].body == b"I"
        found = client.ask(query("BEGIN"), query("PREPARE p AS " + long), until="Z")
        found += client.read_until()
        assert (errors(found), found[-1].body) == (["53400"], b"E")
        client.ask(query("ROLLBACK"))
        assert client.value(PORT) == str(cluster.standby.port)
    assert cluster.primary.value(f"SELECT count(*) FROM {name}") == 0


def test_statements_that_failed_take_no_memory(shared):
    """Nobody closes what was never there."""
    with RawClient.login(shared(**SMALL)) as client:
        for number in range(200):
            assert errors(client.ask(parse("SELECT nonsense -- " + "x" * 1000, f"bad{number}"), SYNC)) == ["42703"]
        assert errors(client.ask(parse(PORT, "good"), SYNC)) == []
        assert row(client.ask(run("good")))


def test_a_bind_that_is_skipped_does_nothing(shared, cluster):
    """After an error, up to Sync: what such a SET would have meant for the session is not taken for that of a later one."""
    with RawClient.login(shared(backend_weight0=0)) as client:
        client.ask(parse("SET work_mem = '3MB'", "s"), SYNC)
        assert errors(client.ask(parse("SELECT nonsense"), FLUSH, until="E")) == ["42703"]
        client.ask(bind("s"), execute(), SYNC)
        client.ask(query("SET work_mem = '5MB'"))
        assert client.value("SELECT current_setting('work_mem') || inet_server_port()") == f"5MB{cluster.standby.port}"


def test_a_set_that_is_bound_and_not_executed(shared, cluster):
    """Nor is one that was executed by a named portal forgotten."""
    with RawClient.login(shared(backend_weight0=0)) as client:
        ask = "SELECT current_setting('work_mem') || inet_server_port()"
        client.ask(parse("SET work_mem = '3MB'", "s"), SYNC)
        client.ask(bind("s"), SYNC)
        client.ask(bind("s"), parse(PORT), bind(), execute(), SYNC)
        client.ask(query("SET work_mem = '5MB'"))
        assert client.value(ask) == f"5MB{cluster.standby.port}"
        client.ask(bind("s", "portal"), execute("portal"), SYNC)
        assert client.value(ask) == f"3MB{cluster.standby.port}"
        client.ask(query("SET work_mem = '7MB'"))
        assert client.value(ask) == f"7MB{cluster.standby.port}"


def test_statements_of_ours_are_bounded(shared):
    with RawClient.login(shared(**SMALL)) as client:
        found = [errors(client.ask(parse("SHOW pool_version", f"v{number}"), SYNC)) for number in range(102)]
        assert found[:100] == [[]] * 100
        assert found[100:] == [["53400"]] * 2
        assert errors(client.ask(close("S", "v1"), parse("SHOW pool_version", "w"), SYNC)) == []
