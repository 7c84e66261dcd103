"""Which statements are ours, and what they say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool.session.show_parse import OwnStatement, Verb, parse

OURS = [
    ("SHOW pool_nodes", Verb.SHOW_POOL, "pool_nodes", None),
    ("show POOL_Version ;;", Verb.SHOW_POOL, "pool_version", None),
    ("/* a /* b */ */ show\n--x\n pool_cache", Verb.SHOW_POOL, "pool_cache", None),
    ('show "pool_nodes"', Verb.SHOW_POOL, "pool_nodes", None),
    ("SHOW pool_xyz", Verb.SHOW_POOL, "pool_xyz", None),
    ("PGPOOL SHOW Port", Verb.SHOW, "port", None),
    ('pgpool show "Port"', Verb.SHOW, "Port", None),
    ("PGPOOL SHOW ALL", Verb.SHOW, "all", None),
    ("PGPOOL SHOW a.b", Verb.SHOW, "a.b", None),
    ("PGPOOL SET x TO 5", Verb.SET, "x", "5"),
    ("PGPOOL SET x = +5", Verb.SET, "x", "5"),
    ("PGPOOL SET x=-5.5", Verb.SET, "x", "-5.5"),
    ("PGPOOL SET x TO - 5", Verb.SET, "x", "-5"),
    ("PGPOOL SET x TO ON", Verb.SET, "x", "on"),
    ("PGPOOL SET x TO 'It''s' , B,3", Verb.SET, "x", "It's, b, 3"),
    ("PGPOOL SET x TO 5, -6", Verb.SET, "x", "5, -6"),
    (r"PGPOOL SET x TO E'a\tb\'\x41\u00e9'", Verb.SET, "x", "a\tb'A\u00e9"),
    ("PGPOOL SET x TO $$it's$$", Verb.SET, "x", "it's"),
    ("PGPOOL SET x TO $q$ $$ $q$", Verb.SET, "x", " $$ "),
    ("PGPOOL SET x TO 'default'", Verb.SET, "x", "default"),
    ("PGPOOL SET x TO DEFAULT", Verb.SET, "x", None),
    ("PGPOOL RESET x", Verb.RESET, "x", None),
    ("PGPOOL RESET ALL", Verb.RESET, "all", None),
    ("PGPOOL SET CACHE DELETE 'SELECT 1'", Verb.CACHE_DELETE, "cache", "SELECT 1"),
]


@pytest.mark.parametrize(("sql", "verb", "name", "value"), OURS, ids=[case[0] for case in OURS])
def test_ours(sql, verb, name, value):
    assert parse(sql) == OwnStatement(verb, name, value)


NOT_OURS = [
    "", ";", "SHOW", "PGPOOL", "PGPOOL FOO", "PGPOOL SHOW", "PGPOOL SHOW a b", "PGPOOL SHOW 'port'", "PGPOOL RESET",
    "PGPOOL SET", "PGPOOL SET x", "PGPOOL SET x TO", "PGPOOL SET x 5", "PGPOOL SET x TO 5min", "PGPOOL SET x TO a,",
    "PGPOOL SET x TO ,a", "PGPOOL SET x TO a b", "PGPOOL SET x TO = 5", "PGPOOL SET LOCAL x TO on",
    "PGPOOL SET a. TO 5", "PGPOOL SET x TO --5", "PGPOOL SET x TO + - 5", "PGPOOL SET x TO -", "PGPOOL SET x TO -a",
    "PGPOOL SET x TO 5 -", "PGPOOL SET x TO ;",
    "PGPOOL SHOW port; SELECT 1", "SHOW pool_nodes; SELECT 1", "SHOW pool_nodes nodes", 'SHOW "POOL_nodes"',
    "SHOW search_path", "SELECT 1", "PGPOOL SHOW (port)", "PGPOOL SET x TO 'open", "PGPOOL SHOW port /* open",
    '"pgpool" SHOW port', "PGPOOL SET CACHE DELETE x", "PGPOOL SET CACHE DELETE", "PGPOOL SET x TO $a$open$b$",
]  # fmt: skip


@pytest.mark.parametrize("sql", NOT_OURS)
def test_for_a_backend(sql):
    assert parse(sql) is None


blank = st.sampled_from([" ", "\t", "\n", " /* c */ ", " /* /* n */ ; */ ", " -- ; '\n"])
names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_$]{0,30}", fullmatch=True)
values = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=40)


def quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def escape(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@given(names, st.lists(values, min_size=1, max_size=4), st.data())
def test_set_gives_back_the_values_whatever_they_hold(name, items, data):
    forms = [data.draw(st.sampled_from([quote, escape]))(item) for item in items]
    gap = [data.draw(blank) for _ in range(4)]
    equals = data.draw(st.sampled_from(["TO", "=", "to"]))
    sql = f"{gap[0]}PgPool{gap[1]}SET{gap[2]}{name}{gap[3]}{equals}{gap[0]}" + f"{gap[1]},{gap[2]}".join(forms) + gap[3]
    expected = None if name.lower() in ("to",) else OwnStatement(Verb.SET, name.lower(), ", ".join(items))
    if expected is not None:
        assert parse(sql) == expected


@given(names)
def test_quoted_names_are_not_folded(name):
    assert parse(f'PGPOOL SHOW "{name}"') == OwnStatement(Verb.SHOW, name)
    assert parse(f"PGPOOL SHOW {name}") == OwnStatement(Verb.SHOW, name.lower())


@given(st.text(max_size=80))
def test_any_text_is_taken_without_an_exception(text):
    for sql in (text, "PGPOOL SET x TO " + text, "PGPOOL SHOW " + text, "SHOW pool_" + text):
        result = parse(sql)
        assert result is None or isinstance(result, OwnStatement)


@given(st.sampled_from([case[0] for case in OURS]), blank, st.integers(0, 10_000))
def test_blanks_and_comments_between_words_change_nothing(sql, gap, at):
    words = sql.split(" ")
    place = at % len(words)
    if any("'" in w or "$" in w or "/*" in w or "--" in w for w in words):
        return
    assert parse(" ".join(words[:place]) + gap + " ".join(words[place:])) == parse(sql)


def test_hostile_texts_cost_linear_time():
    for part in ("(", "/*", "$a", "'", "a,", "E'\\", "$$", "-", "a.", "/**/"):
        parse("PGPOOL SET x TO " + part * 50_001)
