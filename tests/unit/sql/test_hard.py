"""sqlglot as the last resort: it may only say yes to what is surely a read."""

from __future__ import annotations

from importlib.metadata import version
from random import Random

import pytest

from pgpool.model import Name
from pgpool.sql.hard import MAX_DEPTH, read_only_names
from pgpool.sql.tokens import LexError, tokenize
from tests.unit.sql import grammar
from tests.unit.sql.oracle import judge
from tests.unit.sql.test_analyze import made_by_grammar


def names(text: str):
    return read_only_names(text, tokenize(text))


def test_the_version_is_the_one_whose_answers_were_checked() -> None:
    assert version("sqlglot") == "30.30.0"


def test_names() -> None:
    found = names('WITH x AS (SELECT * FROM s.t) SELECT f(a), pg_catalog.lower(b) FROM x JOIN "U" ON true')
    assert found is not None
    tables, functions = found
    assert set(tables) == {Name("s", "t"), Name("", "x"), Name("", "U")}
    assert set(functions) == {Name("", "f"), Name("pg_catalog", "lower")}


@pytest.mark.parametrize(
    "text",
    [
        *(
            "INSERT INTO t VALUES (1)",
            "DELETE FROM t",
            "UPDATE t SET a = 1",
            "SELECT 1 INTO x",
            "SELECT * FROM t FOR UPDATE",
        ),
        *(
            "SELECT * FROM t FOR SHARE",
            "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x",
            "SELECT set_config('a', 'b', true)",
        ),
        *(
            "SELECT 1; SELECT 2",
            "LISTEN c",
            "NOTIFY c",
            "CHECKPOINT",
            "DISCARD ALL",
            "SAVEPOINT a",
            "CLOSE c",
            "CLUSTER",
        ),
        *("EXPLAIN ANALYZE DELETE FROM t", "PREPARE q AS SELECT 1", "EXECUTE q", "CALL p()", "DO 'x'", "LOCK TABLE t"),
        *(
            "CREATE TABLE t (a int)",
            "DROP TABLE t",
            "COPY t FROM STDIN",
            "SET a = 1",
            "BEGIN",
            "COMMIT",
            "foo bar",
            "SELECT (",
        ),
        *('SELECT U&"a"', "SELECT 1)", "SELECT )(", "VACUUM", "ANALYZE t", "TRUNCATE t", "GRANT SELECT ON t TO u"),
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    assert names(text) is None


def test_deep_and_long_text_is_refused_before_it_is_parsed() -> None:
    assert names("SELECT " + "(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1)) is None
    assert names("SELECT " + "1," * 3_000 + "1") is None


def test_generated_statements() -> None:
    """On its own, without the scanner before it, it calls no write a read and overlooks no name."""
    yes = 0
    for seed in range(400):
        rules, rule = ((grammar.RULES, "q"), (grammar.WRITING, "statement"))[seed % 2]
        text = grammar.Writer(Random(seed), rules, depth=4).text(rule)
        try:
            found = names(text)
        except LexError:
            continue
        verdict = judge(text)
        if found is None or not verdict.parsed:
            continue
        yes += 1
        assert not verdict.writes, text
        assert verdict.tables <= {(n.schema, n.name) for n in found[0]}, text
        functions = {f for f in verdict.functions if not made_by_grammar(f, text)}
        assert functions <= {(n.schema, n.name) for n in found[1]}, text
    assert yes > 20
