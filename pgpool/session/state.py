"""One client session: its links, its journal, its prepared statements, and how it waits."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from pgpool._fastpath import Newcomer, Why, look_at_nodes, take_doubt
from pgpool.auth.admission import Admission
from pgpool.backend import connect
from pgpool.backend.pool import Entry, PooledLink
from pgpool.config.settings import Settings
from pgpool.errors import AuthenticationFailed, BackendFailed, BackendRefused, PgpoolError, ProtocolViolation, SessionFatal
from pgpool.model import Dest, Facts, Name, NeedFacts, Reason, Route, State, Statement
from pgpool.policy.route import RoutingSettings, route
from pgpool.session import catalogs, follow, lately, position, steering
from pgpool.session.away import Away
from pgpool.session.backend_log import BackendLog
from pgpool.session.journal import Journal, Mark
from pgpool.session.prepared import Prepared, Statements
from pgpool.session.worker import Worker
from pgpool.shared import RequestFlag
from pgpool.system.logs import LOG, Echo, log
from pgpool.system.sockets import Peer
from pgpool.wire import messages
from pgpool.wire.startup import Startup

MASK64 = (1 << 64) - 1


class SessionOver(Exception):
    """The session ends. ``clean``: the client said good-bye, its links may be kept."""

    def __init__(self, reason: str, clean: bool = False):
        super().__init__(reason)
        self.reason = reason
        self.clean = clean


class Session:
    """State of one client. The relay holds what the hot path needs of it; here is the rest."""

    def __init__(self, worker: Worker, startup: Startup, peer: Peer, admission: Admission, entry: Entry, deadline: float):
        self.worker = worker
        self.relay = worker.relay
        self.backend_log = BackendLog(worker.relay)
        self.base = self.settings = worker.settings
        self.own_settings: set[str] = set()
        self.routing: RoutingSettings = worker.routing
        self.routing_hash = worker.routing_hash()
        self.startup = startup
        self.peer = peer
        self.admission = admission
        self.entry = entry
        self.deadline = deadline
        self.journal = Journal()
        self.marks: dict[int, Mark] = {}
        self.prepared = Statements()
        self.unnamed: Prepared | None = None
        self.portals: dict[str, int] = {}
        self.portal_codes: dict[str, int] = {}
        """Route of what a named portal runs: counted each time it is executed."""
        self.portal_afters: dict[str, Callable[[bool], None]] = {}
        """What is to be noted when a named portal has been executed."""
        self.callbacks: deque[Callable[[bool], None]] = deque()
        self.own: dict[str, object] = {}
        self.own_skipping = False
        self.wrote_lsn = self.min_lsn = 0
        """Positions in the WAL that its reads must see: of its last write as last asked for, and PGPOOL SET's."""
        self.decided: tuple[bytes, Reason] = (b"", Reason.BALANCED)
        """The statement about which Python decided last, and why so."""
        self.written: frozenset[Name] = frozenset()
        """Tables written since the last transaction ended (dml_adaptive)."""
        self.locks = False
        """It took an advisory lock (noted with RoutingSettings.notes_locks only)."""
        self.away = Away()
        self.balance_id = -1
        self.home_id = -1
        """The node drawn for this session's reads; balance_id is another one while this one is too far behind."""
        self.balance_ready = False
        """The balance node (or, per statement, all nodes that can be drawn) was connected when first wanted."""
        self.ring_cut = False
        """Statements are shared out among some of the nodes only, until the others have caught up (position.py)."""
        self.told: Callable[[Session], None] = lambda session: None
        self.primary_id = -1
        self.unusable: set[int] = set()
        """Nodes which failed this session: not tried again."""
        self.began = time.monotonic()
        self.client_fd = -1
        self.newcomer: Newcomer | None = None
        self.greeting = b""
        """Who came, and all that he got for his start-up packet, when nobody has asked him anything."""
        self.first_context = 0
        self.echo: list[Echo] = []

    # -- links ------------------------------------------------------------------------------------------------------

    @property
    def primary(self) -> PooledLink:
        return self.entry.links[self.primary_id]

    def link_of(self, node_id: int) -> PooledLink | None:
        return self.entry.links.get(node_id)

    def open(self, node_id: int) -> PooledLink:
        """The session's link to a node, attached to the relay; connected now if the entry has none.

        Raises BackendFailed, BackendRefused or AuthenticationFailed.
        """
        pooled = self.entry.links.get(node_id)
        if pooled is not None and node_id not in self.marks and not self.refresh(pooled):
            self.entry.drop(node_id)
            pooled = None
        if pooled is None:
            conf = next(b for b in self.settings.backends if b.id == node_id)
            worker = self.worker
            login = connect.login(
                node_id, conf, self.entry.startup, self.admission, None, self.settings,
                wakeup_fd=worker.wakeup_fd, on_wake=worker.woken,
            )  # fmt: skip
            pooled = self.entry.add(node_id, login)
            worker.connected(node_id, login.parameter_status)
        if node_id not in self.marks:
            self.marks[node_id] = Mark()
            pooled.link.ready = False
            self.relay.attach(pooled.link)
        return pooled

    def refresh(self, pooled: PooledLink) -> bool:
        """Read the answers of the reset queries of the session before; False when the link is of no use."""
        if pooled.link.waiting:
            self.relay.attach(pooled.link)
            try:
                self.until(lambda: self.relay.finish(pooled.link))
            except (BackendFailed, SessionFatal):
                pooled.link.dead = True
            finally:
                self.relay.detach(pooled.link)
        if pooled.link.take_failure() or not pooled.link.quiet() or pooled.link.txn != "I":
            return False
        return pooled.link.alive()

    def lose(self, node_id: int) -> None:
        """A link is gone or cannot follow the session: the session goes on without that node."""
        pooled = self.entry.links.get(node_id)
        if pooled is None:
            return
        self.unusable.add(node_id)
        self.relay.detach(pooled.link)
        self.marks.pop(node_id, None)
        for statement in self.prepared.values():
            statement.nodes.discard(node_id)
        if self.unnamed is not None:
            self.unnamed.nodes.discard(node_id)
        self.entry.drop(node_id)
        if self.settings.statement_level_load_balance:
            self.draw_later()
        elif node_id == self.balance_id:
            self.balance_on(self.primary_id)

    def draw_later(self) -> None:
        """The next balanced read chooses among the nodes that are left."""
        self.balance_ready = False
        self.relay.set_ring(b"")
        self.relay.set_balance(None)

    def balance_on(self, node_id: int) -> None:
        """This node answers the session's balanced reads from now on."""
        self.balance_id = node_id
        link = self.entry.links.get(node_id)
        self.balance_ready = link is not None and node_id in self.marks
        if position.must_see(self):
            self.relay.state |= State.AWAITS_REPLAY  # nobody has looked how far this node is
        self.relay.set_balance(link.link if link is not None and self.balance_ready else None)
        self.worker.cell.set_balance_node(node_id)

    def report(self, failed: BackendFailed) -> None:
        """Tell the parent that a node could not be used; it looks for itself before it believes it."""
        log.log(LOG, failed.message, detail=failed.detail)
        follow.suspect(self, failed.node_id, RequestFlag.BACKEND_ERROR)

    # -- waiting ----------------------------------------------------------------------------------------------------

    def until(self, step: Callable[[], int]) -> None:
        """Repeat a relay call until it needs nothing more, dealing with what interrupts it."""
        while (why := step()) != Why.MORE:
            self.interrupted(why)

    def take(
        self, pooled: PooledLink, code: int, text: bytes | None = None, *, notify: bool = False, unnamed: bool = False
    ) -> None:
        """Send the message at hand to a node under a route code (Relay.take), dealing with what interrupts it."""
        while (why := self.relay.take(pooled.link, code, text, notify=notify, unnamed=unnamed)) != Why.MORE:
            if why == Why.TOLD:
                self.told(self)
                return
            self.interrupted(why)

    def interrupted(self, why: int) -> None:
        """What may come up while the relay works on something else. Raises what ends the session."""
        if why == Why.WAKE:
            self.worker.woken()
            follow.give_up_lost(self)
        elif why == Why.DONE:
            self.run_callbacks()
        elif why == Why.HEARD:
            self.backend_log.drain()
        elif why == Why.ENDED:
            self.transaction_ended()
        elif why == Why.DIVERGED:
            self.fail_primary()
        elif why == Why.CATCH_UP:
            self.catch_up(self.relay.wanted_node())
        elif why in (Why.BACKEND_GONE, Why.BACKEND_BAD):
            self.backend_gone(self.relay.gone_node(), why == Why.BACKEND_BAD)
        elif why == Why.AGAIN:
            follow.again(self)
        elif why == Why.DOUBT:
            take_doubt(self.relay)
            self.worker.doubt_roles()
        elif why == Why.CLIENT_GONE:
            raise SessionOver("the client closed the connection")
        elif why == Why.HANGUP:
            follow.stop_running(self, self.relay.current_node())
            raise SessionOver("the client hung up while a request of it ran")
        elif why == Why.CLIENT_BAD:
            raise self.bad_message()
        elif why == Why.NO_MEMORY:
            raise SessionFatal("out of memory", sqlstate="53200")
        else:
            raise SessionFatal(f"unexpected event {why} in the relay")

    def bad_message(self) -> ProtocolViolation:
        bad = self.relay.bad
        if bad > 0:
            return ProtocolViolation(f"invalid frontend message type {bad}")
        return ProtocolViolation("invalid message length" if bad < 0 else "invalid message format")

    def backend_gone(self, node_id: int, bad: bool) -> None:
        """A backend hung up. A standby on which nothing was under way is given up quietly; else the session ends."""
        pooled = self.entry.links.get(node_id)
        if pooled is None:
            return
        pooled.link.dead = True
        text = "sent what no backend may send" if bad else "closed the connection"
        if node_id == self.away.node:
            self.relay.detach(pooled.link)  # missed when the transaction is over
            return
        if node_id != self.primary_id and not pooled.link.pending and self.relay.segment_link() != node_id:
            log.log(LOG, f"backend {node_id} {text}; the session goes on without it")
            self.lose(node_id)
            return
        if self.relay.last_error_was_fatal():
            follow.suspect(self, node_id, RequestFlag.SHUTDOWN)
            raise SessionOver(f"backend {node_id} {text} after a FATAL")
        if not bad:
            follow.suspect(self, node_id, RequestFlag.BACKEND_ERROR)
        raise BackendFailed(node_id, f"backend {node_id} {text}")

    def run_callbacks(self) -> None:
        done, failed = self.relay.take_done()
        for ok in (True,) * done + (False,) * failed:
            self.callbacks.popleft()(ok)

    def forget_portals(self) -> None:
        for known in (self.portals, self.portal_codes, self.portal_afters):
            known.clear()

    # -- asking on our own account ----------------------------------------------------------------------------------

    def answered(self, pooled: PooledLink) -> None:
        """Wait for the answers to what we have asked; a standby that hangs up meanwhile is given up (``link.dead``)."""
        self.until(lambda: Why.MORE if pooled.link.dead else self.relay.finish(pooled.link))

    def ask(self, pooled: PooledLink, *statements: bytes) -> bool:
        """Run statements on a link without the client seeing it; False when one failed."""
        self.until(self.relay.flush)  # what the client has sent before goes first
        for sql in statements:
            self.relay.ask(pooled.link, sql)
        self.answered(pooled)
        return not (pooled.link.take_failure() or pooled.link.dead)

    def query(self, sql: str, pooled: PooledLink | None = None) -> list[tuple[str | None, ...]]:
        """Rows of a query of ours in the client's own session, on the primary if no other link is given. Raises PgpoolError
        when it fails. No rows from a standby that is lost."""
        pooled = pooled or self.primary
        self.until(self.relay.flush)
        self.relay.ask(pooled.link, messages.raw(sql), capture=True)
        self.answered(pooled)
        pooled.link.take_failure()
        rows = []
        for kind, payload in messages.split_messages(pooled.link.take_captured())[0]:
            if kind == b"D":
                rows.append(tuple(None if v is None else messages.text(v) for v in messages.data_row_values(payload)))
            elif kind == b"E":
                fields = messages.error_fields(payload)
                raise PgpoolError(f"catalog look-up failed: {fields.get('M', '')}", sqlstate=fields.get("C", "XX000"))
        return rows

    # -- deciding ---------------------------------------------------------------------------------------------------

    def decide(self, statement: Statement, prepared: Statement | None = None) -> Route:
        """Where a statement goes, with the catalogs' help if need be. ``prepared``: what an EXECUTE runs."""
        if self.primary_id >= 0 and self.relay.segment_link() == self.primary_id:
            return self.same_batch(statement, prepared)
        nodes = self.worker.nodes()
        known = {"prepared": prepared, "written": self.written}
        decided = route(statement, State(self.relay.state), self.routing, nodes, **known)
        if isinstance(decided, NeedFacts):
            try:
                facts: Facts = self.worker.relcache.lookup(
                    lambda sql: catalogs.ask(self, sql),
                    self.startup.database, catalogs.context(self), decided, self.worker.shared.epoch,
                )  # fmt: skip
            except SessionFatal:
                raise
            except PgpoolError as failed:
                log.log(LOG, failed.message)
                return Route(Dest.PRIMARY, Reason.UNKNOWN_TABLE, counter=statement.counter, cacheable=False)
            decided = route(statement, State(self.relay.state), self.routing, nodes, facts, **known)
            assert isinstance(decided, Route)
        if self.routing.everywhere and decided.dest is Dest.BALANCE:
            decided = lately.looked(self, prepared or statement, decided)
        return position.looked(self, decided) if decided.reason is Reason.REPLAY_POSITION else decided

    def same_batch(self, statement: Statement, prepared: Statement | None) -> Route:
        """The rest of a batch stays on the primary where it began: no verdict on the statement itself."""
        state = State(self.relay.state) | State.PINNED_TRANSACTION
        decided = route(statement, state, self.routing, self.worker.nodes(), prepared=prepared)
        if isinstance(decided, NeedFacts):
            # what its functions do is not known here, and need not be
            return Route(Dest.PRIMARY, Reason.SAME_BATCH, counter=statement.counter, cacheable=False)
        return Route(Dest.PRIMARY, Reason.SAME_BATCH, decided.effect, decided.counter, cacheable=False)

    def node_for(self, decided: Route) -> int:
        """The node of a route: sticky on the primary while it has something under way for the client."""
        if decided.dest is not Dest.BALANCE or self.relay.primary_busy:
            return self.primary_id
        index = self.relay.next_in_ring()
        if index >= 0:
            return self.relay.node_at(index)
        return self.balance_id

    def link_for(self, decided: Route) -> PooledLink:
        """The link of a route, connected; a balance node that cannot be reached gives way to the primary."""
        if decided.dest is Dest.BALANCE and not self.balance_ready and not self.relay.primary_busy:
            self.open_balance()
        return self.entry.links[self.node_for(decided)]

    def open_balance(self) -> None:
        """Connect the load balance node, or settle for the primary."""
        if self.settings.statement_level_load_balance and self.settings.mode.has_primary:
            steering.open_ring(self)
            return
        node_id = self.balance_id
        try:
            self.open(node_id)
        except BackendFailed as failed:
            self.report(failed)
            self.unusable.add(node_id)
            self.balance_on(self.primary_id)
        except (BackendRefused, AuthenticationFailed) as refused:
            log.log(LOG, f"node {node_id} is not used in this session: {refused.message}", detail=refused.detail)
            self.unusable.add(node_id)
            self.balance_on(self.primary_id)
        else:
            self.balance_on(node_id)

    # -- keeping nodes in step --------------------------------------------------------------------------------------

    def settings_changed(self) -> None:
        """The journal has grown: nodes other than the primary must catch up before they are used again."""
        for node_id in self.marks:
            if node_id != self.primary_id:
                self.entry.links[node_id].link.ready = False
        if self.journal.transaction:
            self.relay.watch_transaction()
        if self.journal.too_big:
            self.relay.state |= State.PINNED_SESSION
        self.rebase()

    def rebase(self) -> None:
        """Names may mean something else now: verdicts of before do not count."""
        self.relay.rebase(self.context())

    def names(self) -> int:
        """Differs whenever the same name may mean another object, temporary ones apart."""
        startup = self.startup
        path = self.journal.text_of("search_path", "role", "session_authorization")
        options = startup.params.get("options", ""), startup.params.get("search_path", "")
        return hash((startup.database, startup.user, *options, path)) & MASK64

    def context(self) -> int:
        return hash((self.names(), self.routing_hash, self.written)) & MASK64

    def catch_up(self, node_id: int) -> None:
        """Replay on a node what the session has set, and join its open transaction there."""
        pooled = self.entry.links[node_id]
        mark = self.marks[node_id]
        todo: list[bytes] = []
        joined = pooled.link.txn != "I"
        in_transaction = bool(self.relay.state & State.IN_TRANSACTION)
        if not joined:
            todo = self.journal.missing(mark)
            mark.transaction = 0
        if in_transaction:
            if not joined and not self.relay.begin_text:
                # how it began is not known (inside a multi-statement string): the primary goes on alone
                self.relay.state |= State.PINNED_TRANSACTION
                return
            if not joined:
                todo.append(self.relay.begin_text)
            todo += self.journal.missing_in_transaction(mark)
        if not self.ask(pooled, *todo):
            log.log(LOG, f"node {node_id} cannot follow the session's settings; the session goes on without it")
            self.lose(node_id)
            return
        if not joined:
            mark.settings = self.journal.version
        if in_transaction:
            mark.transaction = self.journal.count()
        pooled.link.ready = True

    def leave_transaction(self, node_id: int) -> None:
        """Roll a standby's part of the open transaction back; it joins anew when it is used again."""
        pooled = self.entry.links[node_id]
        if pooled.link.txn != "I":
            self.ask(pooled, b"ROLLBACK")
            pooled.link.txn = "I"
        self.marks[node_id].transaction = 0
        pooled.link.ready = False

    def standbys(self) -> list[int]:
        """Connected nodes other than the primary."""
        return [node_id for node_id in self.marks if node_id not in (self.primary_id, self.away.node)]

    def transaction_ended(self) -> None:
        """A transaction in which something was set is over (the relay has rolled the standbys back)."""
        committed = self.relay.take_ended()
        left = self.journal.end(committed)
        if self.routing.everywhere and committed:
            lately.note(self, ends=True)
        self.written = frozenset()
        for node_id in self.standbys():
            self.marks[node_id].transaction = 0
        if left:
            self.settings_changed()
        else:
            self.rebase()
        if self.away.back:
            self.away.back(self)

    def last_node(self) -> int:
        """The node that client messages went to last."""
        return self.relay.current_node()

    def use_settings(self, settings: Settings) -> None:
        self.settings = settings
        self.routing = RoutingSettings.of(settings)
        self.routing_hash = hash(self.routing)
        self.apply_settings()
        self.rebase()

    def apply_settings(self) -> None:
        """Tell the relay what to show to Python."""
        s = self.settings
        tell = s.log_per_node_statement or s.notice_per_node_statement or s.notice_routing_reason
        self.relay.watch(every=s.log_statement or s.log_client_messages, tell=tell, exact=self.routing.exact_text,
                         hold=follow.patient(self))
        self.backend_log.watch(s.log_backend_messages)

    def fail_primary(self) -> None:
        """A read failed on a standby inside a transaction: the primary's part must fail too (behaviour.md 5.7)."""
        self.relay.take_diverged()
        if self.primary.link.txn == "T":
            self.ask(self.primary, b"send invalid query from pgpool to abort transaction")
            self.relay.state |= State.FAILED

    def nodes_changed(self) -> None:
        """The epoch has moved: is the balance node still to be used?"""
        look_at_nodes(self.relay)
        usable = {node.id for node in self.worker.nodes() if node.usable}
        for node_id in self.standbys():
            if node_id not in usable and not self.entry.links[node_id].link.pending:
                self.lose(node_id)
        if self.balance_id not in usable and self.balance_id != self.primary_id:
            self.balance_on(self.primary_id)
        steering.steer(self)
