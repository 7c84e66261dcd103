"""The rest of a session: protocol 3.2, large objects by FunctionCall, notifications, many statements in one string."""

import struct
import threading
import time

import psycopg
import pytest

from tests.support.servers import wait_until
from tests.support.wire import (
    GSSENC_REQUEST,
    PROTOCOL_3_2,
    SSL_REQUEST,
    SYNC,
    RawClient,
    bind,
    cancel_request,
    execute,
    function_call,
    parse,
    query,
    readable,
)

# --- protocol versions


@pytest.fixture
def mixed(shared):
    """One child, which has served a client that asked for 3.0."""
    pgpool = shared(num_init_children=1, max_pool=2, backend_weight1=0)
    with RawClient.login(pgpool) as client:
        client.send(b"X\0\0\0\4")
        client.wait_closed()
    return pgpool


def test_protocol_3_2(mixed, postgres):
    """What the server says to 3.2 (older ones: NegotiateProtocolVersion) comes through, also when a connection is reused."""
    with RawClient.login(postgres, protocol=PROTOCOL_3_2) as direct:
        want = direct.negotiated and readable(direct.negotiated)
        key_length = len(direct.key)
    for _ in range(3):
        with RawClient.login(mixed, protocol=PROTOCOL_3_2) as client:
            assert (client.negotiated and readable(client.negotiated)) == want
            assert len(client.key) == key_length
            assert client.value("SELECT 1") == "1"
            client.send(b"X\0\0\0\4")
            client.wait_closed()


def test_unknown_protocol_option(mixed, postgres):
    """_pq_. options nobody knows are listed in NegotiateProtocolVersion."""
    answers = []
    for server in (postgres, mixed, mixed):
        with RawClient(server.host, server.port) as client:
            client.start(PROTOCOL_3_2, user="postgres", database="app", **{"_pq_.nonsense": "1"})
            answers.append(client.negotiated and readable(client.negotiated))
    assert answers[1] == answers[2] == answers[0]


@pytest.mark.needs_pgpool
def test_mixed_protocols_do_not_share_a_backend_wrongly(shared):
    """3.0 after 3.2 on the same child: no NegotiateProtocolVersion where nobody asked."""
    pgpool = shared(num_init_children=1, max_pool=2, backend_weight1=0)
    for protocol in (PROTOCOL_3_2, 3 << 16, PROTOCOL_3_2, 3 << 16):
        with RawClient.login(pgpool, protocol=protocol) as client:
            assert protocol == PROTOCOL_3_2 or client.negotiated is None
            assert client.value("SELECT 1") == "1"
            client.send(b"X\0\0\0\4")
            client.wait_closed()


def test_cancel_with_protocol_3_2(pgpool, postgres):
    with RawClient.login(pgpool, protocol=PROTOCOL_3_2) as client:
        client.send(query("SELECT pg_sleep(60)"))
        deadline = time.monotonic() + 10
        while not postgres.busy(f"pid = {client.pid}"):
            assert time.monotonic() < deadline
        with RawClient(pgpool.host, pgpool.port) as other:
            other.send(cancel_request(client.pid, client.key))
            other.wait_closed()
        assert client.read_until("E", 5)[-1].fields["C"] == "57014"


def test_encryption_requests_are_refused_politely(pgpool):
    for request in (SSL_REQUEST, GSSENC_REQUEST):
        with RawClient(pgpool.host, pgpool.port) as client:
            client.send(request)
            assert client.read_raw(1) == b"N"
            assert client.start(user="postgres", database="app")[-1].kind == "Z"


def test_database_defaults_to_the_user(pgpool):
    with RawClient(pgpool.host, pgpool.port) as client:
        client.start(user="postgres")
        assert client.value("SELECT current_database()") == "postgres"


# --- FunctionCall and large objects

LO = {"creat": 957, "open": 952, "write": 955, "read": 954, "lseek": 956, "close": 953, "unlink": 964}
INT = struct.Struct("!i").pack


