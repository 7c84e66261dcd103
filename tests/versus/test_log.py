"""Lines of the server log of ours and of Debian's Pgpool-II 4.3.5, made by the same session."""

from __future__ import annotations

import re

import pytest

from tests.support.pgpool import DEBIAN, Pgpool
from tests.support.places import wait_until

from . import differences

pytestmark = pytest.mark.versus

PREFIXES = ["%a|%P|%u|%d|%%|", "[%-12u][%12d][%5a]", "%t %q|"]


def lines(cluster, binary: str, prefix: str, **settings: object) -> list[str]:
    """What one session makes a pgpool write: its statements, coming and going; times, numbers and ports left out."""
    pgpool = Pgpool(
        cluster.nodes, {"num_init_children": 1, "log_line_prefix": prefix, "log_statement": True, "log_connections": True,
                        "log_disconnections": True, **settings}, binary=binary,
    )  # fmt: skip
    try:
        pgpool.start()
        pgpool.wait_for_log("frontend disconnection.*\n")  # of the session which asked whether it serves
        mark = pgpool.mark()
        with pgpool.connect(application_name="told") as conn:
            conn.pgconn.exec_(b"SELECT 'one'")
            conn.pgconn.exec_(b"SELECT 'two\nlines'")
        wait_until(lambda: "frontend disconnection" in pgpool.log_since(mark), "the end of the session")
        text = pgpool.log_since(mark)
    finally:
        pgpool.remove(check=binary == "ours")
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r"session time: \S+", "session time: T", text)
    text = re.sub(r"port=\d+", "port=N", text)
    wanted = ("statement: SELECT 'one'", "statement: SELECT 'two", "lines'", "frontend disconnection",
              "new connection received", "connecting host=")  # fmt: skip
    kept = [line.rstrip() for line in text.splitlines() if any(w in line for w in wanted)]
    assert len(kept) == len(wanted), text
    return kept


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_same_lines(cluster, prefix):
    if not DEBIAN.exists():
        pytest.skip("Debian's pgpool2 is not installed")
    ours, theirs = ("\n".join(lines(cluster, binary, prefix)) for binary in ("ours", "debian"))
    differences.check(f"log/{PREFIXES.index(prefix)}", theirs, ours)
