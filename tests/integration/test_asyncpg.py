"""asyncpg: it prepares everything, introspects types, pipelines Close and Flush, resets with a multi-statement."""

import asyncio
import io

import asyncpg
import pytest


def connect(pgpool, **kw):
    return asyncpg.connect(host=pgpool.host, port=pgpool.port, user="postgres", database="app", timeout=10, **kw)


def with_connection(pgpool, body, **kw):
    """Run `await body(connection)` in a loop of its own."""

    async def main():
        conn = await connect(pgpool, **kw)
        try:
            return await asyncio.wait_for(body(conn), 60)
        finally:
            await conn.close(timeout=10)

    return asyncio.run(main())


def test_fetch(pgpool):
    async def body(conn):
        assert await conn.fetchval("SELECT $1::int + 1", 41) == 42
        rows = await conn.fetch("SELECT g, g::text AS t FROM generate_series(1, 1000) g")
        assert len(rows) == 1000 and rows[-1]["t"] == "1000"
        assert await conn.execute("SELECT 1; SELECT 2") == "SELECT 1"
        assert await conn.fetchrow("SELECT 1 WHERE false") is None

    with_connection(pgpool, body)


def test_introspection_of_types(pgpool, cluster):
    cluster.execute(
        "DROP TYPE IF EXISTS mood, pair; CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, m mood[])"
    )
    try:

        async def body(conn):
            assert await conn.fetchval("SELECT ROW(1, ARRAY['sad', 'ok']::mood[])::pair") == (1, ["sad", "ok"])
            assert await conn.fetchval("SELECT $1::mood", "ok") == "ok"
            await conn.set_type_codec("json", encoder=repr, decoder=len, schema="pg_catalog")
            assert await conn.fetchval("SELECT '[1]'::json") == 3

        with_connection(pgpool, body)
    finally:
        cluster.execute("DROP TYPE pair; DROP TYPE mood")


def test_transactions(pgpool, table, postgres):
    name = table()

    async def body(conn):
        async with conn.transaction(isolation="serializable"):
            await conn.execute(f"INSERT INTO {name} VALUES ($1, 'a')", 1)
            with pytest.raises(asyncpg.UniqueViolationError):
                async with conn.transaction():
                    await conn.execute(f"INSERT INTO {name} VALUES ($1, 'b')", 1)
            assert await conn.fetchval(f"SELECT count(*) FROM {name}") == 1
        with pytest.raises(ZeroDivisionError):
            async with conn.transaction():
                await conn.execute(f"DELETE FROM {name}")
                raise ZeroDivisionError
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            async with conn.transaction(readonly=True):
                await conn.execute(f"DELETE FROM {name}")

    with_connection(pgpool, body)
    assert postgres.value(f"SELECT count(*) FROM {name}") == 1


def test_prepared_and_cursors(pgpool):
    async def body(conn):
        statement = await conn.prepare("SELECT g FROM generate_series(1, $1::int) g")
        assert [a.name for a in statement.get_attributes()] == ["g"]
        assert len(await statement.fetch(10)) == 10
        assert len(await statement.fetch(20)) == 20
        async with conn.transaction():
            assert [r[0] async for r in statement.cursor(100, prefetch=7)] == list(range(1, 101))
            cursor = await conn.cursor("SELECT g FROM generate_series(1, 50) g")
            assert len(await cursor.fetch(20)) == 20
            await cursor.forward(20)
            assert len(await cursor.fetch(20)) == 10
        assert await conn.fetchval("SELECT 1") == 1

    with_connection(pgpool, body)


def test_executemany(pgpool, table, postgres):
    name = table()

    async def body(conn):
        await conn.executemany(f"INSERT INTO {name} VALUES ($1, $2)", [(n, "x" * 100) for n in range(5000)])
        with pytest.raises(asyncpg.UniqueViolationError):
            await conn.executemany(f"INSERT INTO {name} VALUES ($1, $2)", [(9000, "x"), (9000, "x")])
        rows = await conn.fetchmany("SELECT $1::int * 2", [(n,) for n in range(10)])
        assert [r[0] for r in rows] == list(range(0, 20, 2))

    with_connection(pgpool, body)
    assert postgres.value(f"SELECT count(*) FROM {name}") == 5000


