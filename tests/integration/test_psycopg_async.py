"""psycopg 3, asynchronous: many connections in one loop, pipeline, notifies, cancel by task."""

import asyncio

import psycopg
import pytest


def aconnect(pgpool, **kw):
    return psycopg.AsyncConnection.connect(pgpool.dsn(), autocommit=True, **kw)


def test_many_connections_at_once(pgpool):
    async def one(number: int) -> int:
        async with await aconnect(pgpool) as conn:
            total = 0
            for step in range(20):
                row = await (await conn.execute("SELECT %s::int + %s::int", (number, step))).fetchone()
                total += row[0]
            return total

    async def main() -> list[int]:
        return await asyncio.gather(*(one(number) for number in range(8)))

    assert asyncio.run(main()) == [20 * number + 190 for number in range(8)]


def test_transaction_and_pipeline(pgpool, table, postgres):
    name = table()

    async def main() -> None:
        async with await aconnect(pgpool) as conn, conn.transaction():
            async with conn.pipeline():
                for number in range(30):
                    await conn.execute(f"INSERT INTO {name} VALUES (%s, 'x')", (number,))
            row = await (await conn.execute(f"SELECT count(*) FROM {name}")).fetchone()
            assert row == (30,)

    asyncio.run(main())
    assert postgres.value(f"SELECT count(*) FROM {name}") == 30


def test_notifies(pgpool, postgres):
    async def main() -> list[str]:
        async with await aconnect(pgpool) as conn:
            await conn.execute("LISTEN async_news")
            for number in range(3):
                postgres.execute(f"NOTIFY async_news, 'n{number}'")
            return [note.payload async for note in conn.notifies(timeout=10, stop_after=3)]

    heard = asyncio.run(main())
    assert sorted(heard) == ["n0", "n1", "n2"]


def test_cancelled_task_cancels_the_query(pgpool):
    async def main() -> None:
        async with await aconnect(pgpool) as conn:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(conn.execute("SELECT pg_sleep(30)"), 0.3)
            row = await (await conn.execute("SELECT 1")).fetchone()
            assert row == (1,)

    asyncio.run(main())


def test_copy_and_server_side_cursor(pgpool, table):
    name = table()

    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(pgpool.dsn()) as conn:
            async with conn.cursor() as cursor, cursor.copy(f"COPY {name} FROM STDIN") as copy:
                for number in range(500):
                    await copy.write_row((number, "x"))
            async with conn.cursor(name="c") as cursor:
                await cursor.execute(f"SELECT id FROM {name} ORDER BY id")
                assert [row[0] async for row in cursor] == list(range(500))

    asyncio.run(main())
