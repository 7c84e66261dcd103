"""Random sessions, the same ones on PostgreSQL itself and through us before a primary and two standbys that get all reads.

Every answer must be the same, message for message, ReadyForQuery's transaction state among them; what is in the tables
afterwards must be the same; and nothing of the primary's may reach a standby. The sessions are the same in every run;
PGPOOL_STATEFUL=N plays N others instead. Commits wait until the standbys have replayed (remote_apply), so that a read
there sees what the session wrote.
"""

from __future__ import annotations

import os

import hypothesis.stateful as stateful
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.integration import stateful_texts as texts
from tests.support.servers import Cluster, Pgpool
from tests.support.wire import (
    COPY_DONE,
    SYNC,
    TERMINATE,
    Closed,
    RawClient,
    bind,
    close,
    copy_data,
    copy_fail,
    describe,
    execute,
    parse,
    query,
    readable,
)

pytestmark = pytest.mark.needs_pgpool

SESSIONS = int(os.environ.get("PGPOOL_STATEFUL", "0"))
STEPS = 25
SERVER = {
    "synchronous_commit": "remote_apply",
    "log_statement": "all",
    # a read of the session itself may hold the standby's replay back, and with it the session's commit
    "max_standby_streaming_delay": "100ms",
}
PGPOOL = {"backend_weight0": 0, "num_init_children": 2, "max_pool": 2, "health_check_period": 0,
          "statement_level_load_balance": True}  # fmt: skip

READ_ONLY = {**PGPOOL, "read_only_transactions_on_standby": True}
NOT_ON_A_STANDBY = {
    "by statement": (PGPOOL, (texts.MARK, "in a read-only transaction", "during recovery")),
    # a READ ONLY transaction has everything there: what it may not do is refused as the primary would refuse it
    "by transaction": (READ_ONLY, ("during recovery",)),
}

numbers = st.sampled_from(texts.NUMBERS)
names = st.sampled_from(("one", "two"))
portals = st.sampled_from(("", "", "one", "two"))


