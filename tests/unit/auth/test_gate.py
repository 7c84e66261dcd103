"""auth/gate: every way to be asked, over a socket pair; nobody gets in unproved, nothing comes out of order."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool.auth import exchange, gate, hba, passwd
from pgpool.auth.admission import Admission, LinkAuth
from pgpool.errors import AuthenticationFailed, ClientGone, PgpoolError, ProtocolViolation, SessionFatal
from pgpool.system.channel import Channel
from pgpool.system.sockets import LOCAL_PEER, Peer
from pgpool.wire import messages as m
from pgpool.wire import startup as s

PEER = Peer("10.0.0.7", 4711)
VERIFIER = exchange.make_verifier(b"secret", b"0123456789abcdef")
FILE = passwd.PasswordFile(
    passwd.parse(
        "txt:TEXTsecret\nmd:" + exchange.md5_secret(b"secret", b"md").decode() + "\nver:"
        + exchange.render_verifier(VERIFIER) + "\n", "pool_passwd", None,
    )[0]
)  # fmt: skip


class Frontend:
    """The client's end: what a driver does, by hand."""

    def __init__(self, sock: socket.socket):
        self.sock = sock
        self.sock.settimeout(10)

    def read(self) -> tuple[bytes, bytes]:
        head = self._exactly(5)
        return head[:1], self._exactly(int.from_bytes(head[1:], "big") - 4)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.sock.recv(count - len(data))
            assert part, "the gate closed the connection"
            data += part
        return data

    def answer(self, user: str, password: bytes) -> int:
        """Answers one authentication request; returns its code."""
        kind, body = self.read()
        assert kind == b"R"
        code = int.from_bytes(body[:4], "big")
        if code == m.AUTH_CLEARTEXT:
            self.sock.sendall(m.password_message(password))
        elif code == m.AUTH_MD5:
            secret = exchange.md5_secret(password, user.encode())
            self.sock.sendall(m.password_message(exchange.md5_answer(secret, body[4:])))
        else:
            assert code == m.AUTH_SASL and m.read_sasl_mechanisms(body[4:]) == [b"SCRAM-SHA-256"]
            client = exchange.ScramClient(password, b"clientnonce")
            self.sock.sendall(m.sasl_initial_response("SCRAM-SHA-256", client.first()))
            kind, body = self.read()
            assert body[:4] == struct.pack("!I", m.AUTH_SASL_CONTINUE)
            self.sock.sendall(m.sasl_response(client.final(body[4:])))
        return code


@pytest.fixture
def ends():
    """(Channel of the gate, Frontend)."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours.detach(), deadline=time.monotonic() + 10)
    yield channel, Frontend(theirs)
    channel.close()
    theirs.close()


def both(action: Callable, client: Callable):
    """Runs ``client`` in a thread while ``action`` runs here."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(client)
        try:
            return action()
        finally:
            future.result(10)


def start(user: str, protocol: int = m.PROTOCOL_3_0) -> s.Startup:
    parsed = s.parse_startup(s.startup_packet(protocol, user=user, database="shop")[4:])
    assert isinstance(parsed, s.Startup)
    return parsed


def conf(on: bool = True, clear: bool = False) -> SimpleNamespace:
    return SimpleNamespace(enable_pool_hba=on, allow_clear_text_frontend_auth=clear)


def rules(method: str) -> hba.Hba:
    return hba.parse(f"host all all all {method}", "f", lambda p: "")


def admit(ends, method: str, user: str, password: bytes | None) -> Admission:
    channel, frontend = ends

    def work() -> Admission:
        return gate.admit(channel, start(user), conf(), rules(method), FILE, PEER)

    return work() if password is None else both(work, lambda: frontend.answer(user, password))


# ---------------------------------------------------------------- first packets


def read_first(ends, data: bytes):
    channel, frontend = ends
    frontend.sock.sendall(data)
    return gate.read_first(channel)


def test_encryption_is_declined_and_the_startup_follows(ends) -> None:
    channel, frontend = ends
    packet = s.startup_packet(user="bob")

    def client() -> None:
        for code in (s.GSSENC_CODE, s.SSL_CODE):
            frontend.sock.sendall(struct.pack("!II", 8, code))
            assert frontend.sock.recv(10) == b"N"
        frontend.sock.sendall(packet)

    found = both(lambda: gate.read_first(channel), client)
    assert isinstance(found, s.Startup) and found.user == "bob"


