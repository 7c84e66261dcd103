"""Snapshots: a reader never sees half of what a writer in another process wrote."""

import os
import signal
import time

from pgpool.shared import layout as lay
from tests.unit.shared.support import running, shared


def test_readers_see_whole_slots_while_another_process_writes():
    area = shared()
    slot = area.children[0].slots[0]
    slot.fill("user-0", "db-0", 3, 0, 0.0)

    def write() -> None:
        n = 0
        while True:
            n = (n + 1) % 90
            text = f"{n:02d}" * 30
            slot._slot.write(database=b"d" + text.encode(), username=b"u" + text.encode(), counter=n, created=float(n))

    torn, seen = [], set()
    with running(write):
        end = time.monotonic() + 1.0
        while time.monotonic() < end or len(seen) < 20:
            assert time.monotonic() < end + 20
            view = slot.view()
            if view.counter == 0:
                continue
            seen.add(view.counter)
            text = f"{view.counter:02d}" * 30
            if (view.database, view.username, view.created) != ("d" + text, "u" + text, float(view.counter)):
                torn.append(view)
    assert not torn


def test_without_the_sequence_number_the_same_reader_does_see_torn_cells():
    """The proof that the test above can fail: the same writer, read without looking at the sequence number."""
    area = shared()
    record = area.children[0].slots[0]._slot

    def write() -> None:
        n = 0
        while True:
            n = (n + 1) % 90
            record.write(counter=n, created=float(n))

    with running(write):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if record.get("created") != float(record.get("counter")):
                return
    raise AssertionError("no torn read in 20 s")


def test_a_word_is_never_seen_half_written():
    """struct.pack_into would zero it first: that once made an epoch of 0 and torn snapshots."""
    area = shared()
    area.set_primary(1)
    one, two = 0x01010101, 0x02020202
    area._header.set("epoch", one)

    def write() -> None:
        while True:
            area._header.set("epoch", two)
            area._header.set("epoch", one)

    seen = set()
    with running(write):
        end = time.monotonic() + 20
        while len(seen) < 2 and time.monotonic() < end:
            seen.add(area.epoch)
        for _ in range(200_000):
            seen.add(area.epoch)
    assert seen == {one, two}


def test_a_writer_killed_in_mid_write_does_not_stop_readers_and_is_repaired():
    area = shared()
    child = area.children[1]
    child.start(4711, 1.0)

    def die_in_the_middle() -> None:
        cell = child._cell
        cell.set("seq", cell.get("seq") | 1)
        os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if not pid:
        die_in_the_middle()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert child._cell.get("seq") % 2 == 1
    start = time.monotonic()
    assert child.view().pid == 4711
    assert time.monotonic() - start < 2
    child.clear()
    assert child._cell.get("seq") % 2 == 0
    assert child.view().pid == 0


def test_the_sequence_number_wraps():
    area = shared()
    record = area.children[0]._cell
    record.set("seq", 0xFFFFFFFE)
    record.write(served=5)
    assert record.get("seq") == 0
    assert record.read().served == 5


def test_clear_leaves_nothing_behind():
    area = shared()
    slot = area.children[0].slots[1]
    slot.fill("u" * 63, "d" * 63, 3, 2, 9.0)
    slot.set_backend(1, 77, b"\xff" * 256, 9.0)
    slot.clear()
    start = area.layout.slot(0, 1)
    raw = bytearray(area.buf[start : start + area.layout.slot_size])
    cells = [(0, lay.SLOT.size)]
    cells += [(area.layout.backend(0, 1, n) - start, lay.BACKEND.size) for n in range(area.layout.nodes)]
    for at, size in cells:
        assert not any(raw[at + 4 : at + size])
