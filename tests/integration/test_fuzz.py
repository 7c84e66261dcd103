"""A few seconds of `python -m tests.fuzz live`."""

import shutil

import pytest

from bench.targets import tls_settings
from tests.fuzz import live
from tests.support.places import short_dir
from tests.support.wire import startup

pytestmark = pytest.mark.needs_pgpool


@pytest.fixture
def pgpool(make_pgpool):
    place = short_dir("pgp")
    yield make_pgpool({**live.SETTINGS, **tls_settings(place)}, files=live.FILES)
    shutil.rmtree(place)


def test_bytes_against_a_running_pgpool(pgpool, cluster):
    seed = 20261127  # `python -m tests.fuzz live` tries new ones
    outcome = live.run(pgpool, cluster, 6, seed)
    assert not outcome.faults, f"seed {seed}:\n" + "\n".join(outcome.faults)
    assert outcome.connections > 50 and len(outcome.kinds) == 6


def test_somebody_let_in_would_be_noticed(pgpool, monkeypatch):
    """The check can fail: a user who is trusted plays one who is not."""
    monkeypatch.setattr(live, "_bytes", lambda dice, kind: startup(user="postgres", database="app"))
    assert "let in without a password" in live.attack(pgpool, 1, 1).faults[0]
