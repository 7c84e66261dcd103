"""The request queue: order, limits, many writers, a writer that dies with the lock in its hands."""

import os
import signal
import time

import pytest

from pgpool.shared import Lock, Request, RequestFlag, RequestKind
from tests.unit.shared.support import fork, shared, wait


def test_requests_come_out_as_they_went_in():
    queue = shared().queue
    assert queue.pop() is None
    assert queue.push(RequestKind.DOWN, [1, 0], RequestFlag.TIMEOUT | RequestFlag.CONFIRMED, 55)
    assert queue.push(RequestKind.UP, (127,))
    assert queue.push(RequestKind.CLOSE_IDLE, ())
    assert len(queue) == 3
    both = RequestFlag.TIMEOUT | RequestFlag.CONFIRMED
    assert queue.pop() == Request(RequestKind.DOWN, (1, 0), both, 55)
    assert queue.pop() == Request(RequestKind.UP, (127,), RequestFlag.NONE, 0)
    assert queue.pop() == Request(RequestKind.CLOSE_IDLE, (), RequestFlag.NONE, 0)
    assert queue.pop() is None


def test_ten_fit_and_places_are_used_again():
    queue = shared().queue
    for turn in range(3):
        for n in range(10):
            assert queue.push(RequestKind.DOWN, [n], from_pid=turn)
        assert not queue.push(RequestKind.DOWN, [11])
        assert [queue.pop().node_ids[0] for _ in range(10)] == list(range(10))


def test_a_node_that_answered_is_reported_once():
    queue = shared().queue
    assert queue.push(RequestKind.CONNECTED, [1])
    assert queue.push(RequestKind.CONNECTED, [1])
    assert queue.push(RequestKind.CONNECTED, [0])
    assert len(queue) == 2
    assert queue.push(RequestKind.DOWN, [1]) and queue.push(RequestKind.DOWN, [1])
    assert len(queue) == 4


def test_limits_of_a_request():
    queue = shared().queue
    assert queue.push(RequestKind.DOWN, range(128))
    assert queue.pop().node_ids == tuple(range(128))
    with pytest.raises(ValueError):
        queue.push(RequestKind.DOWN, [0] * 129)
    with pytest.raises(ValueError):
        queue.push(RequestKind.DOWN, [-1])
    assert queue.pop() is None


def test_many_writers_lose_and_double_nothing():
    area = shared()
    writers, each = 4, 150

    def write(who: int):
        def work() -> None:
            for n in range(each):
                while not area.queue.push(RequestKind.DOWN, [who, n % 128, n // 128], from_pid=who):
                    time.sleep(0.0005)

        return work

    pids = [fork(write(who)) for who in range(writers)]
    got: dict[int, list[int]] = {who: [] for who in range(writers)}
    end = time.monotonic() + 30
    while sum(map(len, got.values())) < writers * each:
        assert time.monotonic() < end, "requests were lost"
        request = area.queue.pop()
        if request is None:
            continue
        who, low, high = request.node_ids
        assert request.from_pid == who
        got[who].append(high * 128 + low)
    assert [wait(pid) for pid in pids] == [0] * writers
    assert area.queue.pop() is None
    assert all(numbers == list(range(each)) for numbers in got.values())


def test_a_killed_lock_holder_blocks_nobody_and_leaves_no_half_request():
    area = shared()
    ready, tell = os.pipe()

    def hold() -> None:
        with area.lock(Lock.QUEUE):
            entry = area.queue._entries[0]
            entry.set("kind", int(RequestKind.PROMOTE))
            entry.set("count", 1)
            os.write(tell, b"x")
            time.sleep(60)

    def push() -> None:
        assert area.queue.push(RequestKind.DOWN, [1], from_pid=9)

    holder = fork(hold)
    assert os.read(ready, 1) == b"x"
    pusher = fork(push)
    time.sleep(0.2)
    assert os.waitpid(pusher, os.WNOHANG) == (0, 0), "the lock did not keep the second writer out"
    os.kill(holder, signal.SIGKILL)
    assert wait(holder) == -signal.SIGKILL
    assert wait(pusher, 5) == 0
    assert area.queue.pop() == Request(RequestKind.DOWN, (1,), RequestFlag.NONE, 9)
    assert area.queue.pop() is None
    os.close(ready)
    os.close(tell)


def test_the_epoch_counts_every_bump_of_many_processes():
    area = shared()
    before = area.epoch

    def bump() -> None:
        for _ in range(300):
            area.bump_epoch()

    assert [wait(pid) for pid in [fork(bump) for _ in range(4)]] == [0] * 4
    assert area.epoch == before + 1200


def test_the_epoch_is_never_zero():
    area = shared()
    area._header.set("epoch", 0xFFFFFFFF)
    assert area.bump_epoch() == 1
