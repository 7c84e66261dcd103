"""auth_query: secrets out of the catalogs, and groups in pool_hba.conf. What went wrong with it elsewhere is tried here:
CVE-2025-12819 (search_path of the client), CVE-2025-2291 (VALID UNTIL), CVE-2015-6817 (unknown users)."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest

from tests.support.servers import Cluster, Pgpool, wait_until

pytestmark = pytest.mark.needs_pgpool

SECRET = "correct horse"
USERS = {"scrammed": "scram-sha-256", "hashed": "md5", "old": "scram-sha-256", "boss": "scram-sha-256"}
RULES = """
host all postgres all trust
host all +banned all reject
host samerole all all scram-sha-256
host app +staff all scram-sha-256
host app +ha_shed all md5
host app hashed all md5
"""
SETUP = """
CREATE ROLE staff; CREATE ROLE teams IN ROLE staff; CREATE ROLE banned; CREATE ROLE own LOGIN;
GRANT teams TO scrammed; GRANT banned TO old; GRANT own TO boss; ALTER ROLE boss SUPERUSER;
CREATE ROLE asker LOGIN PASSWORD 'asks'; CREATE SCHEMA lookup; CREATE TABLE lookup.seen (path text, who text);
CREATE FUNCTION lookup.secret(who text, OUT name text, OUT secret text) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog AS $$ BEGIN
SELECT rolname, rolpassword INTO name, secret FROM pg_authid WHERE rolname = who AND (rolvaliduntil IS NULL OR
rolvaliduntil > now()); END $$;
GRANT USAGE ON SCHEMA lookup TO asker; GRANT INSERT ON lookup.seen TO asker;
"""
BY_FUNCTION = (
    "WITH s AS (INSERT INTO lookup.seen SELECT current_setting('search_path'), current_user RETURNING 1)"
    " SELECT l.* FROM lookup.secret($1) l, s"
)


@pytest.fixture(scope="module")
def guarded(cluster: Cluster):
    """The shared cluster with roles of all kinds, and a database that is named like one of them."""
    lines = "".join(f"host all {user} all {kind}\n" for user, kind in {**USERS, "asker": "scram-sha-256"}.items())
    try:
        with cluster.primary.connect("postgres") as conn:
            conn.execute("CREATE DATABASE own")
            for user, kind in USERS.items():
                conn.execute(f"SET password_encryption = '{kind}'")
                conn.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{SECRET}'")
        cluster.execute(SETUP)
        with cluster.asking(lines):
            yield cluster
    finally:
        with cluster.primary.connect("app") as conn:
            conn.execute("DROP DATABASE IF EXISTS own WITH (FORCE)")
            conn.execute("DROP SCHEMA IF EXISTS lookup CASCADE")
            conn.execute(f"DROP ROLE IF EXISTS {', '.join(USERS)}, staff, teams, banned, own, asker")
        cluster.wait_for_catchup()


@pytest.fixture(scope="module")
def make(guarded: Cluster):
    made: list[Pgpool] = []

    def build(passwd: str = "", **settings: object) -> Pgpool:
        base = {"num_init_children": 2, "auth_query_user": "postgres", "enable_pool_hba": True, "backend_weight0": 0}
        pgpool = Pgpool(guarded.nodes, {**base, **settings}, files={"pool_hba.conf": RULES, "pool_passwd": passwd})
        made.append(pgpool)
        return pgpool.start()

    yield build
    for pgpool in made:
        pgpool.remove()


@pytest.fixture(scope="module")
def on(make) -> Pgpool:
    return make()


@pytest.fixture(scope="module")
def off(make) -> Pgpool:
    return make(enable_pool_hba=False, num_init_children=1)


def comes_in(pgpool: Pgpool, user: str, password: str = SECRET, database: str = "app", **more) -> str:
    """'ok', or the refusal."""
    try:
        with pgpool.connect(database, user=user, password=password, passfile="/nonexistent", **more) as conn:
            assert conn.execute("SELECT current_user").fetchone() == (user,)
            return "ok"
    except psycopg.OperationalError as error:
        return str(error)


@pytest.mark.parametrize("user", ["scrammed", "hashed"])
@pytest.mark.parametrize("mode", ["on", "off"])
def test_no_password_is_stored_and_both_servers_are_used(request, guarded, user, mode):
    """The verifier of the catalogs, and the key that the client's proof gives away, open primary and standby."""
    pgpool = request.getfixturevalue(mode)
    for _ in range(3):
        with pgpool.connect("app", user=user, password=SECRET) as conn:
            assert conn.execute("SELECT inet_server_port()").fetchone() == (guarded.standby.port,)
            conn.execute("CREATE TEMP TABLE of_the_primary AS SELECT inet_server_port()")
            assert conn.execute("SELECT * FROM of_the_primary").fetchone() == (guarded.primary.port,)
    for wrong in ("wrong", ""):
        assert comes_in(pgpool, user, wrong) != "ok"
    assert not guarded.primary.backends("application_name = 'pgpool auth_query'")


