"""Which idle limit holds, and the words a client hears at its end (behaviour.md 2, 14)."""

import time
from types import SimpleNamespace

import pytest

from pgpool.session import idle
from pgpool.session.state import SessionOver


class Listener:
    def __init__(self):
        self.heard = b""

    def reply(self, data: bytes) -> None:
        self.heard += data


def session(stage: int, quiet: float, limit: int = 100, in_recovery: int = 0):
    return SimpleNamespace(
        settings=SimpleNamespace(client_idle_limit=limit, client_idle_limit_in_recovery=in_recovery),
        worker=SimpleNamespace(
            shared=SimpleNamespace(recovery_stage=stage), cell=SimpleNamespace(quiet_for=lambda: quiet)
        ),
        began=time.monotonic() - 1000,
        relay=Listener(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "in_recovery", "name", "left"),
    [
        (0, 7, "client_idle_limit", 90_001),
        (1, 7, "client_idle_limit", 90_001),
        (2, 0, "client_idle_limit_in_recovery", -1),
        (2, 30, "client_idle_limit_in_recovery", 20_001),
        (2, -1, "client_idle_limit_in_recovery", 0),
        (2, 7, "client_idle_limit_in_recovery", 1),
    ],
)
def test_only_the_second_stage_of_a_recovery_is_stricter(stage, in_recovery, name, left):
    who = session(stage, quiet=10, in_recovery=in_recovery)
    limit = idle.limit(who)
    assert (limit.name, limit.left(who)) == (name, left)


@pytest.mark.parametrize(
    ("stage", "in_recovery", "words"),
    [
        (0, -1, [b"SDEBUG", b"C57000", b"Munable to read data",
                 b"Dchild connection forced to terminate due to client_idle_limit:100 is reached"]),
        (2, 5, [b"SDEBUG", b"C57000", b"Munable to read data",
                b"Dchild connection forced to terminate due to client_idle_limit_in_recovery:5 is reached"]),
        (2, -1, [b"C57000", b"Mconnection terminated due to online recovery"]),
    ],
)  # fmt: skip
def test_what_the_client_hears(stage, in_recovery, words):
    who = session(stage, quiet=101, in_recovery=in_recovery)
    with pytest.raises(SessionOver):
        idle.limit(who).end(who)
    assert [word for word in words if word + b"\0" not in who.relay.heard] == []


def test_a_request_that_came_meanwhile_saves_it():
    who = session(2, quiet=1, in_recovery=5)
    idle.limit(who).end(who)
    assert who.relay.heard == b""
