"""The shared, immutable vocabulary: what all rooms mean by a node, a statement, a route."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag


class ClusterMode(IntEnum):
    """backend_clustering_mode; the numbers are those SHOW pool_status prints (parameters.tsv)."""

    STREAMING_REPLICATION = 1
    NATIVE_REPLICATION = 2
    LOGICAL_REPLICATION = 3
    RAW = 4
    SNAPSHOT_ISOLATION = 5
    SLONY = 6

    @property
    def has_primary(self) -> bool:
        """Reads may go to a standby and writes to the one primary (the incumbent's "SL mode")."""
        return self in (ClusterMode.STREAMING_REPLICATION, ClusterMode.LOGICAL_REPLICATION, ClusterMode.SLONY)


class NodeState(IntEnum):
    """Node states as pgpool_status and SHOW pool_nodes know them (behaviour.md 10.1)."""

    UNUSED = 0
    WAITING = 1
    UP = 2
    DOWN = 3

    @property
    def usable(self) -> bool:
        return self in (NodeState.WAITING, NodeState.UP)


class Role(IntEnum):
    """Roles as PCP numbers them."""

    MAIN = 0
    REPLICA = 1
    PRIMARY = 2
    STANDBY = 3


@dataclass(frozen=True, slots=True)
class NodeView:
    """One backend as a decision sees it: a snapshot, never live."""

    id: int
    hostname: str
    port: int
    weight: float
    state: NodeState
    quarantined: bool
    role: Role
    delay: int = 0
    """Bytes behind the primary, or microseconds when measured by time."""
    delay_known: bool = True
    """False: the last streaming check could not tell the delay."""
    last_change: float = 0.0

    @property
    def usable(self) -> bool:
        return self.state.usable and not self.quarantined


class Kind(IntEnum):
    """Statement kinds, as far as routing, journaling and counting tell them apart."""

    UNKNOWN = 0
    EMPTY = 1
    SELECT = 2
    INSERT = 3
    UPDATE = 4
    DELETE = 5
    MERGE = 6
    COPY_FROM = 7
    COPY_TO = 8
    BEGIN = 10
    COMMIT = 11
    ROLLBACK = 12
    SAVEPOINT = 13
    RELEASE = 14
    ROLLBACK_TO = 15
    PREPARE_TRANSACTION = 16
    COMMIT_PREPARED = 17
    ROLLBACK_PREPARED = 18
    SET = 20
    RESET = 21
    SHOW = 22
    DISCARD = 23
    PREPARE = 24
    EXECUTE = 25
    DEALLOCATE = 26
    DECLARE = 27
    FETCH = 28
    CLOSE = 29
    LOCK = 30
    EXPLAIN = 31
    CALL = 32
    DO = 33
    LISTEN = 34
    UNLISTEN = 35
    NOTIFY = 36
    VACUUM = 37
    CHECKPOINT = 38
    LOAD = 39
    DDL = 40
    CREATE_TEMP = 41
    """CREATE TEMP TABLE/VIEW/SEQUENCE, SELECT INTO TEMP, CREATE TABLE AS TEMP: counted as ddl."""
    DROP = 42
    MULTI = 50
    """More than one statement in one string."""
    POOL_SHOW = 60
    """SHOW pool_*: answered by us."""
    PGPOOL = 61
    """PGPOOL SHOW/SET/RESET: answered by us."""


class Counter(IntEnum):
    """Columns of SHOW pool_backend_stats; the order is that of the hot child cell."""

    SELECT = 0
    INSERT = 1
    UPDATE = 2
    DELETE = 3
    DDL = 4
    OTHER = 5
    PANIC = 6
    FATAL = 7
    ERROR = 8


class State(IntFlag):
    """What a session has done so far, as far as routing cares: part of the verdict table's key."""

    NONE = 0
    IN_TRANSACTION = 1
    FAILED = 2
    WROTE_IN_TRANSACTION = 4
    WROTE_IN_ANY_TRANSACTION = 8
    """A write happened in some explicit transaction of this session (trans_transaction)."""
    WROTE_IN_SESSION = 16
    SERIALIZABLE = 32
    PINNED_TRANSACTION = 64
    """Until the transaction ends, only the primary knows this session's state."""
    PINNED_SESSION = 128
    """Until DISCARD ALL or the end, only the primary knows this session's state."""
    AWAITS_REPLAY = 256
    """Some node that may answer its reads is not known to have replayed what the session must see (session/position.py)."""
    ON_STANDBY = 512
    """A standby runs the open READ ONLY transaction and stands in the primary's place (session/aside.py)."""


class Effect(IntFlag):
    """What a statement does to the session when it succeeds; decided with the route, acted on by the session."""

    NONE = 0
    WRITE = 1
    """Counts as a write for disable_load_balance_on_write."""
    BEGIN = 2
    """Opens a transaction: its text is replayed (or a plain BEGIN, see BEGIN_PLAIN) on a standby that joins later."""
    BEGIN_PLAIN = 4
    """READ WRITE or SERIALIZABLE: a standby gets a plain BEGIN (behaviour.md 5.1)."""
    SERIALIZABLE = 8
    PIN_TRANSACTION = 16
    PIN_SESSION = 32
    JOURNAL = 64
    """Python keeps book of it (SET, RESET, SAVEPOINT, PREPARE, DISCARD ...): never settled by the verdict table."""
    MAY_CREATE_TEMP = 128
    """The session may own temporary tables from now on: its verdicts are not shared."""
    DDL = 256
    """May change what the relation cache knows: moves the epoch when it succeeds."""


class Dest(IntEnum):
    """Where a message goes. Never two places: state is carried to other nodes by journal and replay."""

    NONE = 0
    PRIMARY = 1
    """The primary; in raw mode the main node."""
    BALANCE = 2
    """This session's (or this statement's) load balance node, which may be the primary."""
    OURSELVES = 3
    """Answered by pgpool."""


class Reason(IntEnum):
    """Why a statement goes where it goes. The text for people is REASON_TEXT[reason]."""

    BALANCED = 0
    NOT_A_READ = 1
    UNPARSABLE = 2
    MULTI_STATEMENT = 3
    LOAD_BALANCE_OFF = 4
    LEADING_COMMENT = 5
    LOCKING = 6
    SELECT_INTO = 7
    WRITES_IN_WITH = 8
    WRITING_FUNCTION = 9
    UNKNOWN_FUNCTION = 10
    SYSTEM_CATALOG = 11
    TEMP_TABLE = 12
    UNLOGGED_TABLE = 13
    UNKNOWN_TABLE = 14
    PATTERN_LIST = 15
    WROTE_IN_TRANSACTION = 16
    WROTE_IN_ANY_TRANSACTION = 17
    WROTE_IN_SESSION = 18
    SERIALIZABLE = 19
    FAILED_TRANSACTION = 20
    PINNED = 21
    REPLICATION_DELAY = 22
    SESSION_STATE = 23
    TRANSACTION_CONTROL = 24
    CURSOR = 25
    OWN_STATEMENT = 26
    RAW_MODE = 27
    WHERE_PREPARED = 28
    DML_ADAPTIVE = 29
    NO_STANDBY = 30
    TOO_LONG = 31
    """Longer than the receive buffer: sent on to the primary unread."""
    SAME_BATCH = 32
    """Earlier messages of the same pipeline (up to Sync) went to the primary."""
    NODE_BOUND = 33
    """SHOW transaction_read_only and the like."""
    REFUSED = 34
    """A standby refused this statement before (25006, or a conflict with recovery)."""
    STANDBY_LOST = 35
    """The standby hung up before the client had seen anything of the answer."""
    REPLAY_POSITION = 36
    """disable_load_balance_on_write = lsn, or PGPOOL SET min_lsn."""
    ON_STANDBY = 37
    """In a READ ONLY transaction that a standby runs (policy/aside.py)."""
    WRITTEN_LATELY = 38
    """dml_adaptive_global: some session has written a table that it reads, or pgpool has just started."""


REASON_TEXT: dict[Reason, str] = {
    Reason.BALANCED: "a read that may be load balanced",
    Reason.NOT_A_READ: "not a read",
    Reason.UNPARSABLE: "not understood, so it may write",
    Reason.MULTI_STATEMENT: "several statements in one string",
    Reason.LOAD_BALANCE_OFF: "load_balance_mode is off",
    Reason.LEADING_COMMENT: "does not begin with a reading keyword (comment or blank first)",
    Reason.LOCKING: "takes row or table locks",
    Reason.SELECT_INTO: "SELECT INTO creates a table",
    Reason.WRITES_IN_WITH: "WITH contains a data-modifying statement",
    Reason.WRITING_FUNCTION: "calls a function that may write",
    Reason.UNKNOWN_FUNCTION: "calls a function that the catalogs do not show",
    Reason.SYSTEM_CATALOG: "reads a system catalog",
    Reason.TEMP_TABLE: "reads a temporary table",
    Reason.UNLOGGED_TABLE: "reads an unlogged table",
    Reason.UNKNOWN_TABLE: "reads a table that the catalogs do not show",
    Reason.PATTERN_LIST: "matches primary_routing_query_pattern_list",
    Reason.WROTE_IN_TRANSACTION: "the transaction has written",
    Reason.WROTE_IN_ANY_TRANSACTION: "an earlier transaction of the session has written",
    Reason.WROTE_IN_SESSION: "the session has written",
    Reason.SERIALIZABLE: "the transaction is SERIALIZABLE",
    Reason.FAILED_TRANSACTION: "the transaction has failed",
    Reason.PINNED: "only the primary knows the session's state",
    Reason.REPLICATION_DELAY: "the standby is too far behind",
    Reason.SESSION_STATE: "changes the session's state",
    Reason.TRANSACTION_CONTROL: "controls the transaction",
    Reason.CURSOR: "cursors live on the primary",
    Reason.OWN_STATEMENT: "answered by pgpool",
    Reason.RAW_MODE: "raw mode uses the main node only",
    Reason.WHERE_PREPARED: "goes where its PREPARE would go",
    Reason.DML_ADAPTIVE: "a table written before is read",
    Reason.NO_STANDBY: "no other node can be used",
    Reason.TOO_LONG: "too long to be read before it is sent on",
    Reason.SAME_BATCH: "earlier messages of the same batch went to the primary",
    Reason.REFUSED: "a standby refused it",
    Reason.STANDBY_LOST: "repeated, because the standby hung up",
    Reason.REPLAY_POSITION: "the standby is not known to have replayed what must be seen",
    Reason.WRITTEN_LATELY: "a table was written lately that it reads",
    Reason.ON_STANDBY: "the read-only transaction runs on the standby",
    Reason.NODE_BOUND: "its answer differs between a primary and a standby",
}


@dataclass(frozen=True, slots=True)
class Name:
    """A table or function name as written: schema '' when the query gives none; quotes removed, unquoted parts folded."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


@dataclass(frozen=True, slots=True)
class Statement:
    """What one SQL string says, without looking at any catalog (sql/analyze makes it)."""

    kind: Kind
    counter: Counter
    readonly: bool
    """Nothing in the text itself writes, locks or needs the primary: a candidate for load balancing."""
    reason: Reason
    """When not readonly: why. Else BALANCED."""
    leading: bool = True
    """Begins (after white space) with one of ``s ( w t v`` or is empty: no comment first (behaviour.md 5.2)."""
    leading_space: bool = False
    tables: tuple[Name, ...] = ()
    functions: tuple[Name, ...] = ()
    name: str = ""
    """PREPARE/EXECUTE/DEALLOCATE/DECLARE/SAVEPOINT name (folded; '' = ALL for DEALLOCATE), variable of SET/RESET/SHOW
    ('' = ALL for RESET; 'role', 'session_authorization', 'transaction', 'session characteristics', 'timezone' ...)."""
    local: bool = False
    """SET LOCAL, SET TRANSACTION: ends with the transaction."""
    access: str = ""
    """BEGIN, SET TRANSACTION: 'only' for READ ONLY, 'write' for READ WRITE, '' when it says neither."""
    hold: bool = False
    """A cursor WITH HOLD: it outlives the transaction on the node where it was declared."""
    effect: Effect = Effect.NONE
    inner: Statement | None = None
    """The statement inside PREPARE, EXPLAIN, DECLARE, COPY (query) TO."""
    parts: tuple[Statement, ...] = ()
    """The statements of a MULTI string. With JOURNAL: when all of it succeeded, keep book of each part with JOURNAL."""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Answers of the catalogs for the names of one statement; a missing key was not asked for."""

    tables: dict[Name, TableFact]
    volatile: dict[Name, bool | None]
    """True: some function of this name is volatile. None: no function of this name exists."""
    user_volatile: frozenset[Name] = frozenset()
    """Volatile ones outside of pg_catalog: their code may do anything, also create temporary tables."""


class TableFact(IntFlag):
    PLAIN = 0
    SYSTEM = 1
    TEMP = 2
    UNLOGGED = 4
    UNKNOWN = 8
    """No such relation (yet)."""
    VIEW = 16
    WRITES = 32
    """A view that calls a volatile function."""


@dataclass(frozen=True, slots=True)
class NeedFacts:
    """route() lacks catalog facts: ask for these names and call it exactly once more."""

    tables: tuple[Name, ...]
    functions: tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """Where one statement goes, why, and what to watch for. ``code`` is what the verdict table stores."""

    dest: Dest
    reason: Reason
    effect: Effect = Effect.NONE
    counter: Counter = Counter.OTHER
    cacheable: bool = True
    """False: depends on more than text, session context and state bits (a clock, a dice, a list of written tables)."""

    @property
    def code(self) -> int:
        """32 bits: dest (0-1), effect (2-15), counter (16-19), reason (20-31). 0 never occurs: it means a miss."""
        return int(self.dest) | int(self.effect) << 2 | int(self.counter) << 16 | int(self.reason) << 20

    @classmethod
    def from_code(cls, code: int) -> Route:
        return cls(Dest(code & 3), Reason(code >> 20), Effect(code >> 2 & 0x3FFF), Counter(code >> 16 & 15))
