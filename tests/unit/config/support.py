"""What the tests of the configuration share."""

from pathlib import Path

from pgpool.config.settings import Settings, load_text
from pgpool.errors import ConfigFaults

GOLDEN = Path(__file__).parents[2] / "golden" / "conf"


def rows(name: str) -> list[list[str]]:
    """The data lines of a golden .tsv file, split at tabs."""
    lines = (GOLDEN / name).read_text().splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


def settings(text: str = "") -> Settings:
    return load_text(text).settings


def faults(text: str) -> list[tuple[int, str]]:
    """(line, message) of everything wrong with ``text``; [] when it can be used."""
    try:
        load_text(text)
    except ConfigFaults as error:
        return [(fault.line, fault.message) for fault in error.faults]
    return []


def messages(text: str, level: str = "") -> list[tuple[int, str]]:
    """(line, text) of the messages of one level, or of all."""
    return [(message.line, message.text) for message in load_text(text).messages if level in ("", message.level)]
