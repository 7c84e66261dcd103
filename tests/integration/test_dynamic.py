"""process_management_mode = dynamic, and storms of clients (behaviour.md 2)."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.support.pgpool import Pgpool
from tests.support.servers import wait_until

pytestmark = pytest.mark.needs_pgpool

DYNAMIC = {"process_management_mode": "dynamic", "min_spare_children": 2, "max_spare_children": 4}
SOON = """
import sys
from pgpool.policy import spare
spare.PACES = dict.fromkeys(spare.PACES, spare.Pace(1, 1, 3))
from pgpool.cli.pgpool import main
sys.exit(main(sys.argv[1:]))
"""


class Impatient(Pgpool):
    """Ours, with spare children ended after 2 s instead of minutes."""

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-c", SOON, *super().command[3:]]


def living(pgpool) -> int:
    return sum(row["pool_pid"] != "0" for row in pgpool.show("pool_processes"))


def storm(pgpool, host: str, count: int = 200) -> None:
    def one(number: int) -> int:
        with psycopg.connect(pgpool.dsn("postgres", connect_timeout=60), host=host) as conn:
            return conn.execute(f"SELECT {number}").fetchone()[0]

    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(one, range(count))) == list(range(count))


def test_storms(cluster):
    """200 clients at once, over each door, to 8 children at most that come and go: all are served; then spare ones go."""
    pgpool = Impatient(cluster.nodes, {"num_init_children": 8, **DYNAMIC})
    try:
        pgpool.start()
        wait_until(lambda: living(pgpool) == 2, "the children of the start to have entered themselves", 10)
        held = [pgpool.connect("postgres") for _ in range(6)]
        wait_until(lambda: living(pgpool) == 8, "children for all", 20)
        assert len(pgpool.show("pool_processes")) == 8
        for conn in held:
            conn.close()
        storm(pgpool, str(pgpool.place))
        storm(pgpool, pgpool.host)
        wait_until(lambda: living(pgpool) <= 5, "spare children to end", 30)  # 4 idle, and the one that looks
        pgpool.write_conf(process_management_mode="static")
        pgpool.reload()
        wait_until(lambda: living(pgpool) == 8, "static: everybody there", 20)
        assert "was terminated" not in pgpool.log_text()
    finally:
        pgpool.remove()


@pytest.mark.parametrize("door", ["unix", "tcp"])
def test_storm_on_static_children(pgpool, door):
    storm(pgpool, str(pgpool.place) if door == "unix" else pgpool.host)


def test_a_storm_with_reserved_connections(make_pgpool):
    """Who is not served is told so, with the original's words; nobody is lost, nobody waits for ever."""
    pgpool = make_pgpool({"num_init_children": 8, "reserved_connections": 2})
    gate = threading.Barrier(100)

    def one(number: int) -> str:
        gate.wait()
        try:
            with psycopg.connect(pgpool.dsn("postgres", connect_timeout=60)) as conn:
                return str(conn.execute(f"SELECT {number}, pg_sleep(0.05)").fetchone()[0] == number)
        except psycopg.OperationalError as error:
            return str(error).strip().rpartition("FATAL:  ")[2]

    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(one, range(100)))
    assert set(answers) == {"True", "Sorry, too many clients already"}
    assert pgpool.connect("postgres").close() is None
