"""What the sessions of test_stateful are made of: the schema they begin with, and statements by what they do.

A statement that writes, or that only the primary may run, ends with MARK, so that it is found in a standby's log.
"""

from __future__ import annotations

MARK = "/* of the primary */"

RESET = """
DROP SCHEMA IF EXISTS public, other CASCADE;
CREATE SCHEMA public; CREATE SCHEMA other;
CREATE TABLE public.a (i int PRIMARY KEY, v text); INSERT INTO public.a VALUES (1, 'one'), (2, 'two'), (3, 'three');
CREATE TABLE public.b (i int REFERENCES public.a ON DELETE CASCADE DEFERRABLE, v text); INSERT INTO public.b VALUES (1, 'x');
CREATE TABLE other.a (i int, v text); INSERT INTO other.a VALUES (7, 'elsewhere');
CREATE UNLOGGED TABLE public.u (i int, v text); INSERT INTO public.u VALUES (5, 'unlogged');
CREATE SEQUENCE public.s;
CREATE FUNCTION public.reads(int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM public.a WHERE i >= $1';
CREATE FUNCTION public.writes(int) RETURNS int LANGUAGE plpgsql AS
  'BEGIN INSERT INTO public.a VALUES ($1, ''by writes''); RETURN $1; END';
CREATE FUNCTION public.makes_temp() RETURNS int LANGUAGE plpgsql AS
  'BEGIN CREATE TEMP TABLE IF NOT EXISTS b (i int, v text); INSERT INTO pg_temp.b VALUES (42, ''hidden''); RETURN 1; END';
CREATE VIEW public.looks AS SELECT i, v FROM public.a;
CREATE VIEW public.acts AS SELECT nextval('public.s') AS i;
"""

