"""The literal-blind fingerprint: equal exactly when the slow twin sees one shape."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgpool._fastpath import fingerprint_of

from . import twin

EXACT, MULTI, COMMENT_FIRST, SPACE_FIRST, COMMENT, UNSURE = 1, 2, 4, 8, 16, 32

pieces = st.sampled_from([
    'select', 'insert', 'with', 'from', 'into', 'where', 'for', 'update', 't', '"T"', 'a.b', '1', '1.5', '.5',
    '1e3', "'x'", "'it''s'", "E'a\\'b'", '$1', '$2', '$$q$$', '$t$a$t$', '--', '/*', '*/', '(', ')', ',', ',', '+',
    '-', '=', '<', '>', '::', ';', ';', '*', "n'x'", "x'f'", 'now()', 'u&', "U&'z'", '12ab', "''", "'", '"', '$',
    'é', '_x', '0x1F', ' ', '\n', '/* c */', '--c\n', '1, 2, 3', "'a','b'", '$1, $2',
])  # fmt: skip
texts = st.lists(pieces, max_size=10).map(lambda p: " ".join(p)) | st.lists(pieces, max_size=10).map("".join)


def prints(sql: str):
    return fingerprint_of(sql.encode(), seed=7)


@given(texts, texts)
@example("select 1", "select 2")
@example("select 1", "select 'x'")
@example("select 1 + 1", "select 1 ++ 1")
@example("select 1 + + 1", "select 1 ++ 1")
@example("select a in (1,2)", "select a in (1,2,3)")
@example("select 1, a", "select a, 1")
@example("select 1 ,", "select 1")
@example("select 1 , ; 2", "select 1 ; , 2")
@example("begin", "begin ")
@example("select 1;", "select 1")
@example("select 1; select 2", "select 1 select 2")
def test_equal_exactly_when_the_shape_is(one, two):
    a, b = prints(one), prints(two)
    same_shape = twin.shape(one.encode()) == twin.shape(two.encode())
    assert (a[:2] == b[:2]) == same_shape


@given(texts)
def test_exact_and_unsure_follow_the_twin(sql):
    kind, _ = twin.shape(sql.encode())
    flags = prints(sql)[2]
    assert bool(flags & EXACT) == (kind == "exact")


@pytest.mark.parametrize(
    ("sql", "flags"),
    [
        ("select 1", 0),
        (" select 1", SPACE_FIRST),
        ("/*x*/ select 1", COMMENT | COMMENT_FIRST),
        ("select /*x*/ 1", COMMENT),
        ("select 1; select 2", MULTI),
        ("select 1;;  -- end", COMMENT),
        ("begin", EXACT),
        ("select 'open", EXACT | UNSURE),
        ("select /* open", EXACT | UNSURE | COMMENT),
        ("select 1into t", EXACT | UNSURE),
        ("", 0),
        ("-- nothing", COMMENT | COMMENT_FIRST),
        ("(select 1)", 0),
    ],
)
def test_flags(sql, flags):
    assert prints(sql)[2] == flags


def test_backslash_changes_where_a_string_ends():
    sql = rb"select 'a\'; delete from t; --'"
    assert not fingerprint_of(sql, backslash=True)[2] & MULTI
    assert fingerprint_of(sql)[2] & MULTI


def test_a_keyword_cannot_hide_in_a_number():
    assert prints("select 1into t")[:2] != prints("select 1")[:2]
    assert prints("select 1e5")[:2] == prints("select 1")[:2]


def test_seed_matters():
    assert fingerprint_of(b"select 1", seed=1)[:2] != fingerprint_of(b"select 1", seed=2)[:2]
