"""The memory of catalog facts, with made-up catalogs; tests/integration/test_relcache.py asks real ones."""

from __future__ import annotations

import pytest

from pgpool.backend import relcache
from pgpool.backend.relcache import UNKNOWN_SECONDS, Relcache, lookup_sql
from pgpool.config.settings import load
from pgpool.model import Name, NeedFacts, TableFact
from pgpool.shared.facts import SharedFacts
from pgpool.shared.layout import Layout, Words

T, U, F, G = Name("", "t"), Name("s", "u"), Name("", "f"), Name("pg_catalog", "g")
NO = ("false",) * 5


class Catalog:
    """Answers look-ups; ``rows`` are those of the next one."""

    def __init__(self, *rows: tuple[str | None, ...]):
        self.rows = list(rows)
        self.asked: list[str] = []

    def __call__(self, sql: str) -> list[tuple[str | None, ...]]:
        self.asked.append(sql)
        return self.rows


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def cache(clock: Clock, size: int = 256, expire: int = 0) -> Relcache:
    return Relcache(load(None).settings.replace(relcache_size=size, relcache_expire=expire), clock)


def test_all_names_in_one_question(clock: Clock) -> None:
    ask = Catalog(
        ("t", "0", *NO), ("f", "0", "true", "true", None, None, None), ("f", "1", "true", "false", None, None, None)
    )
    found = cache(clock).lookup(ask, "db", 1, NeedFacts((T, U), (F, G)))
    assert len(ask.asked) == 1
    assert found.tables == {T: TableFact.PLAIN, U: TableFact.UNKNOWN}
    assert found.volatile == {F: True, G: True}
    assert found.user_volatile == {F}


def test_flags(clock: Clock) -> None:
    for column, flag in enumerate(
        (TableFact.TEMP, TableFact.UNLOGGED, TableFact.WRITES, TableFact.VIEW, TableFact.SYSTEM)
    ):
        flags = ["false"] * 5
        flags[column] = "true"
        found = cache(clock).lookup(Catalog(("t", "0", *flags)), "db", 1, NeedFacts((T,), ()))
        assert found.tables == {T: flag}


def test_what_is_known_is_not_asked_again(clock: Clock) -> None:
    relations = cache(clock)
    ask = Catalog(("t", "0", *NO), ("f", "0", "false", "false", None, None, None))
    first = relations.lookup(ask, "db", 1, NeedFacts((T,), (F,)))
    assert relations.lookup(ask, "db", 1, NeedFacts((T,), (F,))) == first
    assert len(ask.asked) == 1
    other = Catalog(("t", "0", *NO))
    assert relations.lookup(other, "db", 1, NeedFacts((T, U), ())).tables == {T: TableFact.PLAIN, U: TableFact.PLAIN}
    assert "E'u'" in other.asked[0]
    assert "E't'" not in other.asked[0]


def test_databases_and_contexts_are_apart(clock: Clock) -> None:
    relations, ask, need = cache(clock), Catalog(("t", "0", *NO)), NeedFacts((T,), ())
    relations.lookup(ask, "db", 1, need)
    relations.lookup(ask, "db", 2, need)
    relations.lookup(ask, "other", 1, need)
    assert len(ask.asked) == 3


def test_an_epoch_forgets_everything(clock: Clock) -> None:
    relations, ask, need = cache(clock), Catalog(("t", "0", *NO)), NeedFacts((T,), ())
    for epoch, questions in ((1, 1), (1, 1), (2, 2), (2, 2), (1, 3)):
        relations.lookup(ask, "db", 1, need, epoch)
        assert len(ask.asked) == questions


def test_temporary_tables_are_never_kept(clock: Clock) -> None:
    relations, need = cache(clock), NeedFacts((T,), ())
    temporary = Catalog(("t", "0", "true", "false", "false", "false", "false"))
    assert relations.lookup(temporary, "db", 1, need).tables == {T: TableFact.TEMP}
    assert relations.lookup(Catalog(("t", "0", *NO)), "db", 1, need).tables == {T: TableFact.PLAIN}


def test_unknown_names_are_not_kept_long(clock: Clock) -> None:
    relations, ask, need = cache(clock), Catalog(), NeedFacts((T,), (F,))
    found = relations.lookup(ask, "db", 1, need)
    assert (found.tables, found.volatile) == ({T: TableFact.UNKNOWN}, {F: None})
    clock.now += UNKNOWN_SECONDS - 0.1
    relations.lookup(ask, "db", 1, need)
    assert len(ask.asked) == 1
    clock.now += 0.2
    relations.lookup(ask, "db", 1, need)
    assert len(ask.asked) == 2


def test_expiry(clock: Clock) -> None:
    relations, ask, need = cache(clock, expire=30), Catalog(("t", "0", *NO)), NeedFacts((T,), ())
    relations.lookup(ask, "db", 1, need)
    clock.now += 29
    relations.lookup(ask, "db", 1, need)
    clock.now += 1
    relations.lookup(ask, "db", 1, need)
    assert len(ask.asked) == 2


