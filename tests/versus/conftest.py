"""Two pgpools with the same pgpool.conf: Debian's and ours."""

from __future__ import annotations

import pytest

from tests.support.servers import DEBIAN, Pgpool

#: Reads on the primary, so that scripts which write see what they wrote. Names that both 4.3.5 and ours know.
SETTINGS = {"backend_weight1": 0, "num_init_children": 4, "max_pool": 2, "health_check_period": 0}


@pytest.fixture(scope="module")
def pair(cluster, proxy_kind):
    """(theirs, ours), started with the same file but for ports and directories."""
    if not DEBIAN.exists():
        pytest.skip("Debian's pgpool2 is not installed")
    if proxy_kind != "ours":
        pytest.skip("compares ours with Debian's")
    theirs = Pgpool(cluster.nodes, SETTINGS, binary="debian")
    ours = Pgpool(cluster.nodes, {**SETTINGS, **_old_names(theirs)}, binary="ours")
    for name in ("unix_socket_directories", "work_dir"):
        del ours.settings[name]
    ours.write_conf()
    try:
        theirs.start()
        ours.start()
        yield theirs, ours
    finally:
        theirs.remove(check=False)
        ours.remove()


def _old_names(theirs: Pgpool) -> dict[str, object]:
    """The 4.3 names of what has another name today: ours must take them from an old file."""
    return {name: theirs.settings[name] for name in ("socket_dir", "logdir")}
