"""The logging collector, JSON and syslog on a running pgpool (behaviour.md 13)."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import threading

import psutil
import pytest

from tests.support.places import python_env, wait_until

pytestmark = pytest.mark.needs_pgpool


def files_of(place):
    return sorted(place.glob("logs/*"), key=lambda file: file.stat().st_mtime_ns)


def text_of(place):
    return "".join(file.read_text() for file in files_of(place))


def logger_of(pgpool):
    return next(p for p in pgpool.family() if "PgpoolLogger" in " ".join(p.cmdline()))


def test_collector_from_start_to_end(make_pgpool):
    pgpool = make_pgpool(
        {
            "logging_collector": True, "log_directory": "logs", "log_filename": "first.log", "log_file_mode": 0o640,
            "log_statement": True, "num_init_children": 2,
        },
    )  # fmt: skip
    place = pgpool.place
    assert "redirecting log output to logging collector process" in pgpool.log_text()
    first = place / "logs" / "first.log"
    long = "x" * 9000
    with pgpool.connect() as conn:
        conn.execute(f"SELECT '{long}'")
    wait_until(lambda: f"statement: SELECT '{long}'\n" in first.read_text(), "a long statement, whole")
    assert oct(first.stat().st_mode)[-3:] == "640"

    # renamed by logrotate, then SIGUSR1: the same name again
    first.rename(place / "logs" / "moved")
    logger_of(pgpool).send_signal(signal.SIGUSR1)
    wait_until(first.exists, "the file to be opened again")

    # another name by a reload
    pgpool.write_conf(log_filename="second.log")
    pgpool.reload()
    second = place / "logs" / "second.log"
    wait_until(second.exists, "a file of the new name")

    # a logger that dies loses nothing of what comes later
    old = logger_of(pgpool)
    old.kill()
    with pgpool.connect() as conn:
        for number in range(300):
            conn.execute(f"SELECT 'after the death {number}'")
    wait_until(lambda: "after the death 299" in text_of(place), "the new logger")
    assert {int(n) for n in re.findall(r"statement: SELECT 'after the death (\d+)'", text_of(place))} == set(range(300))
    new = logger_of(pgpool)
    assert new.pid != old.pid

    # it outlives a stop, and writes the last words
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        new.send_signal(signum)
    assert pgpool.stop() == 0
    assert "Pgpool-II system is shutdown" in second.read_text()
    wait_until(lambda: not new.is_running() or new.status() == psutil.STATUS_ZOMBIE, "the logger to end")
    pgpool.log.write_text("")


def test_a_daemon_keeps_its_log_and_tells_the_service_manager(make_pgpool, tmp_path_factory, monkeypatch):
    path = tmp_path_factory.mktemp("n") / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        path.parent.chmod(0o755)
        path.chmod(0o666)
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        settings = {"logging_collector": True, "log_directory": "logs", "log_filename": "d.log", "num_init_children": 1}
        pgpool = make_pgpool(settings, start=False)
        subprocess.run(pgpool.command, env=python_env(), cwd=pgpool.place, check=True, timeout=60, capture_output=True)
        try:
            pid = int((pgpool.place / "pgpool.pid").read_bytes().strip(b"\0"))
            assert manager.recv(200).startswith(b"READY=1\nMAINPID=%d\n" % pid)
            family = [psutil.Process(pid), *psutil.Process(pid).children()]
            subprocess.run([*pgpool.command, "reload"], env=python_env(), check=True, timeout=60, capture_output=True)
            assert re.match(rb"RELOADING=1\nMONOTONIC_USEC=\d+\n", manager.recv(200))
            assert manager.recv(200).startswith(b"READY=1\n")
        finally:
            stop = [*pgpool.command, "-m", "fast", "stop"]
            subprocess.run(stop, env=python_env(), check=True, timeout=60, capture_output=True)
        assert manager.recv(200).startswith(b"STOPPING=1\n")
    text = (pgpool.place / "logs" / "d.log").read_text()
    assert "successfully started" in text and "reload config files." in text and "system is shutdown" in text
    wait_until(lambda: not any(process.is_running() for process in family), "all processes to end, the logger too")


def test_no_log_file_no_start(make_pgpool):
    pgpool = make_pgpool({"logging_collector": True, "log_directory": "pgpool.conf", "num_init_children": 1}, start=False)
    done = subprocess.run(
        [*pgpool.command, "-n"], env=python_env(), cwd=pgpool.place, timeout=60, capture_output=True, text=True
    )
    assert done.returncode == 3
    assert 'FATAL:  could not open log file in directory "pgpool.conf"' in done.stderr
    assert not (pgpool.place / "pgpool.pid").exists()


def listen(sock, heard, over):
    while not over.is_set():
        with contextlib.suppress(TimeoutError):
            heard.append(sock.recv(1 << 16).decode())


def test_json_and_syslog(make_pgpool, tmp_path_factory, monkeypatch):
    path = tmp_path_factory.mktemp("s") / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(path))
        path.parent.chmod(0o755)
        path.chmod(0o666)
        syslog.settimeout(0.1)
        heard: list[str] = []
        over = threading.Event()
        reader = threading.Thread(target=listen, args=(syslog, heard, over))
        reader.start()
        monkeypatch.setenv("PGPOOL_SYSLOG_SOCKET", str(path))
        pgpool = make_pgpool(
            {
                "logging_collector": True, "log_directory": "logs", "log_filename": "a.json", "log_format": "json",
                "log_destination": "stderr,syslog", "syslog_facility": "LOCAL3", "syslog_ident": "proxy",
                "log_connections": True, "log_disconnections": True, "log_statement": True, "num_init_children": 1,
            },
            start=False,
        )  # fmt: skip
        pgpool.start(wait=False)
        wait_until(lambda: "successfully started" in text_of(pgpool.place), "the start")
        for _ in range(2):
            with pgpool.connect(application_name="me") as conn:
                conn.execute("SELECT 'json'")
        file = pgpool.place / "logs" / "a.json"
        wait_until(lambda: file.read_text().count("frontend disconnection") == 2, "two sessions")
        records = [json.loads(line) for line in file.read_text().splitlines()]
        wait_until(lambda: sum("frontend disconnection" in text for text in heard) == 2, "syslog to hear of both")
        over.set()
        reader.join()
    heads, _, told = zip(*(text.partition("]: ") for text in heard), strict=True)
    assert all(re.match(r"<\d+>\w{3} [ \d]\d [\d:]{8} proxy\[\d+$", head) for head in heads)
    in_syslog = {json.loads(text)["message"] for text in told}
    assert {record["message"] for record in records if record.get("backend_type") == "CHILD"} <= in_syslog
    sessions = [record["session_id"] for record in records if record["message"] == "new connection received"]
    assert len(set(sessions)) == 2, "one id a session, from its first record on"
    [one, two] = [record for record in records if record["message"] == "statement: SELECT 'json'"]
    assert (one["user"], one["dbname"], one["application_name"]) == ("postgres", "app", "me")
    assert [one["session_id"], two["session_id"]] == sessions
