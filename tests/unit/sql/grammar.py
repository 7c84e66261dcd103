"""Random SQL for hypothesis: mostly valid, full of what confuses a scanner (keywords as names, nesting, odd spacing)."""

from __future__ import annotations

from hypothesis import strategies as st

_names = st.sampled_from(
    ["t", "u", "emp", '"Odd ""x"', '"select"', "update", "delete", "insert", "share", "key", "no", "x1", "é", "value"]
    + ["rows", "first", "by", "materialized", "recursive", "json_table", "set", "merge", "over", "filter", "cube", "a"]
)
_plain = st.sampled_from(["a", "b", "c", "t", "u", "emp", '"Odd ""x"', '"from"', "x$1", "é"])
_tables = st.one_of(_names, st.tuples(st.sampled_from(["s", "public", "pg_catalog", '"S"']), _names).map(".".join))
_labels = st.one_of(_names, st.sampled_from(["from", "into", "for", "select", "where", "union", "as", "join", "table"]))
_functions = st.sampled_from(
    [
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
    ]
    + ["over", "filter", "set_config", "json_table_x", '"coalesce"', "value"]
)
_constants = st.sampled_from(
    [
        "1",
        "'a'",
        "'it''s; /* no */ --'",
        "E'\\'; DELETE FROM t; --'",
        "$1",
        "$$ ;delete $$",
        "$q$ $$ ' $q$",
        "NULL",
        "true",
    ]
    + [
        "1.5e3",
        "0x1F",
        "B'01'",
        "U&'d\\0061t'",
        "current_date",
        "'x'\n'y'",
        "-1",
        "interval '1' day",
        "date '2020-01-01'",
    ]
)
_operators = st.sampled_from(
    ["+", "-", "=", "<>", "||", "->>", "@>", "*", "/", "~", "OPERATOR(pg_catalog.+)", "AND", "OR"]
)


def _join(*parts: str) -> str:
    return " ".join(p for p in parts if p)


def _list(items: st.SearchStrategy[str], low: int = 1, high: int = 3) -> st.SearchStrategy[str]:
    return st.lists(items, min_size=low, max_size=high).map(", ".join)


