"""Names, times and rotation of log files."""

import os
import time
from types import SimpleNamespace

import pytest

from pgpool.system.logfiles import LogFile, file_name, next_rotation


def settings(directory, **more):
    values = {
        "log_directory": str(directory), "log_filename": "p-%Y-%H%M%S.log", "log_file_mode": 0o640, "log_rotation_age": 60,
        "log_rotation_size": 1, "log_truncate_on_rotation": False, "resolve": lambda path: os.path.join("/conf", path),
    }  # fmt: skip
    return SimpleNamespace(**(values | more))


@pytest.fixture
def kolkata(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Kolkata")  # half an hour off
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_rotation_by_age_is_aligned_in_local_time(kolkata):
    due = next_rotation(1440, 1_700_000_000)
    assert time.localtime(due)[3:6] == (0, 0, 0) and 0 < due - 1_700_000_000 <= 86400
    assert time.localtime(next_rotation(60, 1_700_000_000))[4:6] == (0, 0)
    assert next_rotation(60, due) == due + 3600, "a multiple itself is followed by the next one"
    assert next_rotation(0, 1_700_000_000) == 0.0


def test_a_relative_directory_is_below_that_of_the_configuration():
    now = time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, 0))
    assert file_name(settings("logs"), now) == "/conf/logs/p-2026-030405.log"


def test_directory_and_mode(tmp_path):
    conf = settings(tmp_path / "a" / "b")
    file = LogFile()
    file.begin(conf, time.time())
    file.write(b"x" * 1024)
    assert oct(os.stat(file.path).st_mode)[-3:] == "640"
    assert oct(os.stat(tmp_path / "a" / "b").st_mode)[-3:] == "700"
    assert file.wants(conf, time.time()), "by size"
    os.close(file.fd)


@pytest.mark.parametrize(("by_age", "truncate", "kept"), [(True, True, False), (True, False, True), (False, True, True)])
def test_only_a_rotation_by_age_truncates(tmp_path, by_age, truncate, kept):
    conf = settings(tmp_path, log_filename="%S.log", log_truncate_on_rotation=truncate)
    (tmp_path / "30.log").write_text("old")
    file = LogFile()
    file.begin(conf, 1_700_000_009)  # second 29
    assert file.rotate(conf, 1_700_000_010, by_age) == ""
    file.write(b"new")
    os.close(file.fd)
    assert (tmp_path / "30.log").read_text() == ("oldnew" if kept else "new")


def test_a_file_that_cannot_be_opened_stops_rotation_until_the_reload(tmp_path):
    conf = settings(tmp_path, log_rotation_age=0)
    file = LogFile()
    file.begin(conf, 1.0)
    (tmp_path / "wall").write_text("")
    broken = settings(tmp_path / "wall", log_rotation_age=0)
    assert "could not open log file" in file.rotate(broken, 2.0, False)
    file.write(b"x" * 2000)
    assert not file.wants(conf, 3.0), "disabled, the old file goes on"
    assert file.reloaded(broken, conf, 3.0) and file.wants(conf, 3.0)
    assert not file.reloaded(conf, conf, 3.0)
    os.close(file.fd)
