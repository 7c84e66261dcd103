"""Fork, wait, kill, titles, commands."""

import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pgpool.errors import ProcessExit
from pgpool.system import process, signals
from tests.support.places import python_env


def code_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def wait_until(condition, timeout: float = 10.0):
    end = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return value


def raise_(err: BaseException) -> None:
    raise err


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (lambda: None, 0),
        (lambda: 3, 3),
        (lambda: raise_(ProcessExit(0, "told to")), 0),
        (lambda: raise_(ProcessExit(3, "everything is lost")), 3),
        (lambda: raise_(KeyboardInterrupt()), 1),
    ],
)
def test_exit_codes_of_children(target, code):
    assert code_of(process.fork(target)) == code


def test_an_unexpected_error_is_logged_and_means_restart(capfd):
    assert code_of(process.fork(lambda: raise_(ZeroDivisionError("oh")))) == process.EXIT_RESTART
    logged = capfd.readouterr().err
    assert "ERROR:  process ends by an unexpected error: ZeroDivisionError: oh" in logged
    assert "raise_" in logged, "it says where"


def test_the_child_never_comes_back():
    """Not even through the finally clauses and context managers that stand round the fork."""
    read_fd, write_fd = os.pipe()
    try:
        pid = process.fork(lambda: 0)
    finally:
        os.write(write_fd, b"x")
    code_of(pid)
    assert os.read(read_fd, 10) == b"x", "only the parent got here"
    os.close(read_fd)
    os.close(write_fd)


def test_reap_takes_all_that_have_ended_and_never_waits():
    pids = {process.fork(lambda: 1), process.fork(lambda: 0)}
    alive = process.fork(lambda: process.sleep(30))
    killed = process.fork(lambda: process.sleep(30))
    process.kill(killed, signals.SIGKILL)
    seen = {}
    wait_until(lambda: seen.update(process.reap()) or len(seen) == 3)
    assert set(seen) == pids | {killed}
    assert seen[killed] == -signals.SIGKILL
    assert process.reap() == []
    process.kill(alive, signals.SIGKILL)
    wait_until(lambda: process.reap() == [(alive, -9)])
    assert process.reap() == [], "no children at all is fine too"


@pytest.mark.parametrize("pid", [0, -1, -500])
def test_groups_are_never_signalled(pid):
    with pytest.raises(ValueError, match="refusing"):
        process.kill(pid, 0)


def test_kill_and_alive_of_a_process_that_is_gone():
    pid = process.fork(lambda: 0)
    wait_until(lambda: not process.alive(pid))  # a zombie is not alive
    code_of(pid)
    assert not process.alive(pid)
    assert process.kill(pid, signals.SIGTERM) is False
    assert process.alive(os.getpid())
    assert not process.alive(0)


PARENT = """
import os, sys
from pgpool.system import process, signals, sockets
def child():
    sys.stdout.write(f"{os.getpid()}\\n"); sys.stdout.flush()
    made = signals.install([signals.SIGINT])
    sockets.wait([made.wakeup_fd])
    os.write(1, b"child: %d\\n" % min(made.drain()))
    return 0
process.fork(child)
process.sleep(60)
"""


def test_a_child_dies_with_a_parent_that_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=python_env())
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert process.alive(child)
    parent.kill()
    parent.wait()
    assert parent.stdout.read() == f"child: {int(signals.SIGINT)}\n"
    wait_until(lambda: not process.alive(child))
    parent.stdout.close()


