"""Processes: fork, wait, kill, commands, titles."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache

import setproctitle

from pgpool import _fastpath
from pgpool.errors import ProcessExit
from pgpool.system import signals, sockets
from pgpool.system.logs import log

EXIT_QUIT = 0
EXIT_RESTART = 1
EXIT_FATAL = 3
"""Exit codes of children as the parent reads them: do not restart, restart, stop everything (behaviour.md 2)."""

parent_only: set[int] = set()
"""Descriptors that a forked process closes at once: only its parent needs them."""

_PR_SET_DUMPABLE = 4
_parent_pid = 0
_libc: ctypes.CDLL | None = None


@contextlib.contextmanager
def apart(work: Callable[[], bytes], title: str) -> Iterator[int]:
    """Run ``work`` in a process of its own, for code that may hang or crash; yields a socket that gives what it returns.

    When the block ends, or this process does, that process is killed, and with it what it started in its group,
    whether or not it has answered. No answer, only the end of the stream: it ended by itself. OSError: no process.
    """
    answer, other = sockets.pair()
    try:
        pid = fork(_work_apart, work, other, title)
    except OSError:
        os.close(answer)
        raise
    finally:
        os.close(other)
    try:
        yield answer
    finally:
        os.close(answer)
        for end in (os.killpg, os.kill):  # it may not have come to its setsid yet
            with contextlib.suppress(ProcessLookupError):
                end(pid, signals.SIGKILL)
        os.waitpid(pid, 0)


def _work_apart(work: Callable[[], bytes], other: int, title: str) -> None:
    os.setsid()
    die_with_parent(signals.SIGKILL)  # whatever a library does to the milder signals
    signals.install(())
    set_title(title)
    os.write(other, work())


def freeze() -> None:
    """Called once in the parent, after all heavy imports and before the first fork.

    Moves every object out of the collector's sight, so that a child's first collection does not write to (and thereby
    copy) the pages it shares with the parent.
    """
    gc.collect()
    _fill_holes()
    gc.freeze()


_POOL_BYTES, _POOL_HEADER = 16384, 48
_fillers: list[bytes] = []


def _fill_holes() -> None:
    """Take what is free between the objects of the parent (0.3 MB): a child's new objects then lie side by side on new
    pages, instead of one here and one there on pages that it would share but for them.

    CPython has pools for each size up to 512 bytes; the first object of a new pool says that the others are full. Where
    that is not so (another build of Python) this ends after a moment, and nothing is kept.
    """
    for size in range(48, 513, 16):
        taken: list[bytes] = []
        for _ in range(2000):
            filler = bytes(size - b"".__sizeof__())
            if id(filler) % _POOL_BYTES == _POOL_HEADER:
                _fillers.extend(taken)
                break
            taken.append(filler)


def fork(target: Callable[..., int | None], *args: object) -> int:
    """Run ``target(*args)`` in a new process; return its pid. Never returns in the child: it ends with target's result.

    In the child all signals are blocked until target calls ``signals.install``, and the child dies (SIGINT) with its
    parent. ``ProcessExit`` gives the exit code; any other exception is logged and means EXIT_RESTART. The numbers of the
    random module are the parent's.
    """
    return fork_each([lambda: target(*args)])[0]


def fork_each(targets: Sequence[Callable[[], int | None]]) -> list[int]:
    """``fork`` for each of ``targets``, at one go. When the system has no more processes for us, fewer than asked for;
    OSError: none."""
    global _parent_pid
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    number, pids = _fastpath.fork(len(targets))
    if number >= 0:
        _parent_pid = parent
        _run_child(targets[number])
    return pids


def _run_child(target: Callable[[], int | None]) -> None:
    code = EXIT_RESTART
    try:
        signals.reset_in_child()
        for fd in parent_only:
            os.close(fd)
        parent_only.clear()
        die_with_parent(signals.SIGINT)
        code = target() or 0
    except ProcessExit as stop:
        log.debug1(f"process exits with code {stop.code}: {stop.reason}")
        code = stop.code
    except BaseException as err:
        log.unexpected("process ends by an unexpected error", err)
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code & 0xFF)


def die_with_parent(signum: int = signals.SIGINT) -> None:
    """Let the kernel send ``signum`` to this process when its parent dies, however it dies.

    A parent which is already gone raises ProcessExit: the request would come too late to ever be answered.
    """
    asked = _fastpath.die_with_parent(signum, _parent_pid)
    if asked < 0:
        log.warning("could not ask for a signal at the death of the parent process")
    if asked > 0:
        raise ProcessExit(EXIT_QUIT, "the parent process is gone")


def protect_memory() -> None:
    """No core file, and no look from outside into the memory of this process and of all it forks (not: executes)."""
    if _prctl(_PR_SET_DUMPABLE, 0) != 0:
        log.warning("could not protect the memory of this process")


def parent_is_gone() -> bool:
    """True in a forked process whose parent has died."""
    return bool(_parent_pid) and os.getppid() != _parent_pid


def reap() -> list[tuple[int, int]]:
    """All children that have ended, as (pid, exit code); the code is negative for a killing signal. Never waits."""
    ended = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, os.waitstatus_to_exitcode(status)))


def kill(pid: int, signum: int) -> bool:
    """Send ``signum`` to one process; False when there is no such process. Groups (pid <= 0) are refused."""
    if pid <= 0:
        raise ValueError(f"refusing to signal process group {pid}")
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True


def alive(pid: int) -> bool:
    """Is there a process with this pid, anybody's? One that has ended and that nobody has waited for does not count."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # there is one, of another user
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (OSError, IndexError):
        return os.path.isdir(f"/proc/{pid}")


