"""Passwords in SQL texts, taken out before others read them: in the log, and in SHOW pool_pools."""

from __future__ import annotations

import re

STARS = "*****"

# A string constant of any kind; one that was cut off ends with the text. A backslash always escapes here: where it would
# not (standard_conforming_strings) at worst more is hidden.
_CONSTANT = r"(?:(?:e|u&)?'(?:[^'\\]|''|\\.|\\\Z)*(?:'|\Z)|\$(\w*)\$.*?(?:\$\2\$|\Z))"
_AFTER_PASSWORD = re.compile(rf"(password\d*\"?(?:\s+to\b|\s*=)?\s*){_CONSTANT}", re.IGNORECASE | re.DOTALL)
_PGPOOL_SET = re.compile(
    r"(pgpool\s+set\s+\"?\w*(?:password|authkey)\w*\"?(?:\s+to\b|\s*=)\s*)(?!\*).*", re.IGNORECASE | re.DOTALL
)


def without_passwords(text: str) -> str:
    """``text`` with stars for the constant after the word PASSWORD (CREATE ROLE, ALTER ROLE, ``password = '...'``) and for
    all that follows a PGPOOL SET of a secret parameter."""
    lower = text.lower()
    if "password" in lower:
        text = _AFTER_PASSWORD.sub(rf"\1'{STARS}'", text)
    if "pgpool" in lower:
        text = _PGPOOL_SET.sub(rf"\1{STARS}", text)
    return text