def test_title_is_seen_by_ps_and_can_be_written_in_place():
    script = (
        "import ctypes\n"
        "from pgpool.system import process\n"
        "address, size = process.title_area()\n"
        "process.set_title('pgpool: user db idle')\n"
        "ctypes.memmove(address + len('pgpool: user db '), b'SELECT\\0', 7)\n"
        "print(size, open('/proc/self/cmdline').read().rstrip('\\0'))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=python_env())
    size, _, title = done.stdout.strip().partition(" ")
    assert title == "pgpool: user db SELECT"
    assert int(size) > 60


def test_asking_for_the_title_area_leaves_the_title_alone():
    script = (
        "from pgpool.system import process\n"
        "process.set_title('pgpool: worker process')\n"
        "process.title_area()\n"
        "print(open('/proc/self/cmdline').read().rstrip('\\0'))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=python_env())
    assert done.stdout == "pgpool: worker process\n"


def test_title_area_is_none_when_the_memory_is_not_ours(monkeypatch):
    monkeypatch.setattr(ctypes, "string_at", lambda address, size: b"something else")
    assert process._find_title_area(b"pgpool: title") is None


def test_run_command_returns_the_exit_code():
    assert process.run_command("exit 5") == 5
    assert process.run_command("kill -9 $$") == -9


def test_run_command_kills_what_takes_too_long_with_all_its_children():
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"within 0\.2 s"):
        process.run_command("sleep 60 & sleep 60", timeout=0.2)
    assert time.monotonic() - began < 5


def answer_of(work) -> bytes:
    with process.apart(work, "apart") as fd:
        return b"".join(iter(lambda: os.read(fd, 100), b""))


def test_work_apart_gives_its_answer_and_leaves_nothing():
    pid = int(answer_of(lambda: b"%d" % os.getpid()))
    assert pid != os.getpid()
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    assert answer_of(lambda: os._exit(0)) == b""  # type: ignore[arg-type, return-value]


def test_work_apart_is_killed_with_its_group_when_nobody_waits_any_more(tmp_path):
    def work() -> bytes:
        signals.install((), (signals.SIGTERM, signals.SIGINT))
        started = subprocess.Popen(["sleep", "600"])
        (tmp_path / "pid").write_text(str(started.pid))
        started.wait()
        return b"never"

    with pytest.raises(ZeroDivisionError), process.apart(work, "apart"):
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        raise ZeroDivisionError
    wait_until(lambda: not process.alive(int((tmp_path / "pid").read_text())))


def test_fork_beside_busy_threads():
    """Whoever of them holds the interpreter's lock, or waits for it, is not there in the new process."""
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(100))

    threads = [threading.Thread(target=spin) for _ in range(3)]
    for thread in threads:
        thread.start()
    pids: list[int] = []
    try:
        for _ in range(50):
            pids += process.fork_each([lambda: sum(range(100_000)) and 7] * 2)
        left = set(pids)

        def ended() -> bool:
            for pid in list(left):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    left.discard(pid)
            return not left

        wait_until(ended)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for pid in left:
            os.kill(pid, signals.SIGKILL)
            os.waitpid(pid, 0)


def test_freeze_hides_objects_from_the_collector():
    script = "import gc\nfrom pgpool.system import process\nprocess.freeze()\nprint(gc.get_freeze_count() > 1000)\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=python_env())
    assert done.stdout == "True\n"


DAEMON = """
import os, sys
from pgpool.system import process
keep = os.open(sys.argv[1], os.O_WRONLY)
other = os.open("/dev/null", os.O_RDONLY)
os.umask(0o027)
ready = process.daemonize([keep])
if sys.argv[3] == "fails":
    os.write(2, b"complaint")
    sys.exit(1)
ready()
def is_open(fd):
    try:
        os.fstat(fd); return True
    except OSError:
        return False
mask = os.umask(0)
facts = [os.getcwd(), os.getsid(0) != int(sys.argv[2]), is_open(other), os.readlink("/proc/self/fd/2"), oct(mask)]
os.write(keep, repr(facts).encode())
"""


def start_daemon(tmp_path, how: str) -> tuple[subprocess.CompletedProcess, Path]:
    out = tmp_path / "out"
    out.touch()
    command = [sys.executable, "-c", DAEMON, str(out), str(os.getsid(0)), how]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20, env=python_env())
    return done, out


def test_daemonize(tmp_path):
    done, out = start_daemon(tmp_path, "works")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wait_until(out.read_text)
    assert out.read_text() == "['/', True, False, '/dev/null', '0o27']"


def test_a_daemon_that_fails_before_it_is_ready(tmp_path):
    done, _ = start_daemon(tmp_path, "fails")
    assert (done.returncode, done.stderr) == (process.EXIT_FATAL, "complaint")


def test_commands_do_not_get_what_is_meant_for_us_alone(monkeypatch):
    for name in ("PGPOOL_PARAMS_SR_CHECK_PASSWORD", "PYTHONPATH", "NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC"):
        monkeypatch.setenv(name, "S3CRET")
    monkeypatch.setenv("OF_THE_OPERATOR", "kept")
    lines = []
    assert process.run_told("env; ls /proc/self/fd | wc -l", lines.append) == 0
    assert "OF_THE_OPERATOR=kept" in lines and any(line.startswith("PATH=") for line in lines)
    assert "S3CRET" not in " ".join(lines)
    assert int(lines[-1]) <= 4  # stdio, and the directory that ls reads


@pytest.mark.parametrize(
    "command",
    ["echo begun; sleep 60; echo not ended", "while :; do echo begun; done", "echo begun; exec >&- 2>&-; sleep 60 & wait"],
)
def test_a_command_that_takes_too_long_is_killed(command):
    lines: list[str] = []
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        process.run_told(command, lines.append, 0.3)
    assert time.monotonic() - began < 10
    assert set(lines) == {"begun"}


def test_protected_memory_is_inherited_by_forks():
    dumpable = ctypes.CDLL(None).prctl
    get = 3
    assert dumpable(get, 0, 0, 0, 0) == 1

    def protected() -> int:
        process.protect_memory()
        return code_of(process.fork(lambda: 40 + dumpable(get, 0, 0, 0, 0)))

    assert code_of(process.fork(protected)) == 40