def test_links_are_used_again_after_a_new_proof(off):
    pids = set()
    for _ in range(3):
        with off.connect("app", user="scrammed", password=SECRET) as conn:
            pids.add(conn.info.backend_pid)
        assert "password authentication failed" in comes_in(off, "scrammed", "wrong")
    assert len(pids) == 1


@contextlib.contextmanager
def altered(guarded: Cluster, how: str, back: str):
    guarded.execute(how)
    try:
        yield
    finally:
        guarded.execute(back)


@pytest.mark.parametrize("mode", ["on", "off"])
def test_valid_until_and_new_passwords_count_at_once(request, guarded, mode):
    """A pooled connection that the old password has opened is there all the time."""
    pgpool = request.getfixturevalue(mode)
    assert comes_in(pgpool, "scrammed") == "ok"
    with altered(guarded, "ALTER ROLE scrammed VALID UNTIL '2020-01-01'", "ALTER ROLE scrammed VALID UNTIL 'infinity'"):
        assert comes_in(pgpool, "scrammed") != "ok"
    with altered(guarded, "ALTER ROLE scrammed PASSWORD 'new'", f"ALTER ROLE scrammed PASSWORD '{SECRET}'"):
        assert comes_in(pgpool, "scrammed") != "ok"
        assert comes_in(pgpool, "scrammed", "new") == "ok"
    with altered(guarded, "ALTER ROLE scrammed NOLOGIN", "ALTER ROLE scrammed LOGIN"):
        assert comes_in(pgpool, "scrammed") != "ok"
    assert comes_in(pgpool, "scrammed") == "ok"


def test_a_function_and_its_search_path(make, guarded):
    """A role that may call one function is enough; what the client says of search_path does not reach the question."""
    pgpool = make("asker:TEXTasks\n", auth_query_user="asker", auth_query_database="app", auth_query=BY_FUNCTION)
    evil = "-c search_path=evil,public -c role=postgres"
    for options in ({}, {"options": evil.split(" -c role")[0]}):
        assert comes_in(pgpool, "scrammed", **options) == "ok"
    assert comes_in(pgpool, "nobody_knows", options=evil) != "ok"
    assert guarded.execute("SELECT DISTINCT path, who FROM lookup.seen") == [("pg_catalog", "asker")]


@pytest.mark.parametrize("user", ["nobody_knows", "' OR true --", "$1", "%", "POSTGRES", "scrammed\x7f", "x" * 70])
def test_strangers_are_nobody_else(on, off, user):
    for pgpool in (on, off):
        for password in (SECRET, "postgres", "asks"):
            assert comes_in(pgpool, user, password) != "ok"