NUMBERS = ("1", "2", "3", "4", "5", "9")
READS = (
    "SELECT i, v FROM a WHERE i = {n}",
    "SELECT count(*), max(v) FROM a",
    "TABLE a ORDER BY i",
    "SELECT a.i, b.v FROM a LEFT JOIN b USING (i) ORDER BY 1, 2",
    "WITH q AS (SELECT i FROM a WHERE i < {n}) SELECT count(*) FROM q",
    "SELECT i, v FROM b ORDER BY i, v",
    "SELECT v FROM other.a",
    "SELECT i FROM u",
    "SELECT i FROM t ORDER BY i",
    "SELECT i FROM c ORDER BY i",
    "SELECT reads({n})",
    "SELECT i FROM looks ORDER BY i",
    "VALUES ({n}, 'x')",
    "SELECT current_setting('work_mem'), current_setting('search_path'), current_user",
    "SELECT generate_series(1, {n})",
    "SHOW search_path",
    "SHOW work_mem",
    "SHOW application_name",
    "SHOW transaction_isolation",
    "SHOW transaction_read_only",
    "SELECT relname FROM pg_class WHERE relname = 'a'",
)
FAULTS = (
    "SELECT 1/(i - {n}) FROM a ORDER BY i",
    "SELECT nothing FROM a",
    "SELECT * FROM nowhere",
    "SELEC {n}",
    "SELECT no_such_function({n})",
    "SELECT 'x'::int",
    "",
)
WRITES = tuple(
    text + " " + MARK
    for text in (
        "INSERT INTO a VALUES ({n}, 'new')",
        "INSERT INTO a VALUES ({n}, 'new') ON CONFLICT (i) DO UPDATE SET v = 'again' RETURNING i, v",
        "UPDATE a SET v = v || '!' WHERE i = {n}",
        "DELETE FROM a WHERE i = {n} RETURNING v",
        "WITH q AS (DELETE FROM b RETURNING i) SELECT count(*) FROM q",
        "SELECT writes({n})",
        "SELECT v FROM a WHERE i = {n} FOR UPDATE",
        "SELECT nextval('public.s')",
        "SELECT i FROM acts",
        "INSERT INTO b VALUES ({n}, 'y')",
        "INSERT INTO u VALUES ({n}, 'z')",
        "DO $$ BEGIN INSERT INTO public.a VALUES ({n}, 'by DO'); END $$",
        "TRUNCATE b",
        "LOCK TABLE a IN SHARE MODE",
        "NOTIFY told, '{n}'",
        "EXPLAIN (COSTS off) DELETE FROM a",
    )
)
TABLES = tuple(
    text + " " + MARK
    for text in (
        "CREATE TEMP TABLE t AS SELECT {n} AS i",
        "CREATE TEMP TABLE a (i int, v text)",
        "CREATE TEMP TABLE IF NOT EXISTS t (i int) ON COMMIT DELETE ROWS",
        "INSERT INTO t VALUES ({n})",
        "SELECT i INTO TEMP t FROM a",
        "DROP TABLE IF EXISTS t",
        "CREATE TABLE c (i int)",
        "INSERT INTO c VALUES ({n})",
        "DROP TABLE c",
        "ALTER TABLE a RENAME COLUMN v TO w",
        "ALTER TABLE a RENAME COLUMN w TO v",
        "CREATE OR REPLACE FUNCTION public.reads(int) RETURNS bigint LANGUAGE sql VOLATILE AS"
        " 'INSERT INTO public.a VALUES ($1 + 100) ON CONFLICT DO NOTHING; SELECT {n}::bigint'",
        "CREATE OR REPLACE VIEW public.looks AS SELECT {n} AS i, NULL::text AS v",
    )
)
SETTINGS = (
    "SET search_path TO other, public",
    "SET search_path TO public",
    "SET LOCAL search_path TO other",
    "SET work_mem TO '{n}MB'",
    "SET LOCAL work_mem TO '7{n}kB'",
    "RESET work_mem",
    "RESET ALL",
    "SET application_name TO 'n{n}'",
    "SELECT set_config('work_mem', '{n}MB', false)",
    "SELECT set_config('search_path', 'other', true)",
    "SELECT pg_catalog.set_config('search_path', '', false)",
    "SELECT set_config('work_mem', '1' || '{n}MB', true)",
    "SELECT set_config('role', 'app', false)",
    "SET ROLE app",
    "RESET ROLE",
    "SET default_transaction_read_only TO on",
    "SET default_transaction_read_only TO off",
    "SET TRANSACTION READ ONLY",
    "DISCARD ALL",
    "DISCARD TEMP",
    "SET CONSTRAINTS ALL DEFERRED",
    "SET work_mem TO '{n}MB'; SET search_path TO other",
    "SET nonsense TO {n}",
    "LISTEN told",
    "UNLISTEN *",
)
BEGINS = (
    "BEGIN",
    "BEGIN",
    "BEGIN",
    "BEGIN",
    "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "BEGIN ISOLATION LEVEL SERIALIZABLE",
    "BEGIN READ ONLY",
    "BEGIN READ WRITE",
    "BEGIN\nSET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "BEGIN\nSET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "BEGIN; SELECT {n}",
    "BEGIN; INSERT INTO a VALUES ({n}, 'multi') " + MARK,
)
"""Lines are sent one by one. Only when no transaction is open: with an isolation level PostgreSQL would refuse them once it
has run a query, and the primary does not know of those that a standby has run."""
ENDS = (
    "BEGIN",
    "COMMIT",
    "COMMIT",
    "ROLLBACK",
    "END",
    "COMMIT AND CHAIN",
    "ROLLBACK AND CHAIN",
    "SELECT {n}; COMMIT",
    "ROLLBACK; BEGIN",
)
SAVEPOINTS = ("SAVEPOINT x", "SAVEPOINT y", "RELEASE x", "ROLLBACK TO x", "ROLLBACK TO SAVEPOINT y", "RELEASE SAVEPOINT y")
PREPARED = (
    "PREPARE p AS SELECT i, v FROM a WHERE i = $1",
    "PREPARE p (int) AS SELECT reads($1)",
    "PREPARE p (int) AS INSERT INTO a VALUES ($1, 'prepared') " + MARK,
    "PREPARE q AS SELECT current_setting('search_path')",
    "PREPARE q AS SELECT writes(4) " + MARK,
    "PREPARE q AS SELECT set_config('work_mem', '6MB', false)",
    "EXECUTE p ({n})",
    "EXECUTE p ({n})",
    "EXECUTE q",
    "EXECUTE q",
    "EXECUTE p (nextval('public.s')::int)",
    "DEALLOCATE p",
    "DEALLOCATE q",
    "DEALLOCATE ALL",
    "SELECT name FROM pg_prepared_statements ORDER BY name",
)
CURSORS = (
    "DECLARE cur CURSOR FOR SELECT i, v FROM a ORDER BY i",
    "DECLARE cur SCROLL CURSOR WITH HOLD FOR SELECT i FROM a ORDER BY i",
    "DECLARE cur CURSOR FOR SELECT i FROM a ORDER BY i FOR UPDATE " + MARK,
    "FETCH {n} FROM cur",
    "FETCH PRIOR FROM cur",
    "MOVE 1 FROM cur",
    "CLOSE cur",
    "CLOSE ALL",
    "UPDATE a SET v = 'current' WHERE CURRENT OF cur " + MARK,
)
SEVERAL = (
    "SELECT {n}; SELECT count(*) FROM a",
    "INSERT INTO a VALUES ({n}, 'two'); SELECT max(i) FROM a " + MARK,
    "INSERT INTO a VALUES ({n}, 'three'); SELECT 1/0 " + MARK,
    "CREATE TEMP TABLE t (i int); INSERT INTO t VALUES ({n}) " + MARK,
    ";",
)
PARAMETERS = (
    ("SELECT i, v FROM a WHERE i = $1::int", 1),
    ("SELECT count(*) FROM a WHERE i <> $1::int", 1),
    ("SELECT reads($1::int)", 1),
    ("SELECT i FROM t WHERE i = $1::int", 1),
    ("SELECT $1::int / ($1::int - 3)", 1),
    ("INSERT INTO a VALUES ($1::int, 'bound') " + MARK, 1),
    ("UPDATE a SET v = 'bound' WHERE i = $1::int RETURNING v " + MARK, 1),
    ("SELECT writes($1::int) " + MARK, 1),
    ("SELECT generate_series(1, $1::int)", 1),
    ("SELECT current_setting('search_path'), current_setting('work_mem')", 0),
    ("SELECT set_config('work_mem', $1::int || 'MB', false)", 1),
)
"""(text, parameters) for statements of the extended protocol."""
