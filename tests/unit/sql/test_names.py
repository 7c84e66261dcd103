"""Lists, redirect preferences and hints of pgpool.conf and comments."""

from __future__ import annotations

import pytest

from pgpool.sql.names import BadList, Hint, PatternList, first_preference, hint_of, parse_preferences


@pytest.mark.parametrize(
    ("entry", "text", "matches"),
    [
        ("nextval", "nextval", True),
        ("nextval", "NEXTVAL", True),
        ("nextval", "my_nextval", False),
        ("next.*", "nextval", True),
        (".*val", "setval", True),
        ("^nextval$", "nextval", True),
        ("public.f", "public.f", True),
        ("f", "public.f", False),
        ("f[[:digit:]]+", "f12", True),
        ("SELECT .* FROM t", "select a\nfrom t", False),
        ("SELECT .* FROM t", "select a,\nb from t", True),
        ("a|b", "b", True),
        ("a|b", "bc", False),
    ],
)
def test_patterns(entry: str, text: str, matches: bool) -> None:
    assert PatternList.of("write_function_list", [entry]).matches(text) is matches


def test_empty_lists_match_nothing() -> None:
    assert not PatternList.of("x", ["", ""])
    assert not PatternList().matches("")


def test_a_bad_pattern_says_where() -> None:
    with pytest.raises(BadList, match=r'invalid regular expression "f\(" in write_function_list'):
        PatternList.of("write_function_list", ["a", "f("])


def test_lists_with_the_same_text_are_equal() -> None:
    """Verdict keys of different children are made from them."""
    one, two = PatternList.of("x", ["a.*"]), PatternList.of("x", ["a.*"])
    assert one == two
    assert hash(one) == hash(two)


def test_preferences() -> None:
    found = parse_preferences(
        "database_redirect_preference_list", "postgres:primary, mydb[01]:1(0.3) , .*:standby ( 0.5 )"
    )
    assert [(p.pattern.pattern, p.node, p.ratio) for p in found] == [
        ("postgres", "primary", 1.0),
        ("mydb[01]", "1", 0.3),
        (".*", "standby", 0.5),
    ]
    assert first_preference(found, "MYDB1") is found[1]
    assert first_preference(found, "mydb12") is found[2]
    assert first_preference(found[:2], "other") is None
    assert parse_preferences("x", "") == ()


@pytest.mark.parametrize(
    "text", ["a", "a:", ":1", "a:main", "a:1(2)", "a:1(x)", "a:1(-0.1)", "a:-1", "(:1", "a:1()", "a:1(0.5", "a:1(nan)"]
)
def test_bad_preferences(text: str) -> None:
    with pytest.raises(BadList, match="user_redirect_preference_list"):
        parse_preferences("user_redirect_preference_list", text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("/*FORCE QUERY CACHE*/ SELECT 1", Hint.FORCE_QUERY_CACHE),
        ("/*no query cache*/SELECT 1", Hint.NO_QUERY_CACHE),
        (" /*NO QUERY CACHE*/SELECT 1", Hint.NONE),
        ("/* NO QUERY CACHE */SELECT 1", Hint.NONE),
        ("/*INSERT LOCK*/INSERT INTO t VALUES (1)", Hint.INSERT_LOCK),
        ("  /*NO INSERT LOCK*/ INSERT INTO t VALUES (1)", Hint.NO_INSERT_LOCK),
        ("/*NO LOAD BALANCE*/ SELECT 1", Hint.NONE),
        ("SELECT /*NO QUERY CACHE*/ 1", Hint.NONE),
        ("", Hint.NONE),
    ],
)
def test_hints(text: str, hint: Hint) -> None:
    assert hint_of(text) is hint


def test_blanks_before_lock_hints_need_ignore_leading_white_space() -> None:
    assert hint_of(" /*INSERT LOCK*/", ignore_leading_white_space=False) is Hint.NONE
