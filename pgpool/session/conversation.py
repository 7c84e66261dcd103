"""One client from accept to end: start-up, admission, links, the loop over the relay's reasons, the farewell."""

from __future__ import annotations

import time
from dataclasses import replace

from pgpool._fastpath import Guest, Newcomer, Why, known_epoch, look_at_nodes
from pgpool.auth import gate
from pgpool.auth.admission import Admission
from pgpool.backend import connect
from pgpool.backend.pool import NEVER_KEPT, Entry, bridge
from pgpool.errors import (
    BackendFailed,
    BackendRefused,
    ClientGone,
    PgpoolError,
    ProcessExit,
    SessionFatal,
)
from pgpool.session import extended, follow, idle, own_settings, returning, simple, steering, tell
from pgpool.session.state import Session, SessionOver
from pgpool.session.worker import Worker
from pgpool.system import process, sockets, tls
from pgpool.system.channel import Channel, ChannelError
from pgpool.system.logs import LOG, log
from pgpool.system.sockets import Peer
from pgpool.wire import messages
from pgpool.wire.startup import CancelRequest, Startup

SWITCH_WAIT = 30.0
"""Seconds a session that starts during a failover waits for its end (behaviour.md 10.3)."""


def serve(worker: Worker, came: Newcomer | Guest) -> None:
    """Serve one client to its end, and hang up. Raises ProcessExit when this process shall end."""
    limit = worker.settings.authentication_timeout
    deadline = came.since + limit if limit and isinstance(came, Newcomer) else 0.0
    channel = Channel(came.release(), deadline=deadline, wakeup_fd=worker.wakeup_fd, on_wake=worker.woken)
    try:
        if isinstance(came, Guest):
            channel.tls = came.take_tls()
            go_on(worker, channel, came)
        else:
            welcome(worker, channel, came)
    except ClientGone as gone:
        log.debug1(gone.message)
    except ChannelError as broken:
        log.debug1(broken.message)
    except PgpoolError as error:
        refuse(channel, error)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        # a fault of ours: this client is told, and this process makes way for a fresh one
        log.unexpected("session ends by an unexpected error", error)
        say(channel, messages.error_response("FATAL", "XX000", "internal error of pgpool, see its log"))
        raise ProcessExit(process.EXIT_RESTART, "unexpected error in a session") from None
    except ProcessExit:
        say(channel, messages.error_response("FATAL", "57P01", "terminating connection due to administrator command"))
        raise
    finally:
        log.clear_session()
        channel.close()
        worker.cell.end_session(time.time())
        worker.title("wait for connection request")


def welcome(worker: Worker, channel: Channel, came: Newcomer) -> None:
    """A client the door does not know."""
    settings = worker.settings
    peer = sockets.peer_of(came.address, came.port)
    began = time.time()
    worker.cell.begin_session(peer.host, peer.port, began)
    log.begin_session(began)
    if settings.log_hostname and not peer.is_unix:
        peer = replace(peer, name=sockets.host_name(peer.host))
    if settings.log_connections:
        log.log(LOG, "new connection received", detail=f"connecting host={peer.label} port={peer.port}")
    crowded(worker, peer)
    channel.pending = came.data
    startup = gate.read_first(channel, None if peer.is_unix else tls.server_context(settings), came.asked, came.wire)
    if isinstance(startup, CancelRequest):
        cancel(worker, startup)
    elif not comes_again(worker, channel, startup, came):
        log.set_session(startup.user, startup.database, startup.application_name)
        converse(worker, channel, startup, peer, came)


def comes_again(worker: Worker, channel: Channel, startup: Startup, came: Newcomer) -> bool:
    """Serve him as a guest, if he is one: the door could not see that, under TLS or while he took his time."""
    if channel.pending or certified(channel):
        return False
    found = worker.door.again(came, channel.fd, channel.tls, startup.sent)
    if isinstance(found, Guest):
        go_on(worker, channel, found)
    elif found:
        worker.pool.note_guests()
    return found is not False


def certified(channel: Channel) -> bool:
    """Has he shown a certificate? Then what was decided about him may be due to it."""
    return channel.tls is not None and bool(channel.tls.peer_certificate())


