"""Who may come in. The proxy never vouches: a client is admitted only when we or the backend verified that same user.

enable_pool_hba on: ``admit`` carries out the first matching line of pool_hba.conf. Off: it asks nothing, the backend's
method decides (backend/connect.login asks through the functions here) and ``reuse`` asks again when a pooled link is to
be handed out without asking the backend. Sources: behaviour.md 9.1, 9.2, 14.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from ..errors import AuthenticationFailed, ClientGone, ProtocolViolation, SessionFatal
from ..system.channel import Channel, ChannelClosed, ChannelFraming, ChannelTimeout
from ..wire import messages
from ..wire.startup import (
    MAX_STARTUP,
    CancelRequest,
    GSSENCRequest,
    SSLRequest,
    Startup,
    parse_startup,
)
from . import exchange
from .exchange import ClientKeys, ExchangeFailed, ScramServer, Verifier

_SALT_SECRET = os.urandom(32)
"""Made in the parent, inherited by all children: the SCRAM salt of a user, known or not, is the same everywhere."""


@dataclass(slots=True)
class Admission:
    """What is known about a client's identity, and the secrets with which to log in to backends in its name."""

    user: str
    verified: bool = False
    """We or a backend checked a secret of this user in this session (or an administrator's rule stands for it)."""
    typed: bool = False
    """``password`` is what the client typed; as long as ``verified`` is False nobody has checked it."""
    clear_text: bool = False
    """allow_clear_text_frontend_auth: where no secret is stored, the client may be asked for a clear text password."""
    negotiated: bool = False
    """NegotiateProtocolVersion was already sent (or is not needed): login must not send one."""
    password: bytes | None = field(default=None, repr=False)
    md5: bytes | None = field(default=None, repr=False)
    verifier: Verifier | None = field(default=None, repr=False)
    keys: ClientKeys | None = field(default=None, repr=False)

    @property
    def md5_secret(self) -> bytes | None:
        """The secret for md5, from either side's view."""
        if self.password is not None:
            return exchange.md5_secret(self.password, messages.raw(self.user))
        return self.md5

    @property
    def scram_secret(self) -> bytes | ClientKeys | None:
        """What logs in to a backend by SCRAM."""
        return self.password if self.password is not None else self.keys

    @property
    def scram_verifier(self) -> Verifier | None:
        """What checks a client by SCRAM."""
        if self.password is not None:
            return exchange.make_verifier(self.password, salt_of(self.user))
        return self.verifier

    @classmethod
    def own(cls, user: str, password: bytes | None = None, md5: bytes | None = None) -> Admission:
        """For sessions we open ourselves (checks, relation cache): there is no client to verify."""
        return cls(user, verified=True, negotiated=True, password=password, md5=md5)


@dataclass(frozen=True, slots=True)
class LinkAuth:
    """How a pooled link was logged in, as far as handing it to the next client of the same user needs it."""

    method: str
    """'trust', 'password', 'md5' or 'scram': what the backend demanded."""
    salt: bytes = field(default=b"", repr=False)
    digest: bytes = field(default=b"", repr=False)
    """Salted hash of the password a client typed and the backend accepted; b'' when none was typed."""

    def recalls(self, password: bytes) -> bool:
        return bool(self.digest) and exchange.same(exchange.blind(password, self.salt), self.digest)


def link_auth(method: str, admission: Admission) -> LinkAuth:
    """The LinkAuth of a login that succeeded."""
    if admission.typed and admission.password is not None:
        salt = os.urandom(16)
        return LinkAuth(method, salt, exchange.blind(admission.password, salt))
    return LinkAuth(method)


def salt_of(user: str) -> bytes:
    """SCRAM salt for a user whose verifier we compute (or pretend to have): 16 bytes."""
    return exchange.blind(b"salt" + messages.raw(user), _SALT_SECRET)[:16]


# ---------------------------------------------------------------- the first packets


