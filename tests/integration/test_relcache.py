"""Look-ups in real catalogs: every kind of relation and function, any search_path, nothing disturbed."""

from __future__ import annotations

import psycopg
import pytest

from pgpool.backend.relcache import Relcache, lookup_sql
from pgpool.config.settings import load
from pgpool.model import Facts, Name, NeedFacts, TableFact
from pgpool.sql import keywords

SCHEMA = """
DROP SCHEMA IF EXISTS rc CASCADE; DROP SCHEMA IF EXISTS rc_evil CASCADE; DROP SCHEMA IF EXISTS rc_hidden CASCADE;
CREATE SCHEMA rc; CREATE SCHEMA rc_evil; CREATE SCHEMA rc_hidden;
SET search_path = rc;
CREATE TABLE plain (a int); CREATE UNLOGGED TABLE unlogged (a int); CREATE SEQUENCE seq;
CREATE TABLE parent (a int) PARTITION BY LIST (a);
CREATE UNLOGGED TABLE child PARTITION OF parent FOR VALUES IN (1);
CREATE TABLE "Odd ""Name\\" (a int); CREATE TABLE rc_hidden.hidden (a int);
CREATE FUNCTION vol() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
CREATE FUNCTION stab() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION lower(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
CREATE VIEW reading AS SELECT count(*) FROM plain; CREATE VIEW writing AS SELECT nextval('seq') AS n;
CREATE VIEW deep AS SELECT n FROM writing; CREATE VIEW of_user AS SELECT vol() AS v;
CREATE VIEW of_unlogged AS SELECT * FROM unlogged;
CREATE MATERIALIZED VIEW stored AS SELECT nextval('seq') AS n; CREATE TYPE mood AS ENUM ('a');
CREATE FUNCTION rc_evil.never(name, name) RETURNS bool LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR rc_evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = rc_evil.never);
DO $$ BEGIN CREATE ROLE rc_nobody; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT USAGE ON SCHEMA rc TO rc_nobody;
"""
TABLES = {
    Name("", "plain"): TableFact.PLAIN,
    Name("rc", "plain"): TableFact.PLAIN,
    Name("", "unlogged"): TableFact.UNLOGGED,
    Name("", "parent"): TableFact.UNLOGGED,
    Name("", 'Odd "Name\\'): TableFact.PLAIN,
    Name("rc_hidden", "hidden"): TableFact.PLAIN,
    Name("", "hidden"): TableFact.UNKNOWN,
    Name("", "no'such"): TableFact.UNKNOWN,
    Name("nowhere", "plain"): TableFact.UNKNOWN,
    Name("", "reading"): TableFact.VIEW,
    Name("", "writing"): TableFact.VIEW | TableFact.WRITES,
    Name("", "deep"): TableFact.VIEW | TableFact.WRITES,
    Name("", "of_user"): TableFact.VIEW | TableFact.WRITES,
    Name("", "of_unlogged"): TableFact.VIEW | TableFact.UNLOGGED,
    Name("", "stored"): TableFact.PLAIN,
    Name("", "pg_class"): TableFact.SYSTEM,
    Name("", "pg_stat_activity"): TableFact.SYSTEM | TableFact.VIEW,
    Name("information_schema", "tables"): TableFact.VIEW,
    Name("", "seq"): TableFact.PLAIN,
    Name("pg_temp", "mine"): TableFact.TEMP,
    Name("", "mine"): TableFact.TEMP,
}
FUNCTIONS = {
    Name("", "vol"): True,
    Name("rc", "vol"): True,
    Name("", "stab"): False,
    Name("", "lower"): True,  # one overload of three
    Name("pg_catalog", "lower"): False,
    Name("", "nextval"): True,
    Name("", "count"): False,
    Name("", "mood"): False,  # a type: mood('a')
    Name("", "jsonb"): False,
    Name("", "nothing"): None,
    Name("nowhere", "vol"): None,
}
NEED = NeedFacts(tuple(TABLES), tuple(FUNCTIONS))


@pytest.fixture(scope="module")
def catalog(postgres):
    with postgres.connect() as made:
        made.execute(SCHEMA)
        yield postgres
        made.execute("DROP SCHEMA rc, rc_evil, rc_hidden CASCADE; DROP ROLE rc_nobody")


@pytest.fixture
def session(catalog):
    with catalog.connect() as connection:
        connection.execute("SET search_path = rc")
        connection.execute("CREATE TEMP TABLE mine (a int)")
        yield connection


def look_up(connection: psycopg.Connection, need: NeedFacts = NEED) -> Facts:
    return Relcache(load(None).settings).lookup(lambda sql: connection.execute(sql).fetchall(), "app", 1, need)


def check(found: Facts) -> None:
    assert found.tables == TABLES
    assert found.volatile == FUNCTIONS
    assert found.user_volatile == {Name("", "vol"), Name("rc", "vol"), Name("", "lower")}


def test_every_kind_of_name(session) -> None:
    check(look_up(session))


@pytest.mark.parametrize(
    "setting",
    [
        "SET standard_conforming_strings = off",
        "SET search_path = rc_evil, pg_catalog, rc",
        "SET search_path = rc, pg_catalog",
        "GRANT SELECT ON ALL TABLES IN SCHEMA rc TO rc_nobody; SET ROLE rc_nobody",
        "SET quote_all_identifiers = on",
        "SET jit = on; SET jit_above_cost = 0",
        "SET enable_indexscan = off; SET enable_hashjoin = off",
        "SET client_encoding = 'latin1'",
    ],
)
def test_no_setting_changes_the_answer(session, setting: str) -> None:
    session.execute(setting)
    check(look_up(session))


@pytest.mark.parametrize(
    "begin", ["BEGIN", "BEGIN READ ONLY", "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE"]
)
def test_in_a_transaction(session, begin: str) -> None:
    session.execute(begin)
    session.execute("SAVEPOINT s")
    check(look_up(session))
    assert session.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    session.execute("RELEASE s")
    session.execute("COMMIT")


def test_long_names_are_cut_as_postgresql_cuts_them(session) -> None:
    name = "x" * 80
    session.execute(f"CREATE TABLE rc.{name} (a int)")
    found = look_up(session, NeedFacts((Name("", name),), ()))
    assert found.tables == {Name("", name): TableFact.PLAIN}


def test_one_query_stays_small(session) -> None:
    plan = session.execute("EXPLAIN " + lookup_sql([Name("", "plain")], [Name("", "vol")])).fetchall()
    text = "\n".join(row[0] for row in plan)
    assert "Seq Scan on pg_class" not in text
    assert "Seq Scan on pg_proc" not in text


def test_functions_tied_to_the_primary_exist(session) -> None:
    """The list in sql/keywords.py has no misspelt name: every one is a function of some server from 12 to 18."""
    known = {
        r[0] for r in session.execute("SELECT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace")
    }
    assert keywords.ON_PRIMARY - known <= {"pg_current_xact_id", "pg_current_xact_id_if_assigned"}  # new in 13
    assert known | {"date_part"} >= keywords.HARMLESS
