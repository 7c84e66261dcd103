"""Which transactions may run wholly on a standby, and what may not come in them."""

from __future__ import annotations

import pytest

from pgpool.model import Dest, Effect, Kind, Reason, Route, State
from pgpool.policy.aside import makes_read_only, may_begin, unfit
from pgpool.policy.route import RoutingSettings, route
from pgpool.sql.analyze import analyze


@pytest.mark.parametrize(
    ("text", "access", "by_default_off", "by_default_on"),
    [
        ("BEGIN", "", False, True),
        ("BEGIN READ ONLY", "only", True, True),
        ("START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", "only", True, True),
        ("BEGIN READ WRITE", "write", False, False),
        ("BEGIN READ ONLY, READ WRITE", "write", False, False),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE", "only", False, False),
        ("SELECT 1", "", False, False),
        ("COMMIT", "", False, False),
        ("BEGIN READ ONLY; SELECT 1", "", False, False),
    ],
)
def test_which_begin(text: str, access: str, by_default_off: bool, by_default_on: bool) -> None:
    statement = analyze(text)
    assert statement.access == access
    assert (may_begin(statement, False), may_begin(statement, True)) == (by_default_off, by_default_on)


@pytest.mark.parametrize(
    ("text", "does"),
    [
        ("SET TRANSACTION READ ONLY", True),
        ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", True),
        ("SET LOCAL TRANSACTION READ ONLY", True),
        ("SET transaction_read_only = on", True),
        ("SET LOCAL transaction_read_only TO 'true'", True),
        ("SET transaction_read_only = off", False),
        ("SET TRANSACTION READ WRITE", False),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY", False),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", False),
        ("SET default_transaction_read_only = on", False),
        ("BEGIN READ ONLY", False),
    ],
)
def test_which_set(text: str, does: bool) -> None:
    assert makes_read_only(analyze(text)) is does


INSIDE = State.IN_TRANSACTION | State.ON_STANDBY


def inside(text: str, state: State = INSIDE) -> Route:
    found = route(analyze(text), state, RoutingSettings(read_only_aside=True))
    assert isinstance(found, Route)
    return found


@pytest.mark.parametrize(
    "text",
    [
        *("SELECT f(x), nextval('s') FROM pg_class", "INSERT INTO t VALUES (1)", "DECLARE c CURSOR FOR SELECT 1", "FETCH c"),
        *("EXPLAIN SELECT 1", "SHOW transaction_read_only", "CREATE TABLE t ()", "nonsense", "SELECT 1; SELECT 2"),
    ],
)
def test_everything_goes_to_the_node_that_leads(text: str) -> None:
    found = inside(text)
    assert (found.dest, found.reason, found.effect, found.cacheable) == (Dest.PRIMARY, Reason.ON_STANDBY, Effect.NONE, True)


@pytest.mark.parametrize(
    "text", ["COMMIT", "END", "ROLLBACK", "COMMIT AND CHAIN", "PREPARE TRANSACTION 'x'", "BEGIN", "SET a.b = 1"]
)
@pytest.mark.parametrize("state", [INSIDE, INSIDE | State.FAILED])
def test_what_must_not_be_missed_is_never_remembered(text: str, state: State) -> None:
    assert not inside(text, state).cacheable
    assert not unfit(analyze(text))


@pytest.mark.parametrize(
    "text",
    [
        *("COMMIT; INSERT INTO t VALUES (1)", "ROLLBACK; BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 1"),
        *("SELECT 1; DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT 1", "SELECT set_config('a.b', $1, false)"),
        "DO 'SET a.b = 1'",
    ],
)
def test_what_does_not_fit(text: str) -> None:
    assert unfit(analyze(text))
    assert not inside(text).cacheable


@pytest.mark.parametrize("text", ["DECLARE c CURSOR FOR SELECT 1", "DECLARE c CURSOR WITHOUT HOLD FOR SELECT 'with hold'",
                                  "SELECT set_config('a.b', 'c', false)", "SELECT set_config('a.b', $1, true)"])  # fmt: skip
def test_what_fits(text: str) -> None:
    assert not unfit(analyze(text))


def test_begin_is_looked_at_each_time_only_when_that_is_asked_for() -> None:
    begin = analyze("BEGIN READ ONLY")
    assert begin.kind is Kind.BEGIN
    for aside in (False, True):
        found = route(begin, State.NONE, RoutingSettings(read_only_aside=aside))
        assert isinstance(found, Route)
        assert (found.dest, found.cacheable) == (Dest.PRIMARY, not aside)
