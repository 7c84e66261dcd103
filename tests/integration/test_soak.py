"""bench/soak.py, a few seconds of it."""

import pytest

from bench import soak

pytestmark = [pytest.mark.needs_pgpool, pytest.mark.long]


def test_nothing_leaks_and_nobody_is_lost(make_pgpool):
    pgpool = make_pgpool(soak.SETTINGS)
    ledger, _, _, faults = soak.soak(pgpool, 8)
    assert not faults, "\n".join(faults)
    assert ledger.kills and ledger.reloads >= 4 and ledger.rotations


def test_a_loss_needs_a_kill_of_its_own():
    ledger = soak.Ledger(lost=[(5.0, "a"), (6.0, "b"), (1.0, "early")], kills=[4.0])
    assert ledger.unexplained() == ["early", "b"]
