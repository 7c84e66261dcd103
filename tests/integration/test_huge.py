"""Huge rows, statements and copies go through in flat memory."""

import threading

import psutil
import pytest

from tests.support.wire import SYNC, RawClient, bind, copy_data, describe, execute, msg, parse, query

pytestmark = [pytest.mark.long, pytest.mark.timeout(170)]

MB = 1 << 20


class Watch:
    """Highest private memory (USS) of a process while the block runs, above what it was at the start, in bytes."""

    def __init__(self, process: psutil.Process | None):
        self.process = process
        self.grown = 0

    def __enter__(self) -> "Watch":
        if self.process is not None:
            self.start = self.process.memory_full_info().uss
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._look)
            self._thread.start()
        return self

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            try:
                self.grown = max(self.grown, self.process.memory_full_info().uss - self.start)
            except psutil.NoSuchProcess:
                return

    def __exit__(self, *_) -> None:
        if self.process is not None:
            self._stop.set()
            self._thread.join()


@pytest.fixture
def watched(pgpool):
    """(raw client, its child or None when there is none)."""
    with RawClient.login(pgpool, timeout=100) as client:
        child = None
        if hasattr(pgpool, "family"):
            ours = client.sock.getsockname()[1]
            for process in pgpool.family():
                if any(c.raddr and c.raddr.port == ours for c in process.net_connections("tcp")):
                    child = process
            assert child is not None
        yield client, child


def test_one_row_of_200_mb(watched):
    client, child = watched
    with Watch(child) as watch:
        client.send(query("SELECT repeat('x', 200 * 1024 * 1024)"))
        assert client.read().kind == "T"
        head = client.read_raw(11)
        size = int.from_bytes(head[1:5], "big")
        assert head[:1] == b"D" and size == 200 * MB + 10
        left = size - 10
        while left:
            left -= len(client.read_raw(min(left, MB)))
        assert [m.kind for m in client.read_until()] == ["C", "Z"]
    assert watch.grown < 24 * MB, f"{watch.grown / MB:.0f} MB"


def test_a_million_rows(watched):
    client, child = watched
    with Watch(child) as watch:
        client.send(query("SELECT g, repeat('x', 90) FROM generate_series(1, 1000000) g"))
        assert client.read().kind == "T"
        count = 0
        while (message := client.read()).kind == "D":
            count += 1
        assert (count, message.kind) == (1_000_000, "C")
        client.read_until()
    assert watch.grown < 24 * MB, f"{watch.grown / MB:.0f} MB"


def pieces(total: int):
    block = b"y" * MB
    for start in range(0, total, MB):
        yield block[: min(MB, total - start)]


def test_a_parameter_of_150_mb(watched, table, postgres):
    """Bind of 150 MB into a table: streamed on, not gathered."""
    client, child = watched
    name = table("t text")
    client.ask(parse(f"INSERT INTO {name} VALUES ($1)", "big"), SYNC)
    size = 150 * MB
    with Watch(child) as watch:
        head = b"\0big\0" + b"\0\0" + b"\0\1" + size.to_bytes(4, "big")
        client.send(b"B" + (4 + len(head) + size + 2).to_bytes(4, "big") + head)
        for piece in pieces(size):
            client.send(piece)
        client.send(b"\0\0", describe(), execute(), SYNC)
        assert client.read_until("Z", 120)[-2].tag == "INSERT 0 1"
    assert postgres.value(f"SELECT length(t) FROM {name}") == size
    assert watch.grown < 24 * MB, f"{watch.grown / MB:.0f} MB"


def test_a_statement_of_100_mb(watched, table, postgres):
    """Longer than the receive buffer: goes to the primary unread."""
    client, child = watched
    name = table("t text")
    size = 100 * MB
    start, end = f"INSERT INTO {name} VALUES ('".encode(), b"')\0"
    with Watch(child) as watch:
        client.send(b"Q" + (4 + len(start) + size + len(end)).to_bytes(4, "big") + start)
        for piece in pieces(size):
            client.send(piece)
        client.send(end)
        assert client.read_until("Z", 120)[0].tag == "INSERT 0 1"
    assert postgres.value(f"SELECT length(t) FROM {name}") == size
    assert watch.grown < 24 * MB, f"{watch.grown / MB:.0f} MB"


def test_copy_of_200_mb_both_ways(watched, table):
    client, child = watched
    name = table("t text")
    line = copy_data(b"z" * 1000 + b"\n") * 100
    with Watch(child) as watch:
        client.ask(query(f"COPY {name} FROM STDIN"), until="G")
        for _ in range(2000):
            client.send(line)
        assert client.ask(msg("c"), timeout=120)[0].tag == "COPY 200000"
        client.send(query("BEGIN"), query(f"LOCK {name}"), query(f"COPY {name} TO STDOUT"), query("COMMIT"))
        client.read_until("H")
        count = 0
        while client.read(60).kind == "d":
            count += 1
        assert count == 200_000
        client.read_until("Z")
        client.read_until("Z")
    assert watch.grown < 24 * MB, f"{watch.grown / MB:.0f} MB"


def test_slow_reader_of_a_large_answer(watched):
    """Backpressure: nothing is gathered for a client that does not read."""
    import time

    client, child = watched
    with Watch(child) as watch:
        client.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)"))
        time.sleep(1)
        count = sum(m.kind == "D" for m in client.read_until("Z", 60))
    assert count == 200_000
    assert watch.grown < 24 * MB, f"{watch.grown / MB:.0f} MB"


def test_pipeline_of_50000_statements(watched):
    """Sent without reading until the end; replies are taken meanwhile, so both directions must flow."""
    client, child = watched
    one = parse("SELECT 1") + bind() + describe() + execute()
    with Watch(child) as watch:
        sender = threading.Thread(target=client.send, args=(one * 50_000, SYNC))
        sender.start()
        count = sum(m.kind == "D" for m in client.read_until("Z", 120))
        sender.join()
    assert count == 50_000
    assert watch.grown < 48 * MB, f"{watch.grown / MB:.0f} MB"