def _template(template: str, **fields: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.fixed_dictionaries(fields).map(lambda values: template.format(**values))


def _expressions(inner: st.SearchStrategy[str], queries: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    e, q, n = inner, queries, _plain
    return st.one_of(
        _template("{a} {o} {b}", a=e, o=_operators, b=e),
        _template("{f}({a})", f=_functions, a=_list(e, 0)),
        _template("{f}(DISTINCT {a} ORDER BY {b}) FILTER (WHERE {c})", f=_functions, a=e, b=e, c=e),
        _template(
            "{f}({a}) OVER (PARTITION BY {b} ORDER BY {c} ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)",
            f=_functions,
            a=e,
            b=e,
            c=e,
        ),
        _template("percentile_cont(0.5) WITHIN GROUP (ORDER BY {a})", a=e),
        _template("({a})", a=e),
        _template("({q})", q=q),
        _template("EXISTS ({q})", q=q),
        _template("({a}) IN ({q})", a=e, q=q),
        _template("({a}) NOT IN ({b})", a=e, b=_list(e)),
        _template("ARRAY({q})", q=q),
        _template("ARRAY[{a}]", a=_list(e)),
        _template("({a})[1:{b}]", a=e, b=e),
        _template("CASE WHEN {a} THEN {b} ELSE {c} END", a=e, b=e, c=e),
        _template("CAST({a} AS {t})", a=e, t=_types),
        _template("({a})::{t}", a=e, t=_types),
        _template("extract(year FROM ({a}))", a=e),
        _template("substring({a} FROM ({b}) FOR ({c}))", a=_plain, b=e, c=e),
        _template("trim(BOTH 'x' FROM ({a}))", a=e),
        _template("overlay('abc' PLACING {a} FROM 2 FOR 1)", a=_constants),
        _template("position(({a}) IN ({b}))", a=e, b=e),
        _template("coalesce({a})", a=_list(e)),
        _template("({a}) IS NOT DISTINCT FROM ({b})", a=e, b=e),
        _template("({a}) LIKE ({b}) ESCAPE 'x'", a=e, b=e),
        _template("({a}) BETWEEN ({b}) AND ({c})", a=e, b=e, c=e),
        _template("({a}, 1) OVERLAPS ({b}, 2)", a=e, b=e),
        _template("({a}) AT TIME ZONE ({b})", a=e, b=e),
        _template("ROW({a})", a=_list(e)),
        _template("({a}) = ANY ({q})", a=e, q=q),
        _template("xmlelement(name foo, xmlattributes({a} AS {n}), {b})", a=e, b=e, n=_labels),
        _template("json_object('k' : {a})", a=e),
        _template("COLLATION FOR ({a})", a=e),
        _template("{n}.{m}", n=n, m=_labels),
    )


_types = st.sampled_from(
    [
        "int",
        "numeric(10,2)",
        "varchar(3)",
        "timestamp(3) with time zone",
        "s.geometry(Point, 4326)",
        "text[]",
        "double precision",
    ]
    + ["geometry(Point,4326)", '"char"', "interval day to second(3)", "bit varying(3)", "time without time zone"]
)


def _items(inner: st.SearchStrategy[str], expr: st.SearchStrategy[str], queries: st.SearchStrategy[str]):
    i, e, q, n = inner, expr, queries, _plain
    return st.one_of(
        _template("{a} JOIN {b} ON {c}", a=i, b=i, c=e),
        _template("{a} LEFT OUTER JOIN {b} USING ({n}, {m})", a=i, b=i, n=_names, m=n),
        _template("{a} NATURAL FULL JOIN {b}", a=i, b=i),
        _template("{a} CROSS JOIN LATERAL ({q}) AS {n}", a=i, q=q, n=n),
        _template("({a} JOIN {b} ON ({c})) AS {n} (c1, c2)", a=i, b=i, c=e, n=n),
        _template("({q}) {n} (c1)", q=q, n=n),
        _template("LATERAL ({q}) AS {n}", q=q, n=n),
        _template("{f}({a}) WITH ORDINALITY AS {n} (c1, c2)", f=_functions, a=_list(e), n=n),
        _template("{f}({a}) AS {n} (c1 int, c2 numeric(3,2))", f=_functions, a=e, n=n),
        _template("ROWS FROM (f({a}), s.g({b}) AS (x int)) {n}", a=e, b=e, n=n),
        _template("{t} AS {n} (c1) TABLESAMPLE bernoulli ({a}) REPEATABLE ({b})", t=_tables, n=n, a=e, b=e),
        _template("ONLY ({t}) {n}", t=_tables, n=n),
        _template("xmltable('/r' PASSING ({a}) COLUMNS id int PATH 'i', o FOR ORDINALITY) {n}", a=e, n=n),
        _template(
            "json_table('[]'::jsonb, '$[*]' COLUMNS (id int PATH '$.i', NESTED '$.x' COLUMNS (y varchar(3)))) {n}", n=n
        ),
    )


_atoms = st.one_of(_plain, _constants, st.just("t.*"), st.just("current_timestamp(3)"))
_simple_items = st.one_of(
    _tables,
    _template("{t} AS {n}", t=_tables, n=_names),
    _template("{t} {n} (c1, c2)", t=_tables, n=_plain),
    _template("ONLY {t}", t=_tables),
    st.just("generate_series(1, 3) g"),
    st.just("current_date d"),
)


def _query(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """One level of query around ``inner`` queries."""
    e = _expressions(st.one_of(_atoms, _expressions(_atoms, inner)), inner)
    i = _items(_simple_items, e, inner)
    item = st.one_of(_simple_items, i, _items(i, e, inner))
    target = st.one_of(e, _template("({e}) AS {n}", e=e, n=_labels), st.just("*"))
    none = st.just("")
    core = _template(
        "SELECT {t}{f}{w}{g}{h}{win}",
        t=st.one_of(
            _list(target, 0),
            _template("{d} {t}", d=st.sampled_from(["DISTINCT", "DISTINCT ON (a)", "ALL"]), t=_list(target)),
        ),
        f=st.one_of(none, _template("\nFROM {i}", i=_list(item))),
        w=st.one_of(none, _template(" WHERE {e}", e=e)),
        g=st.one_of(none, _template(" GROUP BY {e}, ROLLUP (a), CUBE(b), GROUPING SETS ((c), CUBE(d))", e=e)),
        h=st.one_of(none, _template(" HAVING {e}", e=e)),
        win=st.one_of(none, _template(" WINDOW w AS (PARTITION BY {e})", e=e)),
    )
    order = _template(" ORDER BY {e} USING <, {b} DESC NULLS LAST", e=e, b=e)
    limit = st.sampled_from(["", " LIMIT 1 OFFSET (2)", " FETCH FIRST (3) ROWS ONLY", " OFFSET f(1) ROWS"])
    select = st.one_of(
        core,
        _template("{c}{o}{l}", c=core, o=st.one_of(none, order), l=limit),
        _template("{c}{o} FETCH NEXT (3) ROWS WITH TIES", c=core, o=order),
    )
    with_list = st.lists(
        _template(
            "{n}{c} AS {m}({q}){tail}",
            n=_names,
            c=st.sampled_from(["", " (c1, c2)"]),
            m=st.sampled_from(["", "MATERIALIZED ", "NOT MATERIALIZED "]),
            q=inner,
            tail=st.sampled_from(
                [
                    "",
                    "",
                    "",
                    " SEARCH DEPTH FIRST BY a, b SET c",
                    " CYCLE a, b SET c USING d",
                    " CYCLE a SET c TO 'x' DEFAULT 'y' USING d",
                ]
            ),
        ),
        min_size=1,
        max_size=3,
    ).map(", ".join)
    return st.one_of(
        select,
        select,
        _template("WITH {r}{w} {q}", r=st.sampled_from(["", "RECURSIVE "]), w=with_list, q=select),
        _template("({a}) {o} ({b}) ORDER BY 1", a=inner, b=inner, o=_set_operations),
        _template("{a} {o} {b}", a=core, b=select, o=_set_operations),
        _template("VALUES ({a}), ({b})", a=_list(e), b=_list(e)),
        _template("TABLE {t}", t=_tables),
    )


_set_operations = st.sampled_from(["UNION", "UNION ALL", "INTERSECT", "EXCEPT DISTINCT"])
_leaf = st.sampled_from(["SELECT 1", "SELECT a FROM t", "TABLE emp", "VALUES (1)", "SELECT f(a) FROM s.t WHERE b = $1"])
_writing_leaf = st.sampled_from(
    ["DELETE FROM t RETURNING *", "UPDATE ONLY t SET a = 1", "INSERT INTO t (a, b) VALUES (1, f(2)) RETURNING a"]
    + ["SELECT * FROM t FOR UPDATE", "SELECT a FROM t FOR NO KEY UPDATE OF t NOWAIT", "SELECT a INTO x FROM t"]
    + ["SELECT a FROM t FOR SHARE SKIP LOCKED", "SELECT a FROM t FOR KEY SHARE", "SELECT 1 INTO TEMP x"]
    + ["MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE", "WITH q AS (SELECT 1) DELETE FROM t USING q"]
)

reads = _query(_query(_leaf))
"""Queries; nearly all of them are valid and read only."""
queries = _query(st.one_of(_leaf, _writing_leaf, _query(st.one_of(_leaf, _writing_leaf))))
"""Queries with something that writes hidden somewhere."""
statements = st.one_of(
    queries,
    _template("COPY ({q}) TO STDOUT", q=queries),
    _template("COPY ({q}) TO '/tmp/x'", q=queries),
    _template("EXPLAIN (ANALYZE, COSTS off) {q}", q=queries),
    _template("PREPARE p AS {q}", q=queries),
    _template("DECLARE c CURSOR FOR {q}", q=queries),
    _template("CREATE TABLE x AS {q}", q=queries),
    _template("INSERT INTO t {q}", q=queries),
    _template("{q}; {r}", q=_leaf, r=queries),
    _template("{q};", q=queries),
)