def test_copy(pgpool, table):
    name, other = table(), table()

    async def body(conn):
        tag = await conn.copy_records_to_table(name, records=[(n, f"t{n}") for n in range(2000)])
        assert tag == "COPY 2000"
        out = io.BytesIO()
        async with conn.transaction():
            await conn.execute(f"LOCK {name}")
            await conn.copy_from_table(name, output=out, format="csv")
            await conn.copy_from_query(f"SELECT * FROM {name} WHERE id < $1", 5, output=io.BytesIO())
        out.seek(0)
        assert await conn.copy_to_table(other, source=out, format="csv") == "COPY 2000"
        with pytest.raises(asyncpg.UniqueViolationError):
            await conn.copy_records_to_table(name, records=[(1, "twice")])
        assert await conn.fetchval("SELECT 1") == 1

    with_connection(pgpool, body)


def test_listeners(pgpool, postgres):
    async def body(conn):
        heard: asyncio.Queue = asyncio.Queue()
        await conn.add_listener("asyncpg_news", lambda *args: heard.put_nowait(args[3]))
        postgres.execute("NOTIFY asyncpg_news, 'from afar'")
        assert await asyncio.wait_for(heard.get(), 10) == "from afar"
        await conn.execute("NOTIFY asyncpg_news, 'own'")
        assert await asyncio.wait_for(heard.get(), 10) == "own"
        await conn.reset()

    with_connection(pgpool, body)


def test_timeout_cancels(pgpool):
    async def body(conn):
        with pytest.raises(asyncio.TimeoutError):
            await conn.fetch("SELECT pg_sleep(30)", timeout=0.3)
        assert await conn.fetchval("SELECT 1", timeout=10) == 1
        task = asyncio.ensure_future(conn.fetch("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await conn.fetchval("SELECT 2", timeout=10) == 2

    with_connection(pgpool, body)


def test_cached_statement_after_ddl(pgpool, table):
    """asyncpg raises or retries as it does straight: InvalidCachedStatementError inside a transaction only."""
    name = table(rows="VALUES (1, 'x')")

    async def body(conn):
        async with conn.transaction():
            await conn.execute(f"LOCK {name}")
            await conn.fetch(f"SELECT * FROM {name} WHERE id = $1", 1)
        await conn.execute(f"ALTER TABLE {name} ADD COLUMN n int")
        with pytest.raises(asyncpg.InvalidCachedStatementError):
            async with conn.transaction():
                await conn.execute(f"LOCK {name}")
                await conn.fetch(f"SELECT * FROM {name} WHERE id = $1", 1)
        assert await conn.fetchval("SELECT 1") == 1

    with_connection(pgpool, body)


def test_pool(pgpool):
    async def main():
        async with asyncpg.create_pool(
            host=pgpool.host, port=pgpool.port, user="postgres", database="app", min_size=2, max_size=5, timeout=20
        ) as pool:

            async def one(number):
                async with pool.acquire() as conn:
                    return await conn.fetchval("SELECT $1::int", number)

            return await asyncio.gather(*(one(n) for n in range(60)))

    assert asyncio.run(asyncio.wait_for(main(), 60)) == list(range(60))


def test_server_settings(pgpool):
    async def body(conn):
        assert await conn.fetchval("SHOW application_name") == "asyncpg test"
        assert conn.get_settings().TimeZone == "Europe/Rome"
        await conn.execute("SET timezone = 'UTC'")
        assert conn.get_settings().TimeZone == "UTC"

    with_connection(pgpool, body, server_settings={"application_name": "asyncpg test", "timezone": "Europe/Rome"})


def test_terminate(pgpool):
    async def main():
        conn = await connect(pgpool)
        task = asyncio.ensure_future(conn.fetch("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.2)
        conn.terminate()
        with pytest.raises((asyncpg.ConnectionDoesNotExistError, asyncio.CancelledError)):
            await task
        again = await connect(pgpool)
        assert await again.fetchval("SELECT 1") == 1
        await again.close()

    asyncio.run(main())
