"""Where one statement goes, and why: a pure function of what it says, what the session did, settings and catalog facts.

Source: behaviour.md 5.1, 5.2 and 5.4. A route depends on the statement's structure and never on its constants, so the
verdict table may remember it literal-blind; where that does not hold ``cacheable`` is False, or
``RoutingSettings.exact_text`` tells that texts must be compared to the letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pgpool.config.settings import Settings
from pgpool.model import (
    ClusterMode,
    Dest,
    Effect,
    Facts,
    Kind,
    Name,
    NeedFacts,
    NodeView,
    Reason,
    Role,
    Route,
    State,
    Statement,
    TableFact,
)
from pgpool.policy import aside
from pgpool.policy.written import Relations, relations_of, uses
from pgpool.sql import keywords
from pgpool.sql.names import PatternList, Preference, parse_preferences

_NONE = PatternList()


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """What routing needs of pgpool.conf, lists compiled. Made once for each Settings object."""

    mode: ClusterMode = ClusterMode.STREAMING_REPLICATION
    load_balance_mode: bool = True
    disable_load_balance_on_write: str = "transaction"
    relations: Relations = ()
    patient: bool = False
    """failover_client_policy = wait: what only the primary knows of a session must be known."""
    read_only_aside: bool = False
    """READ ONLY transactions run wholly on the load balance node, as far as they can."""
    allow_sql_comments: bool = False
    ignore_leading_white_space: bool = True
    check_temp_table: bool = True
    """catalog, trace and on: the catalogs are asked, which finds all that a trace would."""
    check_unlogged_table: bool = True
    statement_level_load_balance: bool = False
    delay_limit: int = 0
    """A standby further behind gets no reads: bytes, or microseconds when measured by time; 0: any delay will do."""
    prefer_lower_delay: bool = False
    read_only_functions: PatternList = _NONE
    write_functions: PatternList = _NONE
    primary_patterns: PatternList = _NONE
    app_name_preferences: tuple[Preference, ...] = ()
    database_preferences: tuple[Preference, ...] = ()
    user_preferences: tuple[Preference, ...] = ()

    @property
    def exact_text(self) -> bool:
        """Routes depend on constants and comments: verdicts must be kept by the exact text."""
        return bool(self.primary_patterns)

    @property
    def adaptive(self) -> bool:
        """dml_adaptive(_global): reads of other tables than those written in the transaction may go to a standby."""
        return self.disable_load_balance_on_write in ("dml_adaptive", "dml_adaptive_global")

    @property
    def everywhere(self) -> bool:
        """dml_adaptive_global: what other sessions have written counts too (session/lately.py)."""
        return self.disable_load_balance_on_write == "dml_adaptive_global"

    @property
    def notes_locks(self) -> bool:
        """Session-level advisory locks must be known."""
        return self.patient or self.read_only_aside

    @classmethod
    def of(cls, settings: Settings) -> RoutingSettings:
        """Raises names.BadList when a list cannot be used."""
        return cls(
            mode=settings.mode,
            load_balance_mode=settings.load_balance_mode,
            disable_load_balance_on_write=settings.disable_load_balance_on_write,
            patient=settings.failover_client_policy == "wait",
            relations=relations_of(settings.dml_adaptive_object_relationship_list),
            read_only_aside=settings.read_only_transactions_on_standby,
            allow_sql_comments=settings.allow_sql_comments,
            ignore_leading_white_space=settings.ignore_leading_white_space,
            check_temp_table=settings.check_temp_table not in ("none", "off"),
            check_unlogged_table=settings.check_unlogged_table,
            statement_level_load_balance=settings.statement_level_load_balance,
            delay_limit=delay_limit(settings),
            prefer_lower_delay=settings.prefer_lower_delay_standby,
            read_only_functions=PatternList.of("read_only_function_list", settings.read_only_function_list),
            write_functions=PatternList.of("write_function_list", settings.write_function_list),
            primary_patterns=PatternList.of(
                "primary_routing_query_pattern_list", settings.primary_routing_query_pattern_list
            ),
            app_name_preferences=parse_preferences(
                "app_name_redirect_preference_list", settings.app_name_redirect_preference_list
            ),
            database_preferences=parse_preferences(
                "database_redirect_preference_list", settings.database_redirect_preference_list
            ),
            user_preferences=parse_preferences("user_redirect_preference_list", settings.user_redirect_preference_list),
        )


def delay_limit(settings: Settings) -> int:
    """delay_threshold_by_time in microseconds, else delay_threshold in bytes; 0 when no delay is measured or none
    counts (behaviour.md 5.5: streaming mode only)."""
    if settings.mode is not ClusterMode.STREAMING_REPLICATION or not settings.sr_check_period:
        return 0
    if settings.delay_threshold_by_time > 0 or settings.replication_delay_source_cmd:
        return settings.delay_threshold_by_time * 1000
    return settings.delay_threshold


def route(
    statement: Statement,
    state: State,
    settings: RoutingSettings,
    nodes: Sequence[NodeView] = (),
    facts: Facts | None = None,
    *,
    prepared: Statement | None = None,
    written: frozenset[Name] = frozenset(),
) -> Route | NeedFacts:
    """Where ``statement`` goes. NeedFacts: look these names up and call once more with ``facts``.

    ``prepared`` is, for EXECUTE, the statement that was prepared under that name; without it EXECUTE is a write.
    ``written``: tables written in the open transaction (dml_adaptive). A write is seen each time then, for its tables.
    """
    found = _route(statement, state, settings, nodes, facts, prepared, written)
    if not isinstance(found, Route):
        return found
    seen = settings.adaptive and found.effect & Effect.WRITE
    seen = seen or (settings.notes_locks and takes_lock(statement))
    seen = seen or (settings.read_only_aside and statement.kind is Kind.BEGIN)
    seen = seen or (settings.everywhere and (statement.kind is Kind.COMMIT or found.dest is Dest.BALANCE))
    return replace(found, cacheable=False) if seen else found


def takes_lock(statement: Statement) -> bool:
    """Does it take an advisory lock that lasts as long as the session?"""
    return any(function.name in keywords.SESSION_LOCKS for function in statement.functions)


def _route(
    statement: Statement,
    state: State,
    settings: RoutingSettings,
    nodes: Sequence[NodeView],
    facts: Facts | None,
    prepared: Statement | None,
    written: frozenset[Name],
) -> Route | NeedFacts:
    if statement.kind in (Kind.POOL_SHOW, Kind.PGPOOL):
        return _answered_here(statement, state)
    if state & State.ON_STANDBY:
        return aside.there(statement)
    if statement.kind is Kind.EXECUTE:
        return _execute(statement, state, settings, nodes, facts, prepared, written)
    reason = bound_to_primary(state, settings, nodes)
    if not statement.readonly:
        failed = reason is Reason.FAILED_TRANSACTION and statement.reason is not Reason.TRANSACTION_CONTROL
        return _primary(statement, reason if failed or reason is Reason.RAW_MODE else statement.reason)
    if reason is not None:
        return _primary(statement, reason, _unasked(statement, settings))
    found = _read(statement, state, settings, facts)
    if not isinstance(found, Route) or found.dest is not Dest.BALANCE:
        return found
    wrote = State.IN_TRANSACTION in state and State.WROTE_IN_TRANSACTION in state
    if settings.adaptive and wrote and uses(statement, written):
        return _primary(statement, Reason.DML_ADAPTIVE)
    if awaits_replay(state, settings):
        return replace(_primary(statement, Reason.REPLAY_POSITION), cacheable=False)
    return found


def _answered_here(statement: Statement, state: State) -> Route:
    if state & State.FAILED:
        # PostgreSQL refuses SHOW with 25P02 by itself; PGPOOL it cannot parse, so that refusal is ours.
        dest = Dest.PRIMARY if statement.kind is Kind.POOL_SHOW else Dest.OURSELVES
        return Route(dest, Reason.FAILED_TRANSACTION, statement.effect, statement.counter, cacheable=False)
    return Route(Dest.OURSELVES, Reason.OWN_STATEMENT, statement.effect, statement.counter, cacheable=False)


def _execute(
    statement: Statement,
    state: State,
    settings: RoutingSettings,
    nodes: Sequence[NodeView],
    facts: Facts | None,
    prepared: Statement | None,
    written: frozenset[Name],
) -> Route | NeedFacts:
    """EXECUTE goes where its statement would go, with the functions of its arguments on top."""
    if prepared is None:
        bound = bound_to_primary(state, settings, nodes)
        elsewhere = bound in (Reason.RAW_MODE, Reason.FAILED_TRANSACTION)
        return _primary(statement, bound if bound and elsewhere else Reason.WHERE_PREPARED, Effect.WRITE)
    functions = tuple(dict.fromkeys(prepared.functions + statement.functions))
    both = replace(prepared, functions=functions, effect=prepared.effect | statement.effect, counter=statement.counter)
    if statement.effect & Effect.WRITE and prepared.readonly:
        both = replace(both, readonly=False, reason=Reason.UNPARSABLE)
    found = route(both, state, settings, nodes, facts, written=written)
    return found if isinstance(found, NeedFacts) else replace(found, cacheable=False)


def bound_to_primary(state: State, settings: RoutingSettings, nodes: Sequence[NodeView]) -> Reason | None:
    """The reason, other than the statement's own text, why nothing could be balanced now; None when it could."""
    if not settings.mode.has_primary:
        return Reason.RAW_MODE
    if state & State.FAILED:
        return Reason.FAILED_TRANSACTION
    if not settings.load_balance_mode:
        return Reason.LOAD_BALANCE_OFF
    if state & (State.PINNED_TRANSACTION | State.PINNED_SESSION):
        return Reason.PINNED
    if state & State.SERIALIZABLE:
        return Reason.SERIALIZABLE
    if reason := _wrote(state, settings.disable_load_balance_on_write):
        return reason
    if nodes and not any(n.usable and n.weight > 0 and n.role is not Role.PRIMARY for n in nodes):
        return Reason.NO_STANDBY
    return None