def read_first(channel: Channel) -> Startup | CancelRequest:
    """Reads first packets up to a StartupMessage or CancelRequest; answers SSLRequest and GSSENCRequest with ``N``.

    Raises ClientGone (closed, too slow), ProtocolViolation, SessionFatal as wire/startup says.
    """
    seen_ssl = seen_gss = False
    while True:
        try:
            request = parse_startup(channel.read_startup(MAX_STARTUP))
            if isinstance(request, SSLRequest) and not seen_ssl:
                seen_ssl = True
                _refuse_encryption(channel, "received unencrypted data after SSL request")
            elif isinstance(request, GSSENCRequest) and not seen_gss:
                seen_gss = True
                _refuse_encryption(channel, "received unencrypted data after GSSAPI encryption request")
            elif isinstance(request, (SSLRequest, GSSENCRequest)):
                code = 5679 if isinstance(request, SSLRequest) else 5680
                raise SessionFatal(
                    f"unsupported frontend protocol 1234.{code}: server supports 3.0 to 3.2", sqlstate="0A000"
                )
            else:
                return request
        except ChannelFraming as error:
            raise ProtocolViolation(error.message) from None
        except (ChannelClosed, ChannelTimeout) as error:
            raise ClientGone(error.message) from None


def _refuse_encryption(channel: Channel, text: str) -> None:
    if not channel.pending:
        channel.send(b"N")
    if channel.pending:
        raise ProtocolViolation(
            text,
            detail="This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
        )


# ---------------------------------------------------------------- asking the client


def tell(channel: Channel, data: bytes) -> None:
    """Sends to the client; ClientGone when it is not there any more."""
    try:
        channel.send(data)
    except (ChannelClosed, ChannelTimeout) as error:
        raise ClientGone(error.message) from None


def read_answer(channel: Channel) -> bytes:
    """Payload of the 'p' message that must come next (password or SASL answer, at most 65535 bytes).

    Raises ClientGone, ProtocolViolation (anything else came: PostgreSQL's text).
    """
    try:
        kind, payload = channel.read_message()
    except ChannelFraming as error:
        raise ProtocolViolation(error.message) from None
    except (ChannelClosed, ChannelTimeout) as error:
        raise ClientGone(error.message) from None
    if kind != b"p":
        if kind == b"X":
            raise ClientGone("the client gave up")
        raise ProtocolViolation(f"expected password response, got message type {kind[0]}")
    return payload


def ask_password(channel: Channel, before: bytes = b"") -> bytes:
    """Asks the client for a clear text password. ``before``: bytes to send in front of the request."""
    tell(channel, before + messages.authentication_cleartext())
    password = messages.read_password(read_answer(channel))
    if not password:
        raise AuthenticationFailed("empty password returned by client", sqlstate="28P01")
    return password


def challenge_md5(channel: Channel, secret: bytes | None, before: bytes = b"") -> bool:
    """Lets the client prove by md5 that it knows ``secret`` (``md5...``); None: the user is unknown, it cannot."""
    salt = os.urandom(4)
    tell(channel, before + messages.authentication_md5(salt))
    answer = messages.read_password(read_answer(channel))
    expected = exchange.md5_answer(secret or os.urandom(35), salt)
    return exchange.same(answer, expected) and secret is not None


def challenge_scram(
    channel: Channel, user: str, verifier: Verifier | None, before: bytes = b""
) -> tuple[ClientKeys, bytes] | None:
    """Lets the client prove by SCRAM-SHA-256 that it knows the verifier's password.

    Returns the recovered keys and the AuthenticationSASLFinal that must be sent in front of AuthenticationOk; None when
    the proof is wrong. A ``verifier`` of None (unknown user) runs the whole exchange and ends with None.
    """
    tell(channel, before + messages.authentication_sasl([exchange.MECHANISM]))
    mock = verifier is None
    if verifier is None:
        verifier = Verifier(exchange.DEFAULT_ITERATIONS, salt_of(user), os.urandom(32), os.urandom(32))
    server = ScramServer(verifier, os.urandom(18).hex().encode(), mock)
    mechanism, data = messages.read_sasl_initial(read_answer(channel))
    if mechanism != exchange.MECHANISM:
        raise ProtocolViolation("client selected an invalid SASL authentication mechanism")
    try:
        if data is None:
            tell(channel, messages.authentication_sasl_continue(b""))
            data = read_answer(channel)
        tell(channel, messages.authentication_sasl_continue(server.first(data)))
        final = server.final(read_answer(channel))
    except ExchangeFailed as error:
        if error.protocol:
            raise ProtocolViolation(str(error)) from None
        return None
    assert server.keys is not None
    return server.keys, messages.authentication_sasl_final(final)
