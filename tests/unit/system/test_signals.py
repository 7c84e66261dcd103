"""Handlers only wake; nothing is lost round fork."""

import os
import select
import signal

import pytest

from pgpool.system import process, signals


@pytest.fixture
def installed():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGPIPE)}
    made = signals.install([signals.SIGUSR1, signals.SIGHUP])
    yield made
    assert signals._current is not None
    signals._current.close()
    for number, handler in before.items():  # left at its default, SIGPIPE would end the tests that write to a closed socket
        signal.signal(number, handler)


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def test_a_signal_makes_the_wakeup_fd_readable_until_drained(installed):
    assert not readable(installed.wakeup_fd)
    os.kill(os.getpid(), signals.SIGUSR1)
    assert readable(installed.wakeup_fd)
    assert installed.drain() == {signals.SIGUSR1}
    assert not readable(installed.wakeup_fd)
    assert installed.drain() == set()


def test_several_signals_are_told_together_and_once(installed):
    for signum in (signals.SIGUSR1, signals.SIGHUP, signals.SIGUSR1):
        os.kill(os.getpid(), signum)
    assert installed.drain() == {signals.SIGUSR1, signals.SIGHUP}


def test_a_second_install_replaces_the_first(installed):
    again = signals.install([signals.SIGUSR1])
    os.kill(os.getpid(), signals.SIGUSR1)
    assert again.drain() == {signals.SIGUSR1}
    assert signal.getsignal(signals.SIGHUP) is signal.SIG_DFL


def test_ignored_signals_do_nothing():
    made = signals.install([], ignored=[signals.SIGUSR2])
    try:
        os.kill(os.getpid(), signals.SIGUSR2)
        assert made.drain() == set()
    finally:
        made.close()


def test_a_child_is_not_told_by_the_parents_pipe(installed):
    """A wakeup fd survives fork: a signal to the child must not arrive in the parent."""
    said_read, said_write = os.pipe()

    def child():
        own = signals.install([signals.SIGUSR1])
        select.select([own.wakeup_fd], [], [], 10)
        os.write(said_write, bytes(sorted(own.drain())))
        return 0

    pid = process.fork(child)
    process.kill(pid, signals.SIGUSR1)
    assert os.read(said_read, 10) == bytes([signals.SIGUSR1])
    os.waitpid(pid, 0)
    assert installed.drain() <= {signals.SIGCHLD}
    os.close(said_read)
    os.close(said_write)


def test_a_signal_before_the_child_is_ready_is_not_lost(installed):
    """It is sent at once after the fork, long before the child installs its handlers."""

    def child():
        process.sleep(0.2)
        own = signals.install([signals.SIGTERM])
        ready = select.select([own.wakeup_fd], [], [], 5)[0]
        return 7 if ready and own.drain() == {signals.SIGTERM} else 8

    pid = process.fork(child)
    process.kill(pid, signals.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_names():
    assert signals.name(15) == "SIGTERM"
    assert signals.name(4711) == "4711"
