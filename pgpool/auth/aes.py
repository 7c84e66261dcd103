"""The AES form of stored passwords, bit-compatible with the incumbent's pg_enc (commands.md 7).

aes-256-cbc with PKCS#7 padding; key and iv by OpenSSL's EVP_BytesToKey (sha1, no salt, one round) from the key string;
base64, prefix ``AES``. There is no salt and no integrity check: it hides a password from a glance, not from who has the
key file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os

PREFIX = "AES"
BLOCK = 16


class CannotDecrypt(Exception):
    """The text is no AES form or was made with another key. The message holds no secret."""


def _key_and_iv(key: bytes) -> tuple[bytes, bytes]:
    material = digest = b""
    while len(material) < 48:
        digest = hashlib.sha1(digest + key, usedforsecurity=False).digest()
        material += digest
    return material[:32], material[32:48]


def _cipher(key: bytes):  # type: ignore[no-untyped-def]
    # heavy and optional: only a pool_passwd or pgpool.conf with AES entries needs it
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    secret, iv = _key_and_iv(key)
    return Cipher(algorithms.AES(secret), modes.CBC(iv))


def encrypt(password: bytes, key: bytes) -> str:
    """``AES`` + base64, as ``pg_enc`` prints it behind "pool_passwd string:"."""
    pad = BLOCK - len(password) % BLOCK
    encryptor = _cipher(key).encryptor()
    data = encryptor.update(password + bytes([pad]) * pad) + encryptor.finalize()
    return PREFIX + base64.b64encode(data).decode()


def decrypt(text: str, key: bytes) -> bytes:
    """The password of an ``AES...`` text; CannotDecrypt."""
    try:
        data = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise CannotDecrypt("not base64") from None
    if not data or len(data) % BLOCK:
        raise CannotDecrypt("wrong length")
    decryptor = _cipher(key).decryptor()
    padded = decryptor.update(data) + decryptor.finalize()
    pad = padded[-1]
    # a wrong key often shows in the padding, and sometimes only in a byte that no password can have
    if not 1 <= pad <= BLOCK or padded[-pad:] != bytes([pad]) * pad or b"\0" in padded[:-pad]:
        raise CannotDecrypt("made with another key")
    return padded[:-pad]


def read_key(path: str) -> bytes:
    """The key string: the first line of the key file, without its end. OSError when it cannot be read."""
    with open(path, "rb") as file:
        return file.read(65536).split(b"\n", 1)[0].rstrip(b"\r")


def key_file(option: str = "") -> str:
    """Where the key is: the -k option, else PGPOOLKEYFILE, else ~/.pgpoolkey."""
    return option or os.environ.get("PGPOOLKEYFILE", "") or os.path.expanduser("~/.pgpoolkey")