def run_command(command: str, timeout: float | None = None) -> int:
    """Run a shell command like system(3) and wait for it; its output goes where ours goes.

    Returns its exit code (negative: killed by that signal). After ``timeout`` seconds it is killed: TimeoutError.
    """
    own_group = timeout is not None
    with subprocess.Popen(command, shell=True, stdin=subprocess.DEVNULL, start_new_session=own_group) as running:
        try:
            return running.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signals.SIGKILL)
            running.wait()
            raise TimeoutError(f"command did not end within {timeout:g} s: {command}") from None


def _identity(user: str) -> dict:
    """Arguments of Popen to become ``user``; '' changes nothing."""
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


def stand_alone() -> None:
    """This process, forked for a command, outlives its parent, and Ctrl-C at the parent's terminal does not reach it."""
    _fastpath.die_with_parent(0, 0)
    os.setsid()
    signals.install(())


_OURS = ("PYTHON", "PGPOOL_PARAMS_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")


def outer_environment() -> dict[str, str]:
    """The environment for an operator's command: ours without what is meant for this program alone (its interpreter;
    in a container, its parameters with their passwords; the service manager's sockets)."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}


def run_told(command: str, tell: Callable[[str], None], limit: float = 0.0) -> int:
    """Run a shell command like system(3); ``tell`` gets each line it prints. Only for a process forked for this.

    The command gets stdio and no other descriptor, and ``outer_environment``. Returns its exit code
    (negative: killed by that signal). What it leaves running may go on printing: nobody hears it, nothing breaks.
    After ``limit`` seconds (0: none) it is killed with all that runs in its process group: TimeoutError.
    """
    began = time.monotonic()

    def late() -> bool:
        return 0 < limit <= time.monotonic() - began

    with subprocess.Popen(
        command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=outer_environment(), start_new_session=limit > 0,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        out = running.stdout.fileno()
        left, ended = b"", False
        while not ended and not late():
            ended = running.poll() is not None
            while not late() and sockets.wait([out], 0.0 if ended else 0.02):
                data = os.read(out, 65536)
                *lines, left = (left + data).split(b"\n")
                for line in lines:
                    tell(line.decode("utf-8", "replace"))
                if not data:
                    while running.poll() is None and not late():
                        time.sleep(0.02)
                    ended = True
                    break
        if running.poll() is None:
            os.killpg(running.pid, signals.SIGKILL)
            raise TimeoutError
        if left:
            tell(left.decode("utf-8", "replace"))
        _hold_open(out)
    return running.returncode


def _hold_open(out: int) -> None:
    """A server that the command left behind still writes into this pipe: somebody must read, or it dies of it."""
    os.set_blocking(out, False)
    try:
        if not os.read(out, 65536):
            return
    except BlockingIOError:
        pass
    if os.fork():
        return
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.set_blocking(out, True)
    while os.read(out, 65536):
        pass
    os._exit(0)


def run(
    argv: Sequence[str],
    *,
    user: str = "",
    env: Mapping[str, str] | None = None,
    cwd: str = "/",
    output: str = "",
    timeout: float | None = None,
) -> tuple[int, str]:
    """Run a program to its end, without a shell; returns (exit code, what it printed, stderr included).

    ``user``: run it as this user, with that user's primary group only (needs root). ``output``: append what it prints
    to this file instead of returning it; needed when the program leaves a server behind, which would hold a pipe open.
    It runs in a session of its own, so that Ctrl-C at our terminal does not reach it. OSError when it cannot be
    started; after ``timeout`` seconds it is killed: TimeoutError.
    """
    with open(output, "ab") if output else contextlib.nullcontext(subprocess.PIPE) as out:
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=cwd,
                start_new_session=True, timeout=timeout, **_identity(user),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"command did not end within {timeout:g} s: {argv[0]}") from None
    return done.returncode, (done.stdout or b"").decode(errors="replace")


def run_watched(
    argv: Sequence[str],
    pause: Callable[[float], None],
    *,
    output: str,
    user: str = "",
    env: Mapping[str, str] | None = None,
) -> int:
    """Like ``run`` with an output file, but ``pause`` is called (with seconds) until the program ends. When that raises,
    the program and all it started are ended. Returns the exit code."""
    with open(output, "ab") as out:
        running = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env, cwd="/",
            start_new_session=True, **_identity(user),
        )  # fmt: skip
    try:
        while running.poll() is None:
            pause(0.05)
    except BaseException:
        os.killpg(running.pid, signals.SIGKILL)
        running.wait()
        raise
    return running.returncode


def daemonize(keep_fds: Iterable[int] = ()) -> Callable[[], None]:
    """Go on as a daemon: own session, cwd ``/``, all descriptors but stdio and ``keep_fds`` closed, the umask kept.

    Returns ``ready``: until the daemon calls it, the process that was started waits and stderr is still the terminal;
    then stdio is /dev/null and the first process exits with 0. It exits with EXIT_FATAL when the daemon ends before.
    """
    import daemon  # a start with -n and the stop and reload commands do without it

    umask = os.umask(0o077)
    os.umask(umask)
    sys.stdout.flush()
    sys.stderr.flush()
    told, tell = os.pipe()
    if os.fork():
        os.close(tell)
        os._exit(EXIT_QUIT if os.read(told, 1) else EXIT_FATAL)
    os.close(told)
    context = daemon.DaemonContext(
        working_directory="/",
        umask=umask,
        prevent_core=False,
        detach_process=True,
        files_preserve=[*keep_fds, tell],
        signal_map={},
        stderr=sys.stderr,
    )
    context.open()

    def ready() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.close(null)
        with contextlib.suppress(BrokenPipeError):  # the first process was interrupted
            os.write(tell, b"1")
        os.close(tell)

    return ready


def replace(argv: Sequence[str], env: Mapping[str, str]) -> None:
    """Become another program, found on PATH; returns only by OSError."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvpe(argv[0], list(argv), dict(env))


