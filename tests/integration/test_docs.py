"""Every command that README.md and docs/ show is run, or says in a comment why it is not.

In front of a block of commands stands `<!-- runs: with pgpool -->`, `<!-- runs: without pgpool -->` (it starts its own) or
`<!-- not run: reason -->`. The usual places and ports in the text stand for those of the test.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.places import pg_bin
from tests.support.servers import Cluster

pytestmark = pytest.mark.needs_pgpool

ROOT = Path(__file__).parents[2]

FILES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
PROGRAMS = (*SCRIPTS, "psql", "pgbench", "pip", "docker", "mkdir", "cd", "./bootstrap", "systemctl")
MARK = re.compile(r"<!-- (runs|not run): (.+?) -->$")


@dataclass(frozen=True)
class Block:
    file: str
    line: int
    mark: str
    said: str
    commands: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def blocks(path: Path) -> list[Block]:
    """The indented blocks that show commands, with the mark in front of each."""
    found: list[Block] = []
    mark, lines = ("", ""), path.read_text().split("\n")
    at = 0
    while at < len(lines):
        if match := MARK.match(lines[at]):
            mark = (match[1], match[2])
        elif lines[at].startswith("    ") and not lines[at - 1].strip():
            end = at
            while end < len(lines) and lines[end].startswith("    "):
                end += 1
            commands = tuple(line.strip() for line in lines[at:end])
            if any(c.split()[0] in PROGRAMS for c in commands if c):
                found.append(Block(path.name, at + 1, *mark, commands))
            mark, at = ("", ""), end
        elif lines[at].strip():
            mark = ("", "")
        at += 1
    return found


BLOCKS = [block for path in FILES for block in blocks(path)]


def test_every_block_of_commands_says_whether_it_runs():
    assert len(BLOCKS) >= 8
    assert [str(b) for b in BLOCKS if not b.mark] == []


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A directory with our programs as scripts."""
    place = tmp_path_factory.mktemp("bin")
    for name, target in SCRIPTS.items():
        module, _, function = target.partition(":")
        script = place / name
        script.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\nsys.argv[0] = {name!r}\n"
            f"from {module} import {function}\nsys.exit({function}())\n"
        )
        script.chmod(0o755)
    return place


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.mark == "runs"], ids=str)
def test_commands_run(block: Block, make_pgpool, cluster: Cluster, programs, tmp_path):
    md5 = subprocess.run([programs / "pg_md5", "secret"], capture_output=True, text=True, check=True).stdout.strip()
    pgpool = make_pgpool(
        {"failover_on_backend_error": "check"}, files={"pcp.conf": f"admin:{md5}\n"}, start=block.said == "with pgpool"
    )
    passwords = pgpool.place / "pcppass"
    passwords.write_text("*:*:admin:secret\n")
    passwords.chmod(0o600)
    stands_for = {
        "/etc/pgpool2/": f"{pgpool.place}/", "-f pgpool.conf": f"-f {pgpool.conf}", "9898": str(pgpool.pcp_port),
        "9999": str(pgpool.port), "localhost": pgpool.host,
    }  # fmt: skip
    script = "\n".join(block.commands)
    for text, meant in stands_for.items():
        script = script.replace(text, meant)
    script = re.sub(r"^(pcp_\w+)", rf"\1 -h {pgpool.host} -p {pgpool.pcp_port}", script, flags=re.MULTILINE)
    environment = {
        **os.environ, "PATH": f"{programs}:{pg_bin()}:{os.environ['PATH']}", "PCPPASSFILE": str(passwords),
        "PGHOST": pgpool.host, "PGUSER": "postgres", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    done = subprocess.run(
        ["sh", "-eux"], input=script, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