@pytest.mark.parametrize(
    ("code", "text"),
    [(s.SSL_CODE, "received unencrypted data after SSL request"),
     (s.GSSENC_CODE, "received unencrypted data after GSSAPI encryption request")],
)  # fmt: skip
def test_bytes_before_the_answer_to_an_encryption_request(ends, code: int, text: str) -> None:
    """CVE-2021-3935, CVE-2021-43766 class."""
    with pytest.raises(ProtocolViolation) as caught:
        read_first(ends, struct.pack("!II", 8, code) + s.startup_packet(user="bob"))
    assert caught.value.message == text and caught.value.sqlstate == "08P01"


def test_a_second_request_for_encryption_is_refused(ends) -> None:
    channel, frontend = ends

    def client() -> None:
        frontend.sock.sendall(s.ssl_request())
        assert frontend.sock.recv(1) == b"N"
        frontend.sock.sendall(s.ssl_request())

    with pytest.raises(SessionFatal, match=r"unsupported frontend protocol 1234\.5679"):
        both(lambda: gate.read_first(channel), client)


@pytest.mark.parametrize(
    "data", [b"p\0\0\0\x0bsecret\0", b"\xff\xff\xff\xff", b"\0\0\0\4", b"\0\0\x27\x11\0\3\0\0", b"GET / HTTP/1.1\r\n"]
)
def test_what_is_no_first_packet(ends, data: bytes) -> None:
    """CVE-2015-4054 (a password first) and CVE-2012-4575 (length) classes."""
    with pytest.raises(ProtocolViolation, match="invalid length of startup packet"):
        read_first(ends, data)


def test_a_client_that_leaves_is_gone(ends) -> None:
    channel, frontend = ends
    frontend.sock.close()
    with pytest.raises(ClientGone):
        gate.read_first(channel)


# ---------------------------------------------------------------- pool_hba methods


def test_trust_with_and_without_a_stored_secret(ends) -> None:
    assert admit(ends, "trust", "txt", None).verified
    assert admit(ends, "trust", "md", None).verified
    # nothing stored, or nothing that could log in: the backend has to ask
    assert not admit(ends, "trust", "nobody", None).verified
    assert not admit(ends, "trust", "ver", None).verified


@pytest.mark.parametrize("user", ["txt", "md", "ver"])
def test_password(ends, user: str) -> None:
    admission = admit(ends, "password", user, b"secret")
    assert admission.verified and admission.typed and admission.password == b"secret"
    with pytest.raises(AuthenticationFailed, match="password authentication failed"):
        admit(ends, "password", user, b"wrong")


def test_password_without_an_entry_is_not_believed_yet(ends) -> None:
    """CVE-2025-46801 class: whatever is typed proves nothing until a backend has checked it."""
    admission = admit(ends, "password", "nobody", b"anything")
    assert not admission.verified and admission.typed


@pytest.mark.parametrize("user", ["txt", "md"])
def test_md5(ends, user: str) -> None:
    assert admit(ends, "md5", user, b"secret").verified
    with pytest.raises(AuthenticationFailed) as caught:
        admit(ends, "md5", user, b"wrong")
    assert (caught.value.message, caught.value.detail) == ("md5 authentication failed", "password does not match")
    assert (caught.value.severity, caught.value.sqlstate) == ("FATAL", "XX000")


@pytest.mark.parametrize("user", ["ver", "nobody"])
def test_md5_without_a_usable_entry(ends, user: str) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        admit(ends, "md5", user, None)
    assert caught.value.detail == f'pool_passwd file does not contain an entry for "{user}"'


@pytest.mark.parametrize("user", ["txt", "ver"])
def test_scram(ends, user: str) -> None:
    admission = admit(ends, "scram-sha-256", user, b"secret")
    assert admission.verified and admission.keys is not None
    assert m.split_messages(admission.prelude)[0][0][1].startswith(struct.pack("!I", m.AUTH_SASL_FINAL) + b"v=")


def test_scram_keys_of_a_verifier_log_in_to_backends(ends) -> None:
    admission = admit(ends, "scram-sha-256", "ver", b"secret")
    client = exchange.ScramClient(admission.scram_secret, b"n")
    server = exchange.ScramServer(VERIFIER, b"s")
    client.check(server.final(client.final(server.first(client.first()))))


def test_scram_unknown_user_and_wrong_password_look_alike(ends) -> None:
    seen = []
    for user in ("txt", "ver", "nobody"):
        with pytest.raises(AuthenticationFailed) as caught:
            admit(ends, "scram-sha-256", user, b"wrong")
        seen.append((caught.value.message, caught.value.detail.replace(user, "U"), caught.value.sqlstate))
    assert len(set(seen)) == 1 and seen[0][0] == "SCRAM authentication failed"


