"""Who may come in. The proxy never vouches: a client is admitted only when we or the backend verified that same user.

enable_pool_hba on: ``admit`` carries out the first matching line of pool_hba.conf. Off: it asks nothing, the backend's
method decides (backend/connect.login asks through the functions here) and ``reuse`` asks again when a pooled link is to
be handed out without asking the backend. Sources: behaviour.md 9.1, 9.2, 14.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Protocol

from .._fastpath import Tls, TlsContext
from ..errors import AuthenticationFailed, ClientGone, ProtocolViolation, SessionFatal
from ..system import process, sockets
from ..system.channel import Channel, ChannelClosed, ChannelFraming, ChannelTimeout, ChannelTls, UnexpectedMessage
from ..system.interfaces import interfaces
from ..system.logs import LOG, log
from ..system.sockets import Peer
from ..wire import messages
from ..wire.startup import (
    MAX_STARTUP,
    CancelRequest,
    GSSENCRequest,
    SSLRequest,
    Startup,
    parse_startup,
)
from . import exchange, hba, outside
from .admission import Admission, LinkAuth, salt_of
from .binding import end_point
from .exchange import ClientKeys, ExchangeFailed, ScramServer, Verifier
from .hba import Hba

if TYPE_CHECKING:
    from ..config.settings import Settings
    from .passwd import PasswordFile, Secret

# ---------------------------------------------------------------- the first packets

TLS_HANDSHAKE = 0x16
"""First byte of a TLS ClientHello; no startup packet is long enough to begin with it."""


def read_first(
    channel: Channel, context: TlsContext | None = None, asked: int = 0, begun: Tls | None = None
) -> Startup | CancelRequest:
    """Reads first packets up to a StartupMessage or CancelRequest. A GSSENCRequest is answered with ``N``, so is an
    SSLRequest without ``context``; with it TLS begins, at once too when the client does (PostgreSQL 17, ALPN).
    ``asked``: what was refused already (Newcomer.asked). ``begun``: TLS whose handshake is under way (Newcomer.wire).

    Raises ClientGone (closed, too slow), ProtocolViolation, SessionFatal as wire/startup says.
    """
    seen_ssl, seen_gss = bool(asked & 1), bool(asked & 2)
    while True:
        try:
            if begun is not None:
                seen_ssl = seen_gss = True
                channel.shake(begun)
                begun = None
            elif context is not None and not seen_ssl and not seen_gss and channel.peek() == TLS_HANDSHAKE:
                seen_ssl = seen_gss = True
                _begin_direct(channel, context)
            request = parse_startup(channel.read_startup(MAX_STARTUP))
            if isinstance(request, SSLRequest) and not seen_ssl:
                seen_ssl = True
                _answer(channel, b"S" if context is not None else b"N", "received unencrypted data after SSL request")
                if context is not None:
                    seen_gss = True
                    channel.secure(context)
            elif isinstance(request, GSSENCRequest) and not seen_gss:
                seen_gss = True
                _answer(channel, b"N", "received unencrypted data after GSSAPI encryption request")
            elif isinstance(request, (SSLRequest, GSSENCRequest)):
                code = 5679 if isinstance(request, SSLRequest) else 5680
                raise SessionFatal(
                    f"unsupported frontend protocol 1234.{code}: server supports 3.0 to 3.2", sqlstate="0A000"
                )
            else:
                return request
        except ChannelFraming as error:
            raise ProtocolViolation(error.message) from None
        except ChannelTls as error:
            log.log(LOG, "could not accept SSL connection", detail=error.message)
            raise ClientGone(error.message) from None
        except (ChannelClosed, ChannelTimeout) as error:
            raise ClientGone(error.message) from None


def _begin_direct(channel: Channel, context: TlsContext) -> None:
    """TLS without an SSLRequest: the client must have named our protocol, or it speaks another one."""
    channel.secure(context)
    assert channel.tls is not None
    if channel.tls.protocol != "postgresql":
        raise ProtocolViolation(
            "received direct SSL connection request without ALPN protocol negotiation extension"
        )


def _answer(channel: Channel, answer: bytes, text: str) -> None:
    """Answer a request for encryption, behind which nothing may come unencrypted (CVE-2021-3935 class)."""
    if not channel.pending:
        channel.send(answer)
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
        return channel.read_message(expect=b"p")[1]
    except UnexpectedMessage as error:
        if error.kind == ord("X"):
            raise ClientGone("the client gave up") from None
        raise ProtocolViolation(f"expected password response, got message type {error.kind}") from None
    except ChannelFraming as error:
        raise ProtocolViolation(error.message) from None
    except (ChannelClosed, ChannelTimeout) as error:
        raise ClientGone(error.message) from None


def require_unbound(answer: bytes) -> None:
    """The first SASL answer of a client, for a backend that could bind to its own channel, which is not the client's.

    A client that says it could bind too (libpq under TLS does) would be refused by the backend as the victim of an
    attack; it is told what to do instead. Raises AuthenticationFailed, ProtocolViolation.
    """
    _, data = messages.read_sasl_initial(answer)
    if data is not None and data[:2] == b"y,":
        raise AuthenticationFailed(
            "failed to authenticate with backend",
            detail="a login with SCRAM cannot be passed through where both sides use TLS: it is bound to one of them",
            hint="Store a secret in pool_passwd, set auth_query_user, or let the client say channel_binding=disable.",
            sqlstate="XX000",
        )


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
    binding = end_point(channel.tls.own_certificate()) if channel.tls is not None else b""
    offered = [exchange.MECHANISM_PLUS, exchange.MECHANISM] if binding else [exchange.MECHANISM]
    tell(channel, before + messages.authentication_sasl(offered))
    mock = verifier is None
    if verifier is None:
        verifier = Verifier(exchange.DEFAULT_ITERATIONS, salt_of(user), os.urandom(32), os.urandom(32))
    mechanism, data = messages.read_sasl_initial(read_answer(channel))
    if mechanism not in offered:
        raise ProtocolViolation("client selected an invalid SASL authentication mechanism")
    plus = mechanism == exchange.MECHANISM_PLUS
    server = ScramServer(verifier, os.urandom(18).hex().encode(), mock, binding=binding, plus=plus)
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


class Catalog(Protocol):
    """What a backend can be asked about somebody who wants in (auth_query_user; backend/catalog)."""

    def secret(self, user: str) -> Secret | None: ...

    def roles_of(self, user: str) -> frozenset[str]: ...


class System:
    """The Resolver of real life: asks the system, and the catalogs where auth_query_user is set."""

    def __init__(self, catalog: Catalog | None = None):
        self._catalog = catalog

    def name_of(self, address: str) -> str:
        return sockets.host_name(address)

    def addresses_of(self, name: str) -> list[str]:
        return sockets.addresses_of(name)

    def interfaces(self) -> list[hba.Interface]:
        return interfaces()

    def roles_of(self, user: str) -> frozenset[str]:
        return self._catalog.roles_of(user) if self._catalog is not None else frozenset()


# ---------------------------------------------------------------- admission


def admit(
    channel: Channel,
    startup: Startup,
    settings: Settings,
    rules: Hba | None,
    passwd: PasswordFile,
    peer: Peer,
    *,
    resolver: hba.Resolver | None = None,
    catalog: Catalog | None = None,
) -> Admission:
    """Lets a client in as far as we decide it; what the Admission still lacks, the backend decides (login, reuse).
    ``catalog`` is asked for the secret of a user whom pool_passwd does not know.

    Raises AuthenticationFailed (texts: behaviour.md 9.2, 14), ProtocolViolation, ClientGone.
    """
    admission = passwd.admission(startup.user, startup)
    ssl = channel.tls is not None
    if not settings.enable_pool_hba:
        admission.clear_text = settings.allow_clear_text_frontend_auth
        _look_up(admission, passwd, catalog)
        return admission
    found = rules and hba.match(
        rules.rules, peer.host, peer.is_unix, ssl, startup.user, startup.database, resolver or System(catalog)
    )
    method = found.method if found else "reject"
    if found and method in outside.METHODS:
        _outside(channel, admission, found)
        return admission
    check = _CHECKS.get(method)
    if check is None:
        raise _refused(
            f'no pool_hba.conf entry for host "{peer.host}", user "{startup.user}", database "{startup.database}", '
            f"SSL {'on' if ssl else 'off'}"
        )
    if method != "trust":  # nobody comes in by a secret that he need not know and the administrator did not write down
        _look_up(admission, passwd, catalog)
    check(channel, admission)
    return admission


def _look_up(admission: Admission, passwd: PasswordFile, catalog: Catalog | None) -> None:
    if catalog is None or passwd.find(admission.user) is not None:
        return
    secret = catalog.secret(admission.user)
    if secret is not None:
        admission.md5, admission.verifier = secret.md5, secret.verifier


def _refused(detail: str) -> AuthenticationFailed:
    return AuthenticationFailed(
        "client authentication failed", detail=detail, hint="see pgpool log for details", sqlstate="XX000"
    )


def _failed(method: str, detail: str) -> AuthenticationFailed:
    return AuthenticationFailed(f"{method} authentication failed", detail=detail, sqlstate="XX000")


def _trust(channel: Channel, admission: Admission) -> None:
    """The administrator's word: a stored secret logs in for whoever comes. Nothing stored: the backend asks."""
    admission.verified = admission.password is not None or admission.md5 is not None


