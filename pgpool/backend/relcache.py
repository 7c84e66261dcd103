"""What the catalogs say about the names of a statement, and a memory for it. Source: behaviour.md 8.

One look-up is one query for all names, made so that it cannot fail and disturb the client's transaction: plain joins on
the catalogs (to_regclass raises an error for a schema without USAGE), every name, type and operator qualified, no
backslash whose meaning hangs on standard_conforming_strings. PostgreSQL 12 to 18.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pgpool.config.settings import Settings
from pgpool.model import Facts, Name, NeedFacts, TableFact
from pgpool.shared.facts import SharedFacts
from pgpool.system.logs import LOG, log

Row = tuple[str | None, ...]
Ask = Callable[[str], Sequence[Row]]

UNKNOWN_SECONDS = 10.0
"""How long "no such name" is believed. It only ever keeps a read on the primary."""


@dataclass(slots=True)
class _Entry:
    value: TableFact | tuple[bool, bool] | frozenset[int] | None
    """A table's facts; (volatile, some volatile one outside of pg_catalog); None: no such function; a table's family."""
    until: float
    uses: int = 1


_Key = tuple[str, int, Name]


class Relcache:
    """The memory of one child: facts by database, session context (search_path, role ...) and name."""

    def __init__(
        self, settings: Settings, clock: Callable[[], float] = time.monotonic, shared: SharedFacts | None = None
    ):
        """``shared``: what all children know; asked before a backend is."""
        self._size = settings.relcache_size
        self._expire = settings.relcache_expire
        self._clock = clock
        self._shared = shared
        self._tables: dict[_Key, _Entry] = {}
        self._functions: dict[_Key, _Entry] = {}
        self._families: dict[_Key, _Entry] = {}
        self._epoch: int | None = None

    def lookup(self, ask: Ask, database: str, context: int, need: NeedFacts, epoch: int = 0) -> Facts:
        """Facts for all names of ``need``; at most one call of ``ask``.

        ``ask`` runs one query in the client's own session, on the node that knows its state, and gives text rows.
        ``context`` must differ whenever the same name may mean another object (search_path, role, private temporary
        tables). When ``epoch`` is not that of the call before, everything is forgotten: DDL passed through.
        """
        self._at(epoch)
        known_tables, ask_tables = self._remembered(self._tables, database, context, need.tables)
        self._learn("t", known_tables, ask_tables, database, context)
        known_functions, ask_functions = self._remembered(self._functions, database, context, need.functions)
        self._learn("f", known_functions, ask_functions, database, context)
        if ask_tables or ask_functions:
            tables, functions = _read(ask(lookup_sql(ask_tables, ask_functions)), ask_tables, ask_functions)
            for table, fact in tables.items():
                known_tables[table] = fact
                if not fact & TableFact.TEMP:  # one session's own
                    self._tell("t", (database, context, table), fact, bool(fact & TableFact.UNKNOWN))
            for function, volatile in functions.items():
                known_functions[function] = volatile
                self._tell("f", (database, context, function), volatile, volatile is None)
        return Facts(
            known_tables,
            {f: v[0] if v else None for f, v in known_functions.items()},
            frozenset(f for f, v in known_functions.items() if v and v[1]),
        )

    def families(
        self, ask: Ask | None, database: str, context: int, tables: tuple[Name, ...], epoch: int = 0
    ) -> dict[Name, frozenset[int]]:
        """For each table the oids of itself and of what it is a part of, or reads as a view: its partitioned table or
        parents, and theirs. Two tables that may share rows share an oid. Empty for a name that does not exist; ``ask`` None:
        what is not remembered is left out. As ``lookup`` else."""
        self._at(epoch)
        known, missing = self._remembered(self._families, database, context, tables)
        if missing and ask is not None:
            found: dict[Name, set[int]] = {name: set() for name in missing}
            for place, oid in ask(families_sql(missing)):
                found[missing[int(place or 0)]].add(int(oid or 0))
            for name, oids in found.items():
                known[name] = frozenset(oids)
                self._keep(self._families, (database, context, name), known[name], not oids)
        return known

    def _at(self, epoch: int) -> None:
        if epoch != self._epoch:
            self.clear()
            self._epoch = epoch

    def clear(self) -> None:
        self._tables.clear()
        self._functions.clear()
        self._families.clear()

    def __len__(self) -> int:
        return len(self._tables) + len(self._functions) + len(self._families)

    def _remembered(self, cache: dict[_Key, _Entry], database: str, context: int, names: tuple[Name, ...]):
        known, missing = {}, []
        now = self._clock()
        for name in names:
            entry = cache.get((database, context, name))
            if entry is None or now >= entry.until:
                missing.append(name)
            else:
                entry.uses += 1
                known[name] = entry.value
        return known, missing

    def _learn(self, kind: str, known: dict, missing: list[Name], database: str, context: int) -> None:
        """What other children know of missing names."""
        if self._shared is None or self._epoch is None:
            return
        now = self._clock()
        cache = self._tables if kind == "t" else self._functions
        for name in list(missing):
            key = (database, context, name)
            found = self._shared.get(_shared_key(kind, key), self._epoch, now)
            if found is not None:
                known[name] = _VALUES[kind](found[0])
                self._keep(cache, key, known[name], until=found[1])
                missing.remove(name)

    def _tell(self, kind: str, key: _Key, value, unknown: bool) -> None:
        """Remember what a backend has said, here and for other children."""
        until = self._keep(self._tables if kind == "t" else self._functions, key, value, unknown)
        if self._shared is not None and self._epoch is not None and self._size > 0:
            number = int(value) + 1 if kind == "t" else _number(value)
            self._shared.put(_shared_key(kind, key), self._epoch, number, until, self._clock())

    def _keep(self, cache: dict[_Key, _Entry], key: _Key, value, unknown: bool = False, until: float = 0.0) -> float:
        """Until when it is believed; ``until``: that is known."""
        seconds = self._expire or float("inf")
        until = until or self._clock() + (min(seconds, UNKNOWN_SECONDS) if unknown else seconds)
        if self._size <= 0:
            return until
        if key not in cache and len(cache) >= self._size:
            del cache[min(cache, key=lambda k: cache[k].uses)]
            log.log(LOG, "searching relcache. cache replacement occurred")
        cache[key] = _Entry(value, until)
        return until


def _shared_key(kind: str, key: _Key) -> tuple[str, ...]:
    database, context, name = key
    return kind, database, str(context), name.schema, name.name


def _number(value: tuple[bool, bool] | None) -> int:
    return 1 if value is None else 2 + value[0] + 2 * value[1]


_VALUES: dict[str, Callable[[int], object]] = {
    "t": lambda number: TableFact(number - 1),
    "f": lambda number: None if number == 1 else (bool(number - 2 & 1), bool(number - 2 & 2)),
}
"""Facts as numbers in shared memory, read back: tables, functions."""


# -- the query ----------------------------------------------------------------------------------------------------

_FOUND = """
found(i, oid) AS (
 SELECT a.i, c.oid FROM asked a
 JOIN pg_catalog.pg_class c ON c.relname OPERATOR(pg_catalog.=) a.n
 JOIN pg_catalog.pg_namespace s ON s.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE a.k OPERATOR(pg_catalog.=) 't' AND CASE a.w
  WHEN 'v' THEN pg_catalog.pg_table_is_visible(c.oid)
  WHEN 'm' THEN c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
  ELSE s.nspname OPERATOR(pg_catalog.=) a.s END)"""

_REACHED = """,
reached(i, oid) AS (
 SELECT i, oid FROM found
 UNION
 SELECT r.i, x.oid FROM reached r
 CROSS JOIN LATERAL (SELECT c.relkind, c.relhassubclass FROM pg_catalog.pg_class c
  WHERE c.oid OPERATOR(pg_catalog.=) r.oid OFFSET 0) c
 CROSS JOIN LATERAL (
  SELECT h.inhrelid AS oid FROM pg_catalog.pg_inherits h
  WHERE c.relhassubclass AND h.inhparent OPERATOR(pg_catalog.=) r.oid
  UNION ALL
  SELECT m.m[1]::pg_catalog.oid FROM pg_catalog.pg_rewrite w
  CROSS JOIN LATERAL pg_catalog.regexp_matches(w.ev_action::pg_catalog.text, ':relid ([0-9]+)', 'g') AS m(m)
  WHERE c.relkind OPERATOR(pg_catalog.=) 'v' AND w.ev_class OPERATOR(pg_catalog.=) r.oid
  AND w.ev_type OPERATOR(pg_catalog.=) '1') x)
