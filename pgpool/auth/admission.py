"""What a session knows about its client's identity, and with which secrets it may log in to backends."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from ..wire import messages
from ..wire.startup import Startup
from . import exchange
from .exchange import ClientKeys, Verifier

_SALT_SECRET = os.urandom(32)
"""Made in the parent, inherited by all children: the SCRAM salt of a user, known or not, is the same everywhere."""


@dataclass(slots=True)
class Admission:
    """One client's identity and secrets. gate.admit makes it, login and gate.reuse add what the client proves."""

    user: str
    startup: Startup | None = None
    """What the client asked for; None in sessions of our own."""
    verified: bool = False
    """We or a backend checked a secret of this user in this session, or a trust line of pool_hba.conf lets him in."""
    typed: bool = False
    """``password`` is what the client typed; as long as ``verified`` is False nobody has checked it."""
    clear_text: bool = False
    """allow_clear_text_frontend_auth: where no secret is stored, the client may be asked for a clear text password."""
    negotiated: bool = False
    """NegotiateProtocolVersion was already sent (or is not needed): login must not send one."""
    prelude: bytes = b""
    """What the client must still get in front of AuthenticationOk (SASLFinal)."""
    password: bytes | None = field(default=None, repr=False)
    md5: bytes | None = field(default=None, repr=False)
    verifier: Verifier | None = field(default=None, repr=False)
    keys: ClientKeys | None = field(default=None, repr=False)

    @property
    def md5_secret(self) -> bytes | None:
        """``md5...``, with which md5 is answered and checked."""
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

    def accepts(self, password: bytes) -> bool | None:
        """Is this clear text password the stored one? None: nothing is stored to compare with."""
        if self.password is not None:
            return exchange.same(self.password, password)
        if self.md5 is not None:
            return exchange.same(exchange.md5_secret(password, messages.raw(self.user)), self.md5)
        if self.verifier is not None:
            return exchange.matches(password, self.verifier)
        return None

    def take_prelude(self) -> bytes:
        prelude, self.prelude = self.prelude, b""
        return prelude

    def negotiate(self, protocol: int) -> bytes:
        """The NegotiateProtocolVersion that must go out before anything else, or b''; ``protocol``: what is spoken."""
        if self.negotiated or self.startup is None:
            return b""
        self.negotiated = True
        return self.startup.negotiation(protocol)

    @classmethod
    def own(cls, user: str, password: bytes | None = None, md5: bytes | None = None) -> Admission:
        """For sessions we open ourselves (checks, relation cache): there is no client to verify."""
        return cls(user, verified=True, negotiated=True, password=password, md5=md5)


@dataclass(frozen=True, slots=True)
class LinkAuth:
    """How a pooled link was logged in, as far as handing it to the next client of the same user needs it."""

    method: str
    """'trust', 'password', 'md5' or 'scram': what the backend demanded."""
    protocol: int
    """What the backend negotiated: the version its clients speak."""
    salt: bytes = field(default=b"", repr=False)
    digest: bytes = field(default=b"", repr=False)
    """Salted hash of the password a client typed and the backend accepted; b'' when none was typed."""

    @classmethod
    def of(cls, method: str, protocol: int, admission: Admission) -> LinkAuth:
        """The LinkAuth of a login that succeeded."""
        if admission.typed and admission.password is not None:
            salt = os.urandom(16)
            return cls(method, protocol, salt, exchange.blind(admission.password, salt))
        return cls(method, protocol)

    def recalls(self, password: bytes | None) -> bool:
        """Is this the password that was typed when the link was made?"""
        return (
            bool(self.digest)
            and password is not None
            and exchange.same(exchange.blind(password, self.salt), self.digest)
        )


def salt_of(user: str) -> bytes:
    """SCRAM salt for a user whose verifier we compute (or pretend to have): 16 bytes."""
    return exchange.blind(b"salt" + messages.raw(user), _SALT_SECRET)[:16]
