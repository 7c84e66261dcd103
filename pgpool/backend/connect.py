"""One live link to a backend: connect, log in (with stored secrets, or relaying the exchange to the client), cancel.

Whose word counts: auth/gate. What goes wrong is told apart by class: BackendFailed (cannot connect, broke off, broke
the protocol), BackendRefused (its own ErrorResponse), AuthenticationFailed (we or the client cannot prove the user),
SessionFatal (the backend hung up while the client was asked: says nothing about the node), ClientGone. No fd is leaked
whatever happens.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..auth import exchange, gate
from ..auth.admission import Admission, LinkAuth
from ..auth.binding import end_point
from ..auth.exchange import ExchangeFailed, ScramClient
from ..errors import (
    AuthenticationFailed,
    BackendFailed,
    BackendRefused,
    PgpoolError,
    ProtocolViolation,
    SessionFatal,
    StatementError,
)
from ..system import sockets
from ..system.channel import Channel, ChannelError, ChannelTimeout
from ..wire import messages
from ..wire.startup import Startup, cancel_packet
from .encrypt import encrypt

if TYPE_CHECKING:
    from ..config.settings import BackendConf, Settings

MAX_LOGIN_MESSAGE = 30000
"""Longest message taken from a backend before ReadyForQuery, in bytes (libpq's cap for errors)."""
MAX_STATUS = 256 * 1024
"""Most ParameterStatus and NoticeResponse bytes kept from one login."""
MAX_ROUNDS = 10
"""Most authentication requests of one login."""
DEFAULT_PATIENCE = 10.0
"""Seconds a backend may take to log somebody in where connect_timeout is 0."""
CANCEL_WAIT = 2.0
"""Seconds to wait until a backend has taken a CancelRequest."""


@dataclass(slots=True)
class Login:
    """A link that is logged in and idle (ReadyForQuery was read)."""

    node_id: int
    channel: Channel
    protocol: int
    """Protocol of this link, as negotiated with the backend."""
    auth: LinkAuth
    relayed: bool = False
    """The client proved itself to the backend through us: we hold no secret for other backends or other sessions."""
    reusable: bool = True
    """Another client of this user can be verified without asking the backend."""
    parameter_status: dict[str, str] = field(default_factory=dict)
    raw_status: bytes = b""
    """The ParameterStatus messages as they came."""
    pid: int = 0
    key: bytes = field(default=b"", repr=False)
    prelude: bytes = field(default=b"", repr=False)
    """What this client must still get in front of AuthenticationOk (SASLFinal, notices)."""

    @property
    def fd(self) -> int:
        return self.channel.fd

    def greeting(self, prelude: bytes) -> bytes:
        """``prelude``, then AuthenticationOk to ReadyForQuery, as the client of this link gets it in one piece.

        ``prelude``: that of this Login for the client that made it, what gate.reuse returned for later ones.
        """
        return b"".join(
            (
                prelude,
                messages.authentication_ok(),
                self.raw_status,
                messages.backend_key_data(self.pid, self.key) if self.key else b"",
                messages.ready_for_query(),
            )
        )


def open_channel(
    node_id: int,
    backend: BackendConf,
    settings: Settings,
    deadline: float = 0.0,
    wakeup_fd: int = -1,
    on_wake: Callable[[], None] | None = None,
) -> Channel:
    """Connects to a backend; BackendFailed when that does not work within connect_timeout (ms)."""
    end = time.monotonic() + settings.connect_timeout / 1000 if settings.connect_timeout else 0.0
    while True:
        timeout = max(1, math.ceil((end - time.monotonic()) * 1000)) if end else 0
        try:
            fd = sockets.connect(backend.hostname, backend.port, timeout, wakeup_fd)
            break
        except InterruptedError:
            if on_wake is not None:
                on_wake()
        except OSError as error:
            reason = error.strerror or str(error)
            raise _failed(
                node_id, f'could not connect to host "{backend.hostname}", port {backend.port}: {reason}'
            ) from None
    channel = Channel(fd, deadline=end or time.monotonic() + DEFAULT_PATIENCE, wakeup_fd=wakeup_fd, on_wake=on_wake)
    try:
        encrypt(channel, backend, settings)
    except ChannelError as error:
        channel.close()
        raise _failed(node_id, error.message) from None
    except BaseException:
        channel.close()
        raise
    channel.deadline = deadline
    return channel


def login(
    node_id: int,
    backend: BackendConf,
    startup: Startup,
    admission: Admission,
    client: Channel | None,
    settings: Settings,
    deadline: float = 0.0,
    *,
    wakeup_fd: int = -1,
    on_wake: Callable[[], None] | None = None,
) -> Login:
    """Connects and logs in as ``startup.user``.

    With ``client`` the session is just beginning: the client is asked to prove itself where ``admission`` needs it, and
    ``admission`` learns what was proved. Without (a further node of a running session, our own sessions) only what
    ``admission`` holds is used. ``deadline``: time.monotonic() seconds; 0: as long again as connecting may take.
    """
    channel = open_channel(node_id, backend, settings, 0.0, wakeup_fd, on_wake)
    patience = settings.connect_timeout / 1000 or DEFAULT_PATIENCE
    fair = time.monotonic() + patience
    channel.deadline = deadline or fair
    attempt = _Attempt(node_id, channel, startup, admission, client)
    try:
        link = attempt.run()
    except ChannelError as error:
        channel.close()
        hurried = isinstance(error, ChannelTimeout) and time.monotonic() < fair
        if client is not None and (attempt.asked or hurried):
            # the time was the client's: if he wastes it, that must not look like a dead node
            raise SessionFatal("canceling authentication due to timeout", sqlstate="57014") from None
        raise _failed(node_id, error.message) from None
    except BaseException:
        channel.close()
        raise
    channel.deadline = deadline
    return link


def _failed(node_id: int, reason: str) -> BackendFailed:
    return BackendFailed(node_id, f"failed to create a backend {node_id} connection", detail=reason)


class _Attempt:
    """One login. ``out`` collects what the client must get; it is sent when the client's answer is needed."""

    def __init__(
        self, node_id: int, channel: Channel, startup: Startup, admission: Admission, client: Channel | None
    ) -> None:
        self.node_id = node_id
        self.channel = channel
        self.startup = startup
        self.admission = admission
        self.client = client
        self.protocol = startup.backend_protocol
        self.negotiating = True
        self.method = "trust"
        self.relaying = False
        self.asked = False
        """The client was asked for something in this login: the backend had to wait for it."""
        self.rounds = 0
        self.proved = False
        """The backend has proved that it knows the user's SCRAM secret, or was not asked to."""
        self.scram: ScramClient | None = None
        self.out = admission.take_prelude() if client is not None else b""

    def run(self) -> Login:
        self.channel.send(self.startup.render())
        while True:
            kind, payload = self.channel.read_message(MAX_LOGIN_MESSAGE)
            if kind == b"R":
                if self.authentication(payload):
                    return self.settle()
            elif kind == b"E":
                self.refused(payload)
            elif kind == b"N":
                self.keep(messages.message(kind, payload))
            elif kind == b"v" and self.negotiating:
                self.negotiated(payload)
            else:
                raise _failed(self.node_id, f"unexpected message type {kind[0]} during authentication")

    # ------------------------------------------------------------ what comes before the authentication

    def keep(self, data: bytes) -> None:
        if self.client is not None:
            self.out += data
            if len(self.out) > MAX_STATUS:
                raise _failed(self.node_id, "too many messages during authentication")

    def negotiated(self, payload: bytes) -> None:
        """The backend speaks an older version than was asked for."""
        self.negotiating = False
        try:
            protocol, _ = messages.read_negotiate(payload)
        except ProtocolViolation as error:
            raise _failed(self.node_id, error.message) from None
        if not messages.PROTOCOL_3_0 <= protocol <= self.protocol:
            raise _failed(self.node_id, "the backend negotiated a protocol version that was not asked for")
        self.protocol = protocol

    def start_authentication(self) -> None:
        """Before the client sees the first request it learns which protocol the session speaks."""
        self.negotiating = False
        if self.client is not None:
            self.out = self.admission.negotiate(self.protocol) + self.out

    def refused(self, payload: bytes) -> None:
        fields = messages.error_fields(payload)
        if self.client is not None and self.out:
            gate.tell(self.client, self.out)
        raise BackendRefused(
            self.node_id,
            messages.message(b"E", payload),
            fields.get("M", "the backend refused the connection"),
            fields.get("C", "XX000"),
            fields.get("S", "FATAL"),
        )

    # ------------------------------------------------------------ authentication

    def authentication(self, payload: bytes) -> bool:
        """One Authentication message; True when it was AuthenticationOk."""
        if self.rounds == 0:
            self.start_authentication()
        self.rounds += 1
        if len(payload) < 4 or self.rounds > MAX_ROUNDS:
            raise _failed(self.node_id, "invalid authentication request")
        code, body = int.from_bytes(payload[:4], "big"), payload[4:]
        if code == messages.AUTH_OK:
            self.check_ok()
            return True
        if self.relaying:
            self.relay(code, payload)
        elif code == messages.AUTH_CLEARTEXT:
            self.cleartext(payload)
        elif code == messages.AUTH_MD5 and len(body) == 4:
            self.md5(payload, body)
        elif code == messages.AUTH_SASL:
            self.sasl(payload, body)
        elif code == messages.AUTH_SASL_CONTINUE and self.scram is not None:
            self.sasl_continue(body)
        elif code == messages.AUTH_SASL_FINAL and self.scram is not None:
            self.sasl_final(body)
        elif code in (messages.AUTH_MD5, messages.AUTH_SASL_CONTINUE, messages.AUTH_SASL_FINAL):
            raise _failed(self.node_id, "invalid authentication request")
        else:
            raise AuthenticationFailed(
                "failed to authenticate with backend",
                detail=f"unsupported authentication method {code}",
                sqlstate="XX000",
            )
        return False

    def check_ok(self) -> None:
        """Nobody is let in by an AuthenticationOk that proves nothing about him."""
        admission = self.admission
        if self.method == "trust":
            # a password was demanded of the client, and this backend did not look at it
            if admission.typed and not admission.verified:
                raise gate.password_failed(admission.user)
        elif self.scram is not None and not self.proved:
            raise _failed(self.node_id, "the backend ended the SCRAM exchange without proving itself")
        else:
            admission.verified = True

    def may_ask(self) -> Channel | None:
        """The client, when it has yet to prove itself in this login."""
        admission = self.admission
        return self.client if not admission.verified and not admission.typed else None

    def require_secret(self, secret: object) -> None:
        """A stored secret is used only for a client whose identity was proved, or who has typed it."""
        admission = self.admission
        if secret is None or not (admission.verified or admission.typed):
            raise AuthenticationFailed(
                "failed to authenticate with backend", detail="valid password not found", sqlstate="XX000"
            )

    def type_password(self, client: Channel) -> None:
        admission = self.admission
        admission.password = gate.ask_password(client, self.take_out())
        admission.typed = True

    def take_out(self) -> bytes:
        """What must go out in front of a question to the client."""
        self.asked = True
        out, self.out = self.out, b""
        return out

    def cleartext(self, payload: bytes) -> None:
        self.method = "password"
        client = self.may_ask()
        if client is not None:
            self.type_password(client)
        password = self.admission.password
        self.require_secret(password)
        assert password is not None
        self.channel.send(messages.password_message(password))

    def md5(self, payload: bytes, salt: bytes) -> None:
        self.method = "md5"
        admission = self.admission
        client = self.may_ask()
        if client is not None:
            if admission.md5_secret is not None:
                if not gate.challenge_md5(client, admission.md5_secret, self.take_out()):
                    raise gate.password_failed(admission.user)
                admission.verified = True
            elif admission.clear_text:
                self.type_password(client)
            else:
                return self.relay(messages.AUTH_MD5, payload)
        secret = admission.md5_secret
        self.require_secret(secret)
        assert secret is not None
        self.channel.send(messages.password_message(exchange.md5_answer(secret, salt)))
        return None

    def sasl(self, payload: bytes, body: bytes) -> None:
        self.method = "scram"
        admission = self.admission
        client = self.may_ask()
        try:
            mechanisms = messages.read_sasl_mechanisms(body)
            offered = exchange.MECHANISM in mechanisms
        except ProtocolViolation as error:
            raise _failed(self.node_id, error.message) from None
        if self.scram is not None:
            raise _failed(self.node_id, "invalid authentication request")
        if client is not None:
            verifier = admission.scram_verifier if offered else None
            if verifier is not None:
                answer = gate.challenge_scram(client, admission.user, verifier, self.take_out())
                if answer is None:
                    raise gate.password_failed(admission.user)
                admission.verified = True
                admission.keys, final = answer
                self.keep(final)
            elif admission.clear_text and offered:
                self.type_password(client)
            else:
                return self.relay(messages.AUTH_SASL, payload)
        self.require_secret(admission.scram_secret if offered else None)
        assert admission.scram_secret is not None
        tls = self.channel.tls
        binding = end_point(tls.peer_certificate()) if tls is not None else b""
        nonce = os.urandom(18).hex().encode()
        self.scram = ScramClient(admission.scram_secret, nonce, binding=binding, offered=mechanisms)
        self.channel.send(messages.sasl_initial_response(self.scram.mechanism, self.scram.first()))
        return None

    def sasl_continue(self, body: bytes) -> None:
        assert self.scram is not None
        try:
            self.channel.send(messages.sasl_response(self.scram.final(body)))
        except ExchangeFailed as error:
            raise self.scram_failed(error) from None

    def sasl_final(self, body: bytes) -> None:
        assert self.scram is not None
        try:
            self.scram.check(body)
        except ExchangeFailed as error:
            raise self.scram_failed(error) from None
        self.proved = True

    def scram_failed(self, error: ExchangeFailed) -> PgpoolError:
        return AuthenticationFailed("failed to authenticate with backend", detail=str(error), sqlstate="XX000")

    # ------------------------------------------------------------ relaying, when nothing is stored

    def relay(self, code: int, payload: bytes) -> None:
        """The backend's request goes to the client, the client's answer to the backend, both unread."""
        client = self.client
        if client is None:
            raise _failed(self.node_id, "invalid authentication request")
        self.relaying = True
        bound = False
        if code == messages.AUTH_SASL:
            # a channel to us is not the channel to the backend: binding to it is not on offer
            names = messages.read_sasl_mechanisms(payload[4:])
            bound = exchange.MECHANISM_PLUS in names
            payload = messages.authentication_sasl([n for n in names if n != exchange.MECHANISM_PLUS])[5:]
        self.keep(messages.message(b"R", payload))
        if code == messages.AUTH_SASL_FINAL:
            return  # goes out together with AuthenticationOk
        gate.tell(client, self.take_out())
        answer = gate.read_answer(client)
        if bound:
            gate.require_unbound(answer)
        self.channel.send(messages.message(b"p", answer))

    # ------------------------------------------------------------ after AuthenticationOk

    def settle(self) -> Login:
        """Reads ParameterStatus, BackendKeyData up to ReadyForQuery."""
        admission = self.admission
        auth = LinkAuth.of(self.method, self.protocol, admission)
        link = Login(self.node_id, self.channel, self.protocol, auth, self.relaying)
        link.reusable = not self.relaying
        status: list[bytes] = []
        size = 0
        while True:
            kind, payload = self.channel.read_message(MAX_LOGIN_MESSAGE)
            try:
                if kind == b"S":
                    name, value = messages.read_parameter_status(payload)
                    link.parameter_status[messages.text(name)] = messages.text(value)
                    status.append(messages.message(kind, payload))
                elif kind == b"K":
                    link.pid, link.key = messages.read_backend_key_data(payload)
                elif kind == b"Z":
                    break
                elif kind == b"E":
                    self.refused(payload)
                elif kind == b"N":
                    self.keep(messages.message(kind, payload))
                else:
                    raise _failed(self.node_id, f"unexpected message type {kind[0]} after authentication")
            except ProtocolViolation as error:
                raise _failed(self.node_id, error.message) from None
            size += len(payload)
            if size > MAX_STATUS:
                raise _failed(self.node_id, "too many messages after authentication")
        link.raw_status = b"".join(status)
        link.prelude = self.out
        return link


def cancel(node_id: int, backend: BackendConf, settings: Settings, pid: int, key: bytes) -> None:
    """Sends a CancelRequest on a connection of its own and waits, at most 2 s, until the backend has taken it.

    Raises BackendFailed when the backend cannot be reached; nobody ever learns whether something was cancelled.
    """
    channel = open_channel(node_id, backend, settings, time.monotonic() + CANCEL_WAIT)
    try:
        channel.send(cancel_packet(pid, key))
        while True:
            channel.read_message()
    except ChannelError:
        pass
    finally:
        channel.close()


def simple_query(channel: Channel, sql: str, node_id: int = -1, limit: int = 1 << 24) -> list[list[str | None]]:
    """Runs one statement on an idle link of ours; all its rows as text, None for NULL.

    Raises StatementError (the backend's ErrorResponse; the link is idle again) or BackendFailed.
    """
    rows: list[list[str | None]] = []
    error: StatementError | None = None
    try:
        channel.send(messages.query(sql))
        while True:
            kind, payload = channel.read_message(limit)
            if kind == b"D":
                values = messages.data_row_values(payload)
                rows.append([None if v is None else messages.text(v) for v in values])
            elif kind == b"E":
                fields = messages.error_fields(payload)
                error = StatementError(fields.get("M", "unknown error"), sqlstate=fields.get("C", "XX000"))
            elif kind == b"Z":
                break
    except (ChannelError, ProtocolViolation) as broken:
        raise BackendFailed(node_id, "lost the connection to a backend", detail=broken.message) from None
    if error is not None:
        raise error
    return rows