def test_without_expiry_facts_stay(clock: Clock) -> None:
    relations, ask, need = cache(clock), Catalog(("t", "0", *NO)), NeedFacts((T,), ())
    relations.lookup(ask, "db", 1, need)
    clock.now += 1e9
    relations.lookup(ask, "db", 1, need)
    assert len(ask.asked) == 1


def test_the_least_used_entry_gives_way(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(relcache.log, "log", lambda level, message, **more: said.append(message))
    relations, ask = cache(clock, size=2), Catalog(("t", "0", *NO))
    for name in ("a", "a", "b"):
        relations.lookup(ask, "db", 1, NeedFacts((Name("", name),), ()))
    assert said == []
    relations.lookup(ask, "db", 1, NeedFacts((Name("", "c"),), ()))
    assert said == ["searching relcache. cache replacement occurred"]
    assert len(relations) == 2
    before = len(ask.asked)
    relations.lookup(ask, "db", 1, NeedFacts((Name("", "a"),), ()))
    assert len(ask.asked) == before, "a was used twice"
    relations.lookup(ask, "db", 1, NeedFacts((Name("", "b"),), ()))
    assert len(ask.asked) == before + 1


def test_size_zero_keeps_nothing(clock: Clock) -> None:
    relations, ask, need = cache(clock, size=0), Catalog(("t", "0", *NO)), NeedFacts((T,), ())
    relations.lookup(ask, "db", 1, need)
    relations.lookup(ask, "db", 1, need)
    assert (len(ask.asked), len(relations)) == (2, 0)


def test_names_cannot_break_out_of_the_query() -> None:
    sql = lookup_sql([Name("s'", "\\'; DROP TABLE t; --")], [Name("pg_temp", 'a"b')])
    assert "E's'''" in sql
    assert "E'\\\\''; DROP TABLE t; --'" in sql
    assert "'m'::pg_catalog.text, E'pg_temp'" in sql


# -- shared among children --------------------------------------------------------------------------------------------


@pytest.fixture
def two(clock: Clock) -> tuple[Relcache, Relcache]:
    """Those of two children."""
    layout = Layout(1, 1, 1, verdict_entries=4, fact_entries=64)
    words = Words(memoryview(bytearray(layout.size)))
    made = [
        Relcache(load(None).settings.replace(relcache_expire=60), clock, SharedFacts(words, layout, (1, 2)))
        for _ in range(2)
    ]
    return made[0], made[1]


def test_children_learn_from_each_other(clock: Clock, two: tuple[Relcache, Relcache]) -> None:
    one, other = two
    rows = (("t", "0", "false", "true", "false", "false", "false"), ("f", "0", "true", "true", None, None, None))
    need = NeedFacts((T, U), (F, G))
    found = one.lookup(Catalog(*rows), "db", 1, need, 5)
    assert found.tables == {T: TableFact.UNLOGGED, U: TableFact.UNKNOWN}
    silent = Catalog()
    assert other.lookup(silent, "db", 1, need, 5) == found
    assert not silent.asked
    for database, context, epoch in (("db2", 1, 5), ("db", 2, 5), ("db", 1, 6)):
        ask = Catalog(*rows)
        other.lookup(ask, database, context, need, epoch)
        assert len(ask.asked) == 1


def test_what_was_learnt_is_no_newer_for_that(clock: Clock, two: tuple[Relcache, Relcache]) -> None:
    one, other = two
    need = NeedFacts((T,), ())
    one.lookup(Catalog(("t", "0", *NO)), "db", 1, need, 5)
    clock.now += 40
    other.lookup(Catalog(), "db", 1, need, 5)
    clock.now += 20
    ask = Catalog(("t", "0", *NO))
    other.lookup(ask, "db", 1, need, 5)
    assert len(ask.asked) == 1


def test_temporary_tables_are_nobody_elses(clock: Clock, two: tuple[Relcache, Relcache]) -> None:
    one, other = two
    one.lookup(Catalog(("t", "0", "true", *NO[1:])), "db", 1, NeedFacts((T,), ()), 5)
    ask = Catalog(("t", "0", *NO))
    assert other.lookup(ask, "db", 1, NeedFacts((T,), ()), 5).tables == {T: TableFact.PLAIN}
    assert len(ask.asked) == 1


@pytest.mark.parametrize("fact", [TableFact(bits) for bits in range(64) if not bits & TableFact.TEMP])
def test_every_fact_about_a_table_comes_back(fact: TableFact) -> None:
    assert relcache._VALUES["t"](int(fact) + 1) == fact


@pytest.mark.parametrize("value", [None, *((v, u) for v in (False, True) for u in (False, True))])
def test_every_fact_about_a_function_comes_back(value) -> None:
    assert relcache._VALUES["f"](relcache._number(value)) == value