def _wrote(state: State, when: str) -> Reason | None:
    """behaviour.md 5.4."""
    in_transaction = bool(state & State.IN_TRANSACTION)
    if when == "off":
        return None
    if when == "always" and state & State.WROTE_IN_SESSION:
        return Reason.WROTE_IN_SESSION
    if in_transaction and not when.startswith("dml_adaptive") and state & State.WROTE_IN_TRANSACTION:
        return Reason.WROTE_IN_TRANSACTION
    if in_transaction and when == "trans_transaction" and state & State.WROTE_IN_ANY_TRANSACTION:
        return Reason.WROTE_IN_ANY_TRANSACTION
    return None


def awaits_replay(state: State, settings: RoutingSettings) -> bool:
    """Must the standby be asked how far it is? Last of all questions: only then is it known that nothing else keeps the
    read on the primary, and that the read itself does not count as a write."""
    wrote = settings.disable_load_balance_on_write == "lsn" and State.WROTE_IN_SESSION in state
    return wrote or State.AWAITS_REPLAY in state


def _primary(statement: Statement, reason: Reason, more: Effect = Effect.NONE) -> Route:
    effect = statement.effect | more
    return Route(Dest.PRIMARY, reason, effect, statement.counter, _cacheable(statement, effect))


def _cacheable(statement: Statement, effect: Effect) -> bool:
    """Not what Python must keep book of, nor a query whose effect hangs on a constant (set_config)."""
    if effect & Effect.JOURNAL:
        return False
    literal_blind = statement.kind in (Kind.SELECT, Kind.INSERT, Kind.UPDATE, Kind.DELETE, Kind.MERGE)
    return not (literal_blind and effect & (Effect.PIN_TRANSACTION | Effect.PIN_SESSION))


