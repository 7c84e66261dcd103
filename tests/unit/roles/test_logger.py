"""Plain text that other programs write to our stderr, between records."""

import json
import os
from types import SimpleNamespace

import pytest

from pgpool.roles.logger import Logger
from pgpool.system.logfiles import LogFile
from pgpool.system.logpipe import Assembler, chunks


@pytest.fixture
def logger(tmp_path):
    made = Logger.__new__(Logger)  # without its signals
    made.settings = SimpleNamespace(
        log_format="text", log_directory=str(tmp_path), log_filename="x", log_file_mode=0o600, log_rotation_age=0,
        resolve=lambda path: path,
    )  # fmt: skip
    made.file, made.assembler, made._plain = LogFile(), Assembler(), b""
    made.file.begin(made.settings, 0.0)
    made.read_fd, write_fd = os.pipe()
    yield made, write_fd, tmp_path / "x"
    os.close(made.read_fd)
    os.close(made.file.fd)


@pytest.mark.parametrize("form", ["text", "json"])
def test_records_and_plain_text(logger, form):
    made, write_fd, path = logger
    made.settings.log_format = form
    os.write(write_fd, b"cp: no su" + chunks(1, b'{"message": "a record"}\n')[0] + b"ch file caf\xe9\n\nhalf a line")
    assert made.read()
    os.close(write_fd)
    assert not made.read(), "the end of the pipe"
    lines = path.read_bytes().splitlines()
    if form == "text":
        assert path.read_bytes() == b'cp: no su{"message": "a record"}\nch file caf\xe9\n\nhalf a line'
    else:
        said = [json.loads(line) for line in lines]
        assert [one["message"] for one in said] == ["a record", "cp: no such file caf\ufffd", "half a line"]
        assert said[1]["backend_type"] == "stderr" and "timestamp" in said[1]
