"""A real Shared for a few children, and forked writers."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager

from pgpool.config.settings import Settings
from pgpool.shared import Shared


def settings(nodes: int = 2, children: int = 3, pools: int = 2, **more) -> Settings:
    """Settings with ``nodes`` backends on ports 5432, 5433 ..."""
    values: dict = {("num_init_children", None): children, ("max_pool", None): pools}
    for n in range(nodes):
        values["backend_hostname", n] = f"host{n}"
        values["backend_port", n] = 5432 + n
        values["backend_weight", n] = float(n + 1)
    return Settings({**values, **{(name, None): value for name, value in more.items()}})


def shared(**sizes) -> Shared:
    return Shared.create(settings(**sizes), verdict_bits=4)


def fork(work: Callable[[], None]) -> int:
    """Run ``work`` in a child process; exit code 0 when it returns, 1 when it raises."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(code)


def wait(pid: int, seconds: float = 30.0) -> int:
    """Exit code of a forked process (negative: the signal that ended it); fails when it does not end."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"process {pid} did not end")


@contextmanager
def running(work: Callable[[], None]):
    """A process that works until the block is over, then is killed."""
    pid = fork(work)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
