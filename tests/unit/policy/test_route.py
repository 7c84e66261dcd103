"""Where statements go, over every state a session can be in."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from pgpool.config.settings import load
from pgpool.model import (
    ClusterMode,
    Counter,
    Dest,
    Effect,
    Facts,
    Name,
    NeedFacts,
    NodeState,
    NodeView,
    Reason,
    Role,
    Route,
    State,
    TableFact,
)
from pgpool.policy.route import RoutingSettings, route
from pgpool.sql.analyze import analyze
from pgpool.sql.names import PatternList

DEFAULT = RoutingSettings()
STATES = [State(bits) for bits in range(512)]
ON_WRITE = ("off", "transaction", "trans_transaction", "always", "dml_adaptive", "dml_adaptive_global", "lsn")
WRITES = [
    *(
        "INSERT INTO t VALUES (1)",
        "SELECT * FROM t FOR UPDATE",
        "SELECT 1 INTO x",
        "WITH x AS (DELETE FROM t) SELECT 1",
    ),
    *("BEGIN", "COMMIT", "ROLLBACK", "SET a.b = 1", "RESET ALL", "SHOW ALL", "DISCARD ALL", "PREPARE q AS SELECT 1"),
    *("EXECUTE q", "DEALLOCATE q", "DECLARE c CURSOR FOR SELECT 1", "FETCH c", "CLOSE c", "LOCK t", "EXPLAIN SELECT 1"),
    *(
        "COPY t FROM STDIN",
        "COPY (DELETE FROM t RETURNING a) TO STDOUT",
        "CALL p()",
        "DO 'x'",
        "VACUUM",
        "CREATE TABLE t ()",
    ),
    *(
        "DROP TABLE t",
        "LISTEN c",
        "NOTIFY c",
        "foo bar",
        "SELECT 1; SELECT 2",
        "SAVEPOINT a",
        "ROLLBACK TO a",
        "CHECKPOINT",
    ),
]
READS = [
    "SELECT 1",
    "",
    "SHOW search_path",
    "COPY t TO STDOUT",
    "TABLE t",
    "SELECT f(a) FROM t",
    "SELECT count(*) FROM s.t",
]


def node(node_id: int, role: Role, weight: float = 0.5, state: NodeState = NodeState.UP) -> NodeView:
    return NodeView(node_id, "h", 5432, weight, state, False, role)


NODES = (node(0, Role.PRIMARY), node(1, Role.STANDBY))


def facts(text: str, table: TableFact = TableFact.PLAIN, volatile: bool | None = False, user: bool = False) -> Facts:
    statement = analyze(text)
    known = dict.fromkeys(statement.functions, volatile)
    return Facts(dict.fromkeys(statement.tables, table), known, frozenset(known if user else ()))


def decided(text: str, state: State = State.NONE, settings: RoutingSettings = DEFAULT, **known) -> Route:
    found = route(analyze(text), state, settings, NODES, facts(text, **known))
    assert isinstance(found, Route)
    return found


@pytest.mark.parametrize("text", WRITES)
def test_no_state_lets_a_write_go_to_a_standby(text: str) -> None:
    statement = analyze(text)
    assert not statement.readonly
    modes = (ClusterMode.STREAMING_REPLICATION, ClusterMode.RAW)
    some = [RoutingSettings(disable_load_balance_on_write=w, mode=m) for w in ON_WRITE for m in modes]
    for state, settings in product(STATES, some):
        found = route(statement, state, settings, NODES)
        assert isinstance(found, Route), "asked for facts about a write"
        assert found.dest is Dest.PRIMARY


@pytest.mark.parametrize("text", READS)
@pytest.mark.parametrize("when", ON_WRITE)
def test_reads_are_balanced_exactly_when_the_state_allows(text: str, when: str) -> None:
    statement = analyze(text)
    settings = RoutingSettings(disable_load_balance_on_write=when)
    for state in STATES:
        found = route(statement, state, settings, NODES, facts(text))
        assert isinstance(found, Route)
        in_transaction = State.IN_TRANSACTION in state
        never = State.FAILED | State.SERIALIZABLE | State.PINNED_SESSION | State.PINNED_TRANSACTION
        wrote = (
            (when != "off" and in_transaction and State.WROTE_IN_TRANSACTION in state)  # which tables is not known
            or (when == "trans_transaction" and in_transaction and State.WROTE_IN_ANY_TRANSACTION in state)
            or (when in ("always", "lsn") and State.WROTE_IN_SESSION in state)
            or State.AWAITS_REPLAY in state
        )
        expected = Dest.PRIMARY if state & never or wrote else Dest.BALANCE
        assert found.dest is expected, (state, found.reason)


@pytest.mark.parametrize("text", [*READS, *WRITES])
def test_facts_are_asked_for_at_most_once(text: str) -> None:
    statement = analyze(text)
    for state in STATES:
        found = route(statement, state, DEFAULT, NODES)
        if isinstance(found, NeedFacts):
            assert found.tables or found.functions
            assert not state & State.FAILED, "a look-up cannot run in a failed transaction"
        assert isinstance(route(statement, state, DEFAULT, NODES, facts(text)), Route)


@pytest.mark.parametrize(
    "text", ["SELECT 1", "SELECT $1::int + 1", "", ";", "VALUES (1)", "SHOW a.b", "SELECT coalesce(1, 2)"]
)
def test_reads_without_names_need_no_catalog(text: str) -> None:
    assert route(analyze(text), State.NONE, DEFAULT, NODES) == Route(
        Dest.BALANCE, Reason.BALANCED, Effect.NONE, analyze(text).counter, True
    )


def test_need_facts() -> None:
    found = route(
        analyze("SELECT f(a), s.g(b), nextval('x') FROM t, pg_catalog.pg_class, pg_temp.x"), State.NONE, DEFAULT
    )
    assert found == NeedFacts((Name("", "t"),), (Name("", "f"), Name("s", "g")))


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (TableFact.SYSTEM, Reason.SYSTEM_CATALOG),
        (TableFact.SYSTEM | TableFact.VIEW, Reason.SYSTEM_CATALOG),
        (TableFact.TEMP, Reason.TEMP_TABLE),
        (TableFact.UNLOGGED, Reason.UNLOGGED_TABLE),
        (TableFact.UNKNOWN, Reason.UNKNOWN_TABLE),
        (TableFact.VIEW | TableFact.WRITES, Reason.WRITING_FUNCTION),
        (TableFact.VIEW, Reason.BALANCED),
        (TableFact.PLAIN, Reason.BALANCED),
    ],
)
def test_tables(table: TableFact, reason: Reason) -> None:
    found = decided("SELECT * FROM t", table=table)
    assert found.reason is reason
    assert found.dest is (Dest.BALANCE if reason is Reason.BALANCED else Dest.PRIMARY)
    assert found.cacheable is (reason is not Reason.UNKNOWN_TABLE)


def test_a_missing_fact_is_unknown() -> None:
    found = route(analyze("SELECT f(1) FROM t"), State.NONE, DEFAULT, NODES, Facts({}, {}))
    assert isinstance(found, Route)
    assert found.dest is Dest.PRIMARY


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("SELECT * FROM pg_catalog.pg_class", Reason.SYSTEM_CATALOG),
        ("SELECT * FROM pg_temp.t", Reason.TEMP_TABLE),
        ("SELECT * FROM information_schema.tables", Reason.BALANCED),
        ("SELECT nextval('s')", Reason.WRITING_FUNCTION),
        ("SELECT pg_catalog.txid_current()", Reason.WRITING_FUNCTION),
        ("SELECT pg_backend_pid()", Reason.WRITING_FUNCTION),
        ("/* c */ SELECT 1", Reason.LEADING_COMMENT),
        ("-- c\nSELECT 1", Reason.LEADING_COMMENT),
        ("/* c */", Reason.LEADING_COMMENT),
        ("  SELECT 1", Reason.BALANCED),
        ("SELECT /* c */ 1", Reason.BALANCED),
    ],
)
def test_reasons_in_the_text(text: str, reason: Reason) -> None:
    found = route(analyze(text), State.NONE, DEFAULT, NODES)
    assert isinstance(found, Route)
    assert found.reason is reason


def test_comments_and_white_space() -> None:
    allowed = RoutingSettings(allow_sql_comments=True, ignore_leading_white_space=False)
    strict = RoutingSettings(ignore_leading_white_space=False)
    assert decided("/* c */ SELECT 1", settings=allowed).dest is Dest.BALANCE
    assert decided(" SELECT 1", settings=allowed).dest is Dest.BALANCE
    assert decided(" SELECT 1", settings=strict).reason is Reason.LEADING_COMMENT


def test_functions() -> None:
    text = "SELECT f(1)"
    assert decided(text, volatile=False).dest is Dest.BALANCE
    writing = decided(text, volatile=True)
    assert (writing.reason, writing.effect) == (Reason.WRITING_FUNCTION, Effect.WRITE)
    of_user = decided(text, volatile=True, user=True)
    assert of_user.effect == Effect.WRITE | Effect.MAY_CREATE_TEMP
    unknown = decided(text, volatile=None)
    assert (unknown.reason, unknown.effect, unknown.cacheable) == (Reason.UNKNOWN_FUNCTION, Effect.WRITE, False)


def test_syntax_of_newer_servers_is_no_unknown_function() -> None:
    assert decided("SELECT json_object('a' : 1)", volatile=None).dest is Dest.BALANCE
    assert decided("SELECT json_object('a')", volatile=True).dest is Dest.PRIMARY


def test_read_only_function_list() -> None:
    settings = RoutingSettings(read_only_functions=PatternList.of("x", ["ro_.*", "public\\.g", "nextval"]))
    assert decided("SELECT ro_f(1)", settings=settings, volatile=True).dest is Dest.BALANCE
    assert decided("SELECT f(1)", settings=settings).reason is Reason.WRITING_FUNCTION
    assert decided("SELECT public.g(1)", settings=settings).dest is Dest.BALANCE
    assert decided("SELECT g(1)", settings=settings).dest is Dest.PRIMARY
    assert decided("SELECT nextval('s')", settings=settings).dest is Dest.PRIMARY, (
        "a standby cannot do it, whatever is listed"
    )
    assert isinstance(route(analyze("SELECT f(1)"), State.NONE, settings, NODES), Route), "no look-up is needed"


def test_write_function_list() -> None:
    settings = RoutingSettings(write_functions=PatternList.of("x", ["f", "s\\..*"]))
    assert decided("SELECT F(1)", settings=settings).reason is Reason.WRITING_FUNCTION
    assert decided("SELECT s.h(1)", settings=settings).reason is Reason.WRITING_FUNCTION
    assert decided("SELECT h(1)", settings=settings, volatile=True).dest is Dest.BALANCE
    assert decided("SELECT currval('s')", settings=settings).dest is Dest.PRIMARY


def test_pattern_list() -> None:
    settings = RoutingSettings(primary_patterns=PatternList.of("x", ["SELECT .* FROM secret.*"]))
    assert settings.exact_text
    assert not DEFAULT.exact_text
    found = decided("select a\n from secret_table", settings=settings)
    assert (found.reason, found.effect) == (Reason.PATTERN_LIST, Effect.NONE)
    assert decided("select a from t", settings=settings).dest is Dest.BALANCE
    writing = decided("select f(a) from secret", settings=settings, volatile=True)
    assert (writing.reason, writing.effect) == (Reason.PATTERN_LIST, Effect.WRITE)


def test_checks_switched_off_need_no_look_up() -> None:
    settings = RoutingSettings(check_temp_table=False, check_unlogged_table=False)
    assert route(analyze("SELECT * FROM t, s.u"), State.NONE, settings, NODES).dest is Dest.BALANCE
    assert route(analyze("SELECT * FROM pg_class"), State.NONE, settings, NODES) == NeedFacts(
        (Name("", "pg_class"),), ()
    )


def test_a_position_is_asked_for_last() -> None:
    """Only for a read that nothing else keeps on the primary, and that is no write itself; and nobody remembers it."""
    lsn = RoutingSettings(disable_load_balance_on_write="lsn")
    for state in (State.WROTE_IN_SESSION, State.AWAITS_REPLAY, State.AWAITS_REPLAY | State.IN_TRANSACTION):
        found = decided("SELECT count(*) FROM t", state, lsn)
        assert (found.reason, found.effect, found.cacheable) == (Reason.REPLAY_POSITION, Effect.NONE, False)
        assert decided("SELECT f(1)", state, lsn, volatile=True).reason is Reason.WRITING_FUNCTION
        assert decided("INSERT INTO t VALUES (1)", state, lsn).cacheable
        assert isinstance(route(analyze("SELECT f(1)"), state, lsn, NODES), NeedFacts)
    inside = State.WROTE_IN_SESSION | State.IN_TRANSACTION | State.WROTE_IN_TRANSACTION
    assert decided("SELECT 1", inside, lsn).reason is Reason.WROTE_IN_TRANSACTION
    assert decided("SELECT 1", State.WROTE_IN_SESSION).dest is Dest.BALANCE
    assert decided("SELECT 1", State.AWAITS_REPLAY).reason is Reason.REPLAY_POSITION


def test_set_config_is_never_remembered() -> None:
    for text, effect in (
        ("SELECT set_config('a.b', $1, true)", Effect.PIN_TRANSACTION | Effect.WRITE),
        ("SELECT set_config('a.b', $1, false)", Effect.PIN_SESSION | Effect.WRITE),
        ("SELECT set_config('a.b', 'c', $1)", Effect.PIN_SESSION | Effect.WRITE),
        ("SELECT set_config('a.b', 'c', true)", Effect.JOURNAL),
        ("SELECT set_config('a.b', 'c', false)", Effect.JOURNAL),
    ):
        found = decided(text)
        assert (found.dest, found.effect, found.cacheable) == (Dest.PRIMARY, effect, False)
    assert not decided("INSERT INTO t SELECT set_config('a.b', 'c', true)").cacheable


def test_nothing_to_balance_to() -> None:
    for nodes in (
        (node(0, Role.PRIMARY),),
        (node(0, Role.PRIMARY), node(1, Role.STANDBY, weight=0)),
        (node(0, Role.PRIMARY), node(1, Role.STANDBY, state=NodeState.DOWN)),
        (node(0, Role.PRIMARY), replace(node(1, Role.STANDBY), quarantined=True)),
    ):
        found = route(analyze("SELECT f(a) FROM t"), State.NONE, DEFAULT, nodes)
        assert (found.dest, found.reason) == (Dest.PRIMARY, Reason.NO_STANDBY)


@pytest.mark.parametrize("text", [*READS, *WRITES])
def test_modes_without_a_primary_and_load_balance_mode_off(text: str) -> None:
    raw = decided(text, settings=RoutingSettings(mode=ClusterMode.RAW))
    assert (raw.dest, raw.reason) == (Dest.PRIMARY, Reason.RAW_MODE)
    off = decided(text, settings=RoutingSettings(load_balance_mode=False))
    assert off.dest is Dest.PRIMARY
    if analyze(text).readonly:
        assert off.reason is Reason.LOAD_BALANCE_OFF


def test_failed_transactions() -> None:
    state = State.IN_TRANSACTION | State.FAILED
    assert decided("SELECT f(1) FROM t", state).reason is Reason.FAILED_TRANSACTION
    assert decided("INSERT INTO t VALUES (1)", state).reason is Reason.FAILED_TRANSACTION
    assert decided("ROLLBACK", state).reason is Reason.TRANSACTION_CONTROL
    assert decided("ROLLBACK TO a", state).effect == Effect.JOURNAL


def test_own_statements() -> None:
    for text in ("SHOW pool_nodes", "PGPOOL SHOW port"):
        found = decided(text)
        assert (found.dest, found.cacheable) == (Dest.OURSELVES, False)
    failed = State.IN_TRANSACTION | State.FAILED
    assert decided("SHOW pool_nodes", failed).dest is Dest.PRIMARY
    assert decided("PGPOOL SHOW port", failed).reason is Reason.FAILED_TRANSACTION


def execute(text: str, prepared: str, state: State = State.NONE, known: Facts | None = None) -> Route | NeedFacts:
    return route(analyze(text), state, DEFAULT, NODES, known, prepared=analyze(prepared))


def test_execute_goes_where_its_statement_goes() -> None:
    found = execute("EXECUTE q", "SELECT 1")
    assert (found.dest, found.counter, found.cacheable) == (Dest.BALANCE, Counter.OTHER, False)
    assert Effect.JOURNAL in found.effect
    assert execute("EXECUTE q", "INSERT INTO t VALUES (1)").dest is Dest.PRIMARY
    assert execute("EXECUTE q (nextval('s'))", "SELECT $1").reason is Reason.WRITING_FUNCTION
    need = execute("EXECUTE q (f(1))", "SELECT g($1) FROM t")
    assert need == NeedFacts((Name("", "t"),), (Name("", "g"), Name("", "f")))
    assert execute("EXECUTE q", "SELECT 1", State.PINNED_SESSION).reason is Reason.PINNED
    unknown = route(analyze("EXECUTE q"), State.NONE, DEFAULT, NODES)
    assert (unknown.dest, unknown.effect) == (Dest.PRIMARY, Effect.JOURNAL | Effect.WRITE)


@pytest.mark.parametrize("text", [*READS, *WRITES, "SELECT nextval('s')", "SELECT f(1)"])
def test_codes_come_back_the_same(text: str) -> None:
    found = decided(text)
    assert found.code != 0
    assert found.code < 1 << 32
    assert replace(Route.from_code(found.code), cacheable=found.cacheable) == found


def test_a_read_that_was_not_looked_up_may_have_written() -> None:
    found = route(analyze("SELECT f(1)"), State.SERIALIZABLE | State.IN_TRANSACTION, DEFAULT, NODES)
    assert (found.reason, found.effect) == (Reason.SERIALIZABLE, Effect.WRITE | Effect.MAY_CREATE_TEMP)
    found = route(analyze("SELECT count(*) FROM t"), State.PINNED_SESSION, DEFAULT, NODES)
    assert found.effect == Effect.WRITE
    assert route(analyze("SELECT 1 FROM t"), State.PINNED_SESSION, DEFAULT, NODES).effect == Effect.NONE


def test_settings_of_a_configuration() -> None:
    settings = load(None).settings
    assert RoutingSettings.of(settings) == DEFAULT
    assert hash(RoutingSettings.of(settings)) == hash(DEFAULT)
    changed = settings.replace(
        disable_load_balance_on_write="always", check_temp_table="none", write_function_list=("f.*",)
    )
    routing = RoutingSettings.of(changed)
    assert (routing.disable_load_balance_on_write, routing.check_temp_table) == ("always", False)
    assert routing.write_functions.matches("F1")
