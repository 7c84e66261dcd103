"""pcp.conf: users, faults with their line, and who is let in."""

import pytest

from pgpool.pcp import users
from pgpool.pcp.server import LONGEST_DELAY, Doorman
from pgpool.wire import pcp

HASH, OTHER = "e8a48653851e28c69d0506508fb27fc5", "0" * 31 + "1"


def request(user, stored):
    return pcp.LoginRequest(user, pcp.digest(stored, user, b"salt"))


def test_users_and_comments():
    known, faults = users.parse(f"# users\n\npostgres:{HASH}\npostgres:{OTHER}\njoe:{HASH.upper()}\n", "pcp.conf")
    assert not faults and known == {"postgres": [HASH, OTHER], "joe": [HASH]}


@pytest.mark.parametrize("line", ["joe", f":{HASH}", "joe:md5" + HASH, "joe:", "u" * 128 + ":" + HASH, "joe:" + "x" * 600])
def test_a_faulty_line_is_named_and_the_others_count(line):
    known, faults = users.parse(f"{line}\npostgres:{HASH}\n", "/etc/pcp.conf")
    assert list(known) == ["postgres"]
    assert [str(fault).rpartition(":1: ")[0] for fault in faults] == ["/etc/pcp.conf"]


def test_a_missing_file_lets_nobody_in(tmp_path):
    known, faults = users.load(str(tmp_path / "none"))
    assert known == {} and len(faults) == 1


def test_any_line_of_the_user_opens():
    known, _ = users.parse(f"postgres:{OTHER}\npostgres:{HASH}\n", "f")
    assert users.admits(known, request("postgres", HASH), b"salt")
    assert not users.admits(known, request("postgres", "a" * 32), b"salt")
    assert not users.admits(known, request("postgres", HASH), b"tlas")


def test_an_unknown_user_is_never_let_in():
    assert not users.admits({}, request("joe", users.NOBODY), b"salt")


def test_failed_logins_slow_a_host_down_and_are_forgotten():
    now = [0.0]
    door = Doorman(lambda: now[0])
    assert door.delay("a") == 0
    door.failed("a")
    first = door.delay("a")
    for _ in range(20):
        door.failed("a")
    assert 0 < first < door.delay("a") == LONGEST_DELAY and door.delay("b") == 0
    now[0] += 61
    assert door.delay("a") == 0


def test_the_book_of_failed_logins_is_bounded():
    door = Doorman(lambda: 0.0)
    for number in range(5000):
        door.failed(str(number))
    assert len(door._hosts) <= 1024
    door.admitted("1")
    assert door.delay("1") == 0
