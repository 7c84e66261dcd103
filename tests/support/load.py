"""Sessions that read and write while something happens, and what became of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg

from .pgpool import Pgpool
from .places import wait_until


class Load:
    """``sessions`` clients that write unique numbers into ``table`` (id bigint PRIMARY KEY), alone and in pairs, and read
    between unless ``reads`` is False, and pause for ``pause`` seconds; one that is thrown out comes again.

    ``acknowledged``: numbers whose commit was told; ``errors``: what clients were told else; ``wrong``: answers that were
    not the ones to the question. The block fails when a session does not end.
    """

    def __init__(
        self, pgpool: Pgpool, table: str, sessions: int = 4, *, reads: bool = True, first: int = 0, pause: float = 0.002
    ):
        self.acknowledged: list[int] = []
        self.errors: list[str] = []
        self.wrong: list[object] = []
        self._pgpool, self._insert, self._reads = pgpool, f"INSERT INTO {table} VALUES (%s)", reads
        self._pause, self._stop = pause, threading.Event()
        numbers = range(first, first + sessions)
        self._threads = [threading.Thread(target=self._run, args=(n * 1_000_000,)) for n in numbers]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a session hangs"

    def goes_on(self, count: int = 20) -> None:
        """Wait until ``count`` more commits were acknowledged."""
        before = len(self.acknowledged)
        wait_until(lambda: len(self.acknowledged) > before + count, "clients to go on")

    def _run(self, first: int) -> None:
        values = iter(range(first, first + 1_000_000))
        while not self._stop.is_set():
            try:
                with self._pgpool.connect() as conn:
                    while not self._stop.is_set():
                        self._work(conn, values)
            except psycopg.Error as error:
                self.errors.append(str(error))
            time.sleep(0.01)

    def _work(self, conn: psycopg.Connection, values: Iterator[int]) -> None:
        value = next(values)
        if self._reads:
            found = conn.execute("SELECT %s::int", (value,)).fetchone()
            if found != (value,):
                self.wrong.append(found)
        conn.execute(self._insert, (value,))
        self.acknowledged.append(value)
        pair = next(values), next(values)
        with conn.transaction():
            for value in pair:
                conn.execute(self._insert, (value,))
        self.acknowledged += pair
        time.sleep(self._pause)