def go_on(worker: Worker, channel: Channel, guest: Guest) -> None:
    """A guest's session has come to something that Python must deal with."""
    session = returning.resume(worker, guest, channel.fd)
    startup = session.startup
    log.begin_session(guest.began)
    log.set_session(startup.user, startup.database, startup.application_name)
    run(session, channel, guest.why)


def say(channel: Channel, data: bytes) -> None:
    """Last words to a client that may not listen any more."""
    if channel.midway:
        return
    try:
        channel.deadline = time.monotonic() + 1
        channel.send(data)
    except (ChannelError, ProcessExit):
        pass


def refuse(channel: Channel, error: PgpoolError) -> None:
    """The session ends by an error of ours, or by the backend's own refusal, forwarded as it came."""
    log.problem(error)
    if isinstance(error, BackendRefused):
        say(channel, error.packet)
    else:
        say(channel, messages.error_response(error.severity, error.sqlstate, error.message, error.detail, error.hint))


def cancel(worker: Worker, request: CancelRequest) -> None:
    """Forward a CancelRequest to every backend of the session that owns the key (behaviour.md 4)."""
    targets = worker.shared.find_cancel_key(request.pid, request.key)
    if not targets:
        log.log(LOG, f"cancel request for an unknown key of process {request.pid}")
    for _, _, node_id, pid, key in targets:
        conf = next((b for b in worker.settings.backends if b.id == node_id), None)
        if conf is None:
            continue
        try:
            connect.cancel(node_id, conf, worker.settings, pid, key)
        except BackendFailed as failed:
            log.log(LOG, failed.message, detail=failed.detail)


def crowded(worker: Worker, peer: Peer) -> None:
    """max_logins_per_host: whoever opens connections and does not log in cannot keep all children for himself."""
    limit = worker.settings.max_logins_per_host
    if limit and not peer.is_unix and worker.shared.logins_from(peer.host) > limit:
        raise SessionFatal(f"too many connections from {peer.host} are logging in", sqlstate="53300")


def converse(worker: Worker, channel: Channel, startup: Startup, peer: Peer, came: Newcomer) -> None:
    """A session: admission, links, the loop, the farewell."""
    reserved = worker.settings.reserved_connections
    if reserved and worker.shared.connected_clients() > worker.settings.num_init_children - reserved:
        raise SessionFatal("Sorry, too many clients already", sqlstate="53300")
    wait_for_switch(worker)
    primary_id = worker.primary_id()
    if primary_id < 0:
        raise PgpoolError(
            "pgpool is not accepting any new connections",
            detail="all backend nodes are down, pgpool requires at least one valid node",
            hint="repair the backend nodes and restart pgpool",
            sqlstate="08S01",
        )
    admission = gate.admit(
        channel, startup, worker.settings, worker.hba, worker.passwords, peer, catalog=worker.catalog(primary_id)
    )
    session, greeting = begin(worker, channel, startup, peer, admission, primary_id)
    if not channel.answered and not certified(channel):
        came.tls = channel.tls is not None
        session.newcomer, session.greeting = came, greeting
    try:
        gate.tell(channel, greeting)
    except BaseException:
        end(session, clean=False)
        raise
    channel.deadline = 0.0
    worker.title(f"{startup.user} {startup.database} {peer.label}({peer.port}) idle")
    session.relay.feed(channel.take_pending())
    session.relay.rest()
    run(session, channel)


def run(session: Session, channel: Channel, why: int = Why.MORE) -> None:
    """The loop and the farewell. ``why``: what a guest's session has come to."""
    clean = False
    tell.listen(session)
    try:
        loop(session, why)
    except SessionOver as over:
        clean = over.clean
        log.debug1(over.reason)
    finally:
        channel.midway = session.relay.midway
        end(session, clean)
        if session.worker.settings.log_disconnections:
            log.log(LOG, farewell(session, time.monotonic() - session.began))


def wait_for_switch(worker: Worker) -> None:
    """While the parent works on a failover new sessions wait."""
    until = time.monotonic() + SWITCH_WAIT
    while worker.shared.switching and time.monotonic() < until:
        if sockets.wait([worker.wakeup_fd], 0.1):
            worker.woken()


