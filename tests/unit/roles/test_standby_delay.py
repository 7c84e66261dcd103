"""log_standby_delay: when a standby that is behind is told of."""

from types import SimpleNamespace

import pytest

from pgpool.roles import srcheck
from pgpool.roles.srcheck import Position, Sender, SrCheck


class Cell:
    def set_delay(self, delay, *more, known=True):
        self.delay = delay


@pytest.fixture
def told(monkeypatch):
    texts = []
    monkeypatch.setattr(srcheck.log, "log", lambda level, text, **more: texts.append(text))
    return texts


def note(how, behind, threshold=0, by_time=0, lag=0):
    worker = SrCheck.__new__(SrCheck)
    worker.settings = SimpleNamespace(
        log_standby_delay=how, delay_threshold=threshold, delay_threshold_by_time=by_time,
        backends=[SimpleNamespace(application_name=""), SimpleNamespace(application_name="standby")],
    )  # fmt: skip
    worker.shared = SimpleNamespace(nodes=[Cell(), Cell()])
    primary = Position(0, False, 1000, {"standby": Sender("streaming", "async", lag)})
    worker._note_delay(Position(1, True, 1000 - behind, {}), primary)
    return worker.shared.nodes[1].delay


@pytest.mark.parametrize(
    ("how", "behind", "threshold", "wanted"),
    [
        ("always", 1, 0, True), ("always", 0, 0, False), ("none", 500, 100, False),
        ("if_over_threshold", 500, 100, True), ("if_over_threshold", 100, 100, False), ("if_over_threshold", 500, 0, False),
    ],
)  # fmt: skip
def test_bytes(told, how, behind, threshold, wanted):
    assert note(how, behind, threshold) == behind
    assert told == ([f"Replication of node: 1 is behind {behind} bytes from the primary server (node: 0)"] if wanted else [])


@pytest.mark.parametrize(("lag", "wanted"), [(2_500_000, True), (900_000, False)])
def test_time(told, lag, wanted):
    assert note("if_over_threshold", 5, by_time=1000, lag=lag) == lag
    assert bool(told) == wanted and (not told or "is behind 2.500000 second(s) from" in told[0])
