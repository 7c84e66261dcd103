"""What atheris has found worth keeping: `kept/NAME.hex`, an input a line, by which every later run begins.

`python -m tests.fuzz keep` makes the files anew from a corpus: as few inputs as reach all that the corpus reaches.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

PLACE = Path(__file__).with_name("kept")
MOST = 20_000
"""Bytes of one file; of a bigger corpus the shortest inputs are kept."""


def kept(name: str) -> tuple[bytes, ...]:
    """The inputs kept for a target; none, where it has no file."""
    path = PLACE / f"{name}.hex"
    return tuple(bytes.fromhex(line) for line in path.read_text().splitlines()) if path.exists() else ()


def keep(name: str, corpus: Path) -> int:
    """Write a target's file; how many inputs are in it. Needs atheris."""
    with tempfile.TemporaryDirectory() as made:
        argv = [sys.executable, "-m", "tests.fuzz.covered", name, made, str(corpus / name), "-merge=1"]
        subprocess.run(argv, check=True, stderr=subprocess.DEVNULL)
        inputs = sorted((path.read_bytes() for path in Path(made).iterdir()), key=lambda data: (len(data), data))
    lines, size = [], 0
    for data in inputs:
        size += 2 * len(data) + 1
        if data and size <= MOST:
            lines.append(data.hex() + "\n")
    if not lines:
        raise RuntimeError(f"atheris has kept nothing of {corpus / name}")
    PLACE.mkdir(exist_ok=True)
    (PLACE / f"{name}.hex").write_text("".join(lines))
    return len(lines)
