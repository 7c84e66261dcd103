"""What a client sees through us is what it sees from PostgreSQL, message for message (scripts: fidelity_scripts)."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.servers import FaultProxy, Pgpool, wait_until
from tests.support.wire import FLUSH, SYNC, TERMINATE, Closed, RawClient, bind, execute, parse, query, readable

from .fidelity_extended import SCRIPTS
from .fidelity_scripts import Step, run

NUMBERS = "(1, 'one'), (2, 'two'), (3, 'three'), (4, 'four'), (5, 'five')"


@pytest.fixture(scope="module")
def fid(cluster):
    """Puts the table back as the scripts expect it."""

    def reset() -> None:
        sql = (
            "DROP TABLE IF EXISTS fid2; CREATE TABLE IF NOT EXISTS fid (id int PRIMARY KEY, t text);"
            f"COMMENT ON TABLE fid IS NULL; TRUNCATE fid; INSERT INTO fid VALUES {NUMBERS}"
        )
        try:
            cluster.execute("SET lock_timeout = '2s';" + sql)
        except psycopg.errors.LockNotAvailable:  # a session of an earlier test hangs: it has failed already
            cluster.primary.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'app' AND pid <> pg_backend_pid()"
            )
            cluster.execute(sql)

    yield reset
    cluster.primary.execute("DROP TABLE IF EXISTS fid2, fid")


def play(server, script: list[Step], between=lambda: None, send: str = "send") -> list[list[tuple]]:
    """Run the script on a new connection; a readable transcript of each step."""
    transcripts: list[list[tuple]] = []
    with RawClient.login(server, timeout=8) as client:
        for number, step in enumerate(script):
            if number:
                between()
            getattr(client, send)(step.data)
            transcripts.append(collect(client, step.until))
            if transcripts[-1][-1] == ("closed",):
                return transcripts
        if not client.is_quiet(0.02):
            transcripts.append([("unasked", readable(client.read()))])
    return transcripts


def collect(client: RawClient, until: str) -> list[tuple]:
    """Messages up to the one that completes `until`."""
    seen: list[tuple] = []
    wanted = list(until)
    while wanted:
        try:
            message = readable(client.read())
        except Closed:
            return [*seen, ("closed",)]
        except TimeoutError:
            return [*seen, ("nothing more",)]
        seen.append(message)
        if message[0] == "E" and "S=FATAL" in message:  # source file and line are the server's own
            seen[-1] = tuple(field for field in message if not str(field).startswith(("F=", "L=", "R=")))
        if message[0] == wanted[0]:
            wanted.pop(0)
        elif message[0] == "Z":
            return [*seen, ("earlier than expected",)]
    return seen


@pytest.fixture(scope="module")
def expected(cluster, fid):
    """What PostgreSQL itself answers; asked once."""
    answers: dict[str, list[list[tuple]]] = {}

    def get(name: str) -> list[list[tuple]]:
        if name not in answers:
            fid()
            answers[name] = play(cluster.primary, SCRIPTS[name])
            assert ("nothing more",) not in answers[name][-1], f"the script hangs: {answers[name]}"
        return answers[name]

    return get


MODES = {
    "raw": {"backend_clustering_mode": "raw"},
    "streaming": {"backend_weight0": 0},
    "statement": {"backend_weight0": 0, "statement_level_load_balance": True},
}


def compare(name: str, got: list[list[tuple]], want: list[list[tuple]]) -> None:
    for number, (ours, theirs) in enumerate(zip(got, want, strict=False)):
        if ours != theirs:
            at = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
            pytest.fail(
                f"{name}, step {number}: {SCRIPTS[name][number].data[:300]!r}\nafter {str(ours[:at])[-300:]}\n"
                f"we say          {str(ours[at : at + 3])[:600]}\nPostgreSQL says {str(theirs[at : at + 3])[:600]}"
            )
    assert len(got) == len(want), f"{name}: steps missing or too many: {got[len(want) :]} {want[len(got) :]}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SCRIPTS)
def test_script(shared, cluster, fid, expected, name, mode):
    want = expected(name)
    pgpool = shared(**MODES[mode])
    fid()
    compare(name, play(pgpool, SCRIPTS[name], cluster.wait_for_catchup), want)


@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_left_open(pgpool, cluster, fid, name):
    """After the session no backend sits in a transaction and no lock is held (B1 #172, hidden BEGINs)."""
    fid()
    play(pgpool, SCRIPTS[name], cluster.wait_for_catchup)
    for node in cluster.nodes:
        wait_until(
            lambda node=node: not node.backends("state <> 'idle' OR xact_start IS NOT NULL"),
            f"{node.name} to be idle",
            5,
        )


def test_nothing_open_while_connected(pgpool, cluster, fid):
    """#172: an autocommit extended UPDATE has committed when ReadyForQuery says I."""
    fid()
    with RawClient.login(pgpool) as client:
        for step in SCRIPTS["b1_172_update"]:
            client.ask(step.data)
            assert cluster.primary.backends("state <> 'idle' AND usename <> 'sr'") == []
        assert cluster.primary.value("SELECT t FROM fid WHERE id = 1") == "u"


@pytest.mark.parametrize("mode", ["raw", "streaming"])
def test_startup(shared, postgres, mode):
    """The same messages at login (ParameterStatus may come in another order), also when the connection is reused."""

    def login(server):
        with RawClient(server.host, server.port) as client:
            seen = client.start(user="postgres", database="app", application_name="fid", TimeZone="Asia/Tokyo")
            client.send(b"X\0\0\0\4")
            client.wait_closed()
            return sorted(readable(m) for m in seen)

    want = login(postgres)
    pgpool = shared(**MODES[mode])
    for _ in range(3):
        assert login(pgpool) == want


def test_terminate_without_sync_commits_nothing(pgpool, cluster, fid):
    """Terminate in the middle of a pipeline: what Sync has not ended is rolled back."""
    fid()
    for count in range(20):
        with RawClient.login(pgpool) as client:
            client.send(run(f"INSERT INTO fid VALUES ({100 + count}, 'x')"), TERMINATE)
            client.wait_closed()
    assert cluster.primary.value("SELECT count(*) FROM fid") == 5


def test_replies_are_not_held_back(shared, fid):
    """Flush must bring what is there already, while the next message is slow."""
    fid()
    pgpool = shared(**MODES["streaming"])
    with RawClient.login(pgpool) as client:
        client.send(parse("SELECT 1"), bind(), execute(), FLUSH, parse("SELECT pg_sleep(1)"), bind(), execute(), FLUSH)
        assert [client.read(0.7).kind for _ in range(4)] == ["1", "2", "D", "C"]
        assert [m.kind for m in client.ask(SYNC)][-1] == "Z"


def test_row_by_row_not_held_back(raw_pgpool):
    """PostgreSQL sends rows when 8 kB are full; so do we, before the statement has ended."""
    with RawClient.login(raw_pgpool) as client:
        client.send(query("SELECT repeat('x', 10000) UNION ALL SELECT repeat('y', pg_sleep(1.5)::text::int + 1)"))
        client.read_until("T", 0.7)


@pytest.fixture(scope="module")
def split_servers(cluster, proxy_kind):
    """A pgpool whose backends answer one byte at a time, and a door to it which passes one byte at a time."""
    if proxy_kind == "direct":
        pytest.skip("needs a pgpool")
    proxies = [FaultProxy(node.host, node.port) for node in cluster.nodes]
    pgpool = Pgpool(cluster.nodes, MODES["streaming"], binary=proxy_kind, ports=[p.port for p in proxies]).start()
    door = FaultProxy(pgpool.host, pgpool.port)
    for proxy in (*proxies, door):
        proxy.split = 1
    door.behind = proxies
    yield door
    for proxy in (door, *proxies):
        proxy.close()
    pgpool.remove()


LARGE = {"large_row", "many_rows", "wide_row", "long_query", "long_bind"}


ALONE = {"vacuum_in_pipeline", "copy_in_query_meanwhile", "unknown_message"}
"""vacuum: in pieces, its SELECT has gone to the standby before the VACUUM is seen, which then is alone on the primary and
runs. The others: the server hangs up with bytes of the client unread; whether its last words arrive is TCP's chance."""


@pytest.mark.parametrize("name", sorted(SCRIPTS.keys() - LARGE - ALONE))
def test_byte_by_byte(split_servers, cluster, fid, expected, name):
    """Every stream split at every byte, both ways, on both sides of pgpool."""
    want = expected(name)
    fid()
    compare(name, play(split_servers, SCRIPTS[name], cluster.wait_for_catchup), want)


SWITCHING = ["pipeline_reads_then_writes", "pipeline_begin_read", "extended"]


@pytest.mark.long
@pytest.mark.parametrize("name", SWITCHING)
def test_each_byte_alone(split_servers, cluster, fid, expected, name):
    """With a pause after every byte of the backends: an answer's last byte must be there before the other node speaks."""
    want = expected(name)
    for proxy in split_servers.behind:
        proxy.delay = 0.0005
    try:
        for _ in range(4):
            fid()
            compare(name, play(split_servers, SCRIPTS[name], cluster.wait_for_catchup), want)
    finally:
        for proxy in split_servers.behind:
            proxy.delay = 0


@pytest.mark.long
@pytest.mark.parametrize("name", ["partial_execute", "pipeline_error", "b2_copy_flush_sync", "b1_176_two_parameter_status"])
def test_split_at_each_position(shared, cluster, fid, expected, name):
    """The whole script cut in two at every position, with a pause between the halves."""
    want = [message for transcript in expected(name) for message in transcript]
    whole = b"".join(step.data for step in SCRIPTS[name])
    until = "".join(step.until for step in SCRIPTS[name])
    fid()
    cluster.wait_for_catchup()
    # what copies and then counts does so on one node: nobody waits for the standby in the middle
    pgpool = shared(backend_weight1=0) if "copy" in name else shared(backend_weight0=0)
    for position in range(1, len(whole), 1 if len(whole) < 300 else 2):
        if "copy" in name:
            fid()
        with RawClient.login(pgpool) as client:
            client.send(whole[:position])
            client.is_quiet(0.002)
            client.send(whole[position:])
            assert collect(client, until) == want, position