"""
"""The relations behind the names: partitions and children, and what views read. OFFSET 0 keeps the planner from reading
all of pg_class."""

_FAMILIES = """,
above(i, oid) AS (
 SELECT i, oid FROM found
 UNION
 SELECT a.i, x.oid FROM above a
 CROSS JOIN LATERAL (SELECT c.relkind FROM pg_catalog.pg_class c
  WHERE c.oid OPERATOR(pg_catalog.=) a.oid OFFSET 0) c
 CROSS JOIN LATERAL (
  SELECT h.inhparent AS oid FROM pg_catalog.pg_inherits h WHERE h.inhrelid OPERATOR(pg_catalog.=) a.oid
  UNION ALL
  SELECT m.m[1]::pg_catalog.oid FROM pg_catalog.pg_rewrite w
  CROSS JOIN LATERAL pg_catalog.regexp_matches(w.ev_action::pg_catalog.text, ':relid ([0-9]+)', 'g') AS m(m)
  WHERE c.relkind OPERATOR(pg_catalog.=) 'v' AND w.ev_class OPERATOR(pg_catalog.=) a.oid
  AND w.ev_type OPERATOR(pg_catalog.=) '1') x)
SELECT i::pg_catalog.text, oid::pg_catalog.text FROM above
"""

_TABLES = """
SELECT 't', f.i::pg_catalog.text,
 pg_catalog.bool_or(c.relpersistence OPERATOR(pg_catalog.=) 't')::pg_catalog.text,
 pg_catalog.bool_or(c.relpersistence OPERATOR(pg_catalog.=) 'u')::pg_catalog.text,
 pg_catalog.bool_or(c.relkind OPERATOR(pg_catalog.=) 'v' AND EXISTS (
  SELECT 1 FROM pg_catalog.pg_rewrite w
  CROSS JOIN LATERAL pg_catalog.regexp_matches(w.ev_action::pg_catalog.text,
   ':(funcid|opfuncid|winfnoid) ([0-9]+)', 'g') AS m(m)
  CROSS JOIN LATERAL (SELECT p.provolatile FROM pg_catalog.pg_proc p
   WHERE p.oid OPERATOR(pg_catalog.=) m.m[2]::pg_catalog.oid OFFSET 0) p
  WHERE w.ev_class OPERATOR(pg_catalog.=) r.oid AND w.ev_type OPERATOR(pg_catalog.=) '1'
  AND p.provolatile OPERATOR(pg_catalog.=) 'v'))::pg_catalog.text,
 pg_catalog.bool_or(c.relkind OPERATOR(pg_catalog.=) 'v' AND r.oid OPERATOR(pg_catalog.=) f.oid)::pg_catalog.text,
 pg_catalog.bool_or(c.nspname OPERATOR(pg_catalog.=) 'pg_catalog' AND r.oid OPERATOR(pg_catalog.=) f.oid)
  ::pg_catalog.text
