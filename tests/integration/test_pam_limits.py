"""PAM modules that hang or crash: the client is told in time, and the child serves the next one."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.support.servers import Pgpool, wait_until

pytestmark = pytest.mark.needs_pgpool

SERVICES = Path("/etc/pam.d")


@pytest.fixture
def stuck(make_pgpool, tmp_path) -> Iterator[Pgpool]:
    """A pgpool with one child and a PAM module that sleeps for all users but one."""
    if not os.access(SERVICES, os.W_OK):
        pytest.skip("only root may add a PAM service")
    pids, script = tmp_path / "pids", tmp_path / "check"
    pids.touch()
    pids.chmod(0o666)
    script.write_text(f'#!/bin/sh\n[ "$PAM_USER" != sr ] || exit 0\necho $$ >>{pids}\nexec sleep 600\n')
    script.chmod(0o755)
    for parent in (tmp_path, *tmp_path.parents):
        parent.chmod(parent.stat().st_mode | 0o055)
    service = SERVICES / f"pgpool-stuck-{os.getpid()}"
    service.write_text(f"auth required pam_exec.so quiet {script}\naccount required pam_permit.so\n")
    try:
        rules = f"host all postgres all trust\nhost all all all pam pamservice={service.name}\n"
        yield make_pgpool(
            {"enable_pool_hba": True, "num_init_children": 1, "authentication_timeout": 2}, files={"pool_hba.conf": rules}
        )
    finally:
        service.unlink()
        for pid in pids.read_text().split():  # pam_exec gives its program a session of its own
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def attempt(pgpool: Pgpool, user: str) -> str:
    """'' or the text of the refusal."""
    try:
        with pgpool.connect("app", user=user, password="any") as conn:
            conn.execute("SELECT 1")
    except psycopg.OperationalError as error:
        return str(error)
    return ""


def asking(pgpool: Pgpool) -> list[psutil.Process]:
    """Without what pam_exec has forked: that bears the same title until it has become the program."""
    found = [process for process in pgpool.family() if "asking pam" in " ".join(process.cmdline())]
    pids = {process.pid for process in found}
    return [process for process in found if process.ppid() not in pids]


def test_a_hanging_module_ends_at_authentication_timeout(stuck):
    began = time.monotonic()
    assert 'PAM authentication failed for user "third_user"' in attempt(stuck, "third_user")
    assert 1.5 < time.monotonic() - began < 6
    stuck.wait_for_log("no answer in time")
    assert asking(stuck) == []
    assert attempt(stuck, "sr") == "", "the child serves the next client"


def test_a_crashing_module_ends_nothing_else(stuck):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        refused = pool.submit(attempt, stuck, "third_user")
        (asker,) = wait_until(lambda: asking(stuck), "the process that asks")
        child = asker.parent()
        asker.kill()
        assert "PAM authentication failed" in refused.result(10)
    stuck.wait_for_log("the process that asked ended without an answer")
    assert attempt(stuck, "sr") == ""
    assert child.is_running(), "the same child goes on"


@pytest.mark.parametrize("end", ["stop", "kill the child"])
def test_nobody_waits_for_a_module_at_the_end(stuck, end):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        refused = pool.submit(attempt, stuck, "third_user")
        (asker,) = wait_until(lambda: asking(stuck), "the process that asks")
        if end == "stop":
            assert stuck.stop() == 0
        else:
            asker.parent().kill()
        assert refused.result(10) != ""
        wait_until(lambda: not asker.is_running(), "the process that asks to be gone", 5)
    assert "no answer in time" not in stuck.log_text()