def begin(
    worker: Worker, channel: Channel, startup: Startup, peer: Peer, admission: Admission, primary_id: int
) -> tuple[Session, bytes]:
    """The session with its primary link ready, and what the client gets before its first ReadyForQuery."""
    entry = worker.pool.find(startup) if worker.settings.connection_cache else None
    if entry is not None:
        try:
            reused = reuse(worker, channel, startup, peer, admission, entry, primary_id)
        except BaseException:
            if not entry.idle_since:  # it was taken already
                worker.pool.remove(entry)
            raise
        if reused is not None:
            return reused
        worker.pool.remove(entry)
    entry = worker.pool.make(startup)
    session = start(worker, startup, peer, admission, entry, channel)
    conf = next(b for b in worker.settings.backends if b.id == primary_id)
    try:
        login = connect.login(
            primary_id, conf, startup, admission, channel, worker.settings, channel.deadline,
            wakeup_fd=worker.wakeup_fd, on_wake=worker.woken,
        )  # fmt: skip
    except BackendFailed as failed:
        worker.pool.remove(entry)
        session.report(failed)
        raise
    except BaseException:
        worker.pool.remove(entry)
        raise
    entry.auth = login.auth
    entry.add(primary_id, login)
    worker.connected(primary_id, login.parameter_status)
    take_primary(session, primary_id)
    return session, login.greeting(login.prelude)


def reuse(
    worker: Worker, channel: Channel, startup: Startup, peer: Peer, admission: Admission, entry: Entry, primary_id: int
) -> tuple[Session, bytes] | None:
    """The same with the links of an earlier session; None when they are of no use for this client."""
    pooled = entry.links.get(primary_id)
    sets = bridge(entry.startup, startup)
    if pooled is None or sets is None or entry.auth is None or not pooled.login.reusable:
        return None
    prelude = gate.reuse(channel, admission, pooled.login.auth)
    if prelude is None:
        return None
    for node_id, other in list(entry.links.items()):
        if not gate.inherits(admission, other.login.auth):
            entry.drop(node_id)
    session = start(worker, startup, peer, admission, entry, channel)
    if not session.refresh(pooled):
        return None
    take_primary(session, primary_id)
    status = pooled.login.raw_status
    if sets:
        status = restyle(session, sets, status)
    greeting = b"".join(
        (
            prelude,
            messages.authentication_ok(),
            status,
            messages.backend_key_data(pooled.login.pid, pooled.login.key) if pooled.login.key else b"",
            messages.ready_for_query(),
        )
    )
    return session, greeting


def restyle(session: Session, sets: list[str], status: bytes) -> bytes:
    """Apply the options in which this client differs from the one the link was made for; the ParameterStatus to send."""
    for sql in sets:
        session.journal.set(sql.split()[1], messages.raw(sql))
        session.relay.ask(session.primary.link, messages.raw(sql), capture=True)
    session.until(lambda: session.relay.finish(session.primary.link))
    session.marks[session.primary_id].settings = session.journal.version
    told = {p.partition(b"\0")[0]: p for kind, p in messages.split_messages(status)[0]}
    for kind, payload in messages.split_messages(session.primary.link.take_captured())[0]:
        if kind == b"S":
            told[payload.partition(b"\0")[0]] = payload
        elif kind == b"E":
            fields = messages.error_fields(payload)
            raise SessionFatal(fields.get("M", "invalid option"), sqlstate=fields.get("C", "22023"))
    return b"".join(messages.message(b"S", payload) for payload in told.values())


def start(
    worker: Worker, startup: Startup, peer: Peer, admission: Admission, entry: Entry, channel: Channel
) -> Session:
    session = Session(worker, startup, peer, admission, entry, channel.deadline)
    session.client_fd = channel.fd
    session.first_context = session.context()
    worker.relay.begin(channel.fd, session.first_context, channel.tls)
    return session


def take_primary(session: Session, primary_id: int) -> None:
    """The primary link leads; the load balance node is drawn, and connected when a read first goes there."""
    worker = session.worker
    session.entry.idle_since = 0.0
    session.primary_id = primary_id
    pooled = session.open(primary_id)
    pooled.link.ready = True
    session.relay.set_primary(pooled.link)
    status = pooled.login.parameter_status
    session.relay.read_as(
        backslash=status.get("standard_conforming_strings") == "off",
        client_encoding=messages.raw(status.get("client_encoding", "")),
    )
    look_at_nodes(session.relay)
    steering.balance(session)
    worker.cell.use_pool(session.entry.slot.pool, time.time())
    session.told = tell.told
    session.apply_settings()
    if session.settings.eager_backend_connections and session.balance_id != primary_id:
        session.open_balance()