def call(client: RawClient, name: str, *args: bytes) -> bytes:
    messages = client.ask(function_call(LO[name], args))
    assert [m.kind for m in messages] == ["V", "Z"], [readable(m) for m in messages]
    size = struct.unpack("!i", messages[0].body[:4])[0]
    return messages[0].body[4 : 4 + size] if size >= 0 else b""


def test_large_object_by_function_call(raw, postgres):
    """libpq's lo_* functions: all on the primary, in one transaction."""
    data = bytes(range(256)) * 1000
    raw.ask(query("BEGIN"))
    oid = call(raw, "creat", INT(0x60000))
    fd = call(raw, "open", oid, INT(0x60000))
    for start in range(0, len(data), 8192):
        piece = data[start : start + 8192]
        assert struct.unpack("!i", call(raw, "write", fd, piece))[0] == len(piece)
    call(raw, "lseek", fd, INT(0), INT(0))
    back = b"".join(call(raw, "read", fd, INT(100_000)) for _ in range(3))
    assert back == data
    call(raw, "close", fd)
    assert raw.ask(query("COMMIT"))[-1].state == "I"
    number = struct.unpack("!I", oid)[0]
    assert postgres.value(f"SELECT length(lo_get({number}))") == len(data)
    raw.ask(query("BEGIN"))
    call(raw, "unlink", oid)
    raw.ask(query("COMMIT"))


# --- LISTEN and NOTIFY


@pytest.mark.needs_pgpool
def test_notification_while_idle_when_reads_are_on_the_standby(standby_reads, postgres):
    """LISTEN is on the primary, the last query ran on the standby: it still arrives at once."""
    with RawClient.login(standby_reads) as client:
        client.ask(query("LISTEN idle_news"))
        assert client.value("SELECT inet_server_port()") != str(postgres.port)
        postgres.execute("NOTIFY idle_news, 'hello'")
        message = client.read(3)
        assert message.kind == "A" and message.body[4:] == b"idle_news\0hello\0"
        assert client.is_quiet(0.1)
        assert client.value("SELECT 1") == "1"


@pytest.mark.needs_pgpool
def test_notification_during_a_read_on_the_standby(standby_reads, postgres):
    with RawClient.login(standby_reads) as client:
        client.ask(query("LISTEN busy_news"))
        client.value("SELECT 1")
        threading.Timer(0.2, postgres.execute, ("NOTIFY busy_news, 'now'",)).start()
        client.send(query("SELECT count(*) FROM generate_series(1, 4000000)"))
        seen = client.read_until("Z", 20)
        while not any(m.kind == "A" for m in seen):
            seen.append(client.read(5))
        assert [m.kind for m in seen if m.kind != "A"] == ["T", "D", "C", "Z"]


def test_unlisten(conn, postgres):
    conn.execute("LISTEN a")
    conn.execute("UNLISTEN a")
    postgres.execute("NOTIFY a")
    assert list(conn.notifies(timeout=0.2)) == []


@pytest.mark.needs_pgpool
@pytest.mark.parametrize("reads_on", [0, 1])
def test_settings_changed_from_outside(shared, postgres, reads_on):
    """ALTER SYSTEM + reload: ParameterStatus comes with the next statement, also when pgpool asked the catalogs first."""
    pgpool = shared(**{f"backend_weight{1 - reads_on}": 0})
    raw = RawClient.login(pgpool)
    raw.value("SELECT 1")

    def told() -> list[bytes]:
        sql = f"SELECT random() AS r{time.monotonic_ns()}"  # a text nobody has seen: pgpool has to look it up
        return [m.body for m in raw.ask(query(sql)) if m.kind == "S"]

    try:
        postgres.execute("ALTER SYSTEM SET DateStyle = 'German'")
        postgres.reload()
        assert wait_until(told, "ParameterStatus", 5) == [b"DateStyle\0German, DMY\0"]
    finally:
        postgres.execute("ALTER SYSTEM RESET DateStyle")
        postgres.reload()
    assert wait_until(told, "ParameterStatus", 5) == [b"DateStyle\0ISO, MDY\0"]
    raw.close()


# --- strings of many statements


