"""The arithmetic of logging in: md5 and SCRAM-SHA-256, server and client side, as pure state machines.

No clock, no dice, no socket: nonces and salts are arguments. Secrets never appear in a repr or an error text.
SCRAM is written on hashlib here, with saslprep from scramp: scramp's own message classes refuse what PostgreSQL
sends and allows (libpq's empty ``n=``, ``scram_iterations`` below 4096) and cannot log in with a ClientKey.
Sources: RFC 5802, RFC 7677, PostgreSQL's protocol documentation "SASL Authentication".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from scramp.utils import ScramException, saslprep

MECHANISM = b"SCRAM-SHA-256"
MECHANISM_PLUS = b"SCRAM-SHA-256-PLUS"
BOUND = b"p=tls-server-end-point"
"""The one kind of channel binding there is (auth/binding)."""
MAX_ITERATIONS = 1_000_000
"""More than anybody sets (default 4096) and still under a second of CPU (CVE-2026-6669 class)."""
MAX_NONCE = 1024
MAX_SALT = 1024
MAX_MESSAGE = 8192
"""Longest SASL message looked at, in bytes."""
MAX_PREPARED = 1024
"""Longest password in bytes that SASLprep is spent on (it takes microseconds per character)."""
DEFAULT_ITERATIONS = 4096
KEY = 32


class ExchangeFailed(Exception):
    """The other side did not prove what it had to, or broke the rules. The text holds no secret.

    ``protocol``: the bytes were not a legal message (else: the proof is wrong).
    """

    def __init__(self, reason: str, protocol: bool = True):
        super().__init__(reason)
        self.protocol = protocol


# ---------------------------------------------------------------- md5


def md5_secret(password: bytes, user: bytes) -> bytes:
    """``md5`` + hex of md5(password + user): what PostgreSQL and pool_passwd store."""
    return b"md5" + hashlib.md5(password + user, usedforsecurity=False).hexdigest().encode()


def md5_answer(secret: bytes, salt: bytes) -> bytes:
    """The PasswordMessage text for a 4 byte salt, from the stored ``md5...`` secret."""
    return b"md5" + hashlib.md5(secret[3:] + salt, usedforsecurity=False).hexdigest().encode()


def same(left: bytes, right: bytes) -> bool:
    """Comparison in constant time."""
    return hmac.compare_digest(left, right)


def blind(password: bytes, salt: bytes) -> bytes:
    """Salted hash by which a password typed again can be recognised without keeping it."""
    return hmac.digest(salt, password, "sha256")


# ---------------------------------------------------------------- SCRAM secrets


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server stores: enough to check a client, not enough to log in."""

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a client must hold to log in to a server whose verifier has this salt and iteration count."""

    verifier: Verifier
    client_key: bytes = field(repr=False)


_VERIFIER = re.compile(r"SCRAM-SHA-256\$([1-9][0-9]{0,9}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")


def parse_verifier(text: str) -> Verifier | None:
    """``SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>``; None when it is not one."""
    match = _VERIFIER.fullmatch(text)
    if match is None:
        return None
    try:
        salt, stored, server = (base64.b64decode(match[i], validate=True) for i in (2, 3, 4))
    except binascii.Error:
        return None
    iterations = int(match[1])
    if iterations > MAX_ITERATIONS or not 1 <= len(salt) <= MAX_SALT or len(stored) != KEY or len(server) != KEY:
        return None
    return Verifier(iterations, salt, stored, server)


def render_verifier(verifier: Verifier) -> str:
    """The text form that parse_verifier reads."""
    salt, stored, server = (
        base64.b64encode(b).decode() for b in (verifier.salt, verifier.stored_key, verifier.server_key)
    )
    return f"SCRAM-SHA-256${verifier.iterations}:{salt}${stored}:{server}"


def prepared(password: bytes) -> bytes:
    """SASLprep as PostgreSQL applies it: what cannot be prepared is used as it is; so is what is absurdly long."""
    if password.isascii() or len(password) > MAX_PREPARED:
        return password
    try:
        return saslprep(password.decode("utf-8")).encode("utf-8") or password
    except (UnicodeDecodeError, ScramException):
        return password


@lru_cache(maxsize=64)
def _keys(password: bytes, salt: bytes, iterations: int) -> tuple[bytes, bytes, bytes]:
    """(ClientKey, StoredKey, ServerKey). Remembered, because the iterations cost a millisecond of every login."""
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return client_key, hashlib.sha256(client_key).digest(), hmac.digest(salted, b"Server Key", "sha256")


def make_verifier(password: bytes, salt: bytes, iterations: int = DEFAULT_ITERATIONS) -> Verifier:
    """The verifier of a password."""
    _, stored, server = _keys(password, salt, iterations)
    return Verifier(iterations, salt, stored, server)


def matches(password: bytes, verifier: Verifier) -> bool:
    """Is this the password of the verifier? Not remembered: it is what some client typed."""
    return same(_keys.__wrapped__(password, verifier.salt, verifier.iterations)[1], verifier.stored_key)


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(KEY, "big")


def _attributes(message: bytes, *names: bytes) -> list[bytes]:
    """Values of the comma separated ``x=value`` parts, which must be exactly ``names`` in this order (further parts
    behind them are extensions and skipped, as the RFC asks)."""
    parts = message.split(b",")
    if len(parts) < len(names):
        raise ExchangeFailed("malformed SCRAM message")
    values = []
    for part, name in zip(parts, names, strict=False):
        if part[:2] != name + b"=":
            raise ExchangeFailed("malformed SCRAM message")
        values.append(part[2:])
    return values


def _base64(value: bytes, limit: int) -> bytes:
    if len(value) > limit * 2:
        raise ExchangeFailed("malformed SCRAM message")
    try:
        data = base64.b64decode(value, validate=True)
    except binascii.Error:
        raise ExchangeFailed("malformed SCRAM message") from None
    return data


def _nonce(value: bytes) -> bytes:
    if not 1 <= len(value) <= MAX_NONCE or not all(0x21 <= c <= 0x7E for c in value):
        raise ExchangeFailed("invalid SCRAM nonce")
    return value


# ---------------------------------------------------------------- SCRAM, server side


class ScramServer:
    """Checks a client: ``first(client_first) -> server_first``, then ``final(client_final) -> server_final``.

    With ``mock`` the user is unknown: the exchange runs to its end all the same and always fails there.
    ``binding``: the binding data of our certificate, b'' where SCRAM-SHA-256-PLUS was not offered; ``plus``: the client
    has chosen it. After success ``keys`` holds the ClientKeys recovered from the client's proof.
    """

    def __init__(
        self, verifier: Verifier, nonce: bytes, mock: bool = False, *, binding: bytes = b"", plus: bool = False
    ):
        self._verifier = verifier
        self._binding = binding
        self._plus = plus
        self._nonce = _nonce(nonce)
        self._mock = mock
        self._gs2 = b""
        self._bare = b""
        self._server_first = b""
        self.keys: ClientKeys | None = None

    def first(self, message: bytes) -> bytes:
        """Takes client-first-message."""
        if self._server_first or len(message) > MAX_MESSAGE:
            raise ExchangeFailed("malformed SCRAM message")
        parts = message.split(b",", 2)
        if len(parts) != 3:
            raise ExchangeFailed("malformed SCRAM message")
        self._check_flag(parts[0])
        if parts[1]:
            raise ExchangeFailed("client uses authorization identity, but it is not supported")
        self._gs2, self._bare = parts[0] + b",,", parts[2]
        # the user of the startup packet counts, not n= (libpq leaves it empty)
        _, client_nonce = _attributes(self._bare, b"n", b"r")
        self._nonce = _nonce(client_nonce) + self._nonce
        salt = base64.b64encode(self._verifier.salt)
        self._server_first = b"r=%b,s=%b,i=%d" % (self._nonce, salt, self._verifier.iterations)
        return self._server_first

    def _check_flag(self, flag: bytes) -> None:
        """What the client says of channel binding must fit what it has chosen, and what we have offered: somebody in
        between may have taken it out of our offer."""
        if flag[:2] == b"p=":
            if not self._plus:
                raise ExchangeFailed("the client requires SCRAM channel binding, but it is not supported")
            if flag != BOUND:
                raise ExchangeFailed("unsupported SCRAM channel-binding type")
        elif flag not in (b"n", b"y") or self._plus:
            raise ExchangeFailed("malformed SCRAM message")
        elif flag == b"y" and self._binding:
            raise ExchangeFailed("the client supports SCRAM channel binding but thinks the server does not")

    def final(self, message: bytes) -> bytes:
        """Takes client-final-message; ExchangeFailed with ``protocol`` False when the proof is wrong."""
        if not self._server_first or self.keys is not None or len(message) > MAX_MESSAGE:
            raise ExchangeFailed("malformed SCRAM message")
        without_proof, found, proof_text = message.rpartition(b",p=")
        binding, nonce = _attributes(without_proof, b"c", b"r")
        proof = _base64(proof_text, KEY)
        if not found or len(proof) != KEY:
            raise ExchangeFailed("malformed SCRAM message")
        if binding != base64.b64encode(self._gs2 + (self._binding if self._plus else b"")):
            raise ExchangeFailed("unexpected SCRAM channel-binding attribute in client-final-message")
        if not same(nonce, self._nonce):
            raise ExchangeFailed("invalid SCRAM response: nonce does not match")
        verifier = self._verifier
        auth_message = b"%b,%b,%b" % (self._bare, self._server_first, without_proof)
        client_key = _xor(proof, hmac.digest(verifier.stored_key, auth_message, "sha256"))
        good = same(hashlib.sha256(client_key).digest(), verifier.stored_key)
        if not good or self._mock:
            raise ExchangeFailed("password does not match", protocol=False)
        self.keys = ClientKeys(verifier, client_key)
        return b"v=" + base64.b64encode(hmac.digest(verifier.server_key, auth_message, "sha256"))


# ---------------------------------------------------------------- SCRAM, client side


class ScramClient:
    """Logs in with a password or with ClientKeys: ``first() -> client_first``, ``final(server_first) -> client_final``,
    ``check(server_final)``. The server must prove itself too; its iteration count, nonce and salt are bounded.

    ``binding``: the binding data of the server's certificate, b'' without TLS. ``offered``: the server's mechanisms."""

    def __init__(
        self, secret: bytes | ClientKeys, nonce: bytes, *, binding: bytes = b"", offered: Sequence[bytes] = (MECHANISM,)
    ):
        self._secret = secret
        self.mechanism = MECHANISM_PLUS if binding and MECHANISM_PLUS in offered else MECHANISM
        bound = self.mechanism == MECHANISM_PLUS
        # 'y': we could, and the server has not offered it; it knows whether that is true
        self._gs2 = (BOUND if bound else b"y" if binding else b"n") + b",,"
        self._channel = base64.b64encode(self._gs2 + (binding if bound else b""))
        self._nonce = _nonce(nonce)
        self._bare = b"n=,r=" + self._nonce
        self._signature = b""

    def first(self) -> bytes:
        return self._gs2 + self._bare

    def final(self, server_first: bytes) -> bytes:
        if self._signature or len(server_first) > MAX_MESSAGE:
            raise ExchangeFailed("malformed SCRAM message")
        nonce, salt_text, count = _attributes(server_first, b"r", b"s", b"i")
        _nonce(nonce)
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise ExchangeFailed("invalid SCRAM response: nonce does not match")
        salt = _base64(salt_text, MAX_SALT)
        if not salt or not count.isdigit() or len(count) > 10 or not 1 <= int(count) <= MAX_ITERATIONS:
            raise ExchangeFailed("SCRAM salt or iteration count is out of range")
        client_key, stored_key, server_key = self._find_keys(salt, int(count))
        without_proof = b"c=%b,r=%b" % (self._channel, nonce)
        auth_message = b"%b,%b,%b" % (self._bare, server_first, without_proof)
        self._signature = hmac.digest(server_key, auth_message, "sha256")
        proof = _xor(client_key, hmac.digest(stored_key, auth_message, "sha256"))
        return without_proof + b",p=" + base64.b64encode(proof)

    def _find_keys(self, salt: bytes, iterations: int) -> tuple[bytes, bytes, bytes]:
        if isinstance(self._secret, bytes):
            return _keys(self._secret, salt, iterations)
        known = self._secret.verifier
        if (salt, iterations) != (known.salt, known.iterations):
            raise ExchangeFailed("the server's SCRAM verifier differs from ours (salt or iterations)")
        return self._secret.client_key, known.stored_key, known.server_key

    def check(self, server_final: bytes) -> None:
        """The server's own proof; ExchangeFailed when it is not the server that knows the password."""
        if server_final[:2] == b"e=":
            raise ExchangeFailed("the server refused the SCRAM exchange", protocol=False)
        (value,) = _attributes(server_final[:MAX_MESSAGE], b"v")
        if not self._signature or not same(_base64(value, KEY), self._signature):
            raise ExchangeFailed("incorrect server signature", protocol=False)
