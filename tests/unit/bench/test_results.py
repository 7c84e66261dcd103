"""Medians, ratios, the order of targets, the tables."""

import pytest

from bench.results import Cell, asked, cpu_ratio, markdown, noise, report, rotated, summary, tps_ratio
from bench.workloads import TARGETS

WORK = "S-simple-8"


def cell(number: int, target: str, tps: float, cpu: float | None = None, **more) -> Cell:
    return Cell(number, WORK, target, tps=tps, latency_ms=8000 / tps, transactions=int(tps), cpu_us=cpu, **more)


CELLS = [
    cell(0, "direct", 50000),
    cell(0, "relay", 27000, 20.0),
    cell(0, "pgpool2", 15000, 50.0),
    cell(0, "ours", 30000, 22.0),
    # a slow round: all figures halve or double, the ratios stay
    cell(1, "direct", 25000),
    cell(1, "relay", 13500, 40.0),
    cell(1, "pgpool2", 7500, 100.0),
    cell(1, "ours", 15000, 44.0),
    cell(2, "direct", 50000),
    cell(2, "relay", 27000, 20.0),
    cell(2, "pgpool2", 16000, 50.0),
    cell(2, "ours", 30000, 24.0),
]


def test_summary_is_the_median():
    found = summary(CELLS, WORK, "ours")
    assert found is not None
    assert (found.rounds, found.tps, found.cpu_us, found.spread) == (3, 30000, 24.0, 0.5)


def test_summary_of_what_did_not_run():
    assert summary(CELLS, WORK, "pgbouncer") is None
    assert summary([cell(0, "ours", 1.0, error="no")], WORK, "ours") is None


def test_ratio_is_taken_inside_a_round():
    assert tps_ratio(CELLS, WORK) == 2.0
    assert cpu_ratio(CELLS, WORK) == pytest.approx(1.1)


def test_ratio_needs_both_sides_in_one_round():
    cells = [cell(0, "ours", 10.0), cell(1, "pgpool2", 10.0)]
    assert tps_ratio(cells, WORK) is None


def test_failed_cells_do_not_count():
    cells = [*CELLS, Cell(3, WORK, "ours", error="refused"), cell(3, "pgpool2", 1.0, 1.0)]
    assert tps_ratio(cells, WORK) == 2.0


def test_direct_has_no_cpu():
    assert cpu_ratio(CELLS, WORK, "direct") is None


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_target_has_every_place(count):
    names = list(TARGETS[:count])
    orders = [rotated(names, number) for number in range(count)]
    assert all(sorted(order) == sorted(names) for order in orders)
    assert {order[0] for order in orders} == set(names)
    assert rotated(names, count) == rotated(names, 0)[::-1]


def test_rotating_nothing():
    assert rotated([], 3) == []


def test_asked_says_ok_and_missed():
    lines = "\n".join(asked(CELLS))
    assert "tps ours/pgpool2   2.00   at least 1.60  ok" in lines
    assert "CPU ours/relay     1.10   at most  1.15  ok" in lines
    slow = [cell(0, "ours", 10.0, 60.0), cell(0, "pgpool2", 10.0, 50.0), cell(0, "relay", 10.0, 20.0)]
    assert "\n".join(asked(slow)).count("MISSED") == 2


def test_markdown_has_a_row_per_workload_and_a_dash_for_what_is_missing():
    head, rule, row = markdown(CELLS).splitlines()
    assert head.count("|") == rule.count("|") == row.count("|") == 9
    want = ["-S simple, 8 clients", "50000 tps", "20 us, 27000 tps", "-", "50 us, 15000 tps", "24 us, 30000 tps"]
    want += ["2.00", "1.10"]
    assert [text.strip() for text in row.strip("|").split("|")] == want


def test_report_names_failures_and_noise():
    text = report([*CELLS, Cell(3, WORK, "ours", error="refused")])
    assert "FAILED round 3 S-simple-8 ours: refused" in text
    assert "others on this machine" in text


def test_noise_shows_the_worst_cell():
    assert "median 0.00 CPUs, worst cell 1.50" in noise([*CELLS, cell(3, "ours", 1.0, foreign=1.5)])
    assert noise([]) == "nothing was measured"
