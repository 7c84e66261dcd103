"""bench/soak.py, a few seconds of it."""

import threading

import pytest

from bench import soak
from tests.support.places import wait_until

pytestmark = [pytest.mark.needs_pgpool, pytest.mark.long]


def test_nothing_leaks_and_nobody_is_lost(make_pgpool):
    pgpool = make_pgpool(soak.SETTINGS)
    ledger, _, _, faults = soak.soak(pgpool, 8)
    assert not faults, "\n".join(faults)
    assert ledger.kills and ledger.reloads >= 4 and ledger.rotations


def test_only_clients_of_killed_children_may_be_lost():
    kills = [soak.Kill(4.0, frozenset({11})), soak.Kill(6.0, frozenset({12, 13})), soak.Kill(7.0, frozenset())]
    lost = [
        soak.Loss(5.0, "killed", 11), soak.Loss(5.5, "the port again", 11), soak.Loss(6.5, "of another child", 14),
        soak.Loss(3.0, "before", 12), soak.Loss(6.0 + soak.NOTICED + 1, "too late", 13), soak.Loss(8.0, "came in", None),
        soak.Loss(9.0, "came in too", None), soak.Loss(9.5, "and one too many", None),
    ]  # fmt: skip
    left = soak.Ledger(lost=lost, kills=kills).unexplained()
    assert left == ["before", "the port again", "of another child", "too late", "and one too many"]


def test_it_finds_a_client_whose_child_was_not_killed(make_pgpool):
    """A backend that is terminated ends its client's session: nothing the soak does, so it must be told."""
    pgpool = make_pgpool(soak.SETTINGS)
    ledger, over = soak.Ledger(), threading.Event()
    thread = threading.Thread(target=soak.idler, args=(pgpool, over, ledger))
    with pgpool.connect() as bystander:
        ledger.kills.append(soak.kill(pgpool.child_of(bystander), pgpool.port))
        assert ledger.kills[0].ports == {soak.port_of(bystander)}
    thread.start()
    try:
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query = 'SELECT 1'"
        wait_until(lambda: [node.execute(ended) for node in pgpool.nodes] and ledger.lost, "the loss", 20)
    finally:
        over.set()
        thread.join()
    assert len(ledger.unexplained()) == len(ledger.lost) >= 1
