"""pg_dump through pgpool and back through pgpool: every format, and the piped form."""

import subprocess

import pytest

from tests.support.places import pg_bin, run

SCHEMA = """
CREATE SCHEMA s;
CREATE TYPE s.mood AS ENUM ('sad', 'ok');
CREATE TABLE s.parent (id serial PRIMARY KEY, m s.mood DEFAULT 'ok', j jsonb, b bytea);
CREATE TABLE s.child (id int PRIMARY KEY, p int REFERENCES s.parent ON DELETE CASCADE, t text CHECK (t <> 'no'));
CREATE INDEX ON s.child (lower(t));
CREATE VIEW s.v AS SELECT p.id, count(*) AS n FROM s.parent p JOIN s.child c ON c.p = p.id GROUP BY 1;
CREATE MATERIALIZED VIEW s.mv AS SELECT count(*) AS n FROM s.child;
CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.t := trim(NEW.t); RETURN NEW; END $$;
CREATE TRIGGER tr BEFORE INSERT ON s.child FOR EACH ROW EXECUTE FUNCTION s.f();
INSERT INTO s.parent (j, b) SELECT jsonb_build_object('n', g), decode(md5(g::text), 'hex') FROM generate_series(1, 200) g;
INSERT INTO s.child SELECT g, 1 + g % 200, 'text ' || g FROM generate_series(1, 5000) g;
REFRESH MATERIALIZED VIEW s.mv;
SELECT lo_from_bytea(0, '\\xdeadbeef');
COMMENT ON TABLE s.child IS 'a comment; with a semicolon';
"""


def tool(name: str, server, *args: str) -> list:
    return [str(pg_bin() / name), "-h", server.host, "-p", str(server.port), "-U", "postgres", *args]


@pytest.fixture
def two_databases(cluster):
    for name in ("dump_from", "dump_to"):
        cluster.primary.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", "postgres")
        cluster.primary.execute(f"CREATE DATABASE {name} TEMPLATE template0", "postgres")
    with cluster.primary.connect("dump_from") as conn:
        conn.execute(SCHEMA)
    cluster.wait_for_catchup()
    yield
    for name in ("dump_from", "dump_to"):
        cluster.primary.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", "postgres")


def check(postgres) -> None:
    for query in (
        "SELECT md5(string_agg(c::text, ',' ORDER BY id)) FROM s.child c",
        "SELECT md5(string_agg(p::text, ',' ORDER BY id)) FROM s.parent p",
        "SELECT n FROM s.mv",
        "SELECT count(*) FROM s.v",
        "SELECT count(*) FROM pg_largeobject",
        "SELECT obj_description('s.child'::regclass)",
        "SELECT last_value FROM s.parent_id_seq",
    ):
        assert postgres.value(query, "dump_to") == postgres.value(query, "dump_from"), query


def test_plain_through_psql(pgpool, two_databases, postgres, tmp_path):
    dump = run(tool("pg_dump", pgpool, "dump_from")).stdout
    done = run(tool("psql", pgpool, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "dump_to"), input=dump)
    assert done.stderr == ""
    check(postgres)


def test_custom_piped(pgpool, two_databases, postgres):
    """The line everybody types: pg_dump -Fc | pg_restore."""
    with subprocess.Popen(tool("pg_dump", pgpool, "-Fc", "dump_from"), stdout=subprocess.PIPE) as dump:
        run(tool("pg_restore", pgpool, "-e", "-d", "dump_to"), stdin=dump.stdout)
        dump.stdout.close()
        assert dump.wait(60) == 0
    check(postgres)


def test_parallel_directory(pgpool, two_databases, postgres, tmp_path):
    """-j 2: a synchronized snapshot, several sessions; only right when all of them are on one node."""
    run(tool("pg_dump", pgpool, "-Fd", "-j", "2", "-f", str(tmp_path / "d"), "dump_from"))
    run(tool("pg_restore", pgpool, "-e", "-j", "2", "-d", "dump_to", str(tmp_path / "d")))
    check(postgres)


def test_inserts_and_clean(pgpool, two_databases, postgres):
    dump = run(
        tool("pg_dump", pgpool, "--inserts", "--rows-per-insert=50", "--clean", "--if-exists", "dump_from")
    ).stdout
    for _ in range(2):
        run(tool("psql", pgpool, "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", "dump_to"), input=dump)
    check(postgres)