def test_scram_salt_of_an_unknown_user_is_always_the_same(ends) -> None:
    channel, frontend = ends
    salts = set()
    for _ in range(2):

        def client() -> None:
            frontend.read()
            frontend.sock.sendall(m.sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=abc"))
            salts.add(frontend.read()[1].split(b",s=")[1])
            frontend.sock.sendall(m.sasl_response(b"c=biws,r=x,p=AAAA"))

        with pytest.raises(ProtocolViolation):
            both(lambda: gate.admit(channel, start("nobody"), conf(), rules("scram-sha-256"), FILE, PEER), client)
    assert len(salts) == 1


def test_scram_with_an_md5_entry(ends) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        admit(ends, "scram-sha-256", "md", None)
    assert caught.value.detail == 'pool_passwd file does not contain valid SCRAM entry for "md"'


@pytest.mark.parametrize("rule", ["reject", None])
def test_reject_and_no_entry(ends, rule: str | None) -> None:
    found = rules(rule) if rule else hba.Hba(())
    with pytest.raises(AuthenticationFailed) as caught:
        gate.admit(ends[0], start("txt"), conf(), found, FILE, PEER)
    error = caught.value
    assert (error.severity, error.sqlstate, error.message) == ("FATAL", "XX000", "client authentication failed")
    assert error.detail == 'no pool_hba.conf entry for host "10.0.0.7", user "txt", database "shop", SSL off'
    assert error.hint == "see pgpool log for details"
    with pytest.raises(AuthenticationFailed, match="client authentication failed"):
        gate.admit(ends[0], start("txt"), conf(), None, FILE, LOCAL_PEER)


def test_off_asks_nothing(ends) -> None:
    admission = gate.admit(ends[0], start("txt"), conf(on=False, clear=True), None, FILE, PEER)
    assert not admission.verified and admission.clear_text and admission.password == b"secret"
    ends[1].sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        ends[1].sock.recv(1)


# ---------------------------------------------------------------- order and size of answers


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (s.startup_packet(user="root"), "expected password response, got message type 0"),
        (m.query("select 1"), "expected password response, got message type 81"),
        (b"\xff", "expected password response, got message type 255"),
        (b"p\xff\xff\xff\xff", "invalid message length"),
        (b"p\0\0\0\3", "invalid message length"),
        (m.message(b"p", b"no terminator"), "invalid password packet size"),
        (m.message(b"p", b"two\0parts\0"), "invalid password packet size"),
    ],
)
@pytest.mark.parametrize("method", ["password", "md5"])
def test_anything_else_than_a_password_ends_the_session(ends, method: str, data: bytes, text: str) -> None:
    """CVE-2026-107350 class: no second StartupMessage during a login."""
    ends[1].sock.sendall(data)
    with pytest.raises(ProtocolViolation) as caught:
        gate.admit(ends[0], start("txt"), conf(), rules(method), FILE, PEER)
    assert caught.value.message == text and caught.value.sqlstate == "08P01"