FROM found f JOIN reached r ON r.i OPERATOR(pg_catalog.=) f.i
CROSS JOIN LATERAL (SELECT c.relkind, c.relpersistence, s.nspname FROM pg_catalog.pg_class c
 JOIN pg_catalog.pg_namespace s ON s.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE c.oid OPERATOR(pg_catalog.=) r.oid OFFSET 0) c
GROUP BY f.i
"""

_FUNCTIONS = """
SELECT 'f', x.i::pg_catalog.text, pg_catalog.bool_or(x.v)::pg_catalog.text, pg_catalog.bool_or(x.u)::pg_catalog.text,
 NULL, NULL, NULL FROM (
 SELECT a.i, p.provolatile OPERATOR(pg_catalog.=) 'v' AS v,
  p.provolatile OPERATOR(pg_catalog.=) 'v' AND s.nspname OPERATOR(pg_catalog.<>) 'pg_catalog' AS u
 FROM asked a JOIN pg_catalog.pg_proc p ON p.proname OPERATOR(pg_catalog.=) a.n
 JOIN pg_catalog.pg_namespace s ON s.oid OPERATOR(pg_catalog.=) p.pronamespace
 WHERE a.k OPERATOR(pg_catalog.=) 'f' AND CASE a.w
  WHEN 'v' THEN pg_catalog.pg_function_is_visible(p.oid)
  WHEN 'm' THEN p.pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
  ELSE s.nspname OPERATOR(pg_catalog.=) a.s END
 UNION ALL
 SELECT a.i, false, false
 FROM asked a JOIN pg_catalog.pg_type t ON t.typname OPERATOR(pg_catalog.=) a.n
 JOIN pg_catalog.pg_namespace s ON s.oid OPERATOR(pg_catalog.=) t.typnamespace
 WHERE a.k OPERATOR(pg_catalog.=) 'f' AND CASE a.w
  WHEN 'v' THEN pg_catalog.pg_type_is_visible(t.oid)
  ELSE s.nspname OPERATOR(pg_catalog.=) a.s END) x
