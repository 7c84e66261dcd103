"""A program that is watched: its end, its output, and the end of all it started when the watcher gives up."""

import time

import pytest

from pgpool.system import process


def test_exit_code_and_output(tmp_path):
    log = tmp_path / "log"
    log.write_text("before\n")
    assert process.run_watched(["/bin/sh", "-c", "echo hello; exit 3"], time.sleep, output=str(log)) == 3
    assert log.read_text() == "before\nhello\n"


def test_giving_up_ends_the_program(tmp_path):
    pid = tmp_path / "pid"

    def pause(seconds: float) -> None:
        time.sleep(seconds)
        if pid.exists() and pid.read_text().strip():
            raise KeyError("enough")

    with pytest.raises(KeyError):
        process.run_watched(["/bin/sh", "-c", f"echo $$ >{pid}; exec sleep 600"], pause, output=str(tmp_path / "log"))
    assert not process.alive(int(pid.read_text()))
