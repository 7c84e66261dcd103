"""The files of a running pgpool: pid file, pgpool_status, and the test file backend_down_request (commands.md section 3)."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..model import NodeState

STATUS_FILE = "pgpool_status"
DOWN_REQUEST_FILE = "backend_down_request"
_BINARY_STATUS = struct.Struct("=128i")
_WORDS = {"up": NodeState.UP, "down": NodeState.DOWN, "unused": NodeState.UNUSED}


def read_pid(path: str) -> int | None:
    """The pid in a pid file; None when there is no file or no number > 0 in it. OSError when it cannot be read."""
    try:
        with open(path, "rb") as file:
            text = file.read(64).strip(b"\0 \t\r\n")
    except FileNotFoundError:
        return None
    return int(text) if text.isdigit() and int(text) > 0 else None


def write_pid(path: str, pid: int) -> None:
    """Decimal digits and one NUL, mode 0600. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o600)
        os.write(fd, b"%d\0" % pid)
    finally:
        os.close(fd)


def remove(path: str) -> bool:
    """Remove a file; False when there was none (or it may not be removed)."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


@dataclass(slots=True)
class StoredStatus:
    """What pgpool_status says: node id -> state, and the lines that say nothing."""

    states: dict[int, NodeState] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def bogus(self) -> bool:
        """No node is up: such a file is not believed, all nodes begin as waiting."""
        return NodeState.UP not in self.states.values()


def parse_status(data: bytes) -> StoredStatus:
    """Text form: one line per node in id order. Old form: 128 native ints, 0 unused, 1 waiting, 2 up, 3 down."""
    stored = StoredStatus()
    if len(data) == _BINARY_STATUS.size and b"\0" in data:
        for node_id, number in enumerate(_BINARY_STATUS.unpack(data)):
            if number not in iter(NodeState):
                stored.problems.append(f"backend:{node_id} status is invalid: {number}")
            elif number != NodeState.UNUSED:
                stored.states[node_id] = NodeState.DOWN if number == NodeState.DOWN else NodeState.UP
        return stored
    for node_id, line in enumerate(data.decode("utf-8", "replace").splitlines()):
        state = _WORDS.get(line.strip().lower())
        if state is None:
            stored.problems.append(f'backend:{node_id} status is invalid: "{line.strip()}"')
        else:
            stored.states[node_id] = state
    return stored


def read_status(path: str) -> StoredStatus | None:
    """None when there is no file. Raises OSError when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return parse_status(file.read(1 << 16))
    except FileNotFoundError:
        return None


def render_status(states: Mapping[int, NodeState]) -> str:
    """The text form; waiting counts as up."""
    count = max(states, default=-1) + 1
    words = []
    for node_id in range(count):
        state = states.get(node_id, NodeState.UNUSED)
        words.append("up" if state.usable else state.name.lower())
    return "".join(f"{word}\n" for word in words)


def write_status(path: str, states: Mapping[int, NodeState]) -> None:
    replace(path, render_status(states))


def replace(path: str, text: str) -> None:
    """Replace the file in one step: a reader or a crash sees the old or the new one. Raises OSError."""
    new = f"{path}.new"
    with open(new, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(new, path)


def asked_down(text: str, node_id: int) -> bool:
    """health_check_test: does a line ``<id><TAB>down`` name this node?"""
    return any(_names(line, node_id) for line in text.splitlines())


def answered_down(text: str, node_id: int) -> str:
    """The text with ``already_down`` in the lines that named this node: an attached node stays up."""
    lines = text.splitlines()
    return "".join(f"{node_id}\talready_down\n" if _names(line, node_id) else f"{line}\n" for line in lines)


def _names(line: str, node_id: int) -> bool:
    return line.split() == [str(node_id), "down"]


def read_down_requests(path: str) -> str:
    """What backend_down_request says, '' when it is not there. Raises OSError when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16)
    except FileNotFoundError:
        return ""


def write_down_requests(path: str, text: str) -> None:
    """Write it anew, in place: its owner need not be ours. Raises OSError."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
