"""PostgreSQL's lexer, as far as a proxy needs it: where tokens, strings, comments and statements end.

The rules are those of PostgreSQL 12 to 18 (scan.l). Where versions differ (a word glued to a number) the older,
splitting reading is taken: newer servers refuse such text anyway. Pure, deterministic and linear in the length of the
text: every repetition is possessive, so nothing is tried twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple


class Tok(IntEnum):
    WORD = 1
    """Unquoted name or keyword; value folded to lower case (ASCII letters only, as PostgreSQL does for UTF-8)."""
    QUOTED = 2
    """"Quoted" name; value without the quotes."""
    UNICODE = 3
    """U&"..." name: nobody here decodes its escapes, so whatever uses it is not understood."""
    STRING = 4
    NUMBER = 5
    PARAM = 6
    OP = 7
    PUNCT = 8
    """One of , ( ) [ ] . ; : and :: := .. ; value is the text."""


class Token(NamedTuple):
    kind: Tok
    value: str
    """Folded word, unquoted name, operator or punctuation; for constants the raw text."""
    start: int
    end: int


class LexError(ValueError):
    """The text has no tokens in PostgreSQL's eyes: an unterminated string or comment, or a stray character."""

    def __init__(self, position: int, what: str):
        super().__init__(f"{what} at position {position}")
        self.position = position


_FIRST = r"A-Za-z_\x80-\U0010ffff"
# '...' <newline> '...' is one string, and goes on with the quoting rules of its first part.
_GO_ON = r"(?:[ \t\f\v]++|--[^\n\r]*+)*+[\n\r](?:[ \t\n\r\f\v]++|--[^\n\r]*+[\n\r])*+"
_PLAIN = r"'(?:[^']++|'')*+'"
_ESCAPED = r"'(?:[^'\\]++|''|\\.)*+'"
_BITS = r"'[^']*+'"
_DEC = r"[0-9](?:_?[0-9])*+"
_NUMBER = (
    r"0[xX](?:_?[0-9A-Fa-f])++|0[oO](?:_?[0-7])++|0[bB](?:_?[01])++"
    rf"|(?:{_DEC}(?:\.(?!\.)(?:{_DEC})?+)?+|\.{_DEC})(?:[eE][+-]?{_DEC})?+"
)


def _string(prefix: str, part: str) -> str:
    return rf"{prefix}{part}(?:{_GO_ON}{part})*+"


def _master(standard: bool) -> re.Pattern[str]:
    strings = [_string("", _PLAIN), _string("[uU]&", _PLAIN)] if standard else [_string("", _ESCAPED)]
    strings += [_string("[eE]", _ESCAPED), _string("[bBxX]", _BITS)]
    groups = {
        "space": r"[ \t\n\r\f\v]++|--[^\n\r]*+",
        "string": "|".join(strings),
        "quoted": r'(?:[uU]&)?+"(?:[^"]++|"")++"',
        "word": rf"(?![eEbBxX]'|[uU]&['\"])[{_FIRST}][{_FIRST}0-9$]*+",
        "comment": r"/\*",
        "punct": r"::|:=|\.\.|[,()\[\];:]|\.(?![0-9])",
        "number": _NUMBER,
        "param": r"\$[0-9]++",
        "op": r"[~!@#^&|`?+\-*/%<>=]++",
        "dollar": rf"\$(?:[{_FIRST}][{_FIRST}0-9]*+)?+\$",
    }
    return re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in groups.items()), re.DOTALL)


_STANDARD = _master(True)
_BACKSLASH = _master(False)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_COMMENT_IN_OP = re.compile(r"--|/\*")
_SIMPLE = {"word": Tok.WORD, "punct": Tok.PUNCT, "number": Tok.NUMBER, "param": Tok.PARAM, "string": Tok.STRING}
_FOLD = {c: c + 32 for c in range(ord("A"), ord("Z") + 1)}


def fold(word: str) -> str:
    """An unquoted name as PostgreSQL stores it: only A to Z change."""
    return word.lower() if word.isascii() else word.translate(_FOLD)


