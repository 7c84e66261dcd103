"""Memory shared by all processes of one pgpool, and locks that the kernel frees when their holder dies."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager


class SharedMemory:
    """``size`` zeroed bytes which every process forked after this call shares.

    The mapping has no name, so nothing is left behind when the last process ends. ``buf`` is a writable memoryview.
    """

    def __init__(self, size: int):
        if size <= 0:
            raise ValueError(f"shared memory size must be positive, not {size}")
        self._map = mmap.mmap(-1, size)
        self.buf = memoryview(self._map)
        self.size = size
        # Record locks belong to (process, file): one file that exists only as this descriptor, opened once. Closing any
        # other descriptor of the same file would drop every lock of the process, so nobody ever dups or reopens it.
        self._lock_fd = os.memfd_create("pgpool-locks", os.MFD_CLOEXEC)
        self._held: set[int] = set()
        self._pid = os.getpid()

    @contextmanager
    def lock(self, index: int) -> Iterator[None]:
        """Hold lock number ``index`` (any number >= 0); waits for the process that has it.

        Not re-entrant: taking a lock twice in one process raises RuntimeError, because the kernel would let it pass and
        free it at the first release.
        """
        self._take(index, fcntl.LOCK_EX)
        try:
            yield
        finally:
            self._release(index)

    def try_lock(self, index: int) -> bool:
        """Take lock ``index`` if nobody has it; True when taken. Give it back with ``unlock``."""
        try:
            self._take(index, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self, index: int) -> None:
        """Give back what ``try_lock`` took."""
        self._release(index)

    def close(self) -> None:
        """Unmap and drop the lock file (tests; a process that ends needs no such call)."""
        self.buf.release()
        self._map.close()
        os.close(self._lock_fd)

    def _take(self, index: int, how: int) -> None:
        if index < 0:
            raise ValueError(f"lock number must not be negative: {index}")
        if self._pid != os.getpid():
            # Forked since: locks are not inherited, so neither is the book of them.
            self._held.clear()
            self._pid = os.getpid()
        if index in self._held:
            raise RuntimeError(f"lock {index} is already held by this process")
        fcntl.lockf(self._lock_fd, how, 1, index)
        self._held.add(index)

    def _release(self, index: int) -> None:
        self._held.discard(index)
        fcntl.lockf(self._lock_fd, fcntl.LOCK_UN, 1, index)
