"""psql through pgpool: scripts, backslash commands, copy, errors and exit codes."""

from tests.support.places import psql


def test_one_command(pgpool):
    done = psql(pgpool, "", "-Atc", "SELECT 6 * 7")
    assert (done.stdout, done.stderr, done.returncode) == ("42\n", "", 0)


def test_script(pgpool, table):
    name = table()
    done = psql(
        pgpool,
        f"""
        \\set ON_ERROR_STOP on
        INSERT INTO {name} SELECT g, 'row ' || g FROM generate_series(1, 5) g;
        BEGIN;
        UPDATE {name} SET t = upper(t) WHERE id > 3;
        SAVEPOINT s;
        DELETE FROM {name};
        ROLLBACK TO s;
        COMMIT;
        TABLE {name};
        """,
        "-At",
    )
    tags = ["INSERT 0 5", "BEGIN", "UPDATE 2", "SAVEPOINT", "DELETE 5", "ROLLBACK", "COMMIT"]
    assert done.stdout.splitlines()[:7] == tags
    assert psql(pgpool, f"SELECT * FROM {name} WHERE id > 3 ORDER BY 1 -- after the write", "-At").returncode == 0
    assert done.returncode == 0 and done.stderr == ""


def test_describe(pgpool, cluster, table):
    """\\d asks a dozen catalog queries; what it prints is what it prints without us."""
    name = table("id serial primary key, t text not null default 'x', r numeric(5, 2) check (r > 0)")
    for command in (f"\\d {name}", "\\dt", "\\l", "\\du", "\\df pg_sleep", "\\dn", f"\\d+ {name}", "\\conninfo"):
        through, direct = (psql(s, command + "\n") for s in (pgpool, cluster.primary))
        assert through.stderr == direct.stderr
        if command != "\\conninfo":
            assert through.stdout == direct.stdout, command


def test_error_in_script_goes_on(pgpool):
    done = psql(pgpool, "SELECT 1;\nSELECT no_such_column;\nSELECT 2;\n", "-At")
    assert done.stdout == "1\n2\n"
    assert 'ERROR:  column "no_such_column" does not exist' in done.stderr
    assert done.returncode == 0


def test_error_stops_script(pgpool):
    done = psql(pgpool, "\\set ON_ERROR_STOP on\nSELECT 1;\nSELECT 1/0;\nSELECT 2;\n", "-At")
    assert done.stdout == "1\n"
    assert "division by zero" in done.stderr
    assert done.returncode == 3


def test_single_transaction(pgpool, table, postgres):
    name = table()
    done = psql(pgpool, f"INSERT INTO {name} VALUES (1, 'a');\nSELECT 1/0;\n", "-1", "-v", "ON_ERROR_STOP=1", "-f", "-")
    assert done.returncode == 3
    assert postgres.value(f"SELECT count(*) FROM {name}") == 0


def test_copy_file(pgpool, table, tmp_path, postgres):
    name = table()
    source = tmp_path / "in.csv"
    source.write_text("".join(f"{n},text {n}\n" for n in range(1000)))
    done = psql(pgpool, f"\\copy {name} FROM '{source}' CSV\n")
    assert done.stdout == "COPY 1000\n", done.stderr
    target = tmp_path / "out.csv"
    # the same session wrote: no race with the standby
    done = psql(pgpool, f"BEGIN;\nLOCK {name};\n\\copy (SELECT * FROM {name} ORDER BY id) TO '{target}' CSV\nCOMMIT;\n")
    assert target.read_text() == source.read_text(), done.stderr
    assert postgres.value(f"SELECT count(*) FROM {name}") == 1000


def test_copy_with_error_in_row(pgpool, table):
    name = table()
    done = psql(pgpool, f"COPY {name} FROM stdin;\n1\tone\ntwo\ttwo\n\\.\nSELECT 'alive';\n", "-At")
    assert 'invalid input syntax for type integer: "two"' in done.stderr
    assert done.stdout == "alive\n"


def test_gexec_gdesc_and_watch_free_metacommands(pgpool):
    done = psql(
        pgpool,
        "SELECT 1 AS one, 'x'::text AS x \\gdesc\nSELECT 'SELECT 7' \\gexec\nSELECT 3 AS three \\gset\n\\echo :three\n",
        "-At",
    )
    assert done.stdout == "one|integer\nx|text\n7\n3\n", done.stderr


def test_bind(pgpool):
    """\\gdesc uses Parse and Describe; PREPARE and EXECUTE go through SQL."""
    done = psql(pgpool, "PREPARE p (int) AS SELECT $1 + 1;\nEXECUTE p(41);\nDEALLOCATE p;\nEXECUTE p(1);\n", "-At")
    assert done.stdout == "PREPARE\n42\nDEALLOCATE\n"
    assert 'prepared statement "p" does not exist' in done.stderr


def test_multi_statement_in_one_string(pgpool):
    done = psql(pgpool, "", "-Atc", "SELECT 1; SELECT 2; SELECT 1/0; SELECT 3")
    assert done.stdout == "1\n2\n"
    assert done.returncode == 1


def test_notices_arrive_in_order(pgpool):
    script = "DO $$ BEGIN FOR i IN 1..5 LOOP RAISE NOTICE 'n%', i; END LOOP; END $$;\n"
    done = psql(pgpool, script)
    assert done.stderr == "".join(f"NOTICE:  n{i}\n" for i in range(1, 6))


def test_unknown_database_and_user(pgpool, cluster):
    for kw in ({"database": "nowhere"}, {"user": "nobody_at_all"}):
        through, direct = (psql(s, "SELECT 1", **kw) for s in (pgpool, cluster.primary))
        assert through.returncode == direct.returncode == 2
        assert through.stderr.replace(str(pgpool.port), "P") == direct.stderr.replace(str(cluster.primary.port), "P")


def test_unix_socket(pgpool, proxy_kind):
    class There:
        host = str(pgpool.place)
        port = pgpool.port

    done = psql(There, "", "-Atc", "SELECT 1")
    assert done.stdout == "1\n", done.stderr


def test_hundred_sessions_one_after_another(pgpool):
    done = psql(pgpool, "".join("\\c\nSELECT 1;\n" for _ in range(100)), "-Atq")
    assert done.stdout.count("1\n") == 100, done.stderr
