"""Strings with an inner form: each function gives the one spelling of a value, or raises ValueError with the reason."""

from __future__ import annotations

import re
from dataclasses import dataclass

ALLOW = "ALLOW_TO_FAILOVER"
DISALLOW = "DISALLOW_TO_FAILOVER"
ALWAYS_PRIMARY = "ALWAYS_PRIMARY"
_FLAG_SPELLINGS = {ALLOW: ALLOW, DISALLOW: DISALLOW, ALWAYS_PRIMARY: ALWAYS_PRIMARY, "ALWAYS_MASTER": ALWAYS_PRIMARY}


def backend_flags(text: str) -> str:
    """``ALWAYS_PRIMARY`` -> ``ALLOW_TO_FAILOVER|ALWAYS_PRIMARY``: the failover flag is always named, and first."""
    flags = set()
    for word in text.split("|"):
        word = word.strip()
        if word not in _FLAG_SPELLINGS:
            raise ValueError(f"unknown backend flag:{word}")
        flags.add(_FLAG_SPELLINGS[word])
    if {ALLOW, DISALLOW} <= flags:
        raise ValueError("cannot set ALLOW_TO_FAILOVER and DISALLOW_TO_FAILOVER at the same time")
    failover = DISALLOW if DISALLOW in flags else ALLOW
    return f"{failover}|{ALWAYS_PRIMARY}" if ALWAYS_PRIMARY in flags else failover


def log_destinations(text: str) -> str:
    """``stderr``, ``syslog`` or both, comma separated."""
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in ("stderr", "syslog"):
            raise ValueError(f"unknown destination :{word}")
    return ",".join(dict.fromkeys(words))


@dataclass(frozen=True, slots=True)
class Redirect:
    """One item of a redirect list: names matching ``pattern`` go to ``node`` ('primary', 'standby' or a number as
    text) with probability ``ratio``."""

    pattern: str
    node: str
    ratio: float = 1.0


_REDIRECT = re.compile(r"(?P<pattern>.+):\s*(?P<node>\w+)\s*(?:\(\s*(?P<ratio>[0-9.]+)\s*\))?", re.DOTALL)


def parse_redirects(text: str) -> tuple[Redirect, ...]:
    """``pattern:node(ratio), ...`` -> items in order (behaviour.md 5.3). Raises ValueError for a malformed item."""
    items = []
    for item in split_list(text, ","):
        match = _REDIRECT.fullmatch(item)
        if match is None:
            raise ValueError(f'"{item}" is not of the form pattern:node or pattern:node(ratio)')
        node = match["node"].lower()
        if node not in ("primary", "standby"):
            if node == "master":
                node = "primary"
            elif not node.isascii() or not node.isdigit() or int(node) > 127:
                raise ValueError(f'"{match["node"]}" in "{item}" is not primary, standby or a backend number')
            else:
                node = str(int(node))
        try:
            ratio = 1.0 if match["ratio"] is None else float(match["ratio"])
        except ValueError:
            ratio = -1.0
        if not 0.0 <= ratio <= 1.0:
            raise ValueError(f'the ratio in "{item}" is not between 0.0 and 1.0')
        items.append(Redirect(match["pattern"].strip(), node, ratio))
    return tuple(items)


def redirects(text: str) -> str:
    """The list as written, once it is known to be well formed."""
    parse_redirects(text)
    return text


def parse_relations(text: str) -> tuple[tuple[str, str], ...]:
    """``object:dependent, ...`` of dml_adaptive_object_relationship_list -> pairs; function names lose their ``()``."""
    pairs = []
    for item in split_list(text, ","):
        left, colon, right = (part.strip() for part in item.partition(":"))
        if not left or not right or not colon or ":" in right:
            raise ValueError(f'"{item}" is not of the form object:dependent_object')
        pairs.append((left.removesuffix("()"), right.removesuffix("()")))
    return tuple(pairs)


def relations(text: str) -> str:
    """The list as written, once it is known to be well formed."""
    parse_relations(text)
    return text


def split_list(text: str, separator: str) -> tuple[str, ...]:
    """Split at ``separator``, trim blanks, drop empty items; a backslash before the separator keeps it in the item."""
    items: list[str] = []
    current = ""
    position = 0
    while position < len(text):
        char = text[position]
        if char == "\\" and position + 1 < len(text):
            following = text[position + 1]
            current += following if following == separator else char + following
            position += 2
            continue
        if char == separator:
            items.append(current.strip())
            current = ""
        else:
            current += char
        position += 1
    items.append(current.strip())
    return tuple(item for item in items if item)


def join_list(items: tuple[str, ...], separator: str) -> str:
    """The inverse of split_list. A blank keeps a backslash at the end of an item from taking in the separator."""
    texts = (item.replace(separator, "\\" + separator) for item in items)
    return separator.join(text + " " if (len(text) - len(text.rstrip("\\"))) % 2 else text for text in texts)
