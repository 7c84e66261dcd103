"""What this version would serve half is refused, with the line that asked for it."""

import pytest

from pgpool.config.settings import load
from pgpool.errors import ConfigFaults
from pgpool.roles import notyet


@pytest.mark.parametrize(
    "line", ["backend_clustering_mode = native_replication", "backend_clustering_mode = snapshot_isolation"]
)
def test_refused(tmp_path, line):
    conf = tmp_path / "pgpool.conf"
    conf.write_text(f"port = 9999\n{line}\n")
    with pytest.raises(ConfigFaults) as caught:
        notyet.refuse(load(str(conf)).settings)
    assert [(f.file, f.line) for f in caught.value.faults] == [(str(conf), 2)]


def test_defaults_start(tmp_path):
    conf = tmp_path / "pgpool.conf"
    conf.write_text("memory_cache_enabled = on\n")
    settings = load(str(conf)).settings
    notyet.refuse(settings)
    assert notyet.missing(settings) == ["memory_cache_enabled = on has no effect yet in this version"]