def tokenize(text: str, *, standard_conforming_strings: bool = True) -> list[Token]:
    """All tokens of ``text`` without blanks and comments. Raises LexError.

    ``text`` must have been decoded by the client's encoding (any character from U+0080 on is a letter).
    """
    match = (_STANDARD if standard_conforming_strings else _BACKSLASH).match
    tokens: list[Token] = []
    add = tokens.append
    pos, size = 0, len(text)
    while pos < size:
        found = match(text, pos)
        if found is None:
            raise LexError(pos, "unterminated quoted string or stray character")
        group, end = found.lastgroup, found.end()
        if group == "word":
            add(Token(Tok.WORD, fold(found.group()), pos, end))
        elif group == "comment":
            end = comment_end(text, pos)
        elif group == "op":
            end = _operators(found.group(), pos, add)
        elif group == "quoted":
            add(_quoted(found.group(), pos, end))
        elif group == "dollar":
            tag = found.group()
            end = text.find(tag, end)
            if end < 0:
                raise LexError(pos, "unterminated dollar-quoted string")
            end += len(tag)
            add(Token(Tok.STRING, text[pos:end], pos, end))
        elif group != "space":
            add(Token(_SIMPLE[group or ""], found.group(), pos, end))
        pos = end
    return tokens


def comment_end(text: str, pos: int) -> int:
    """Where the nested /* comment */ that begins at ``pos`` ends. Raises LexError when it does not."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, pos):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    raise LexError(pos, "unterminated comment")


def _quoted(raw: str, start: int, end: int) -> Token:
    if raw[0] != '"':
        return Token(Tok.UNICODE, raw, start, end)
    return Token(Tok.QUOTED, raw[1:-1].replace('""', '"'), start, end)


def _operators(run: str, pos: int, add) -> int:
    """The operators in a run of operator characters; a comment ends it, and + or - at its end stand alone unless one
    of ~!@#^&|`?% is in it (PostgreSQL's manual, 4.1.3)."""
    cut = _COMMENT_IN_OP.search(run)
    if cut:
        run = run[: cut.start()]
    first = len(run) if any(c in "~!@#^&|`?%" for c in run) else len(run.rstrip("+-"))
    if first:
        add(Token(Tok.OP, run[:first], pos, pos + first))
    for i in range(first, len(run)):
        add(Token(Tok.OP, run[i], pos + i, pos + i + 1))
    return pos + len(run)


def comment_first(text: str, tokens: Sequence[Token]) -> bool:
    """Is there a comment before the first token?"""
    head = text[: tokens[0].start] if tokens else text
    return bool(head.strip(" \t\n\r\f\v"))


_ROUTINE = ((Tok.WORD, "function"), (Tok.WORD, "procedure"))


def split(tokens: Sequence[Token]) -> list[tuple[int, int]]:
    """Index ranges of the statements in a string, empty ones left out.

    A semicolon in parentheses (CREATE RULE ... DO (...; ...)) or in the BEGIN ATOMIC body of a function ends nothing;
    the body is found the way psql does it: BEGIN and CASE open, END closes.
    """
    ranges: list[tuple[int, int]] = []
    first, depth, blocks = 0, 0, 0
    routine = False
    for i, token in enumerate(tokens):
        value = token.value
        if token.kind is Tok.PUNCT:
            if value == "(":
                depth += 1
            elif value == ")":
                depth -= 1
            elif value == ";" and depth <= 0 and not blocks:
                if i > first:
                    ranges.append((first, i))
                first, depth, routine = i + 1, 0, False
        elif token.kind is Tok.WORD:
            if i == first and value == "create":
                routine = any(t[:2] in _ROUTINE for t in tokens[i + 1 : i + 4])
            elif routine and depth <= 0:
                if value == "begin" or (blocks and value == "case"):
                    blocks += 1
                elif value == "end" and blocks:
                    blocks -= 1
    if len(tokens) > first:
        ranges.append((first, len(tokens)))
    return ranges