def _unasked(statement: Statement, settings: RoutingSettings) -> Effect:
    """A read that stays on the primary anyway: the catalogs are not asked, so each function may have written."""
    effect = Effect.NONE
    for function in statement.functions:
        if _by_name(function, settings) is not False:
            effect |= Effect.WRITE
            if function.schema != "pg_catalog" and function.name not in keywords.HARMLESS | keywords.ON_PRIMARY:
                effect |= Effect.MAY_CREATE_TEMP
    return effect


def _read(statement: Statement, state: State, settings: RoutingSettings, facts: Facts | None) -> Route | NeedFacts:
    """A statement whose text only reads, in a session that may read anywhere."""
    own = _own_reason(statement, settings)
    functions = tuple(f for f in statement.functions if _by_name(f, settings) is None)
    tables = () if own is not None else tuple(t for t in statement.tables if _must_ask(t, settings))
    if facts is None and (tables or functions):
        return NeedFacts(tables, functions)
    written, effect = _functions_reason(statement, settings, facts)
    reason = own or _tables_reason(statement, settings, facts) or written
    if reason is None:
        return Route(Dest.BALANCE, Reason.BALANCED, statement.effect, statement.counter)
    found = _primary(statement, reason, effect)
    if reason in (Reason.UNKNOWN_TABLE, Reason.UNKNOWN_FUNCTION):
        found = replace(found, cacheable=False)  # it may exist the next time
    return found


