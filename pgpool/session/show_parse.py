"""Which statements are our own: SHOW pool_*, PGPOOL SHOW, PGPOOL SET, PGPOOL RESET (commands.md section 4), and PGPOOL
EXPLAIN, which Pgpool-II does not have. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

_WORD = r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*+"
_TOKEN = re.compile(
    rf"""
      (?P<blank>[ \t\n\r\f\v]++|--[^\n\r]*+)
    | (?P<comment>/\*)
    | (?P<escape>[eE]'(?:[^'\\]++|''|\\.)*+')
    | (?P<string>'(?:[^']++|'')*+')
    | (?P<quoted>"(?:[^"]++|"")++")
    | (?P<dollar>\$(?P<tag>(?:{_WORD.replace("$", "")})?)\$(?P<body>.*?)\$(?P=tag)\$)
    | (?P<number>(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+)
    | (?P<word>{_WORD})
    | (?P<mark>[;=,.+-])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))|''", re.DOTALL)
_CONTROL = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

_EXPLAIN = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*pgpool\s+explain\b\s*(?P<text>.*?[^\s;].*?)[\s;]*\Z", re.DOTALL | re.IGNORECASE
)

POOL_WORD = "pool_"


class Verb(Enum):
    SHOW_POOL = "SHOW pool_*"
    SHOW = "PGPOOL SHOW"
    SET = "PGPOOL SET"
    RESET = "PGPOOL RESET"
    CACHE_DELETE = "PGPOOL SET CACHE DELETE"
    EXPLAIN = "PGPOOL EXPLAIN"


@dataclass(frozen=True, slots=True)
class OwnStatement:
    """``name``: the SHOW word or the parameter ('all' for ALL), folded unless quoted. ``value``: of SET, None for
    DEFAULT; the query text of CACHE DELETE; the statement behind EXPLAIN."""

    verb: Verb
    name: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def parse(sql: str) -> OwnStatement | None:
    """The statement, when it is one of ours by its form. None: it is for the backend, which also words the syntax error
    for a PGPOOL statement that is none (several statements in one string are for the backend, too)."""
    explained = _EXPLAIN.match(sql)
    if explained:
        return OwnStatement(Verb.EXPLAIN, "explain", explained["text"])
    tokens = _tokens(sql)
    if tokens is None or len(tokens) < 2:
        return None
    if _is(tokens[0], "show"):
        name = _name(tokens[1:])
        return OwnStatement(Verb.SHOW_POOL, name) if name is not None and name.startswith(POOL_WORD) else None
    if not _is(tokens[0], "pgpool"):
        return None
    verb, rest = tokens[1], tokens[2:]
    if _is(verb, "show"):
        name = _name(rest)
        return None if name is None else OwnStatement(Verb.SHOW, name)
    if _is(verb, "reset"):
        name = _name(rest)
        return None if name is None else OwnStatement(Verb.RESET, name)
    if _is(verb, "set"):
        return _parse_set(rest)
    return None


def _parse_set(tokens: list[_Token]) -> OwnStatement | None:
    if len(tokens) == 3 and _is(tokens[0], "cache") and _is(tokens[1], "delete") and tokens[2].kind == "string":
        return OwnStatement(Verb.CACHE_DELETE, "cache", tokens[2].text)
    at = next((i for i, t in enumerate(tokens) if _is(t, "to") or (t.kind == "mark" and t.text == "=")), -1)
    if at < 1:
        return None
    name, values = _name(tokens[:at]), tokens[at + 1 :]
    if name is None or not values:
        return None
    if len(values) == 1 and _is(values[0], "default"):
        return OwnStatement(Verb.SET, name, None)
    items, sign, due = [], "", True
    for token in values:
        if not due:
            if token != _Token("mark", ","):
                return None
            due = True
        elif token.kind == "mark":
            if sign or token.text not in "+-":
                return None
            sign = token.text
        elif sign and token.kind != "number":
            return None
        else:
            items.append(sign.removeprefix("+") + token.text)
            sign, due = "", False
    return None if due else OwnStatement(Verb.SET, name, ", ".join(items))


def _name(tokens: list[_Token]) -> str | None:
    """``word`` or ``word.word...`` and nothing after it."""
    if len(tokens) % 2 == 0:
        return None
    for i, token in enumerate(tokens):
        if (token.kind not in ("word", "quoted")) if i % 2 == 0 else (token != _Token("mark", ".")):
            return None
    return "".join(t.text for t in tokens)


def _is(token: _Token, word: str) -> bool:
    return token.kind == "word" and token.text == word


def _tokens(sql: str) -> list[_Token] | None:
    """The tokens of the one statement in ``sql``, without blanks, comments and closing semicolons; None for anything
    else."""
    tokens: list[_Token] = []
    at, ended = 0, False
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        if match is None:
            return None
        at = match.end()
        kind = match.lastgroup
        if kind == "comment":
            at = _comment_end(sql, at)
            if at < 0:
                return None
        elif match["mark"] == ";":
            ended = True
        elif kind != "blank":
            if ended or len(tokens) > 200:
                return None
            tokens.append(_token(str(kind), match))
    return tokens


def _token(kind: str, match: re.Match[str]) -> _Token:
    """Names folded, quotes taken off."""
    text = match.group()
    if kind == "word":
        return _Token("word", "".join(c.lower() if c.isascii() else c for c in text))
    if kind == "quoted":
        return _Token("quoted", text[1:-1].replace('""', '"'))
    if kind == "string":
        return _Token("string", text[1:-1].replace("''", "'"))
    if kind == "escape":
        return _Token("string", _ESCAPE.sub(_unescape, text[2:-1]))
    if kind == "dollar":
        return _Token("string", match["body"])
    return _Token(kind, text)


def _unescape(match: re.Match[str]) -> str:
    """One escape of E'...'. A code that is no character becomes U+FFFD."""
    octal, hexadecimal, small, big, char = match.groups()
    if char is not None:
        return _CONTROL.get(char, char)
    if octal is None and hexadecimal is None and small is None and big is None:
        return "'"
    code = int(octal, 8) & 0xFF if octal else int(hexadecimal or small or big, 16)
    return chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"


def _comment_end(sql: str, at: int) -> int:
    """Where the comment ends whose ``/*`` ends at ``at``; comments nest. -1 when it does not end."""
    depth = 1
    for match in re.compile(r"/\*|\*/").finditer(sql, at):
        depth += 1 if match.group() == "/*" else -1
        if depth == 0:
            return match.end()
    return -1
