"""COPY through psycopg 3: in, out, binary, failing at either end, many rows."""

import psycopg
import pytest


def test_copy_in(conn, table, postgres):
    name = table()
    with conn.cursor() as cursor, cursor.copy(f"COPY {name} FROM STDIN") as copy:
        for number in range(5000):
            copy.write_row((number, f"text {number}"))
    assert postgres.value(f"SELECT count(*) FROM {name}") == 5000


def test_copy_out(conn, table):
    name = table(rows="SELECT g, 't' || g FROM generate_series(1, 3000) g")
    with conn.cursor() as cursor, cursor.copy(f"COPY {name} TO STDOUT") as copy:
        rows = list(copy.rows())
    assert len(rows) == 3000 and rows[0] == ("1", "t1")
    with (
        conn.cursor() as cursor,
        cursor.copy(f"COPY (SELECT id FROM {name} WHERE id < 3 ORDER BY 1) TO STDOUT") as copy,
    ):
        assert [bytes(piece) for piece in copy] == [b"1\n", b"2\n"]


def test_copy_binary_round_trip(conn, table, postgres):
    source, target = table(rows="SELECT g, repeat('x', g) FROM generate_series(1, 200) g"), table()
    with conn.cursor() as one, one.copy(f"COPY {source} TO STDOUT (FORMAT binary)") as out:
        data = b"".join(bytes(piece) for piece in out)
    with conn.cursor() as two, two.copy(f"COPY {target} FROM STDIN (FORMAT binary)") as into:
        into.write(data)
    assert postgres.value(f"SELECT sum(length(t)) FROM {target}") == 20100


def test_client_fails(conn, table, postgres):
    name = table()
    with pytest.raises(ZeroDivisionError), conn.cursor().copy(f"COPY {name} FROM STDIN") as copy:
        copy.write_row((1, "one"))
        raise ZeroDivisionError
    assert postgres.value(f"SELECT count(*) FROM {name}") == 0
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_server_fails_at_once(conn, table):
    name = table()
    with pytest.raises(psycopg.errors.UndefinedColumn), conn.cursor().copy(f"COPY {name} (nope) FROM STDIN"):
        pass
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_server_fails_half_way(conn, table):
    """The error comes while we still send: the rest is thrown away, the session goes on."""
    name = table()
    with pytest.raises(psycopg.errors.InvalidTextRepresentation), conn.cursor().copy(f"COPY {name} FROM STDIN") as copy:
        for number in range(200_000):
            copy.write(f"{'bad' if number == 10 else number}\tsome text\n".encode())
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_server_fails_while_sending(conn):
    with (
        pytest.raises(psycopg.errors.DivisionByZero),
        conn.cursor().copy("COPY (SELECT 1 / (5000 - g) FROM generate_series(1, 10000) g) TO STDOUT") as copy,
    ):
        for _ in copy:
            pass
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_client_stops_reading(conn):
    """psycopg cancels the query when the block is left by an exception."""
    with (
        pytest.raises(ZeroDivisionError),
        conn.cursor().copy("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT") as copy,
    ):
        copy.read()
        raise ZeroDivisionError
    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_copy_in_transaction(pgpool, table, postgres):
    name = table()
    with pgpool.connect(autocommit=False) as conn:
        with conn.cursor().copy(f"COPY {name} FROM STDIN") as copy:
            copy.write("1\tone\n")
        assert conn.execute(f"SELECT t FROM {name}").fetchone() == ("one",)
        conn.rollback()
    assert postgres.value(f"SELECT count(*) FROM {name}") == 0


def test_copy_empty(conn, table):
    name = table()
    with conn.cursor().copy(f"COPY {name} FROM STDIN"):
        pass
    with conn.cursor().copy(f"COPY {name} TO STDOUT") as copy:
        assert list(copy) == []