def _password(channel: Channel, admission: Admission) -> None:
    """Clear text, compared with the entry; without an entry the backend must demand and accept the password."""
    typed = ask_password(channel, admission.negotiate(messages.PROTOCOL_3_2))
    accepted = admission.accepts(typed)
    if accepted is False:
        raise AuthenticationFailed(
            f'password authentication failed for user "{admission.user}"',
            detail="password does not match",
            sqlstate="XX000",
        )
    admission.verified = accepted is True
    admission.password, admission.typed = typed, True


def _md5(channel: Channel, admission: Admission) -> None:
    secret = admission.md5_secret
    if secret is None:
        raise _failed("md5", f'pool_passwd file does not contain an entry for "{admission.user}"')
    if not challenge_md5(channel, secret, admission.negotiate(messages.PROTOCOL_3_2)):
        raise _failed("md5", "password does not match")
    admission.verified = True


def _scram(channel: Channel, admission: Admission) -> None:
    """An unknown user goes through the same exchange and gets the same answer as a wrong password."""
    if admission.md5 is not None:
        raise _failed("SCRAM", f'pool_passwd file does not contain valid SCRAM entry for "{admission.user}"')
    before = admission.negotiate(messages.PROTOCOL_3_2)
    proof = challenge_scram(channel, admission.user, admission.scram_verifier, before)
    if proof is None:
        raise _failed("SCRAM", f'username "{admission.user}" or password is not valid')
    admission.keys, admission.prelude = proof
    admission.verified = True


