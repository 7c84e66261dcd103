"""pool_passwd: the secrets of database users (behaviour.md 9.3).

One line a user: ``user:secret`` or ``user:secret:backenduser:secret``. A secret is ``md5`` + 32 hex digits, ``AES`` +
base64, ``TEXT`` + clear text, a ``SCRAM-SHA-256$`` verifier, or anything else: plain. It ends at the next colon (the
verifier knows its own). The first line of a user counts. The second pair is read and never used to log in: a client
proved to be one user is not let in as another (measured: the incumbent 4.3.5 does not use it either).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from ..errors import Fault
from ..wire.startup import Startup
from . import aes, exchange
from .admission import Admission
from .exchange import Verifier

MAX_LINE = 16384
_MD5 = re.compile(r"md5[0-9a-fA-F]{32}")
_VERIFIER = re.compile(r"SCRAM-SHA-256\$[^:]*:[^:]*:[^:]*")


@dataclass(frozen=True, slots=True)
class Secret:
    """One stored secret, as far as it could be read; everything None: it is of no use."""

    kind: str
    """'md5', 'aes', 'text', 'scram' or 'plain'."""
    password: bytes | None = field(default=None, repr=False)
    md5: bytes | None = field(default=None, repr=False)
    verifier: Verifier | None = field(default=None, repr=False)
    problem: str = ""
    """Why it cannot be used."""

    def __bool__(self) -> bool:
        return not self.problem


@dataclass(frozen=True, slots=True)
class Entry:
    user: str
    secret: Secret
    backend_user: str = ""


def read_secret(text: str, key: bytes | None) -> Secret:
    """A secret in any form of 9.3; ``key``: the key string for the AES form, None when there is none."""
    if _MD5.fullmatch(text):
        return Secret("md5", md5=text.lower().encode())
    if text.startswith(aes.PREFIX):
        if key is None:
            return Secret("aes", problem="unable to decrypt password: there is no key file")
        try:
            return Secret("aes", password=aes.decrypt(text, key))
        except aes.CannotDecrypt as error:
            return Secret("aes", problem=f"unable to decrypt password: {error}")
    if text.startswith("TEXT"):
        return Secret("text", password=text[4:].encode("utf-8", "surrogateescape"))
    if text.startswith("SCRAM-SHA-256$"):
        verifier = exchange.parse_verifier(text)
        return Secret("scram", verifier=verifier, problem="" if verifier else "invalid SCRAM-SHA-256 verifier")
    return Secret("plain", password=text.encode("utf-8", "surrogateescape"))


def parse(text: str, name: str, key: bytes | None) -> tuple[dict[str, Entry], list[Fault]]:
    """Entries by user, and every line that cannot be used (they do not stop the others). Never raises."""
    entries: dict[str, Entry] = {}
    faults: list[Fault] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        if not line.strip() or line.startswith("#"):
            continue
        entry, reason = _line(line, key)
        if reason:
            faults.append(Fault(name, number, reason))
        if entry is not None and entry.user in entries:
            faults.append(Fault(name, number, f'user "{entry.user}" has an entry further up, which counts'))
        elif entry is not None:
            entries[entry.user] = entry
    return entries, faults


def _line(line: str, key: bytes | None) -> tuple[Entry | None, str]:
    user, colon, rest = line.partition(":")
    if len(line) > MAX_LINE or "\0" in line:
        return None, "line is too long or contains a NUL byte"
    if not colon:
        return None, 'there is no ":" behind the user name'
    if not user:
        return None, "the user name is empty"
    verifier = _VERIFIER.match(rest)
    end = verifier.end() if verifier else rest.find(":")
    text, more = (rest, "") if end < 0 else (rest[:end], rest[end + 1 :])
    if not text:
        return None, "the password is empty"
    secret = read_secret(text, key)
    if secret.kind in ("text", "plain", "aes") and secret.password == b"":
        return None, "the password is empty"
    backend_user, colon, _ = more.partition(":")
    reason = secret.problem
    if more and not colon:
        reason = reason or 'a backend user without a password follows (a password cannot contain ":")'
    return Entry(user, secret, backend_user), reason


class PasswordFile:
    """The entries of one pool_passwd file; immutable, replaced as a whole by ``load`` at reload."""

    def __init__(
        self, entries: dict[str, Entry] | None = None, faults: list[Fault] | None = None, key: bytes | None = None
    ):
        self._entries = entries or {}
        self.faults = faults or []
        self._key = key

    def __repr__(self) -> str:
        return f"<PasswordFile, {len(self._entries)} users>"

    def find(self, user: str) -> Entry | None:
        return self._entries.get(user)

    def admission(self, user: str, startup: Startup | None = None) -> Admission:
        """A new Admission that holds the stored secret of ``user``, nothing proved yet."""
        entry = self._entries.get(user)
        if entry is None:
            return Admission(user, startup)
        secret = entry.secret
        return Admission(user, startup, password=secret.password, md5=secret.md5, verifier=secret.verifier)

    def own(self, user: str, configured: str) -> Admission:
        """For our own sessions: ``configured`` is a password parameter of pgpool.conf (plain, TEXT, AES, md5); when it
        is empty the entry of ``user`` here is used."""
        if configured:
            secret = read_secret(configured, self._key)
            admission = Admission(user, password=secret.password, md5=secret.md5)
        else:
            admission = self.admission(user)
        admission.verified = admission.negotiated = True
        return admission


def load(path: str, key_path: str = "") -> PasswordFile:
    """Reads ``path`` ('' = pool_passwd is disabled) and the key file (``key_path``: the -k option, '' = usual places).

    The file is created, empty and for the owner only, when it is missing. Lines that cannot be used are in ``.faults``,
    as is a key file that others can read (line 0). Raises OSError when the file cannot be read or created.
    """
    faults: list[Fault] = []
    key = _load_key(aes.key_file(key_path), faults)
    if not path:
        return PasswordFile(faults=faults, key=key)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        data = b""
    entries, found = parse(data.decode("utf-8", "surrogateescape"), path, key)
    return PasswordFile(entries, faults + found, key)


def _load_key(path: str, faults: list[Fault]) -> bytes | None:
    try:
        key = aes.read_key(path)
        if os.stat(path).st_mode & 0o077:
            faults.append(Fault(path, 0, "the key file should not be accessible for group or others (chmod 600)"))
    except OSError:
        return None
    return key or None
