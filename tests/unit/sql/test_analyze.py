"""What analyze() says about generated SQL, judged by the real PostgreSQL grammar (pglast)."""

from __future__ import annotations

import re
from random import Random

from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from pgpool.model import Kind, Statement
from pgpool.sql.analyze import analyze
from pgpool.sql.tokens import Tok, Token, tokenize
from tests.unit.sql import grammar
from tests.unit.sql.oracle import Verdict, judge

many = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))


def names(statement: Statement) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    return {(n.schema, n.name) for n in statement.tables}, {(n.schema, n.name) for n in statement.functions}


def assert_safe(text: str, verdict: Verdict) -> None:
    """A write is never called a read, and no table or function of a read is overlooked."""
    statement = analyze(text)
    if not statement.readonly:
        return
    assert not verdict.writes, text
    tables, functions = names(statement)
    assert verdict.tables <= tables, text
    assert {f for f in verdict.functions if not made_by_grammar(f, text)} <= functions, text


def made_by_grammar(function: tuple[str, str], text: str) -> bool:
    """AT TIME ZONE is pg_catalog.timezone(), LIKE ... ESCAPE is pg_catalog.like_escape() ..."""
    return function[0] == "pg_catalog" and not re.search(rf"\b{function[1]}\W*\(", text, re.IGNORECASE)


@many
@given(grammar.statements)
def test_a_write_is_never_a_read(text: str) -> None:
    verdict = judge(text)
    event(f"parsed {verdict.parsed} writes {verdict.writes}")
    assume(verdict.parsed)
    assert_safe(text, verdict)


@many
@given(grammar.reads)
def test_a_read_is_seldom_a_write(text: str) -> None:
    verdict = judge(text)
    event(f"parsed {verdict.parsed}")
    assume(verdict.parsed and not verdict.writes)
    statement = analyze(text)
    assert statement.readonly, text
    assert statement.kind is Kind.SELECT
    assert names(statement)[0] == verdict.tables, text


@many
@given(grammar.statements, st.randoms(use_true_random=False))
def test_spelling_does_not_matter(text: str, dice: Random) -> None:
    """Comments, blanks and capitals between and in the tokens change nothing."""
    changed = respell(text, dice)
    one, two = analyze(text), analyze(changed)
    for field in ("kind", "counter", "readonly", "reason", "tables", "functions", "name", "local", "effect"):
        assert getattr(one, field) == getattr(two, field), (field, text, changed)


def respell(text: str, dice: Random) -> str:
    found = tokenize(text)
    parts = []
    for token in found:
        raw = text[token.start : token.end]
        parts.append(raw.swapcase() if token.kind is Tok.WORD and raw.isascii() and dice.random() < 0.3 else raw)
    blanks = (" ", "\t", "\n", " /* for update /* into */ */ ", " -- ' ; delete\n", "\f\v ")
    out = parts[0] if parts else ""
    for before, after, part in zip(found, found[1:], parts[1:], strict=False):
        if before.end == after.start and dice.random() < 0.7:
            out += part
        elif Tok.STRING in (before.kind, after.kind) and before.kind is after.kind:
            out += " " + part  # a line end would join the two strings
        else:
            glue = dice.choice(blanks)
            out += (glue if before.end != after.start or glued(before, after) else "") + part
    return out


def glued(before: Token, after: Token) -> bool:
    """May blanks come between two tokens that touch? Not between U& or a sign and what belongs to it."""
    return before.kind is Tok.PUNCT or after.kind is Tok.PUNCT


@many
@given(grammar.reads)
def test_parentheses_do_not_matter(text: str) -> None:
    one, two = analyze(text), analyze(f"(({text}))")
    assume(one.readonly)
    assert two.readonly, text
    assert names(one) == names(two), text


_PIECES = re.compile(r"\s+|[A-Za-z_]+|\d+|.", re.DOTALL)


@many
@given(grammar.statements, st.randoms(use_true_random=False))
def test_broken_text_is_safe_too(text: str, dice: Random) -> None:
    """Pieces lost, doubled and swapped: what still parses and writes is no read.

    (What no longer parses may still be called a read: it writes nothing on any server.)"""
    pieces = _PIECES.findall(text)
    for _ in range(dice.randint(1, 3)):
        at, other = dice.randrange(len(pieces)), dice.randrange(len(pieces))
        action = dice.randrange(3)
        if action == 0:
            pieces[at] = " "
        elif action == 1:
            pieces[at] = pieces[at] + " " + pieces[other]
        else:
            pieces[at], pieces[other] = pieces[other], pieces[at]
    broken = "".join(pieces)
    verdict = judge(broken)
    event(f"parsed {verdict.parsed} writes {verdict.writes}")
    if verdict.parsed:
        assert_safe(broken, verdict)
    else:
        analyze(broken)
