"""Channel binding ``tls-server-end-point`` (RFC 5929 section 4): the hash of the server's certificate.

The hash is that of the certificate's own signature, SHA-256 in the place of MD5 and SHA-1. Read by hand: it takes two
fields of the DER text, and a library for X.509 costs each process megabytes. Pure.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

_RSA, _ECDSA, _DIGEST = "2a864886f70d0101", "2a8648ce3d04", "608648016503040"
_HASHES = {
    _RSA + "04": "sha256", _RSA + "05": "sha256",  # MD5, SHA-1
    _RSA + "0b": "sha256", _RSA + "0c": "sha384", _RSA + "0d": "sha512", _RSA + "0e": "sha224",
    _ECDSA + "01": "sha256",  # SHA-1
    _ECDSA + "0301": "sha224", _ECDSA + "0302": "sha256", _ECDSA + "0303": "sha384", _ECDSA + "0304": "sha512",
    _DIGEST + "301": "sha224", _DIGEST + "302": "sha256",  # DSA
}  # fmt: skip
"""Object identifier of a signature (DER, in hex) -> hash. Ed25519 and Ed448 have none: nothing can be bound to them."""
_PSS = _RSA + "0a"
_PSS_HASHES = {
    _DIGEST + "201": "sha256", _DIGEST + "202": "sha384", _DIGEST + "203": "sha512", _DIGEST + "204": "sha224",
}  # fmt: skip
_SEQUENCE, _OID, _FIRST = 0x30, 0x06, 0xA0


@lru_cache(maxsize=32)
def end_point(der: bytes) -> bytes:
    """The binding data of a server that shows this certificate; b'' when there is none (or the text is no DER)."""
    try:
        certificate, _ = _take(der, _SEQUENCE)
        _, rest = _take(certificate, _SEQUENCE)
        algorithm, _ = _take(rest, _SEQUENCE)
        name = _hash(algorithm)
    except ValueError:
        return b""
    return hashlib.new(name, der).digest() if name else b""


def _hash(algorithm: bytes) -> str:
    """Name of the hash of an AlgorithmIdentifier's content."""
    oid, params = _take(algorithm, _OID)
    if oid.hex() != _PSS:
        return _HASHES.get(oid.hex(), "")
    fields, _ = _take(params, _SEQUENCE)
    if fields[:1] != bytes([_FIRST]):
        return "sha256"  # by default it is SHA-1
    inner, _ = _take(fields, _FIRST)
    oid, _ = _take(_take(inner, _SEQUENCE)[0], _OID)
    return _PSS_HASHES.get(oid.hex(), "")


def _take(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """(content, what follows) of the element at the start, which must have this tag. ValueError."""
    if len(data) < 2 or data[0] != tag:
        raise ValueError("not DER")
    size, at = data[1], 2
    if size & 0x80:
        count = size & 0x7F
        if not 1 <= count <= 4 or len(data) < 2 + count:
            raise ValueError("not DER")
        size, at = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    if len(data) - at < size:
        raise ValueError("not DER")
    return data[at : at + size], data[at + size :]