def _own_reason(statement: Statement, settings: RoutingSettings) -> Reason | None:
    """Reasons found in the text alone, without a name looked up."""
    if not settings.allow_sql_comments and (
        not statement.leading or (statement.leading_space and not settings.ignore_leading_white_space)
    ):
        return Reason.LEADING_COMMENT
    if settings.primary_patterns and settings.primary_patterns.matches(statement.text):
        return Reason.PATTERN_LIST
    return None


def _must_ask(table: Name, settings: RoutingSettings) -> bool:
    """Can only the catalogs tell what this table is?"""
    if table.schema in ("pg_catalog", "pg_temp", "information_schema"):
        return False
    if settings.check_temp_table or settings.check_unlogged_table:
        return True
    # system catalogs are the only question left, and all of them begin like this
    return not table.schema and table.name.startswith("pg_")


def _tables_reason(statement: Statement, settings: RoutingSettings, facts: Facts | None) -> Reason | None:
    known = [_table_fact(t, settings, facts) for t in statement.tables]
    listed = bool(settings.read_only_functions or settings.write_functions)
    for flag, reason in (
        (TableFact.SYSTEM, Reason.SYSTEM_CATALOG),
        (TableFact.TEMP, Reason.TEMP_TABLE),
        (TableFact.UNLOGGED, Reason.UNLOGGED_TABLE),
        (TableFact.UNKNOWN, Reason.UNKNOWN_TABLE),
        (TableFact.PLAIN if listed else TableFact.WRITES, Reason.WRITING_FUNCTION),
    ):
        if any(fact & flag for fact in known):
            return reason
    return None


def _table_fact(table: Name, settings: RoutingSettings, facts: Facts | None) -> TableFact:
    if table.schema == "pg_catalog":
        return TableFact.SYSTEM
    if table.schema == "pg_temp":
        return TableFact.TEMP
    if not _must_ask(table, settings):
        return TableFact.PLAIN
    return facts.tables.get(table, TableFact.UNKNOWN) if facts else TableFact.UNKNOWN


def _by_name(function: Name, settings: RoutingSettings) -> bool | None:
    """Does this function write, as far as its name and the lists tell? None: ask the catalogs (behaviour.md 5.2)."""
    if function.schema in ("", "pg_catalog") and function.name in keywords.ON_PRIMARY:
        return True
    if not settings.read_only_functions and not settings.write_functions:
        return None
    if function.name in keywords.LATE_SYNTAX_CALLS and not function.schema:
        return False
    if settings.read_only_functions:
        return not settings.read_only_functions.matches(str(function))
    return settings.write_functions.matches(str(function))


def _functions_reason(
    statement: Statement, settings: RoutingSettings, facts: Facts | None
) -> tuple[Reason | None, Effect]:
    """(reason to stay on the primary, what running it there may do)."""
    reason, effect = None, Effect.NONE
    for function in statement.functions:
        writes = _by_name(function, settings)
        listed = writes is not None
        if writes is None:
            writes = facts.volatile.get(function) if facts else None
        if writes is False:
            continue
        if writes is None:
            if function.name in keywords.LATE_SYNTAX_CALLS and not function.schema:
                continue
            reason = reason or Reason.UNKNOWN_FUNCTION
            effect |= Effect.WRITE
            continue
        reason = Reason.WRITING_FUNCTION
        effect |= Effect.WRITE
        if _runs_user_code(function, listed, facts):
            effect |= Effect.MAY_CREATE_TEMP
    return reason, effect


def _runs_user_code(function: Name, listed: bool, facts: Facts | None) -> bool:
    if function.schema == "pg_catalog" or (not function.schema and function.name in keywords.ON_PRIMARY):
        return False
    return listed or facts is None or function in facts.user_volatile