def sleep(seconds: float) -> None:
    """Sleep; a signal with a handler does not cut it short."""
    time.sleep(seconds)


def set_title(text: str) -> None:
    """Show ``text`` as this process in ps."""
    setproctitle.setproctitle(text)


@cache
def title_area() -> tuple[int, int] | None:
    """Address and size in bytes of the memory that ps shows as this process's title, for writing into it in place.

    Looked for once: it is at the same place in all processes forked afterwards.

    The text in it must stay NUL-terminated. None when the area cannot be found or is not the one ``set_title`` writes.
    """
    probe = "pgpool: title"
    before = setproctitle.getproctitle()
    setproctitle.setproctitle(probe)
    try:
        return _find_title_area(probe.encode())
    finally:
        setproctitle.setproctitle(before)


def _find_title_area(probe: bytes) -> tuple[int, int] | None:
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        # proc(5): fields 48..51 are arg_start, arg_end, env_start, env_end; the first here is field 3.
        arg_start, arg_end, env_start, env_end = (int(value) for value in fields[45:49])
    except (OSError, ValueError):
        return None
    end = env_end if env_start == arg_end else arg_end
    if arg_start == 0 or end - arg_start <= len(probe):
        return None
    if ctypes.string_at(arg_start, len(probe) + 1) != probe + b"\0":
        return None
    return arg_start, end - arg_start


def _prctl(option: int, value: int) -> int:
    global _libc
    if _libc is None:
        _libc = ctypes.CDLL(None, use_errno=True)
    return _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0)
