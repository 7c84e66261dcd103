"""The lexer beside PostgreSQL's own (pglast.scan)."""

from __future__ import annotations

import contextlib
import time
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pglast.parser import Error, ParseError, scan

from pgpool.sql.tokens import LexError, Tok, split, tokenize
from tests.unit.sql import grammar

many = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))

PIECES = [
    *(
        "a",
        "A1",
        "é",
        "x$1",
        "_y",
        '"q"',
        '"q""r"',
        'U&"d"',
        "'s'",
        "''",
        "'it''s'",
        "E'\\''",
        "e'a\\\\'",
        "B'01'",
        "x'1F'",
    ),
    *(
        "U&'x'",
        "N'n'",
        "$$d$$",
        "$t$ $$ $t$",
        "$1",
        "$12",
        "1",
        "1.5",
        "1.",
        ".5",
        "1e5",
        "1.5E-3",
        "0x1F",
        "0o17",
        "0b11",
    ),
    *(
        "1_000",
        "+",
        "-",
        "*",
        "/",
        "<",
        "=",
        ">",
        "<=",
        "<>",
        "!=",
        "||",
        "->",
        "->>",
        "@>",
        "~*",
        "#",
        "%",
        "&",
        "?",
        "|",
    ),
    *(
        "::",
        ":=",
        "=>",
        "..",
        ".",
        ",",
        "(",
        ")",
        "[",
        "]",
        ";",
        ":",
        "/* c */",
        "/* /* n */ */",
        "-- l\n",
        "--\n",
        "/**/",
    ),
    *(" ", "\n", "\t", "\f", "\r", "\r\n", "'", '"', "$", "\\", "/*", "*/", "--", "E'", "U&", "@-", "*+-", "@-+"),
    *("select", "for", "'x'\n'y'", "'x' -- c\n 'y'", "E'x'\n'\\''", "standard", "!", "`", "^"),
]


def compare(text: str) -> None:
    try:
        found = scan(text)
    except (ParseError, Error):
        return  # PostgreSQL refuses it; where the error lies does not matter
    if any(t.name in ("ASCII_36", "ASCII_92") for t in found):
        return  # a stray $ or backslash is left to the parser, which refuses it
    expected = [(t.start, t.end + 1) for t in found if "COMMENT" not in t.name]
    assert [(t.start, t.end) for t in tokenize(text)] == expected, repr(text)


@many
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_boundaries_of_pieces(text: str) -> None:
    compare(text)


@many
@given(st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join))
def test_boundaries_of_spaced_pieces(text: str) -> None:
    compare(text)


@many
@given(grammar.statements)
def test_boundaries_of_statements(text: str) -> None:
    compare(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("SELECT 'a\\' , 'b'", ["select", "'a\\'", ",", "'b'"]),
        ("a.b .5 1..2", ["a", ".", "b", ".5", "1", "..", "2"]),
        ('"A""b" É', ['A"b', "É"]),
        ("1+-2 @- 1*-1 a<-b", ["1", "+", "-", "2", "@-", "1", "*", "-", "1", "a", "<", "-", "b"]),
        ("a--b\n-c/*d*/", ["a", "-", "c"]),
        ("'a'\n\n -- x\n'b\\' 'c'", ["'a'\n\n -- x\n'b\\'", "'c'"]),
        ("E'a'\n'b\\'' x", ["E'a'\n'b\\''", "x"]),
        ("$a$x$b$y$a$ $$z$$", ["$a$x$b$y$a$", "$$z$$"]),
    ],
)
def test_values(text: str, values: list[str]) -> None:
    assert [t.value for t in tokenize(text)] == values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("'a\\'; DELETE' , b", ["'a\\'; DELETE'", ",", "b"]),
        ("'a\\\\' x", ["'a\\\\'", "x"]),
        ("'a'\n'b\\'c' x", ["'a'\n'b\\'c'", "x"]),
        ("E'\\'' x", ["E'\\''", "x"]),
        ("B'0' x", ["B'0'", "x"]),
    ],
)
def test_backslashes_escape_when_strings_do_not_conform(text: str, values: list[str]) -> None:
    assert [t.value for t in tokenize(text, standard_conforming_strings=False)] == values


@pytest.mark.parametrize(
    "text", ["'a", '"a', "/* a", "/* /* */", "$a$ x $b$", "E'\\'", "a \\ b", '""', "{x}", "\x00", "U&'a", 'U&"a', "x'1"]
)
def test_unterminated(text: str) -> None:
    with pytest.raises(LexError):
        tokenize(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        (" ; ;; -- x", 0),
        ("select 1", 1),
        (";select 1;;", 1),
        ("select 1; select 2", 2),
        ("create rule r as on delete to t do also (select 1; select 2)", 1),
        ("create function f() returns int begin atomic select 1; select case when a then b end; end", 1),
        ("create or replace procedure p() begin atomic insert into t values (1); end; select 1", 2),
        ("create table begin_t (a int); select 1; end", 3),
        ("select (1; select 2)", 1),
    ],
)
def test_split(text: str, count: int) -> None:
    assert len(split(tokenize(text))) == count


@pytest.mark.parametrize(
    "piece",
    ["'a' ", "''", "(", "/* ", "+-", "a.", "$a", "'x'\n", '"a"', "--", "1.", "as ", "$$ $a$ ", "e'\\\\", "-- \n"],
)
def test_linear_time(piece: str) -> None:
    """Ten times the text takes about ten times as long."""

    def seconds(times: int) -> float:
        text = piece * times
        start = time.process_time()
        with contextlib.suppress(LexError):
            tokenize(text)
        return time.process_time() - start

    short = min(seconds(2_000) for _ in range(3))
    # a busy machine can make one run slow, but not each of ten
    assert any(seconds(20_000) < 40 * short + 0.05 for _ in range(10))


def test_words_fold_as_postgresql_folds() -> None:
    assert [t.value for t in tokenize("ABC ÄB İX")] == ["abc", "Äb", "İx"]
    assert [t.kind for t in tokenize('a "a" U&"a" \'a\' 1 $1 + (')] == [
        *(Tok.WORD, Tok.QUOTED, Tok.UNICODE, Tok.STRING, Tok.NUMBER, Tok.PARAM, Tok.OP, Tok.PUNCT)
    ]


def test_random_bytes_never_hang() -> None:
    dice = Random(7)
    for _ in range(300):
        text = "".join(dice.choice("'\"$/*-eExXuU&\\ \na1;()") for _ in range(dice.randint(1, 60)))
        with contextlib.suppress(LexError):
            tokenize(text)
