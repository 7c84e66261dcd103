"""The door under TLS: a client it knows is served without Python, every other goes on in Python from where he stands."""

from __future__ import annotations

import contextlib
import datetime
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pgpool._fastpath import Door, Guest, Link, Newcomer, Relay, TlsContext, cell_sizes
from pgpool.auth import gate
from pgpool.errors import ClientGone
from pgpool.system import tls
from pgpool.system.channel import Channel
from tests.support.places import wait_until
from tests.support.wire import SSL_REQUEST, msg, query, startup

PACKET = startup(user="alice", database="shop")
GREETING = msg("R", bytes(4)) + msg("Z", b"I")
ADDRESS = b"\x02" + socket.inet_aton("127.0.0.1")
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> TlsContext:
    place = tmp_path_factory.mktemp("tls")
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    built = x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).public_key(key.public_key())
    built = built.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    pem = serialization.Encoding.PEM
    (place / "crt").write_bytes(built.sign(key, hashes.SHA256()).public_bytes(pem))
    form = serialization.PrivateFormat.PKCS8
    (place / "key").write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    tls._load()
    return TlsContext(True, cert=str(place / "crt"), key=str(place / "key"))


class House:
    """A door with one guest, who encrypts, and his link to a backend that never says anything."""

    def __init__(self, context: TlsContext):
        self.ours, self.backend = socket.socketpair()
        self.wakeup, self.waker = os.pipe()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.epoll = select.epoll()
        self.epoll.register(self.listener.fileno(), select.EPOLLIN)
        header, verdicts = memoryview(bytearray(64)), memoryview(bytearray(1 << 14))
        relay = Relay(memoryview(bytearray(8192)), header, verdicts, (1, 2), self.wakeup)
        self.door = Door(relay, self.epoll.fileno(), [])
        self.door.tls = context
        link = Link(self.ours.fileno(), 0)
        child, slot = (memoryview(bytearray(size)) for size in cell_sizes())
        self.guest = Guest(
            relay, None, [link], link, bytes(64), PACKET, GREETING, b"", 0, child, slot, 0, b"", 1, 0, 0, True, False, b""
        )
        self.guest.admit(ADDRESS, "127.0.0.1", 60)
        self.door.guests = [self.guest]

    def close(self) -> None:
        for held in (self.epoll, self.listener, self.ours, self.backend):
            held.close()
        os.close(self.wakeup)
        os.close(self.waker)


@pytest.fixture
def house(context):
    made = House(context)
    yield made
    made.close()


class Client(threading.Thread):
    """Asks for TLS, says ``packet``, then ``last``. ``got``: what came under TLS; ``error``: how it ended."""

    def __init__(self, house: House, packet: bytes = PACKET, last: bytes = msg("X"), pause: float = 0.0, raw: bytes = b""):
        super().__init__()
        self.port, self.packet, self.last, self.pause, self.raw = house.listener.getsockname()[1], packet, last, pause, raw
        self.got, self.error = b"", ""
        self.start()

    def run(self) -> None:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 20) as plain:
                self.talk(plain)
        except OSError as error:
            self.error = f"{type(error).__name__}: {error}"

    def talk(self, plain: socket.socket) -> None:
        plain.sendall(SSL_REQUEST)
        assert plain.recv(1) == b"S"
        time.sleep(self.pause)
        if self.raw:
            plain.sendall(self.raw)
            return
        with ssl._create_unverified_context().wrap_socket(plain, suppress_ragged_eofs=False) as sock:
            sock.sendall(self.packet)
            while len(self.got) < len(GREETING) and (data := sock.recv(100)):
                self.got += data
            sock.sendall(self.last)
            self.got += sock.recv(100)


def meet(house: House, wanted: Callable[[Newcomer | Guest], bool], **how) -> tuple[Newcomer | Guest, Client]:
    """Clients until one is ``wanted``: on a busy machine some take more than the 50 ms that the door gives them."""
    for _ in range(100):
        client = Client(house, **how)
        came = house.door.wait(20000)
        assert came is not None
        if wanted(came):
            return came, client
        with handed_over(house, came):
            pass
        client.join(20)
    raise AssertionError("a hundred clients, and all too slow")


def begun(came: Newcomer | Guest) -> bool:
    return isinstance(came, Newcomer) and came.wire is not None


@contextlib.contextmanager
def handed_over(house: House, came: Newcomer | Guest | None):
    assert isinstance(came, (Newcomer, Guest))
    channel = Channel(came.release(), deadline=time.monotonic() + 20)
    try:
        yield channel
    finally:
        channel.close()


def first(house: House, came: Newcomer, channel: Channel):
    channel.pending = came.data
    return gate.read_first(channel, house.door.tls, came.asked, came.wire)


def test_a_session_without_python(house):
    """His TLS begins, and ends as it should (a client that saw no close_notify would say so)."""

    def served() -> bool:
        client = Client(house)
        while client.is_alive():
            if came := house.door.wait(50):  # a machine so busy that he was slow
                with handed_over(house, came):
                    pass
        client.join()
        return house.door.served == 1 and (client.got, client.error) == (GREETING, "")

    wait_until(served, "a guest under TLS", 20)


def test_a_session_that_needs_python_goes_on_under_tls(house):
    came, client = meet(house, lambda came: isinstance(came, Guest), last=query("SELECT 1"))
    with handed_over(house, came) as channel:
        channel.tls = came.take_tls()
        assert came.take_tls() is None
        channel.send(b"by Python")
    client.join(20)
    assert (client.got, client.error) == (GREETING + b"by Python", "")


@pytest.mark.parametrize("pause", [0.0, 0.1])
def test_another_packet_and_a_slow_client_are_for_python(house, pause):
    other = startup(user="bob", database="shop")
    came, client = meet(house, begun, packet=other, pause=pause)
    with handed_over(house, came) as channel:
        assert first(house, came, channel).user == "bob"
        assert channel.tls is came.wire
        channel.send(GREETING + b"hello")
    client.join(20)
    assert (client.got, client.error) == (GREETING + b"hello", "")
    assert house.door.served == 0


@pytest.mark.parametrize("pause", [0.0, 0.1])
def test_why_a_handshake_failed_reaches_the_log(house, pause):
    came, client = meet(house, begun, raw=b"GET / HTTP/1.0\r\n\r\n", pause=pause)
    with handed_over(house, came) as channel, pytest.raises(ClientGone, match=r"SSL error: (http request|wrong version)"):
        first(house, came, channel)
    client.join(20)


def test_who_asks_for_tls_inside_tls_is_for_python(house):
    came, client = meet(house, begun, packet=SSL_REQUEST)
    with handed_over(house, came) as channel, pytest.raises(Exception, match=r"unsupported frontend protocol 1234\.5679"):
        first(house, came, channel)
    client.join(20)


@pytest.mark.parametrize("known", [False, True])
def test_bytes_behind_the_request_and_no_guest_who_encrypts(house, known):
    """The door begins no TLS: what came in one piece with the request, or when nobody is known who encrypts, is Python's."""
    more = b"x" if known else b""
    if not known:
        house.door.guests = []
    with socket.create_connection(house.listener.getsockname(), 20) as plain:
        plain.sendall(SSL_REQUEST + more)
        came = house.door.wait(20000)
        assert isinstance(came, Newcomer)
        assert (came.wire, came.data) == (None, SSL_REQUEST + more)
        os.close(came.release())