# ---------------------------------------------------------------- the loop


NODES = (Why.NODES, Why.WAKE)
"""Then the session looks which nodes there are. What else comes up may be about a node as it was, and that comes first."""
MOVES = (Why.BACKEND_GONE, Why.MESSAGE, *NODES)
"""Then a patient session looks whether the primary is another one."""


def loop(session: Session, why: int = Why.MORE) -> None:
    """Serve until the session ends (SessionOver, or an error). ``why``: why the relay has stopped, when it runs already."""
    relay = session.relay
    shared = session.worker.shared
    while True:
        reloaded = session.base is not session.worker.settings
        limit = idle.limit(session)
        if why == Why.MORE:
            why = relay.run(0 if reloaded else limit.left(session))
        if why in NODES and shared.epoch != known_epoch(relay):
            session.nodes_changed()
        if why in MOVES and follow.patient(session):
            if why == Why.WAKE:
                session.interrupted(why)
            why = changed_primary(session, why)
        if why == Why.MESSAGE:
            kind = relay.kind
            if kind == "Q":
                simple.handle_query(session)
            else:
                extended.handle(session, kind)
        elif why == Why.NEED_LINK:
            session.open_balance()
        elif why == Why.TERMINATE:
            session.until(relay.barrier)  # what came before it is still carried out
            raise SessionOver("the client said good-bye", clean=True)
        elif why == Why.IDLE:
            if reloaded:
                own_settings.reloaded(session)
            else:
                limit.end(session)
        elif why == Why.LOOK:
            tell.look(session)
        elif why == Why.TOLD:
            tell.told(session)
        elif why not in (Why.MORE, Why.NODES):
            session.interrupted(why)
        if session.echo:
            tell.echo(session)
        why = Why.MORE


def changed_primary(session: Session, why: int) -> int:
    """failover_client_policy = wait: go on with the new primary, if that is what it takes. What is left to do."""
    relay = session.relay
    if why == Why.BACKEND_GONE:
        if relay.gone_node() != session.primary_id or follow.why_not(session):
            return why
        session.primary.link.dead = True
    elif not follow.must_move(session) or any(session.entry.links[n].link.pending for n in session.standbys()):
        return why if why == Why.MESSAGE else Why.MORE
    follow.move(session, steering.balance)
    return why if why == Why.MESSAGE else Why.MORE


# ---------------------------------------------------------------- the end


def end(session: Session, clean: bool) -> None:
    """Give the links back to the pool, reset without waiting; or close them."""
    worker = session.worker
    entry = session.entry
    attached = list(session.marks)
    if session.away.node >= 0:
        session.primary_id = session.away.node
    session.backend_log.finish()
    session.relay.end()
    keep = (
        clean
        and worker.settings.connection_cache
        and session.startup.database not in NEVER_KEPT
        and not session.startup.replication
        and not worker.finishing
        and session.primary_id in entry.links
        and entry.links[session.primary_id].login.reusable
    )
    if keep:
        for node_id in attached:
            if node_id in entry.links and not reset(session, node_id):
                entry.drop(node_id)
        keep = session.primary_id in entry.links
    if not keep:
        worker.pool.remove(entry)
        return
    entry.idle_since = time.monotonic()
    returning.remember(session)


def reset(session: Session, node_id: int) -> bool:
    """Send the reset queries to a link; their answers are read when it is used again. False: not fit to be kept."""
    pooled = session.entry.links[node_id]
    link = pooled.link
    if link.dead or link.pending or link.copying or link.skipping:
        return False
    if not link.touched:
        return True  # it was never spoken to
    busy = link.txn != "I" or link.waiting
    for sql, aborts in session.worker.reset_queries():
        if busy or not aborts:
            session.relay.ask(link, sql)
    session.relay.push(link)
    link.shed()
    link.touched = False
    return True


def farewell(session: Session, seconds: float) -> str:
    """The text of log_disconnections (behaviour.md 13)."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    startup, peer = session.startup, session.peer
    text = (
        f"frontend disconnection: session time: {hours}:{minutes:02d}:{rest:06.3f} "
        f"user={startup.user} database={startup.database} host={peer.label}"
    )
    return text if peer.is_unix else f"{text} port={peer.port}"