GROUP BY x.i
"""
"""type('constant') looks like a function call, so a type of the name counts as a function that is not volatile."""


def lookup_sql(tables: Sequence[Name], functions: Sequence[Name]) -> str:
    """The query; a row is (t|f, place in its list, facts as true/false ...), names that do not exist have no row."""
    parts = [_TABLES] if tables else []
    parts += [_FUNCTIONS] if functions else []
    return (_with(tables, functions) + ("," + _FOUND + _REACHED if tables else "") + "UNION ALL".join(parts)).strip()


def families_sql(tables: Sequence[Name]) -> str:
    """The query; a row is (place in the list, oid), names that do not exist have none."""
    return (_with(tables, ()) + "," + _FOUND + _FAMILIES).strip()


def _with(tables: Sequence[Name], functions: Sequence[Name]) -> str:
    rows = [_asked("t", i, name) for i, name in enumerate(tables)]
    rows += [_asked("f", i, name) for i, name in enumerate(functions)]
    return "WITH RECURSIVE asked(k, i, w, s, n) AS (VALUES " + ", ".join(rows) + ")"


def _asked(kind: str, place: int, name: Name) -> str:
    where = "v" if not name.schema else "m" if name.schema == "pg_temp" else "s"
    return (
        f"('{kind}'::pg_catalog.text, {place}, '{where}'::pg_catalog.text,"
        f" {_literal(name.schema)}::pg_catalog.name, {_literal(name.name)}::pg_catalog.name)"
    )


def _literal(text: str) -> str:
    """A string constant that means the same whatever standard_conforming_strings says."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _read(rows: Sequence[Row], tables: Sequence[Name], functions: Sequence[Name]):
    facts: dict[Name, TableFact] = dict.fromkeys(tables, TableFact.UNKNOWN)
    volatile: dict[Name, tuple[bool, bool] | None] = dict.fromkeys(functions)
    for kind, place, *flags in rows:
        told = [flag == "true" for flag in flags]
        if kind == "f":
            volatile[functions[int(place or 0)]] = (told[0], told[1])
            continue
        fact = TableFact.PLAIN
        for flag, yes in zip(_COLUMNS, told, strict=True):
            fact |= flag if yes else TableFact.PLAIN
        facts[tables[int(place or 0)]] = fact
    return facts, volatile


_COLUMNS = (TableFact.TEMP, TableFact.UNLOGGED, TableFact.WRITES, TableFact.VIEW, TableFact.SYSTEM)
