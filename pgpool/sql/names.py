"""Lists of names and patterns from pgpool.conf, hints in comments. Sources: behaviour.md 5.2, 5.3; commands.md 9."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Flag

_POSIX_CLASSES = {
    "[:alpha:]": "a-zA-Z",
    "[:digit:]": "0-9",
    "[:alnum:]": "a-zA-Z0-9",
    "[:upper:]": "A-Z",
    "[:lower:]": "a-z",
    "[:space:]": r"\s",
    "[:blank:]": r" \t",
    "[:punct:]": r"!-/:-@\[-`{-~",
    "[:xdigit:]": "0-9a-fA-F",
}


class BadList(ValueError):
    """A list cannot be used; str() is the text for the configuration fault."""


@dataclass(frozen=True, slots=True)
class PatternList:
    """Regular expressions of one parameter: anchored at both ends, case does not matter, a dot is also a line end."""

    patterns: tuple[re.Pattern[str], ...] = ()

    @classmethod
    def of(cls, parameter: str, entries: Iterable[str]) -> PatternList:
        """Raises BadList naming the parameter and the first entry that is no regular expression."""
        return cls(tuple(compile_pattern(parameter, e) for e in entries if e))

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def matches(self, text: str) -> bool:
        return any(p.fullmatch(text) for p in self.patterns)


def compile_pattern(parameter: str, entry: str) -> re.Pattern[str]:
    """One entry. POSIX classes such as [[:digit:]] are understood; ^ and $ of the user's own do no harm."""
    pattern = entry
    for posix, python in _POSIX_CLASSES.items():
        pattern = pattern.replace(posix, python)
    try:
        return re.compile(pattern, re.IGNORECASE | re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadList(f'invalid regular expression "{entry}" in {parameter}: {error}') from error


@dataclass(frozen=True, slots=True)
class Preference:
    """``pattern:node(ratio)`` of a redirect preference list."""

    pattern: re.Pattern[str]
    node: str
    """'primary', 'standby' or the node id as digits."""
    ratio: float


_ENTRY = re.compile(r"(?P<pattern>.+):(?P<node>[^:()]+?)\s*(?:\(\s*(?P<ratio>[^()]*?)\s*\))?", re.DOTALL)


def parse_preferences(parameter: str, text: str) -> tuple[Preference, ...]:
    """database_/app_name_/user_redirect_preference_list. Raises BadList."""
    found = []
    for entry in filter(None, (part.strip() for part in re.split(r"(?<!\\),", text or ""))):
        match = _ENTRY.fullmatch(entry)
        node = match["node"].strip().lower() if match else ""
        if match is None or not (node in ("primary", "standby") or (node.isascii() and node.isdigit())):
            raise BadList(f'invalid entry "{entry}" in {parameter}: must be pattern:node or pattern:node(ratio)')
        try:
            ratio = float(match["ratio"]) if match["ratio"] is not None else 1.0
        except ValueError:
            ratio = -1.0
        if not 0.0 <= ratio <= 1.0:
            raise BadList(f'invalid entry "{entry}" in {parameter}: the ratio must be between 0.0 and 1.0')
        found.append(Preference(compile_pattern(parameter, match["pattern"].strip()), node, ratio))
    return tuple(found)


def first_preference(preferences: tuple[Preference, ...], value: str) -> Preference | None:
    """The first entry whose pattern matches the whole value."""
    return next((p for p in preferences if p.pattern.fullmatch(value)), None)


class Hint(Flag):
    """What a comment at the very beginning of a query asks for."""

    NONE = 0
    FORCE_QUERY_CACHE = 1
    NO_QUERY_CACHE = 2
    INSERT_LOCK = 4
    NO_INSERT_LOCK = 8


_HINTS = {
    "/*force query cache*/": Hint.FORCE_QUERY_CACHE,
    "/*no query cache*/": Hint.NO_QUERY_CACHE,
    "/*insert lock*/": Hint.INSERT_LOCK,
    "/*no insert lock*/": Hint.NO_INSERT_LOCK,
}


def hint_of(text: str, *, ignore_leading_white_space: bool = True) -> Hint:
    """The hint the query begins with. Blanks before it are allowed for the lock hints only (commands.md 9).

    /*NO LOAD BALANCE*/ is no hint of its own: any leading comment does that (behaviour.md 16).
    """
    head = text[:64].lower()
    stripped = head.lstrip(" \t\n\r\f\v") if ignore_leading_white_space else head
    for comment, hint in _HINTS.items():
        place = stripped if hint in (Hint.INSERT_LOCK, Hint.NO_INSERT_LOCK) else head
        if place.startswith(comment):
            return hint
    return Hint.NONE
