"""pid file and pgpool_status, byte for byte."""

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool.model import NodeState
from pgpool.roles import files

UP, DOWN, WAITING, UNUSED = NodeState.UP, NodeState.DOWN, NodeState.WAITING, NodeState.UNUSED


def test_pid_file(tmp_path):
    path = tmp_path / "pgpool.pid"
    path.write_text("a longer text from before")
    files.write_pid(str(path), 4711)
    assert path.read_bytes() == b"4711\0"
    assert path.stat().st_mode & 0o777 == 0o600
    assert files.read_pid(str(path)) == 4711
    assert files.remove(str(path))
    assert not files.remove(str(path))
    assert files.read_pid(str(path)) is None


@pytest.mark.parametrize("data", [b"", b"abc", b"0", b"-5", b"12x", b"\0", b"1 2"])
def test_a_pid_file_without_a_pid(tmp_path, data):
    path = tmp_path / "pid"
    path.write_bytes(data)
    assert files.read_pid(str(path)) is None


@pytest.mark.parametrize("data", [b"77", b"77\0", b"77\n", b" 77 \n"])
def test_forms_of_a_pid(tmp_path, data):
    path = tmp_path / "pid"
    path.write_bytes(data)
    assert files.read_pid(str(path)) == 77


def test_status_text():
    stored = files.parse_status(b"up\nDOWN\nUnused\n")
    assert stored.states == {0: UP, 1: DOWN, 2: UNUSED}
    assert stored.problems == []
    assert not stored.bogus


def test_status_without_a_node_that_is_up_is_bogus():
    assert files.parse_status(b"down\ndown\n").bogus
    assert files.parse_status(b"").bogus


def test_lines_that_say_nothing_are_told():
    stored = files.parse_status(b"up\ndwon\n")
    assert stored.states == {0: UP}
    assert stored.problems == ['backend:1 status is invalid: "dwon"']


def test_old_binary_status():
    data = struct.pack("=128i", 2, 3, 1, *[0] * 125)
    assert files.parse_status(data).states == {0: UP, 1: DOWN, 2: UP}


def test_old_binary_status_with_a_wrong_number():
    stored = files.parse_status(struct.pack("=128i", 2, 9, *[0] * 126))
    assert stored.states == {0: UP}
    assert stored.problems == ["backend:1 status is invalid: 9"]


def test_render_has_a_line_for_every_id():
    assert files.render_status({0: UP, 1: DOWN, 3: WAITING}) == "up\ndown\nunused\nup\n"
    assert files.render_status({}) == ""


def test_write_replaces_the_file(tmp_path):
    path = str(tmp_path / "pgpool_status")
    files.write_status(path, {0: UP})
    files.write_status(path, {0: DOWN, 1: UP})
    assert files.read_status(path).states == {0: DOWN, 1: UP}
    assert os.listdir(tmp_path) == ["pgpool_status"]
    assert files.read_status(path + "x") is None


@given(st.dictionaries(st.integers(0, 127), st.sampled_from([UP, DOWN, UNUSED])))
def test_what_is_rendered_is_read_back(states):
    read = files.parse_status(files.render_status(states).encode()).states
    assert {i: s for i, s in read.items() if s is not UNUSED} == {i: s for i, s in states.items() if s is not UNUSED}


@given(st.binary(max_size=600))
def test_any_bytes_are_survived(data):
    files.parse_status(data)


@pytest.mark.parametrize(
    ("text", "asked", "after"),
    [
        ("1\tdown\n", True, "1\talready_down\n"),
        ("0\tdown\n1 down", True, "0\tdown\n1\talready_down\n"),
        ("1\talready_down\n", False, "1\talready_down\n"),
        ("11\tdown\n1\tdownright\n1\n\ndown\n", False, "11\tdown\n1\tdownright\n1\n\ndown\n"),
        ("", False, ""),
    ],
)
def test_a_test_asks_for_a_failed_check(tmp_path, text, asked, after):
    path = str(tmp_path / files.DOWN_REQUEST_FILE)
    assert files.read_down_requests(path) == ""
    files.write_down_requests(path, text)
    assert files.asked_down(files.read_down_requests(path), 1) is asked
    assert files.answered_down(text, 1) == after
