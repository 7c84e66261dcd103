"""Bytes no client may send: an answer with SQLSTATE or a closed door, and nobody else notices."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import time

import psutil
import pytest

from tests.support.servers import wait_until
from tests.support.wire import (
    GSSENC_REQUEST,
    PROTOCOL_3_0,
    SSL_REQUEST,
    SYNC,
    Closed,
    Message,
    RawClient,
    bind,
    cancel_request,
    msg,
    parse,
    query,
    startup,
)

pytestmark = pytest.mark.needs_pgpool


@pytest.fixture(scope="module")
def door(shared):
    """A pgpool with few children, so that a lost one is noticed."""
    return shared(num_init_children=3, authentication_timeout=2)


@pytest.fixture(autouse=True)
def nobody_notices(door):
    """A second client works before, during and after; all children are there in the end and none has eaten memory."""
    with RawClient.login(door) as bystander:
        yield
        assert bystander.value("SELECT 'undisturbed'") == "undisturbed"
    for _ in range(6):
        with door.connect() as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
    assert all(process.memory_info().rss < 400 << 20 for process in door.family())


def end_of(client: RawClient, timeout: float = 8) -> list[Message]:
    """What the server says before it closes; fails when it does not close."""
    return client.wait_closed(timeout)


def assert_fatal(messages: list[Message], sqlstate: str = "08P01") -> None:
    """FATAL with the SQLSTATE, or an ERROR with it (a message which is framed well but makes no sense)."""
    errors = [m.fields for m in messages if m.kind == "E"]
    assert errors and errors[-1]["C"] == sqlstate and errors[-1]["S"] in ("FATAL", "ERROR"), messages


LENGTHS = {"zero": 0, "three": 3, "minus_one": -1, "least": -(2**31), "most": 2**31 - 1}


@pytest.mark.parametrize("letter", ["Q", "P", "B", "E", "D", "C", "S", "H", "F", "X", "d", "c", "f", "p"])
@pytest.mark.parametrize("length", LENGTHS)
def test_wrong_length(door, letter, length):
    """Lengths below 4 cannot be; 2 GB is more than any message may have (PostgreSQL allows 1 GB, 10 kB for most)."""
    with RawClient.login(door) as client:
        client.send(letter.encode() + struct.pack("!i", LENGTHS[length]) + b"SELECT 1\0" * 4)
        if letter == "X":
            end_of(client)  # Terminate: no answer owed
        else:
            assert_fatal(end_of(client))


def test_wrong_length_in_pipeline(door):
    """What came before is answered or not, but nothing after the bad length is carried out."""
    with RawClient.login(door) as client:
        client.send(parse("SELECT 1"), bind(), SYNC, b"Q\0\0\0\2", query("SELECT 2"))
        messages = end_of(client)
        assert_fatal(messages)
        assert not any(m.kind == "D" for m in messages)


def test_length_of_1_gb_is_not_believed(door):
    """A promise of a GB allocates nothing before the bytes come."""
    with RawClient.login(door) as client:
        client.send(b"Q" + struct.pack("!i", (1 << 30) - 5) + b"SELECT 1")
        client.is_quiet(0.3)
        assert all(process.memory_info().rss < 300 << 20 for process in door.family())
        client.vanish()


@pytest.mark.parametrize("letter", [chr(n) for n in (0, 1, 10, 65, 90, 121, 127, 255)])
def test_unknown_message(door, letter):
    with RawClient.login(door) as client:
        client.send(letter.encode("latin-1") + struct.pack("!i", 8) + b"abcd")
        assert_fatal(end_of(client))


@pytest.mark.parametrize(
    "data",
    [
        msg("Q", b"SELECT 1"),
        msg("Q", b""),
        msg("Q", b"SELECT 1\0junk\0"),
        msg("P", b"x"),
        msg("P", b"\0SELECT 1\0"),
        msg("P", b"\0SELECT 1\0\0\5"),
        msg("P", b"\0SELECT 1\0\x7f\xff"),
        msg("B", b""),
        msg("B", b"\0"),
        msg("B", b"\0\0\0\0\0\1\0\0\0\7"),
        msg("B", b"\0\0\xff\xff"),
        msg("D", b""),
        msg("D", b"X\0"),
        msg("D", b"S"),
        msg("C", b"X\0"),
        msg("C", b""),
        msg("E", b""),
        msg("E", b"\0"),
        msg("E", b"\0\0\0\0\0junk"),
        msg("F", b""),
        msg("F", b"\0\0\0\1\0\1"),
    ],
)
def test_malformed_body(door, data):
    """Framed well, but not what the letter promises: ERROR (then the session goes on after Sync) or FATAL."""
    with RawClient.login(door) as client:
        client.send(data)
        if data[:1] not in b"QF":
            client.send(SYNC)
        seen = []
        try:
            seen += client.read_until("EZ")
            if seen[-1].fields["S"] == "ERROR":
                client.read_until("Z")
            assert client.value("SELECT 'goes on'") == "goes on"
        except Closed:
            pass
        assert seen and seen[-1].kind == "E" and len(seen[-1].fields["C"]) == 5, seen


def test_not_utf8(door):
    with RawClient.login(door) as client:
        messages = client.ask(msg("Q", b"SELECT '\xff\xfe\x80'\0"))
        assert messages[0].fields["C"] == "22021"
        assert client.value("SELECT 1") == "1"


# --- before and during login


def test_second_startup(door):
    """A StartupMessage where a message should be: its first byte is 0, no message has that letter."""
    with RawClient.login(door) as client:
        client.send(startup(user="postgres", database="app"))
        assert_fatal(end_of(client))


@pytest.mark.parametrize("length", [0, 1, 4, 7, 8, -1, 10_001, 1 << 20, 2**31 - 1])
def test_startup_length(door, length):
    """Startup packets have 8 to 10000 bytes."""
    with RawClient(door.host, door.port) as client:
        client.send(struct.pack("!i", length) + struct.pack("!i", PROTOCOL_3_0) + b"\0" * 100)
        end_of(client)


def test_huge_startup_options(door):
    """9 kB of options is allowed as far as the length goes; 11 kB is not."""
    with RawClient(door.host, door.port) as client:
        messages = client.start(user="postgres", database="app", options="-c application_name=" + "x" * 9000)
        assert messages[-1].kind == "Z"
    with RawClient(door.host, door.port) as client:
        client.send(startup(user="postgres", database="app", options="x" * 11_000))
        assert all(m.kind == "E" for m in end_of(client))


@pytest.mark.parametrize(
    "data",
    [
        startup(protocol=1 << 16, user="postgres"),
        startup(protocol=4 << 16, user="postgres"),
        startup(protocol=0, user="postgres"),
        struct.pack("!ii", 8, PROTOCOL_3_0),
        startup(user="postgres")[:-1],
        struct.pack("!ii", 13, PROTOCOL_3_0) + b"user\0",
        struct.pack("!ii", 15, PROTOCOL_3_0) + b"user\0ab",
        SSL_REQUEST + SSL_REQUEST + SSL_REQUEST,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"\0" * 1000,
        b"\xff" * 1000,
        cancel_request(1, b""),
        cancel_request(1, b"x" * 300),
    ],
)
def test_nonsense_instead_of_startup(door, data):
    with RawClient(door.host, door.port) as client:
        client.send(data)
        with contextlib.suppress(OSError):
            client.half_close()
        try:
            while client.read_raw(1, 8):
                pass
        except Closed:
            pass


def test_no_user(door):
    with RawClient(door.host, door.port) as client:
        client.send(startup(database="app"))
        assert_fatal(end_of(client), "28000")


def test_ssl_then_gss_then_plain(door):
    with RawClient(door.host, door.port) as client:
        for request in (GSSENC_REQUEST, SSL_REQUEST):
            client.send(request)
            assert client.read_raw(1) == b"N"
        assert client.start(user="postgres", database="app")[-1].kind == "Z"


def test_unencrypted_bytes_after_ssl_request(door):
    """CVE-2021-23214: what is sent along with SSLRequest must not be taken as sent under TLS. Without TLS: harmless."""
    with RawClient(door.host, door.port) as client:
        client.send(SSL_REQUEST + startup(user="postgres", database="app") + query("SELECT 1"))
        assert client.read_raw(1) in b"NE"
        with contextlib.suppress(Closed):
            assert client.read_until("Z")[-1].kind == "Z"


@pytest.mark.long
def test_slow_loris_startup(door):
    """Startup that never ends: authentication_timeout (2 s here) frees the child."""
    packet = startup(user="postgres", database="app")
    slow = [RawClient(door.host, door.port) for _ in range(2)]
    started = time.monotonic()
    try:
        for client in slow:
            client.send(packet[:5])
        for client in slow:
            end_of(client, 15)
        assert time.monotonic() - started < 14
    finally:
        for client in slow:
            client.close()


def test_connections_that_say_nothing(door):
    """A port scan: connect, close."""
    for number in range(30):
        with socket.create_connection((door.host, door.port)) as sock:
            if number % 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# --- later


def test_half_closed(door):
    """The client shuts its sending side down after a query: it may still get the answer; then the session ends."""
    with RawClient.login(door) as client:
        client.send(query("SELECT 1"))
        client.half_close()
        kinds = [m.kind for m in end_of(client)]
        assert kinds in ([], ["T", "D", "C", "Z"])


def test_half_a_message_then_end(door):
    with RawClient.login(door) as client:
        client.send(query("SELECT 1")[:-3])
        client.half_close()
        assert all(m.kind == "E" for m in end_of(client))


@pytest.mark.parametrize("letter", ["Q", "P", "B"])
def test_half_a_long_message_then_end(door, postgres, letter):
    """A message longer than any buffer is passed on in pieces; its client says goodbye before the end of it."""
    with RawClient.login(door) as client:
        client.send(letter.encode() + struct.pack("!i", 500_000_000) + b"\0SELECT 1")
        client.half_close()
        assert all(m.kind == "E" for m in end_of(client))
        pid = client.pid
    wait_until(lambda: not postgres.backends(f"pid = {pid} AND state <> 'idle'"), "the backend to be freed", 10)


@pytest.mark.parametrize("length", [500_000_000, 9_000_000])
def test_a_long_parse_whose_name_does_not_end(door, length):
    with RawClient.login(door) as client:
        client.send(b"P" + struct.pack("!i", length) + b"n" * 20_000)
        assert_fatal(end_of(client), "08P01")


def test_a_long_parse_whose_name_comes_late(door):
    """Too long to be read at once: it is passed on as soon as its name is known."""
    text = b"SELECT 1 AS " + b"a" * 40 + b" -- " + b"x" * 9_000_000
    message = msg("P", b"late\0" + text + b"\0\0\0")
    with RawClient.login(door) as client:
        for piece in (message[:5], message[5:7], message[7:30], message[30:]):
            client.send(piece)
            time.sleep(0.05)  # so that each comes by itself
        client.send(msg("B", b"\0late\0" + b"\0" * 6) + msg("E", b"\0" + b"\0" * 4) + msg("S"))
        assert [m.kind for m in client.read_until("Z")] == ["1", "2", "D", "C", "Z"]


def test_client_never_reads(door, postgres):
    """The relay waits for the client, its memory does not grow, others go on; then the client vanishes."""
    with RawClient.login(door) as client:
        client.send(query("SELECT repeat('x', 100000) FROM generate_series(1, 2000)"))
        time.sleep(0.5)
        assert all(process.memory_info().rss < 150 << 20 for process in door.family())
        pid = client.pid
        client.vanish()
    deadline = time.monotonic() + 10
    while postgres.backends(f"pid = {pid} AND state = 'active'"):
        assert time.monotonic() < deadline, "the backend still works for a client that is gone"
        time.sleep(0.05)


def test_messages_without_end(door):
    """100000 Flush messages, then Sync: processed in constant memory."""
    with RawClient.login(door) as client:
        assert client.ask(msg("H") * 100_000, SYNC)[-1].kind == "Z"
        assert client.ask(SYNC * 2000, query("SELECT 1"))[-1].kind == "Z"
        assert sum(m.kind == "Z" for m in client.read_until("C")) == 1999


@pytest.mark.long
def test_garbage(door):
    """Random bytes after login, and valid sessions with bytes flipped."""
    seed = int(os.environ.get("PGPOOL_TEST_SEED", random.randrange(1 << 30)))
    print("seed", seed)
    dice = random.Random(seed)
    good = (
        query("SELECT 1")
        + parse("SELECT $1::int")
        + bind(values=("1",))
        + msg("E", b"\0\0\0\0\0")
        + SYNC
        + query("BEGIN; SELECT 2")
    )
    for _ in range(150):
        with RawClient.login(door) as client:
            data = bytearray(good if dice.random() < 0.7 else dice.randbytes(200))
            for _ in range(dice.randrange(1, 4)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            try:
                client.send(bytes(data))
                client.half_close()
                client.wait_closed(8)
            except (Closed, OSError):
                pass


def test_children_are_still_there(door):
    """All children serve: three clients at once, twice (the fixture's bystander holds none here)."""
    pids = {process.pid for process in door.family()}
    assert len(pids) >= 3
    assert all(psutil.pid_exists(pid) for pid in pids)
