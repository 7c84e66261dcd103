"""Fixtures: servers. A cluster lives for the whole run; a pgpool for the run (`pgpool`, `shared`) or for one test."""

from __future__ import annotations

import shutil

import pytest

from .servers import DEBIAN, Cluster, FaultProxy, Pgpool, Postgres


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--proxy", choices=("ours", "debian", "direct"), default="ours",
        help="what the tests talk to: our pgpool, Debian's (the oracle), or PostgreSQL itself (tries the test)",
    )  # fmt: skip


class Direct:
    """PostgreSQL in the place of pgpool, for --proxy direct."""

    def __init__(self, server: Postgres):
        self.server = server
        self.binary = "direct"

    def __getattr__(self, name: str):
        return getattr(self.server, name)


@pytest.fixture(scope="session")
def proxy_kind(request: pytest.FixtureRequest) -> str:
    return request.config.getoption("--proxy")


@pytest.fixture(scope="session")
def cluster():
    """The primary and one standby everybody shares. Tests must not stop its servers: `own_cluster` is for that."""
    made = Cluster()
    try:
        yield made.create()
    finally:
        made.remove()


@pytest.fixture
def own_cluster():
    """A primary and a standby for one test, which may do to them what it wants."""
    made = Cluster()
    try:
        yield made.create()
    finally:
        made.remove()


@pytest.fixture(scope="module")
def rewindable():
    """A pair for one file, which pg_rewind can put right, and whose servers may be started by pgpool."""
    made = Cluster(settings={"wal_log_hints": "on", "full_page_writes": "on", "wal_keep_size": "256MB"})
    try:
        yield made.create()
    finally:
        for node in made.nodes:
            node.stop_anybodys("immediate")
        made.remove()


@pytest.fixture(scope="session")
def postgres(cluster: Cluster) -> Postgres:
    """The shared primary, to be talked to straight."""
    return cluster.primary


@pytest.fixture(scope="session")
def shared(cluster: Cluster, proxy_kind: str):
    """shared(**settings): a pgpool before the shared cluster, made once per set of settings, checked at the end."""
    made: dict[str, Pgpool] = {}

    def get(**settings: object):
        if proxy_kind == "direct":
            return Direct(cluster.primary)
        key = repr(sorted(settings.items()))
        if key in made and made[key].process.poll() is not None:
            made.pop(key).remove(check=False)
        if key not in made:
            made[key] = Pgpool(cluster.nodes, settings, binary=proxy_kind)
            try:
                made[key].start()
            except BaseException:
                made.pop(key).remove(check=False)
                raise
        return made[key]

    yield get
    faults = []
    for pgpool in made.values():
        try:
            pgpool.remove()
        except AssertionError as error:
            faults.append(str(error))
    assert not faults, "\n".join(faults)


@pytest.fixture
def pgpool(shared):
    """The everyday pgpool of the run: streaming mode, both nodes, default settings."""
    return shared()


@pytest.fixture
def standby_reads(shared):
    """A pgpool whose every balanced read goes to the standby (weight 0 for the primary)."""
    return shared(backend_weight0=0)


@pytest.fixture
def raw_pgpool(shared):
    """The everyday pgpool in raw mode: node 0 only."""
    return shared(backend_clustering_mode="raw")


@pytest.fixture
def make_pgpool(cluster: Cluster, proxy_kind: str):
    """make_pgpool(settings, files=..., nodes=..., binary=...): a started pgpool for one test, checked after it."""
    made: list[Pgpool] = []

    def make(settings: dict[str, object] | None = None, *, start: bool = True, nodes=None, binary: str = "", **kw) -> Pgpool:
        if not binary and proxy_kind == "direct":
            pytest.skip("needs a pgpool")
        pgpool = Pgpool(nodes or cluster.nodes, settings, binary=binary or proxy_kind, **kw)
        made.append(pgpool)
        return pgpool.start() if start else pgpool

    yield make
    faults = []
    for pgpool in made:
        try:
            pgpool.remove()
        except AssertionError as error:
            faults.append(str(error))
    assert not faults, "\n".join(faults)


@pytest.fixture(scope="session")
def debian_pgpool(cluster: Cluster):
    """Debian's pgpool before the shared cluster, default settings: the living oracle."""
    if not DEBIAN.exists():
        pytest.skip("Debian's pgpool2 is not installed")
    made = Pgpool(cluster.nodes, binary="debian")
    try:
        yield made.start()
    finally:
        made.remove(check=False)


@pytest.fixture
def fault_proxy():
    """fault_proxy(server): a FaultProxy before anything with host and port."""
    made: list[FaultProxy] = []

    def make(server) -> FaultProxy:
        made.append(FaultProxy(server.host, server.port))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture(scope="session")
def need_debian() -> None:
    if shutil.which(str(DEBIAN)) is None:
        pytest.skip("Debian's pgpool2 is not installed")
