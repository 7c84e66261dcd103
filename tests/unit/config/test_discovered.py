"""pgpool_discovered beside pgpool.conf: whose word counts."""

from __future__ import annotations

import pytest

from pgpool.config import discovered
from pgpool.config.settings import load
from pgpool.errors import ConfigFaults

CONF = """
failover_owner = external
backend_discovery = on
backend_hostname0 = 'one'
backend_port0 = 5432
work_dir = '.'
"""
FOUND = """
backend_hostname1 = 'two'
backend_port1 = 5432
backend_application_name1 = 'it''s two'
backend_weight1 = 1
"""


@pytest.fixture
def files(tmp_path):
    def write(conf: str, found: str):
        (tmp_path / "pgpool.conf").write_text(conf)
        (tmp_path / discovered.DISCOVERED_FILE).write_text(found)
        return load(str(tmp_path / "pgpool.conf")).settings

    return write


def test_what_was_found_is_a_backend(files) -> None:
    settings = files(CONF, FOUND)
    assert [(b.hostname, b.application_name, b.weight) for b in settings.backends] == [
        ("one", "", 0.0), ("two", "it's two", 1.0)
    ]  # fmt: skip
    assert discovered.of_file(settings) == [settings.backends[1]]


def test_what_is_written_reads_back(files, tmp_path) -> None:
    first = files(CONF, FOUND)
    text = discovered.render(discovered.of_file(first))
    assert files(CONF, text).backends == first.backends


@pytest.mark.parametrize(
    ("more", "backends"),
    [
        ("backend_hostname1 = 'three'\nbackend_port1 = 5433", [("one", 0.0), ("three", 0.0)]),
        ("backend_hostname2 = 'two'\nbackend_port2 = 5432", [("one", 0.0), ("", 0.0), ("two", 0.0)]),
        ("backend_weight1 = 7", [("one", 0.0), ("two", 7.0)]),
        ("failover_owner = pgpool", [("one", 0.0)]),
        ("backend_discovery = off", [("one", 0.0)]),
    ],
)
def test_pgpool_conf_comes_first(files, more: str, backends: list) -> None:
    assert [(b.hostname, b.weight) for b in files(CONF + more, FOUND).backends] == backends


def test_a_fault_is_told_with_its_place(files, tmp_path) -> None:
    with pytest.raises(ConfigFaults) as faults:
        files(CONF, FOUND + "backend_port1 = many\n")
    assert str(faults.value.faults[0]).startswith(f"{tmp_path / discovered.DISCOVERED_FILE}:6")
    (tmp_path / discovered.DISCOVERED_FILE).unlink()
    assert len(load(str(tmp_path / "pgpool.conf")).settings.backends) == 1
