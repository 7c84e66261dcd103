"""Memory and locks between real processes."""

import os

import pytest

from pgpool.system import process, signals
from pgpool.system.memory import SharedMemory


@pytest.fixture
def memory():
    memory = SharedMemory(4096)
    yield memory
    memory.close()


def wait_for(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_begins_zeroed_and_has_its_size(memory):
    assert memory.size == len(memory.buf) == 4096
    assert bytes(memory.buf) == bytes(4096)


def test_size_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        SharedMemory(0)


def test_what_a_child_writes_the_parent_reads(memory):
    def child():
        memory.buf[7] = 99
        return 0

    assert wait_for(process.fork(child)) == 0
    assert memory.buf[7] == 99


def test_lock_excludes_another_process(memory):
    def child():
        return 0 if memory.try_lock(3) else 42

    with memory.lock(3):
        assert wait_for(process.fork(child)) == 42
    assert wait_for(process.fork(child)) == 0


def test_locks_of_different_numbers_do_not_meet(memory):
    with memory.lock(3):
        assert wait_for(process.fork(lambda: 0 if memory.try_lock(4) else 42)) == 0


def test_lock_of_a_killed_process_is_free_at_once(memory):
    ready_read, ready_write = os.pipe()

    def child():
        memory.try_lock(5)
        os.write(ready_write, b"x")
        signals.install([])
        process.sleep(60)

    pid = process.fork(child)
    assert os.read(ready_read, 1) == b"x"
    assert not memory.try_lock(5)
    process.kill(pid, signals.SIGKILL)
    wait_for(pid)
    assert memory.try_lock(5)
    memory.unlock(5)
    os.close(ready_read)
    os.close(ready_write)


def test_waiting_for_a_lock_ends_when_it_is_given_back(memory):
    ready_read, ready_write = os.pipe()

    def child():
        os.write(ready_write, b"x")
        with memory.lock(1):
            return memory.buf[0]

    with memory.lock(1):
        pid = process.fork(child)
        os.read(ready_read, 1)
        process.sleep(0.05)
        memory.buf[0] = 7
    assert wait_for(pid) == 7
    os.close(ready_read)
    os.close(ready_write)


def test_a_lock_is_not_reentrant_and_says_so(memory):
    with memory.lock(1):
        with pytest.raises(RuntimeError, match="already held"), memory.lock(1):
            pass
        assert wait_for(process.fork(lambda: 0 if memory.try_lock(1) else 42)) == 42


def test_a_child_does_not_inherit_locks_nor_the_book_of_them(memory):
    with memory.lock(1):
        pid = process.fork(lambda: 42 if memory.try_lock(1) else 0)
        assert wait_for(pid) == 0


def test_an_error_inside_frees_the_lock(memory):
    with pytest.raises(ZeroDivisionError), memory.lock(1):
        raise ZeroDivisionError
    assert memory.try_lock(1)


def test_negative_numbers_are_refused(memory):
    with pytest.raises(ValueError, match="negative"):
        memory.try_lock(-1)
