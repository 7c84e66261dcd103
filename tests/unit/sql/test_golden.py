"""tests/golden/statements.tsv: what each text is, line by line, and that the real grammar does not object."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pgpool.model import Effect
from pgpool.sql import hard
from pgpool.sql.analyze import analyze
from tests.unit.sql.oracle import judge
from tests.unit.sql.test_analyze import assert_safe

FILE = Path(__file__).parents[2] / "golden" / "statements.tsv"
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


def unescape(text: str) -> str:
    out, chars = [], iter(text)
    for c in chars:
        out.append(_ESCAPES[next(chars)] if c == "\\" else c)
    return "".join(out)


def rows() -> list[tuple[str, ...]]:
    lines = FILE.read_text(encoding="utf-8").split("\n")
    return [tuple(line.split("\t")) for line in lines if line and not line.startswith("# ")]


def effect_names(effect: Effect) -> str:
    return "|".join(flag.name or "" for flag in Effect if flag and flag in effect) or "-"


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:60])
def test_statement(row: tuple[str, ...]) -> None:
    text = unescape(row[0])
    found = analyze(text)
    said = (found.kind.name, found.counter.name, "yes" if found.readonly else "no", found.reason.name)
    assert (*said, effect_names(found.effect)) == row[1:]
    verdict = judge(text)
    if not verdict.parsed or verdict.writes:
        assert not found.readonly
    assert_safe(text, verdict)


def test_few_statements_need_a_full_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokens decide; sqlglot is for what they leave open: under one in twenty."""
    asked = []
    monkeypatch.setattr(hard, "read_only_names", lambda text, tokens: asked.append(text))
    all_rows = rows()
    for row in all_rows:
        analyze(unescape(row[0]))
    assert len(asked) < len(all_rows) / 20


def test_the_file_is_large_and_no_statement_comes_twice() -> None:
    """Issue 5: at least 1,500, told apart by more than constants and capitals."""
    shapes = [re.sub(r"'[^']*'|\d+", "?", unescape(row[0])).lower() for row in rows()]
    assert len({row[0] for row in rows()}) == len(rows())
    assert len(set(shapes)) >= 1500
