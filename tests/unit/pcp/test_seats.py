"""Who makes room when all places for PCP connections are taken."""

import pytest

from pgpool.pcp.seats import BUSY, IDLE_GRACE, STRANGER, STRANGER_GRACE, TIME_TO_GO, Seats, Sitter, who_goes

NOW = 1000.0
LONG, LONGER, SHORT = NOW - IDLE_GRACE, NOW - IDLE_GRACE - 1, NOW - 1


@pytest.mark.parametrize(
    ("table", "goes"),
    [
        ([], None),
        ([("a", BUSY), ("a", SHORT)], None),
        ([("a", BUSY), ("b", LONG), ("c", LONGER)], (2, False)),
        ([("a", LONGER), ("b", STRANGER)], (1, True)),
        ([("a", STRANGER), ("b", STRANGER), ("b", STRANGER)], (1, True)),  # a host's crowd throws itself out
        ([("a", STRANGER), ("b", STRANGER)], (0, True)),
    ],
)
def test_who_makes_room(table, goes):
    came = NOW - STRANGER_GRACE
    seats = Seats(20)
    sitters = [Sitter(100 + seat, host, seat, came) for seat, (host, _) in enumerate(table)]
    for seat, (_, value) in enumerate(table):
        seats[seat] = value
    found = who_goes(sitters, seats, NOW)
    assert (found and (found[0].seat, found[1])) == goes
    if found:
        found[0].told = NOW - TIME_TO_GO / 2
        assert who_goes(sitters, seats, NOW) is None, "one at a time"


def test_who_has_just_come_may_log_in():
    seats = Seats(20)
    seats[1] = LONG
    assert who_goes([Sitter(100, "a", 0, NOW)], seats, NOW) is None
    assert who_goes([Sitter(100, "a", 0, NOW), Sitter(101, "a", 1, NOW)], seats, NOW)[0].seat == 1
