"""Known, wanted differences: rows of differences.tsv, and the comparison that takes them into account."""

from __future__ import annotations

import difflib
import fnmatch
import re
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("differences.tsv")


@dataclass(frozen=True)
class Difference:
    """Where `key` (a glob over comparison names) compares, `theirs` and `ours` (regular expressions) mean the same."""

    line: int
    key: str
    theirs: str
    ours: str
    reason: str


def load() -> list[Difference]:
    """All rows; lines that begin with # are comments."""
    rows = []
    for number, text in enumerate(FILE.read_text().splitlines(), 1):
        if text.strip() and not text.startswith("#"):
            fields = text.split("\t")
            assert len(fields) == 4, f"{FILE.name}:{number}: {len(fields)} columns instead of 4"
            rows.append(Difference(number, *fields))
    return rows


USED: set[int] = set()
COMPARED: set[str] = set()


def check(key: str, theirs: str, ours: str) -> None:
    """Fail when the texts differ in anything that differences.tsv does not know."""
    COMPARED.add(key)
    for row in load():
        if not fnmatch.fnmatch(key, row.key):
            continue
        mark = "" if "-" in (row.theirs, row.ours) else f"<difference {row.line}>"
        new_theirs, count_theirs = _replace(row.theirs, mark, theirs)
        new_ours, count_ours = _replace(row.ours, mark, ours)
        if (count_theirs or count_ours) and theirs != ours:
            USED.add(row.line)
            theirs, ours = new_theirs, new_ours
    if theirs != ours:
        lines = difflib.unified_diff(theirs.splitlines(), ours.splitlines(), "theirs", "ours", lineterm="", n=2)
        raise AssertionError(f"{key}:\n" + "\n".join(lines))


def _replace(pattern: str, mark: str, text: str) -> tuple[str, int]:
    """`-` stands for nothing there: what the other pattern matches is taken out."""
    if pattern == "-":
        return text, 0
    return re.subn(pattern, lambda _: mark, text, flags=re.MULTILINE)