@pytest.mark.parametrize(
    "data",
    [
        s.startup_packet(user="root"), m.message(b"p", b""), m.message(b"p", b"SCRAM-SHA-256"),
        m.message(b"p", b"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,"), m.message(b"p", b"SCRAM-SHA-256\0\xff\xff\xff\xfe"),
        m.sasl_initial_response("SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=x"),
        m.sasl_initial_response("PLAIN", b"\0root\0x"), m.sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r="),
        m.sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=abc") + m.sasl_response(b"c=biws,r=abc,p=AAAA"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("user", ["txt", "nobody"])
def test_broken_scram(ends, user: str, data: bytes) -> None:
    """CVE-2026-6664 class among them (length of SASLInitialResponse)."""
    ends[1].sock.sendall(data)
    with pytest.raises(ProtocolViolation):
        gate.admit(ends[0], start(user), conf(), rules("scram-sha-256"), FILE, PEER)


def test_a_client_that_gives_up_is_no_error(ends) -> None:
    ends[1].sock.sendall(m.terminate())
    with pytest.raises(ClientGone):
        gate.admit(ends[0], start("txt"), conf(), rules("md5"), FILE, PEER)


def test_an_empty_password_is_never_accepted(ends) -> None:
    with pytest.raises(AuthenticationFailed, match="empty password"):
        admit(ends, "password", "nobody", b"")


def test_the_version_is_negotiated_before_the_first_question(ends) -> None:
    channel, frontend = ends

    def client() -> None:
        assert frontend.read() == (b"v", struct.pack("!ii", m.PROTOCOL_3_2, 0))
        frontend.answer("txt", b"secret")

    admission = both(lambda: gate.admit(channel, start("txt", 0x3270F), conf(), rules("md5"), FILE, PEER), client)
    assert admission.negotiated and admission.negotiate(m.PROTOCOL_3_0) == b""


# ---------------------------------------------------------------- reuse of a pooled link


def link(method: str, typed: bytes | None = None) -> LinkAuth:
    admission = Admission("u", typed=typed is not None, password=typed)
    return LinkAuth.of(method, m.PROTOCOL_3_0, admission)


def reuse(ends, user: str, auth: LinkAuth, password: bytes | None, clear: bool = False):
    channel, frontend = ends
    admission = gate.admit(channel, start(user), conf(on=False, clear=clear), None, FILE, PEER)

    def work():
        return gate.reuse(channel, admission, auth), admission

    return work() if password is None else both(work, lambda: frontend.answer(user, password))


def test_a_trust_link_is_for_everybody_whom_the_backend_trusts(ends) -> None:
    prelude, admission = reuse(ends, "nobody", link("trust"), None)
    assert prelude == b"" and not admission.verified


@pytest.mark.parametrize(("user", "method"), [("txt", "md5"), ("md", "md5"), ("txt", "scram"), ("ver", "scram")])
def test_stored_secrets_are_asked_for_again(ends, user: str, method: str) -> None:
    prelude, admission = reuse(ends, user, link(method), b"secret")
    assert prelude is not None and admission.verified
    assert (b"v=" in prelude) == (method == "scram") and admission.prelude == prelude
    with pytest.raises(AuthenticationFailed, match=f'password authentication failed for user "{user}"'):
        reuse(ends, user, link(method), b"wrong")


@pytest.mark.parametrize(("user", "method"), [("nobody", "md5"), ("nobody", "scram"), ("md", "scram"), ("ver", "md5")])
def test_relayed_links_without_a_stored_secret_are_for_nobody(ends, user: str, method: str) -> None:
    prelude, admission = reuse(ends, user, link(method), None)
    assert prelude is None and not admission.verified


def test_a_typed_password_is_compared_with_the_one_the_backend_took(ends) -> None:
    auth = link("password", b"secret")
    assert reuse(ends, "nobody", auth, b"secret")[0] == b""
    # the user's password may have changed: the backend decides, and nothing is asked twice
    prelude, admission = reuse(ends, "nobody", auth, b"other")
    assert prelude is None and admission.typed and not admission.verified and admission.password == b"other"


def test_clear_text_instead_of_md5_and_scram_where_that_is_allowed(ends) -> None:
    for method in ("md5", "scram"):
        assert reuse(ends, "nobody", link(method, b"secret"), b"secret", clear=True)[1].verified
        assert reuse(ends, "nobody", link(method, b"secret"), None, clear=False)[0] is None


def test_a_password_typed_at_the_gate_must_be_that_of_the_link(ends) -> None:
    admission = admit(ends, "password", "nobody", b"anything")
    assert gate.reuse(ends[0], admission, link("trust")) is None
    assert gate.reuse(ends[0], admission, link("scram")) is None
    assert gate.reuse(ends[0], admission, link("md5", b"other")) is None
    assert gate.reuse(ends[0], admission, link("md5", b"anything")) == b""


def test_links_that_took_a_secret_are_not_inherited_by_somebody_who_gave_none() -> None:
    for verified in (True, False):
        admission = Admission("u", verified=verified)
        assert gate.inherits(admission, link("trust"))
        assert gate.inherits(admission, link("scram")) == verified


def test_secrets_are_not_shown(ends) -> None:
    admission = admit(ends, "password", "txt", b"secret")
    for thing in (admission, LinkAuth.of("password", m.PROTOCOL_3_0, admission)):
        assert "secret" not in repr(thing)


messages_in = st.lists(
    st.binary(max_size=30)
    | st.builds(lambda b: m.message(b"p", b), st.binary(max_size=60))
    | st.builds(lambda b: m.sasl_initial_response("SCRAM-SHA-256", b), st.binary(max_size=60))
    | st.sampled_from([s.ssl_request(), s.startup_packet(user="txt"), m.password_message(b"x"), m.terminate()]),
    max_size=5,
).map(b"".join)


@given(data=messages_in, method=st.sampled_from(["trust", "password", "md5", "scram-sha-256"]))
def test_whatever_comes_in_nobody_unproved_gets_through(data: bytes, method: str) -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours.detach(), deadline=time.monotonic() + 5)
    try:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        startup = gate.read_first(channel)
        if isinstance(startup, s.Startup):
            admission = gate.admit(channel, startup, conf(), rules(method), FILE, PEER)
            # only the administrator's trust needs no proof; a typed password is not believed before a backend is asked
            assert method == "trust" or not admission.verified
    except PgpoolError as error:
        assert isinstance(error, (SessionFatal, ClientGone))
    finally:
        channel.close()
        theirs.close()
