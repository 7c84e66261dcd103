"""Random SQL: nearly always valid, full of what confuses a scanner (keywords as names, nesting, comments in strings).

A rule is a name and its texts; {x} stands for a text of rule x. ``Writer`` expands rules with the dice that hypothesis
gives it, so a failing text can be shrunk and repeated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from hypothesis import strategies as st

RULES: dict[str, Sequence[str]] = {
    "name": [
        "t",
        "u",
        "emp",
        '"Odd_""x"',
        '"select"',
        "update",
        "delete",
        "insert",
        "share",
        "key",
        "no",
        "x1",
        "é",
        "value",
        "rows",
        "first",
        "by",
        "materialized",
        "recursive",
        "json_table",
        "set",
        "merge",
        "over",
        "filter",
        "cube",
        "a",
        "zone",
        "escape",
    ],
    "plain": ["a", "b", "c", "t", "u", "emp", '"Odd_""x"', '"from"', "x$1", "é"],
    "label": [
        "a",
        "b",
        '"x"',
        "from",
        "into",
        "for",
        "select",
        "where",
        "union",
        "as",
        "join",
        "table",
        "update",
        "value",
    ],
    "table": ["{name}", "{name}", "s.{name}", "pg_catalog.{name}", '"S".{plain}'],
    "function": [
        "lower",
        "f",
        "s.f",
        '"F"',
        "count",
        "now",
        "left",
        "nextval",
        "pg_catalog.btrim",
        "update",
        "rows",
        "key",
        "cube",
        "by",
        "over",
        "filter",
        "set_config",
        '"coalesce"',
        "value",
        "zone",
        "escape",
    ],
    "constant": [
        *(
            "1",
            "'a'",
            "'it''s; /* no */ --'",
            "E'\\'; DELETE FROM t; --'",
            "$1",
            "$$ ;delete $$",
            "$q$ $$ ' $q$",
            "NULL",
        ),
        *("true", "1.5e3", "0x1F", "B'01'", "U&'d\\0061t'", "current_date", "'x'\n'y'", "-1", "interval '1' day"),
        *("date '2020-01-01'", "current_timestamp(3)", "DEFAULT", "session_user"),
    ],
    "operator": ["+", "-", "=", "<>", "||", "->>", "@>", "*", "/", "~", "AND", "OR", "OPERATOR(pg_catalog.+)"],
    "type": [
        *("int", "numeric(10,2)", "varchar(3)", "timestamp(3) with time zone", "s.geometry(Point, 4326)", "text[]"),
        *("double precision", "geometry(Point,4326)", '"char"', "interval day to second(3)", "bit varying(3)"),
        "time without time zone",
    ],
    "atom": ["{plain}", "{plain}", "{constant}", "{constant}", "t.{label}", "x.*", "t.u.{label}"],
    "es": ["{e}", "{e}, {e}"],
    "e": [
        *("{atom}", "{atom}", "{atom}", "({e}) {operator} ({e})", "{function}({es})", "{function}()"),
        "{function}(DISTINCT {e} ORDER BY {e}) FILTER (WHERE {e})",
        "{function}({es}) OVER (PARTITION BY {e} ORDER BY {e} ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)",
        *("percentile_cont(0.5) WITHIN GROUP (ORDER BY {e})", "({e})", "({q})", "EXISTS ({q})", "({e}) IN ({q})"),
        *("({e}) NOT IN ({es})", "ARRAY({q})", "ARRAY[{es}]", "({e})[1:{e}]", "CASE WHEN {e} THEN {e} ELSE {e} END"),
        *("CAST({e} AS {type})", "({e})::{type}", "extract(year FROM ({e}))", "trim(BOTH 'x' FROM ({e}))"),
        *("substring({plain} FROM ({e}) FOR ({e}))", "overlay('abc' PLACING {e} FROM 2 FOR 1)"),
        *(
            "position(({e}) IN ({e}))",
            "coalesce({es})",
            "({e}) IS NOT DISTINCT FROM ({e})",
            "({e}) LIKE ({e}) ESCAPE 'x'",
        ),
        *("({e}) BETWEEN ({e}) AND ({e})", "({e}, 1) OVERLAPS ({e}, 2)", "({e}) AT TIME ZONE ({e})", "ROW({es})"),
        *("({e}) = ANY ({q})", "xmlelement(name foo, xmlattributes({e} AS {label}), {e})", "json_object('k' : {e})"),
        *("COLLATION FOR ({e})", "f(a => {e}, VARIADIC {e})", "({e}) NOT SIMILAR TO ({e})", "({e}) IS OF_"),
    ],
    "from": [
        *(
            "{table}",
            "{table}",
            "{table} AS {name}",
            "{table} {plain} (c1, c2)",
            "ONLY {table}",
            "ONLY ({table}) {plain}",
        ),
        *("generate_series(1, {e}) g", "current_date d", "{from} JOIN {from} ON {e}", "({from} JOIN {from} ON ({e}))"),
        *("{from} LEFT OUTER JOIN {from} USING ({name}, {plain})", "{from} NATURAL FULL JOIN {from}"),
        *("{from} CROSS JOIN LATERAL ({q}) AS {plain}", "({from} JOIN {from} ON {e}) AS {plain} (c1, c2)"),
        *("({q}) {plain} (c1)", "LATERAL ({q}) AS {plain}", "{function}({es}) WITH ORDINALITY AS {plain} (c1, c2)"),
        *("{function}({e}) AS {plain} (c1 int, c2 numeric(3,2))", "ROWS FROM (f({e}), s.g({e}) AS (x int)) {plain}"),
        "{table} AS {plain} (c1) TABLESAMPLE bernoulli ({e}) REPEATABLE ({e})",
        "xmltable('/r' PASSING ({e}) COLUMNS id int PATH 'i', o FOR ORDINALITY) {plain}",
        "json_table('[]'::jsonb, '$[*]' COLUMNS (id int PATH '$.i', NESTED '$.x' COLUMNS (y varchar(3)))) {plain}",
        "((({q})) UNION ALL ({q})) {plain}",
    ],
    "targets": [
        "*",
        "{e}",
        "({e}) AS {label}",
        "{e}, ({e}) AS {label}",
        "DISTINCT {e}",
        "DISTINCT ON (a) {e}",
        "ALL {e}",
        "",
    ],
    "where": ["", "", " WHERE {e}"],
    "group": [
        "",
        "",
        "",
        " GROUP BY ({e}), ROLLUP (a), CUBE(b), GROUPING SETS ((c), CUBE(d))",
        " GROUP BY a HAVING {e}",
    ],
    "window": ["", "", "", " WINDOW w AS (PARTITION BY {e})"],
    "order": ["", "", " ORDER BY ({e}) USING <, ({e}) DESC NULLS LAST"],
    "limit": ["", "", " LIMIT 1 OFFSET (2)", " FETCH FIRST (3) ROWS ONLY", " OFFSET f(1) ROWS"],
    "core": ["SELECT {targets}{where}{group}{window}", *["SELECT {targets}\nFROM {from}{where}{group}{window}"] * 4],
    "select": ["{core}{order}{limit}"],
    "materialized": ["", "MATERIALIZED ", "NOT MATERIALIZED "],
    "tail": [
        *("", "", "", "", " SEARCH DEPTH FIRST BY a, b SET c", " CYCLE a, b SET c USING d"),
        " CYCLE a SET c TO 'x' DEFAULT 'y' USING d",
    ],
    "cte": ["{name} AS {materialized}({inner}){tail}", "{name} (c1, c2) AS {materialized}({inner})"],
    "ctes": ["{cte}", "{cte}, {cte}", "{cte}, {cte}, {cte}"],
    "setop": ["UNION", "UNION ALL", "INTERSECT", "EXCEPT DISTINCT"],
    "q": [
        *(
            "{select}",
            "{select}",
            "{select}",
            "{core} {setop} {select}",
            "({q}) {setop} ({q}){order}",
            "VALUES ({es}), ({es})",
        ),
        *(
            "TABLE {table}",
            "WITH {ctes} {select}",
            "WITH RECURSIVE {ctes} {select}",
            "WITH {ctes} ({core}) LIMIT 1",
            "({q})",
        ),
    ],
    "inner": ["{q}"],
    "write": [
        *(
            "DELETE FROM t RETURNING *",
            "UPDATE ONLY t SET a = ({q})",
            "INSERT INTO t (a, b) VALUES (1, f(2)) RETURNING a",
        ),
        *(
            "SELECT * FROM t FOR UPDATE",
            "SELECT a FROM {from} FOR NO KEY UPDATE OF t NOWAIT",
            "SELECT {e} INTO x FROM t",
        ),
        *("SELECT a FROM t FOR SHARE SKIP LOCKED", "SELECT a FROM t{where} FOR KEY SHARE", "SELECT 1 INTO TEMP x"),
        *("MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE", "WITH q AS ({q}) DELETE FROM t USING q"),
    ],
    "statement": [
        *("{q}", "{q}", "{q}", "{write}", "{q};", "COPY ({q}) TO STDOUT", "COPY ({q}) TO '/tmp/x'", "PREPARE p AS {q}"),
        *("EXPLAIN (ANALYZE, COSTS off) {q}", "DECLARE c CURSOR FOR {q}", "CREATE TABLE x AS {q}", "INSERT INTO t {q}"),
        *("{q}; {q}", "{q}; {write}", "COPY ({write}) TO STDOUT", ";{q};;", "CREATE VIEW v AS {q}"),
    ],
}
RULES["e"] = [text for text in RULES["e"] if not text.endswith("OF_")]
WRITING = {**RULES, "inner": ["{q}", "{write}"], "q": [*RULES["q"], "{write}", "({write})"]}
SHORT = {
    **{"e": ["{atom}"], "es": ["{atom}"], "q": ["SELECT 1", "SELECT a FROM {table}", "TABLE emp", "VALUES (1)"]},
    **{"from": ["{table}", "{table} AS {name}"], "write": ["DELETE FROM t", "SELECT 1 FROM t FOR SHARE"]},
}
"""Used instead when the text is deep enough."""
_SLOT = re.compile(r"\{(\w+)\}")


class Writer:
    def __init__(self, dice: Random, rules: dict[str, Sequence[str]], depth: int = 7):
        self.dice = dice
        self.rules = rules
        self.depth = depth

    def text(self, rule: str, depth: int = 0) -> str:
        texts = SHORT.get(rule) if depth >= self.depth else None
        chosen = self.dice.choice(texts or self.rules[rule])
        return _SLOT.sub(lambda slot: self.text(slot[1], depth + 1), chosen)


_dice = st.randoms(use_true_random=False)
reads = _dice.map(lambda dice: Writer(dice, RULES).text("q"))
"""Queries that only read."""
statements = _dice.map(lambda dice: Writer(dice, WRITING).text("statement"))
"""Statements, often with something that writes hidden somewhere."""
