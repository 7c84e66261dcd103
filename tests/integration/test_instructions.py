"""The hot path in instructions per query, counted by callgrind: they repeat where times do not."""

from __future__ import annotations

import shutil

import pytest

from bench import profile, targets

pytestmark = [pytest.mark.needs_pgpool, pytest.mark.long]

MODES = ("simple", "extended", "prepared")
MOST = 16000
"""For one query of each mode: half as much again as counted on 2026-11-27 (3483, 5113, 2456)."""
QUERIES = 1000


@pytest.mark.timeout(600)
def test_instructions_per_query(monkeypatch):
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    cluster = targets.make_cluster(scale=1)
    try:
        once, twice = (profile.life("ours", cluster, dict.fromkeys(MODES, n)) for n in (QUERIES, 2 * QUERIES))
    finally:
        cluster.remove()
    assert 0 < (twice - once) / QUERIES < MOST
