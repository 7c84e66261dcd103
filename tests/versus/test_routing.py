"""Every statement of tests/golden/statements.tsv: the node that Debian's Pgpool-II 4.3.5 and ours send it to.

Each is sent as a Parse and a Sync: the decision is made and told in the log (log_per_node_statement), and nothing is
run. Reads go to the standby, because the primary has weight 0. A wanted difference is a row of differences.tsv with a
key of ``routing/KIND/text``.
"""

from __future__ import annotations

import re

import pytest

from pgpool.model import Kind, Name, Statement
from pgpool.sql.analyze import analyze
from tests.support.pgpool import DEBIAN, Pgpool
from tests.support.wire import SYNC, Closed, RawClient, parse
from tests.unit.sql.test_golden import rows, unescape

from .differences import check

pytestmark = pytest.mark.versus

DATABASE = "routing"
SETTINGS = {
    "backend_weight0": 0, "num_init_children": 1, "max_pool": 1, "health_check_period": 0, "log_per_node_statement": True,
}  # fmt: skip
PLACES = {frozenset(): "nowhere", frozenset("0"): "primary", frozenset("1"): "standby", frozenset("01"): "both"}
_TOLD = re.compile(
    r"LOG:  DB node id: (?P<node>\d) backend pid: \d+ statement: Parse: (?P<text>.*?)\n(?=\d{4}-\d\d-\d\d \d\d:|\Z)",
    re.DOTALL,
)
_PASSWORD = re.compile(r"(password )'[^']*'")
"""Our log shows stars."""
_LOG_CUTS_AT = 1000
"""4.3.5 tells no more than about this many characters of a statement."""


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [unescape(row[0]) for row in rows()]


@pytest.fixture(scope="module")
def database(cluster, texts):
    """A database in which every table and function that a statement names exists, so that both ask the same catalogs."""
    cluster.execute(f"CREATE DATABASE {DATABASE}")
    statements = [part for text in texts for part in _all(analyze(text))]
    with cluster.primary.connect(DATABASE) as conn:
        for kind, what in (("TABLE", "tables"), ("FUNCTION", "functions")):
            names = {name for statement in statements for name in getattr(statement, what)}
            for name in sorted(names, key=str):
                _create(conn, kind, name)
    cluster.wait_for_catchup()
    yield DATABASE
    cluster.primary.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


def _all(statement: Statement):
    yield statement
    for part in (*statement.parts, *filter(None, [statement.inner])):
        yield from _all(part)


def _create(conn, kind: str, name: Name) -> None:
    if name.schema.startswith("pg_") or name.schema == "information_schema":
        return
    full = ".".join('"' + part.replace('"', '""') + '"' for part in (name.schema, name.name) if part)
    if name.schema:
        conn.execute(f'CREATE SCHEMA IF NOT EXISTS "{name.schema}"')
    if kind == "TABLE" and conn.execute("SELECT to_regclass(%s)", (full,)).fetchone() == (None,):
        conn.execute(f"CREATE TABLE {full} (a int)")
    there = "SELECT FROM pg_proc WHERE proname = %s AND pg_function_is_visible(oid)"
    if kind == "FUNCTION" and (name.schema or not conn.execute(there, (name.name,)).fetchall()):
        conn.execute(f"CREATE FUNCTION {full}() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'")


def sent(cluster, binary: str, texts: list[str]) -> list[str]:
    """Where each statement went, in their order."""
    pgpool = Pgpool(cluster.nodes, SETTINGS, binary=binary)
    try:
        pgpool.start()
        mark = pgpool.mark()
        client = RawClient.login(pgpool, DATABASE)
        for text in texts:
            try:
                client.ask(parse(text), SYNC)
            except Closed:
                client.close()
                client = RawClient.login(pgpool, DATABASE)
        client.close()
        pgpool.stop()  # what it had to tell is in the log
        told = [(m["node"], m["text"].replace("\n\t", "\n")) for m in _TOLD.finditer(pgpool.log_since(mark))]
    finally:
        pgpool.remove(check=binary == "ours")
    return [PLACES[frozenset(nodes)] for nodes in _in_order(texts, told)]


def _flat(text: str) -> str:
    return " ".join(text.split())


def _in_order(texts: list[str], told: list[tuple[str, str]]) -> list[set[str]]:
    """The nodes told of each statement. Fails when the log tells of something that nobody sent."""
    found: list[set[str]] = []
    at = 0
    for text in texts:
        found.append(set())
        while at < len(told) and told[at][0] not in found[-1] and _same(text, told[at][1]):
            found[-1].add(told[at][0])
            at += 1
    assert at == len(told), f"nobody sent {told[at]}"
    return found


def _same(text: str, told: str) -> bool:
    if told == "BEGIN" and analyze(text).kind is Kind.BEGIN:
        return True  # what a standby gets for BEGIN READ WRITE (behaviour.md 5.1)
    cut = len(told.encode()) > _LOG_CUTS_AT
    text, told = (_PASSWORD.sub(r"\1'*****'", _flat(one)) for one in (text, told))
    return text.startswith(told) if cut else text == told


def test_the_same_node_for_the_same_statement(cluster, database, texts, proxy_kind):
    if not DEBIAN.exists():
        pytest.skip("Debian's pgpool2 is not installed")
    if proxy_kind != "ours":
        pytest.skip("compares ours with Debian's")
    theirs, ours = sent(cluster, "debian", texts), sent(cluster, "ours", texts)
    faults = []
    for text, one, two in zip(texts, theirs, ours, strict=True):
        try:
            check(f"routing/{analyze(text).kind.name}/{_flat(text)}", one, two)
        except AssertionError:
            faults.append(f"theirs {one}, ours {two}: {text!r}")
    assert not faults, "\n".join(faults)
    assert min(theirs.count("standby"), ours.count("standby")) > 400  # else nothing was observed