def test_answers_that_are_of_no_use(make, guarded):
    pgpool = make(auth_query="SELECT pg_sleep(60)::text WHERE $1 <> ''")
    with ThreadPoolExecutor(1) as one:
        late = one.submit(comes_in, pgpool, "scrammed")
        wait_until(lambda: guarded.primary.busy("query LIKE '%pg_sleep(60)%'"), "the question without an answer")
        for query, reason in (
            ("SELECT 'boss', rolpassword FROM pg_authid WHERE rolname = 'boss' AND $1 <> ''", "returned somebody else"),
            ("SELECT rolname, rolpassword FROM pg_authid WHERE $1 <> ''", "more than a row"),
            (f"SELECT '{SECRET}' WHERE $1 <> ''", "neither an md5 hash nor"),
            (f"SELECT 'TEXT{SECRET}' WHERE $1 <> ''", "neither an md5 hash nor"),
            ("SELECT 1 / 0 WHERE $1 <> ''", "division by zero"),
            ("SELEC", "syntax error"),
        ):
            mark = pgpool.mark()
            pgpool.write_conf(auth_query=query)
            pgpool.reload()
            pgpool.wait_for_log("reload config files", mark)
            told = wait_until(partial(refused_by, pgpool, reason), f"a refusal for {query}")
            assert "SCRAM authentication failed" in told
        assert "SCRAM authentication failed" in late.result(30)
    pgpool.wait_for_log("timeout expired")
    assert "SCRAM-SHA-256$" not in pgpool.log_text()


def refused_by(pgpool: Pgpool, reason: str) -> str:
    """The refusal of a good password, once the log says ``reason`` about it; a reload takes its time to get round."""
    mark = pgpool.mark()
    told = comes_in(pgpool, "scrammed")
    return told if reason in pgpool.log_since(mark) else ""


@pytest.mark.parametrize(
    ("user", "database", "answer"),
    [
        ("scrammed", "app", "ok"),  # in staff by way of teams
        ("old", "app", "no pool_hba.conf entry"),  # in banned
        ("boss", "app", "no pool_hba.conf entry"),  # a superuser, but in no group
        ("boss", "own", "ok"),  # a member of the role named like the database
        ("scrammed", "own", "no pool_hba.conf entry"),
    ],
)
def test_groups(on, user, database, answer):
    assert answer in comes_in(on, user, database=database)


def test_nobody_slips_past_a_group_that_cannot_be_looked_up(make):
    """The line of +banned is not skipped when nobody can say who is in it."""
    pgpool = make(auth_query_user="asker", auth_query_password="wrong", num_init_children=1)
    for user in ("old", "hashed"):
        assert "nobody" in comes_in(pgpool, user) or "no backend could be asked" in comes_in(pgpool, user)
    pgpool.write_conf(auth_query_user="")  # then, as in Pgpool-II, groups match nobody
    pgpool.reload()
    told = wait_until(partial(told_without, pgpool, "no backend could be asked"), "nobody to be asked")
    assert "SCRAM authentication failed" not in told


def told_without(pgpool: Pgpool, text: str) -> str:
    """The refusal of a member of banned, once it does not say ``text`` any more."""
    told = comes_in(pgpool, "old")
    return "" if text in told else told


def test_secrets_are_not_told(on, make):
    pgpool = make(auth_query_user="asker", auth_query_password="asks", auth_query_database="app",
                  auth_query=BY_FUNCTION, log_min_messages="debug5", num_init_children=1)  # fmt: skip
    assert comes_in(pgpool, "scrammed") == "ok"
    with pgpool.connect("postgres") as conn:
        rows = conn.pgconn.exec_(b"PGPOOL SHOW ALL")
        shown = {rows.get_value(i, 0): rows.get_value(i, 1) for i in range(rows.ntuples)}
    assert shown[b"auth_query_user"] == b"asker" and b"asks" not in shown.values()
    for text in (pgpool.log_text(), on.log_text()):
        assert SECRET not in text and "SCRAM-SHA-256$" not in text and "'asks'" not in text
