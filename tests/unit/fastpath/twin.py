"""A slow twin of the hot path's framing and fingerprint, written from the protocol and from PostgreSQL's lexer rules."""

from __future__ import annotations

import re
import struct

SMALL, LARGE = 10000, 2**30 - 1
LIMITS = dict.fromkeys(b"QPBFd", LARGE) | dict.fromkeys(b"DECSHXcf", SMALL)


def frames(data: bytes):
    found, pos = [], 0
    while len(data) - pos >= 5:
        kind = data[pos]
        if kind not in LIMITS:
            return found, (pos, "type")
        (size,) = struct.unpack_from("!I", data, pos + 1)
        if not 4 <= size <= LIMITS[kind]:
            return found, (pos, "length")
        if len(data) - pos < size + 1:
            break
        found.append((chr(kind), pos, size + 1))
        pos += size + 1
    return found, None


_WORD = rb"[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*"
_TOKENS = re.compile(
    rb"(?P<space>[ \t\n\r\f\v]+)"
    rb"|(?P<line>--[^\n\r]*)"
    rb"|(?P<block>/\*)"
    rb"|(?P<estring>[eE]'(?:[^'\\]|''|\\.)*')"
    rb"|(?P<pstring>(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*')"
    rb"|(?P<quoted>\"(?:[^\"]|\"\")*\")"
    rb"|(?P<dollar>\$(?P<tag>(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?)\$.*?\$(?P=tag)\$)"
    rb"|(?P<param>\$[0-9]+)"
    rb"|(?P<number>(?:[0-9][0-9_]*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    rb"|(?P<word>" + _WORD + rb")"
    rb"|(?P<other>.)",
    re.DOTALL,
)
OPERATOR = b"~!@#^&|`?+-*/%<>="
BLIND = {b"select", b"insert", b"update", b"delete", b"values", b"table", b"merge", b"with"}


def shape(sql: bytes):
    """What a fingerprint must depend on: a tuple of tokens with constants left out, or the text itself when unsure."""
    tokens: list = []
    pos, first, spaced = 0, True, False
    while pos < len(sql):
        match = _TOKENS.match(sql, pos)
        kind = match.lastgroup if match.lastgroup != "tag" else "dollar"
        text = match.group()
        pos = match.end()
        if kind == "block":
            depth = 1
            while depth:
                step = re.compile(rb"/\*|\*/").search(sql, pos)
                if step is None:
                    return ("exact", sql)
                depth += 1 if step.group() == b"/*" else -1
                pos = step.end()
            spaced = True
            continue
        if kind in ("space", "line"):
            spaced = True
            continue
        if kind == "other" and text in (b"'", b'"', b"$"):
            return ("exact", sql)
        if kind in ("number", "param") and re.match(_WORD, sql[pos:]):
            return ("exact", sql)
        if kind == "word":
            if first and text.lower() not in BLIND:
                return ("exact", sql)
            if text.lower() in (b"u",) and sql[pos : pos + 2] == b'&"':
                return ("exact", sql)
            first = False
            tokens.append(("word", text.lower()))
        elif kind in ("estring", "pstring", "dollar", "param", "number"):
            first = False
            if tokens[-2:] and tokens[-1] == ("other", b",") and len(tokens) > 1 and tokens[-2] == ("value",):
                tokens.pop()
            else:
                tokens.append(("value",))
        elif kind == "quoted":
            first = False
            tokens.append(("quoted", text))
        else:
            if text not in b"(;":
                first = False
            if text in OPERATOR and spaced and tokens and tokens[-1][0] == "other" and tokens[-1][1] in OPERATOR:
                tokens.append(("gap",))
            tokens.append(("other", text))
        spaced = False
    return ("shape", joined(tokens))


def joined(tokens):
    """Semicolons count only between two statements."""
    out: list = []
    semicolon = False
    for token in tokens:
        if token == ("other", b";"):
            semicolon = True
            continue
        if semicolon:
            out.append(("next",))
            semicolon = False
        out.append(token)
    return tuple(out)
