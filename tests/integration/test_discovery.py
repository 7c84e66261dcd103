"""backend_discovery: a standby that nobody has configured becomes a backend (issue 6, item 7d)."""

from __future__ import annotations

import contextlib

import pytest

from tests.integration.test_external import EXTERNAL, roles
from tests.support.cable import Cable
from tests.support.places import pg_bin
from tests.support.postgres import Cluster, Postgres
from tests.support.servers import wait_until

pytestmark = [pytest.mark.needs_pgpool, pytest.mark.skipif(bool(Cable.refused()), reason=Cable.refused())]

SETTINGS = {**EXTERNAL, "backend_discovery": True, "backend_weight0": 0}


@pytest.fixture(scope="module")
def far():
    """A primary here and a standby on another host, at the same port."""
    with contextlib.ExitStack() as stack:
        cable = Cable()
        stack.callback(cable.remove)
        wired = cable.server("server1")
        made: list[Postgres] = []

        def make(name: str, settings: dict[str, str] | None) -> Postgres:
            node = wired(name, settings)
            made.append(node)
            node.port = made[0].port
            return node

        cluster = Cluster(make=make)
        stack.callback(cluster.remove)
        cluster.create()
        if (receiver := pg_bin() / "pg_receivewal").exists():  # streams from that host too, and is no standby
            where, log = cluster.standby.place / "received", cluster.standby.place / "receiver"
            where.mkdir()
            where.chmod(0o777)
            log.touch()
            place = ("-h", made[0].host, "-p", made[0].port, "-U", "postgres")
            program = cable.spawn_far(receiver, "-D", where, *place, log=log)
            stack.callback(program.wait)
            stack.callback(program.kill)
            wait_until(lambda: len(cluster.streaming()) == 2, "pg_receivewal to stream")
        yield cluster


def test_a_standby_becomes_a_backend_and_stays_one(make_pgpool, far: Cluster):
    pgpool = make_pgpool(SETTINGS, nodes=[far.primary])
    pgpool.wait_for_log(f"the standby at {far.standby.host}:{far.standby.port} becomes backend 1")
    wait_until(lambda: roles(pgpool) == ["primary", "standby"], "its use")
    with pgpool.connect() as conn:
        assert conn.execute("SELECT host(inet_server_addr())").fetchone() == (far.standby.host,)
    (row,) = [row for row in pgpool.show("pool_nodes") if row["node_id"] == "1"]
    assert (row["hostname"], row["port"]) == (far.standby.host, str(far.standby.port))
    wait_until(lambda: pgpool.show("pool_nodes")[1]["replication_state"] == "streaming", "what the primary says of it")
    pgpool.stop("fast")
    mark = pgpool.mark()
    pgpool.start()
    wait_until(lambda: roles(pgpool) == ["primary", "standby"], "the same after a restart")
    assert "becomes backend" not in pgpool.log_since(mark)
    pgpool.stop("fast")
    pgpool.write_conf(backend_weight0=1, backend_weight1=3)  # what pgpool.conf says comes first
    pgpool.start()
    wait_until(lambda: roles(pgpool) == ["primary", "standby"], "the same with another weight")
    assert pgpool.show("pool_nodes")[1]["lb_weight"] == "0.750000"
    pgpool.stop("fast")
    pgpool.write_conf(backend_hostname1=far.standby.place, backend_port1=far.standby.port, backend_weight1=0)
    pgpool.start()
    wait_until(lambda: roles(pgpool) == ["primary", "standby"], "the configured one")
    (row,) = [row for row in pgpool.show("pool_nodes") if row["node_id"] == "1"]
    assert (row["hostname"], row["lb_weight"]) == (str(far.standby.place), "0.000000")


def test_who_is_a_backend_by_another_address_is_known(make_pgpool, far: Cluster):
    by_socket = {"backend_hostname1": far.standby.place, "backend_port1": far.standby.port, "backend_application_name1": ""}
    pgpool = make_pgpool({**SETTINGS, **by_socket}, nodes=[far.primary])
    pgpool.wait_for_log(rf'the standby "server1" at {far.standby.host} is not made a backend: it is backend 1')
    assert roles(pgpool) == ["primary", "standby"]


def test_it_is_told_when_it_has_no_effect(make_pgpool, far: Cluster):
    pgpool = make_pgpool({**SETTINGS, "failover_owner": "pgpool"}, nodes=[far.primary])
    pgpool.wait_for_log("backend_discovery has no effect")