def _cert(channel: Channel, admission: Admission) -> None:
    """The chain was checked in the handshake; the common name must be the user's, letters in either case."""
    der = channel.tls.peer_certificate() if channel.tls is not None else b""
    if not der:
        raise _failed("CERT", "no valid certificate presented")
    # heavy, and needed by cert lines only
    from cryptography import x509

    try:
        subject = x509.load_der_x509_certificate(der).subject
        names = [name.value for name in subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    except ValueError:
        names = []
    if len(names) != 1 or str(names[0]).lower() != admission.user.lower():
        raise _failed("CERT", "no valid certificate presented")
    admission.verified = True


def _outside(channel: Channel, admission: Admission, rule: hba.Rule) -> None:
    """pam, ldap: a typed password, which backends get only with backend_use_passwd."""
    typed = ask_password(channel, admission.negotiate(messages.PROTOCOL_3_2))
    why_not = _ask_apart(channel, rule, admission.user, typed)
    if why_not:
        log.log(LOG, f"{rule.method} authentication of user \"{admission.user}\" failed", detail=why_not)
        name = {"pam": "PAM", "ldap": "LDAP"}[rule.method]
        raise AuthenticationFailed(f'{name} authentication failed for user "{admission.user}"', sqlstate="28P01")
    admission.verified = True
    if rule.options.get("backend_use_passwd") == "1":
        admission.password, admission.typed = typed, True


def _ask_apart(channel: Channel, rule: hba.Rule, user: str, password: bytes) -> str:
    """outside.check in a process of its own: a PAM module that hangs ends at the deadline, with its process; one that
    crashes takes nothing else with it."""
    deadline = channel.deadline or time.monotonic() + outside.DEFAULT_LIMIT
    limit = max(1.0, deadline - time.monotonic())

    def ask() -> bytes:
        why_not = outside.check(rule.method, user, password, rule.options, limit)
        return messages.message(b"p", why_not.encode("utf-8", "replace")[:1000])

    outside.prepare(rule.method)
    try:
        with process.apart(ask, f"pgpool: asking {rule.method}") as fd:
            asked = channel.sibling(fd)
            asked.deadline = deadline
            return asked.read_message(expect=b"p")[1].decode("utf-8", "replace")
    except ChannelTimeout:
        return "no answer in time"
    except ChannelClosed:
        return "the process that asked ended without an answer"
    except OSError as error:
        return f"could not start a process: {error.strerror}"


_CHECKS = {"cert": _cert, "trust": _trust, "password": _password, "md5": _md5, "scram-sha-256": _scram}


def reuse(channel: Channel, admission: Admission, link: LinkAuth) -> bytes | None:
    """May this client have a pooled link of his user and database, without asking the backend?

    Asks the client to prove itself where that is still open. Returns what it must get in front of AuthenticationOk;
    None: the link is not for him. Either way a login with the same ``admission`` may follow: it asks nothing twice.
    Raises AuthenticationFailed when what is stored says no, ProtocolViolation, ClientGone.
    """
    if not admission.verified and not _reverify(channel, admission, link):
        return None
    # kept there too: if the link turns out to be dead, the login that takes its place sends it
    admission.prelude = admission.negotiate(link.protocol) + admission.prelude
    return admission.prelude


def inherits(admission: Admission, link: LinkAuth) -> bool:
    """May the client, to whom ``reuse`` gave the primary's link, have the other links of that pool entry too?

    Who was let in by a backend that trusts has proved nothing: a link that once took a secret is not for him.
    """
    return admission.verified or link.method == "trust"


def _reverify(channel: Channel, admission: Admission, link: LinkAuth) -> bool:
    if admission.typed:
        admission.verified = link.recalls(admission.password)
        return admission.verified
    if link.method == "trust":
        return True
    if link.method == "md5" and admission.md5_secret is not None:
        if not challenge_md5(channel, admission.md5_secret, admission.negotiate(link.protocol)):
            raise password_failed(admission.user)
        admission.verified = True
        return True
    if link.method == "scram" and (verifier := admission.scram_verifier) is not None:
        proof = challenge_scram(channel, admission.user, verifier, admission.negotiate(link.protocol))
        if proof is None:
            raise password_failed(admission.user)
        admission.keys, admission.prelude = proof
        admission.verified = True
        return True
    if link.digest and (link.method == "password" or admission.clear_text):
        admission.password = ask_password(channel, admission.negotiate(link.protocol))
        admission.typed = True
        admission.verified = link.recalls(admission.password)
    return admission.verified


def password_failed(user: str) -> AuthenticationFailed:
    """The text and code of PostgreSQL's own refusal."""
    return AuthenticationFailed(f'password authentication failed for user "{user}"', sqlstate="28P01")