def test_multi_statement_is_one_transaction(conn, table, postgres):
    name = table()
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute(f"INSERT INTO {name} VALUES (1, 'a'); INSERT INTO {name} VALUES (1, 'b')")
    assert postgres.value(f"SELECT count(*) FROM {name}") == 0
    conn.execute(f"INSERT INTO {name} VALUES (1, 'a'); COMMIT; INSERT INTO {name} VALUES (2, 'b'); ROLLBACK")
    assert postgres.execute(f"SELECT id FROM {name}") == [(1,)]


def test_very_long_multi_statement(conn, table, postgres):
    """Longer than any buffer, with every kind of quote, all on the primary."""
    name = table()
    rows = "".join(f"INSERT INTO {name} VALUES ({n}, E'it\\'s; \"{n}\" $$ -- /*');" for n in range(3000))
    conn.execute(rows)
    assert postgres.value(f"SELECT count(*) FROM {name}") == 3000


def test_semicolon_in_strings_is_one_statement(conn, cluster):
    assert conn.execute('SELECT \';\', $$;$$, ";" FROM (SELECT 1 AS ";") s -- ;').fetchone() == (";", ";", 1)


def test_idle_in_transaction_timeout_is_told(raw):
    """25P03 from the backend reaches the client."""
    raw.ask(query("SET idle_in_transaction_session_timeout = 200"))
    raw.ask(query("BEGIN"))
    raw.ask(query("LOCK TABLE pg_class IN ACCESS SHARE MODE"))
    errors = [m.fields for m in raw.wait_closed(5) if m.kind == "E"]
    assert [(e["S"], e["C"]) for e in errors] == [("FATAL", "25P03")]


def test_many_parameters(conn):
    """The protocol's limit of 65535 parameters in one Bind."""
    count = 65535
    sql = "SELECT " + " + ".join(["%s::int"] * 10)
    assert conn.execute(sql, list(range(10))).fetchone() == (45,)
    values = b"".join(struct.pack("!i", 1) + b"1" for _ in range(count))
    body = b"\0\0" + struct.pack("!h", 0) + struct.pack("!H", count) + values + struct.pack("!h", 0)
    with RawClient(conn.info.host, conn.info.port) as client:
        client.start(user="postgres", database="app")
        text = "SELECT array_length(ARRAY[" + ",".join(f"${n}" for n in range(1, count + 1)) + "]::text[], 1)"
        client.send(parse(text), b"B" + struct.pack("!i", len(body) + 4) + body, execute(), SYNC)
        messages = client.read_until("Z", 30)
        assert [m.columns for m in messages if m.kind == "D"] == [[b"65535"]], [readable(m) for m in messages][-3:]


@pytest.mark.needs_pgpool
def test_client_idle_limit(make_pgpool):
    pgpool = make_pgpool({"num_init_children": 1, "client_idle_limit": 1})
    with RawClient.login(pgpool) as client:
        assert client.value("SELECT 1") == "1"
        errors = [m.fields for m in client.wait_closed(6) if m.kind == "E"]
        assert errors and errors[0]["C"] == "57000" and "client_idle_limit" in errors[0].get("D", ""), errors
    with RawClient.login(pgpool) as client:
        assert client.value("SELECT 1") == "1"


@pytest.mark.needs_pgpool
def test_reserved_connections(make_pgpool):
    """53300 instead of waiting when all but the reserved children are in use."""
    pgpool = make_pgpool({"num_init_children": 3, "reserved_connections": 1})
    with pgpool.connect(), pgpool.connect(), pytest.raises(psycopg.OperationalError, match="Sorry, too many clients"):
        pgpool.connect().close()

    def free_again() -> bool:
        try:
            pgpool.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    wait_until(free_again, "a child to be free again")


def test_bind_in_pieces_between_sessions(raw):
    """Statement and portal both named, portal closed by the end of the transaction."""
    raw.ask(parse("SELECT 1", "s"), SYNC)
    assert raw.ask(bind("s", "p"), SYNC)[0].kind == "2"
    assert raw.ask(execute("p"), SYNC)[0].fields["C"] == "34000"