def text_of(choices: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.builds(lambda text, n: text.replace("{n}", n), st.sampled_from(choices), numbers)


anything = st.one_of(
    *(text_of(c) for c in (texts.READS, texts.READS, texts.WRITES, texts.TABLES, texts.SETTINGS, texts.FAULTS))
)


class Place:
    """The servers, and what must hold of them after each session."""

    def __init__(self, cluster: Cluster, pgpool: Pgpool, not_there: tuple[str, ...]):
        self.not_there = not_there
        self.cluster = cluster
        self.pgpool = pgpool
        self.marks: list[int] = []

    def reset(self) -> None:
        """The same schema in both databases; through pgpool where it must know what changed."""
        for server, database in ((self.cluster.primary, "plain"), (self.pgpool, "pooled")):
            with RawClient.login(server, database) as client:
                faults = [m.fields for m in client.ask(query(texts.RESET)) if m.kind == "E"]
                client.send(TERMINATE)
                assert not faults
        self.marks = [node.log.stat().st_size for node in self.cluster.nodes[1:]]

    def check(self) -> None:
        for node, mark in zip(self.cluster.nodes[1:], self.marks, strict=True):
            with node.log.open("rb") as file:
                file.seek(mark)
                told = file.read().decode(errors="replace")
            bad = [line for line in told.splitlines() if any(word in line for word in self.not_there)]
            assert not bad, f"{node.name} was asked for what only the primary may do:\n" + "\n".join(bad)
        plain, pooled = (self.contents(database) for database in ("plain", "pooled"))
        assert pooled == plain

    def contents(self, database: str) -> list[list[tuple]]:
        """All rows of all tables, by the primary itself."""
        with self.cluster.primary.connect(database) as conn:
            rows = conn.execute(
                "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace::text"
                " IN ('public', 'other') ORDER BY 1"
            ).fetchall()
            found = [rows, conn.execute("SELECT schemaname, sequencename, last_value FROM pg_sequences").fetchall()]
            for (name,) in rows:
                found.append(conn.execute(f"SELECT x::text FROM {name} x ORDER BY 1").fetchall())
            return found


class Sessions(stateful.RuleBasedStateMachine):
    """One session on PostgreSQL, one through pgpool; ``place`` is set by the fixture."""

    place: Place

    def __init__(self) -> None:
        super().__init__()
        self.state = "I"
        self.place.reset()
        self.clients = [RawClient.login(self.place.cluster.primary, "plain"), RawClient.login(self.place.pgpool, "pooled")]

    def both(self, *parts: bytes, until: str = "Z") -> list[tuple]:
        one, two = (collect(client, parts, until) for client in self.clients)
        assert two == one
        self.state = one[-1][1] if one[-1][0] == "Z" else ""
        return one

    @stateful.rule(sql=anything)
    def simple(self, sql: str) -> None:
        self.both(query(sql))

    @stateful.rule(sql=text_of(texts.SEVERAL))
    def several(self, sql: str) -> None:
        self.both(query(sql))

    @stateful.precondition(lambda self: self.state == "I")
    @stateful.rule(sql=text_of(texts.BEGINS))
    def begins(self, sql: str) -> None:
        for line in sql.split("\n"):
            self.both(query(line))

    @stateful.rule(sql=text_of(texts.ENDS))
    def ends(self, sql: str) -> None:
        self.both(query(sql))

    @stateful.rule(sql=st.sampled_from(texts.SAVEPOINTS))
    def savepoints(self, sql: str) -> None:
        self.both(query(sql))

    @stateful.rule(sql=text_of(texts.PREPARED))
    def prepared(self, sql: str) -> None:
        self.both(query(sql))

    @stateful.rule(sql=text_of(texts.CURSORS))
    def cursors(self, sql: str) -> None:
        self.both(query(sql))

    @stateful.rule(sql=anything)
    def extended(self, sql: str) -> None:
        self.both(parse(sql), bind(), describe(), execute(), SYNC)

    @stateful.rule(statement=st.sampled_from(texts.PARAMETERS), n=numbers, portal=portals)
    def parameters(self, statement: tuple[str, int], n: str, portal: str) -> None:
        values = (n,) * statement[1]
        self.both(parse(statement[0]), bind("", portal, values), describe("P", portal), execute(portal), SYNC)

    @stateful.rule(name=names, statement=st.sampled_from(texts.PARAMETERS))
    def named(self, name: str, statement: tuple[str, int]) -> None:
        self.both(close("S", name), parse(statement[0], name), describe("S", name), SYNC)

    @stateful.rule(name=names, portal=portals, n=numbers, rows=st.sampled_from((0, 0, 1)))
    def bound(self, name: str, portal: str, n: str, rows: int) -> None:
        self.both(bind(name, portal, (n,)), describe("P", portal), execute(portal, rows), execute(portal), SYNC)

    @stateful.rule(portal=names)
    def portal_again(self, portal: str) -> None:
        self.both(execute(portal, 1), SYNC)

    @stateful.rule(what=st.sampled_from("SP"), name=names)
    def closed(self, what: str, name: str) -> None:
        self.both(close(what, name), SYNC)

    @stateful.rule(batch=st.lists(anything, min_size=2, max_size=3))
    def pipeline(self, batch: list[str]) -> None:
        self.both(*(parse(sql) + bind() + execute() for sql in batch), SYNC)

    @stateful.rule(n=numbers, end=st.sampled_from((COPY_DONE, COPY_DONE, copy_fail("enough"))))
    def copy_in(self, n: str, end: bytes) -> None:
        began = self.both(query(f"COPY a FROM STDIN {texts.MARK}"), until="GZ")
        if began[-1][0] == "G":
            self.both(copy_data(f"{n}\tcopied\n".encode()), end)

    @stateful.rule(
        sql=st.sampled_from(("COPY a TO STDOUT", "COPY (SELECT i FROM a ORDER BY i) TO STDOUT", "COPY t TO STDOUT"))
    )
    def copy_out(self, sql: str) -> None:
        self.both(query(sql))

    def teardown(self) -> None:
        try:
            self.both(query("ROLLBACK"))
        finally:
            for client in self.clients:
                collect(client, (TERMINATE,), "")
                client.close()
        self.place.check()


def collect(client: RawClient, parts: tuple[bytes, ...], until: str) -> list[tuple]:
    """What the client gets, up to a message of ``until``."""
    seen: list[tuple] = []
    try:
        client.send(*parts)
        while not seen or seen[-1][0] not in until:
            seen.append(readable(client.read()))
    except Closed:
        seen.append(("closed",))
    except TimeoutError:
        seen.append(("nothing more",))
    return seen


@pytest.fixture(scope="module")
def three_nodes():
    cluster = Cluster(2, SERVER, ("app", "plain", "pooled"))
    try:
        cluster.create()
        cluster.primary.execute("CREATE ROLE app", "postgres")
        cluster.make_synchronous("server1", "server2")
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture(params=NOT_ON_A_STANDBY)
def place(three_nodes, make_pgpool, request):
    settings, not_there = NOT_ON_A_STANDBY[request.param]
    return Place(three_nodes, make_pgpool(settings, nodes=three_nodes.nodes), not_there)


def test_sessions_are_as_without_pgpool(place):
    Sessions.place = place
    stateful.run_state_machine_as_test(
        Sessions,
        settings=settings(
            max_examples=SESSIONS or 9, stateful_step_count=STEPS, derandomize=not SESSIONS, database=None, deadline=None,
            suppress_health_check=list(HealthCheck), print_blob=False,
        ),
    )  # fmt: skip
