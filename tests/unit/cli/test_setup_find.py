"""pgpool_setup: finding PostgreSQL's programs and pgpool."""

import os
from pathlib import Path

import pytest

from pgpool.cli import setup_find
from pgpool.cli.setup_plan import SetupFailed


def fake_postgres(place: Path, version: str, without: str = "") -> Path:
    """A directory with programs that only know their version."""
    place.mkdir(parents=True)
    for name in setup_find.PROGRAMS:
        if name != without:
            (place / name).write_text(f'#!/bin/sh\necho "postgres (PostgreSQL) {version}"\n')
            (place / name).chmod(0o755)
    return place


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine where nothing is installed: machine(path...) puts places into PATH, machine.wheels has the wheel's."""
    monkeypatch.delenv("PGBIN", raising=False)
    monkeypatch.setattr(setup_find, "glob", lambda pattern: [])
    wheels: list[Path] = []
    monkeypatch.setattr(setup_find, "_wheel_places", lambda: wheels)

    def path(*places: Path) -> None:
        monkeypatch.setenv("PATH", os.pathsep.join(map(str, places)))

    path()
    path.wheels = wheels
    return path


def test_the_newest_installed_wins(machine, tmp_path):
    old, new = fake_postgres(tmp_path / "a", "12.22"), fake_postgres(tmp_path / "b", "16.4 (Debian 16.4-1)")
    machine(old, new)
    assert setup_find.find_postgres() == (new, 16)


@pytest.mark.parametrize("version", ["11.3", "9.6.24", "19.1"])
def test_versions_out_of_range_are_passed_over(machine, tmp_path, version):
    good = fake_postgres(tmp_path / "good", "14.1")
    machine(fake_postgres(tmp_path / "bad", version), good)
    assert setup_find.find_postgres() == (good, 14)


def test_a_client_only_installation_does_not_count(machine, tmp_path):
    machine(fake_postgres(tmp_path / "half", "17.0", without="initdb"))
    with pytest.raises(SetupFailed, match=r"no PostgreSQL 12 to 18 found"):
        setup_find.find_postgres()


def test_an_installed_one_wins_over_a_newer_wheel(machine, tmp_path):
    installed = fake_postgres(tmp_path / "usr", "13.9")
    machine.wheels.append(fake_postgres(tmp_path / "pginstall" / "bin", "18.6"))
    machine(installed)
    assert setup_find.find_postgres() == (installed, 13)
    machine()
    place, version = setup_find.find_postgres()
    assert version == 18 and setup_find.from_wheel(place)


def test_pgbin_decides_alone(machine, tmp_path, monkeypatch):
    machine(fake_postgres(tmp_path / "usr", "17.1"))
    monkeypatch.setenv("PGBIN", str(fake_postgres(tmp_path / "mine", "15.2")))
    assert setup_find.find_postgres() == (tmp_path / "mine", 15)
    monkeypatch.setenv("PGBIN", str(tmp_path))
    with pytest.raises(SetupFailed, match="PGBIN="):
        setup_find.find_postgres()


def test_programs_that_do_not_run_do_not_count(machine, tmp_path):
    place = fake_postgres(tmp_path / "broken", "15.2")
    (place / "postgres").write_text("#!/bin/sh\nexit 127\n")
    machine(place)
    with pytest.raises(SetupFailed):
        setup_find.find_postgres()


@pytest.mark.parametrize("below", ["bin", "sbin"])
def test_pgpool_below_the_install_directory(tmp_path, monkeypatch, below):
    monkeypatch.setenv("PGPOOL_INSTALL_DIR", str(tmp_path))
    with pytest.raises(SetupFailed, match="no program pgpool"):
        setup_find.find_pgpool()
    (tmp_path / below).mkdir()
    (tmp_path / below / "pgpool").touch(mode=0o755)
    assert setup_find.find_pgpool() == tmp_path / below / "pgpool"


def test_owner_is_never_root():
    owner = setup_find.find_owner()
    assert owner.uid != 0
    assert owner.switch == (owner.name if os.geteuid() == 0 else "")
    assert setup_find.reachable(owner, "/bin/sh")
    assert not setup_find.reachable(owner, "/etc/passwd")
