"""The same psql script through Debian's pgpool and through ours: what psql prints and how it ends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.places import psql

from .differences import check

pytestmark = pytest.mark.versus

SCRIPTS = sorted(Path(__file__).with_name("scripts").glob("*.sql"))


def said(server, script: str) -> str:
    """Output, errors and exit code as one text, with ports and addresses out."""
    done = psql(server, script)
    text = f"{done.stdout}\n--- stderr\n{done.stderr}\n--- exit {done.returncode}\n"
    text = text.replace(str(server.port), "<port>")
    return re.sub(r"PID \d+", "PID <pid>", text)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(pair, path):
    theirs, ours = (said(server, path.read_text()) for server in pair)
    check(f"psql/{path.stem}", theirs, ours)
