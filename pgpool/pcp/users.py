"""pcp.conf: who may give administration commands. Lines ``user:md5 of the password in hex`` (pcp_protocol.md 2)."""

from __future__ import annotations

import re

from ..errors import Fault
from ..wire import pcp

MAX_LINE = 512
MAX_FILE = 1 << 20
_MD5 = re.compile(r"[0-9a-f]{32}", re.ASCII)


def parse(content: str, name: str) -> tuple[dict[str, list[str]], list[Fault]]:
    """User -> all the hashes that stand for it (any of them opens), and every line that cannot be used. Never raises."""
    users: dict[str, list[str]] = {}
    faults: list[Fault] = []
    for number, line in enumerate(content.split("\n"), 1):
        line = line.rstrip("\r \t")
        if not line or line.startswith("#"):
            continue
        user, colon, hashed = line.partition(":")
        reason = ""
        if len(line) > MAX_LINE or "\0" in line:
            reason = "line is too long or contains a NUL byte"
        elif not colon:
            reason = 'there is no ":" behind the user name'
        elif not user or len(user.encode("utf-8", "surrogateescape")) > pcp.MAX_USER:
            reason = f"the user name is empty or longer than {pcp.MAX_USER} bytes"
        elif not _MD5.fullmatch(hashed.lower()):
            reason = "behind the user name there is no md5 hash of 32 hexadecimal digits (pg_md5 makes it)"
        if reason:
            faults.append(Fault(name, number, reason))
        else:
            users.setdefault(user, []).append(hashed.lower())
    return users, faults


def load(path: str) -> tuple[dict[str, list[str]], list[Fault]]:
    """Reads the file; one that cannot be read is a fault, and then there are no users."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return parse(file.read(MAX_FILE), path)
    except OSError as err:
        return {}, [Fault(path, 0, f"cannot be read, nobody may give PCP commands: {err.strerror or err}")]


NOBODY = "0" * 32
"""Compared with for a user who does not exist: the answer takes as long as for one who does."""


def admits(users: dict[str, list[str]], request: pcp.LoginRequest, salt: bytes) -> bool:
    """Does the answer prove the password of one of the user's lines?"""
    proofs = [pcp.proves(request, stored, salt) for stored in users.get(request.user, [NOBODY])]
    return request.user in users and any(proofs)
