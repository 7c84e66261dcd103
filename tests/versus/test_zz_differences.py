"""differences.tsv is true: every row which belongs to a comparison made in this run was needed. Runs last by name."""

import fnmatch

import pytest

from . import differences

pytestmark = pytest.mark.versus


def test_rows_have_reasons():
    for row in differences.load():
        assert len(row.reason) > 10, f"line {row.line} gives no reason"


def test_no_row_is_stale():
    if not differences.COMPARED:
        pytest.skip("no comparison was made in this run")
    stale = [
        row.line
        for row in differences.load()
        if row.line not in differences.USED and any(fnmatch.fnmatch(key, row.key) for key in differences.COMPARED)
    ]
    assert not stale, f"lines of differences.tsv that nothing needs any more: {stale}"
