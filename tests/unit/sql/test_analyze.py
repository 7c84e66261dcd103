"""What analyze() says, judged by the real PostgreSQL grammar (pglast)."""

from __future__ import annotations

from hypothesis import HealthCheck, assume, event, given, settings

from pgpool.model import Kind
from pgpool.sql.analyze import analyze
from tests.unit.sql import grammar
from tests.unit.sql.oracle import Verdict, judge

many = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def names(statement) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    return {(n.schema, n.name) for n in statement.tables}, {(n.schema, n.name) for n in statement.functions}


def assert_safe(text: str, verdict: Verdict) -> None:
    """A write is never called a read, and no table or function of a read is overlooked."""
    statement = analyze(text)
    if not statement.readonly:
        return
    assert not verdict.writes, text
    tables, functions = names(statement)
    assert verdict.tables <= tables, text
    made_by_grammar = {f for f in verdict.functions if f[0] == "pg_catalog" and f[1] not in text.lower()}
    assert verdict.functions - made_by_grammar <= functions, text


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
    tables, functions = names(statement)
    assert tables == verdict.tables, text
