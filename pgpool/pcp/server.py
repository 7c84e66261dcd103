"""The PCP server: one process that accepts, one worker for each connection (pcp_protocol.md 1, 2, 6).

Nobody is let in without the password; before that only M and R are read, within a time limit. Failed logins of a host
make its next ones slower. When all places are taken, whoever is not logged in or idle makes room for the next one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..errors import PgpoolError, ProcessExit, ProtocolViolation, SessionFatal
from ..system import process, signals, sockets
from ..system.channel import Channel, ChannelClosed, ChannelError, ChannelFraming, ChannelTimeout
from ..system.logs import LOG, log
from ..system.sockets import Acceptor, Listener, Peer
from ..wire import pcp
from ..wire.messages import message, text
from . import users
from .commands import COMMANDS
from .desk import Desk
from .seats import BUSY, STRANGER, Seats, Sitter, who_goes

if TYPE_CHECKING:
    from ..auth.passwd import PasswordFile
    from ..config.settings import Settings
    from ..shared import Shared

BACKLOG = 64
MAX_WORKERS = 20
"""Connections served at a time (pcp_protocol.md 1); more wait for room."""
LOGIN_LIMIT = 10.0
"""Seconds a client has to log in."""
MESSAGE_LIMIT = 30.0
"""Seconds one message may take to come in or to go out."""
FIRST_DELAY, LONGEST_DELAY = 0.25, 5.0
"""A host's logins wait that long (seconds) after its first failed one; doubled by each further one."""
FORGET_AFTER = 60.0
LOOK_AGAIN = 0.25
"""While somebody waits for room the places are looked at this often (seconds)."""
MAX_REMEMBERED = 1024
EXIT_NOT_ADMITTED, EXIT_ADMITTED = 4, 5
"""Exit codes of a worker whose client failed to log in, and of one whose client did; 0: it never tried."""

_HANDLED = (
    signals.SIGTERM, signals.SIGINT, signals.SIGQUIT, signals.SIGHUP, signals.SIGUSR1, signals.SIGUSR2,
    signals.SIGCHLD,
)  # fmt: skip
_NOW = {signals.SIGINT, signals.SIGQUIT}
_END = {signals.SIGTERM, *_NOW}


@dataclass
class Office:
    """What the parent gives to the PCP process. ``read_again`` makes new settings and passwords at a reload."""

    settings: Settings
    shared: Shared
    passwords: PasswordFile
    pcp_file: str
    listeners: Sequence[Listener]
    read_again: Callable[[Settings], tuple[Settings, PasswordFile]]


def open_listeners(settings: Settings) -> list[Listener]:
    """The sockets for PCP. Raises PgpoolError (FATAL); then none is left open."""
    listeners: list[Listener] = []
    try:
        for directory in settings.pcp_socket_dir:
            listeners.append(sockets.listen_unix(directory, settings.pcp_port, BACKLOG))
        for host in settings.pcp_listen_addresses:
            listeners.extend(sockets.listen_tcp(host, settings.pcp_port, BACKLOG))
    except OSError as err:
        for listener in listeners:
            listener.stop()
        raise PgpoolError(
            f"failed to open a socket for PCP at {err.filename or settings.pcp_port}",
            detail=f'bind on socket failed with error "{err.strerror}"',
            severity="FATAL",
        ) from None
    for listener in listeners:
        log.log(LOG, f"Setting up socket for PCP at {listener.label}")
    return listeners


def pcp_main(office: Office) -> int:
    """The life of the PCP process; returns its exit code."""
    return Server(office).live()


@dataclass(slots=True)
class Failures:
    """Failed logins of one host."""

    count: int = 0
    last: float = 0.0


class Doorman:
    """Remembers which hosts failed to log in, and how long their next attempt has to wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._hosts: dict[str, Failures] = {}

    def failed(self, host: str) -> None:
        now = self._clock()
        if len(self._hosts) >= MAX_REMEMBERED:
            self._hosts = {h: f for h, f in self._hosts.items() if now - f.last < FORGET_AFTER}
        if len(self._hosts) < MAX_REMEMBERED or host in self._hosts:
            failures = self._hosts.setdefault(host, Failures())
            failures.count += 1
            failures.last = now

    def admitted(self, host: str) -> None:
        self._hosts.pop(host, None)

    def delay(self, host: str) -> float:
        """Seconds that an answer to this host's login is held back."""
        failures = self._hosts.get(host)
        if failures is None or self._clock() - failures.last >= FORGET_AFTER:
            return 0.0
        return min(FIRST_DELAY * 2 ** min(failures.count - 1, 16), LONGEST_DELAY)


class Server:
    """The process that accepts."""

    def __init__(self, office: Office):
        self.office = office
        self.signals = signals.install(_HANDLED)
        log.set_process("pcp_main", "PCP")
        process.set_title("pgpool: PCP: wait for connection request")
        self.acceptor = Acceptor(office.listeners, self.signals.wakeup_fd)
        self.doorman = Doorman()
        self.seats = Seats(MAX_WORKERS)
        self.workers: dict[int, Sitter] = {}
        """By pid, in the order in which they came."""
        self.waiting: tuple[int, Peer] | None = None
        """A client for whom there is no room yet."""
        self.tell_again = 0.0
        """When the log is told of strangers again."""

    def live(self) -> int:
        log.log(LOG, "PCP process started")
        while True:
            if self.waiting is None:
                self.waiting = self.acceptor.wait()
            else:
                sockets.wait([self.signals.wakeup_fd], LOOK_AGAIN)
            self.take_signals()
            if self.waiting is not None and len(self.workers) < MAX_WORKERS:
                client, self.waiting = self.waiting, None
                self.begin(*client)
            elif self.waiting is not None:
                self.make_room()

    def begin(self, fd: int, peer: Peer) -> None:
        """A worker for this connection."""
        delay = self.doorman.delay(peer.host)
        seat = min(set(range(MAX_WORKERS)) - {sitter.seat for sitter in self.workers.values()})
        self.seats[seat] = STRANGER
        pid = process.fork(self._work, fd, peer, delay, seat)
        os.close(fd)
        self.workers[pid] = Sitter(pid, peer.host, seat, time.monotonic())
        if self.office.settings.log_pcp_processes:
            log.log(LOG, f"forked new pcp worker, pid={pid} host={peer.host}")

    def make_room(self) -> None:
        """One of the workers ends, if one can: its client has not logged in, or says nothing."""
        if self.waiting is not None and sockets.hung_up(self.waiting[0]):
            os.close(self.waiting[0])
            self.waiting = None
            return
        now = time.monotonic()
        going = who_goes(self.workers.values(), self.seats, now)
        if going is None:
            return
        sitter, stranger = going
        sitter.told = now
        if stranger and now >= self.tell_again:
            self.tell_again = now + FORGET_AFTER
            log.log(LOG, "too many PCP connections: those that have not logged in make room", f"one is from {sitter.host}")
        process.kill(sitter.pid, signals.SIGUSR1 if stranger else signals.SIGUSR2)

    def _work(self, fd: int, peer: Peer, delay: float, seat: int) -> int:
        self.acceptor.close()
        for listener in self.office.listeners:
            listener.close()
        return Worker(self.office, fd, peer, delay, partial(self.seats.__setitem__, seat)).live()

    def take_signals(self) -> None:
        arrived = self.signals.drain()
        if signals.SIGCHLD in arrived:
            self.bury()
        if arrived & _END or process.parent_is_gone():
            for pid in self.workers:
                process.kill(pid, min(arrived & _END, default=signals.SIGINT))
            raise ProcessExit(process.EXIT_QUIT, "told to end")
        if signals.SIGHUP in arrived:
            self.office.settings, self.office.passwords = self.office.read_again(self.office.settings)
            for pid in self.workers:
                process.kill(pid, signals.SIGHUP)

    def bury(self) -> None:
        for pid, code in process.reap():
            sitter = self.workers.pop(pid, None)
            if sitter is None:
                continue
            self.office.shared.end_recovery(pid)
            if code == EXIT_NOT_ADMITTED:
                self.doorman.failed(sitter.host)
            elif code == EXIT_ADMITTED:
                self.doorman.admitted(sitter.host)
            if self.office.settings.log_pcp_processes:
                log.log(LOG, f"PCP process with pid: {pid} exits with status {code}")


class Worker:
    """One connection, from the login to its end. ``tell`` says how far it is (pcp/seats)."""

    def __init__(self, office: Office, fd: int, peer: Peer, delay: float, tell: Callable[[float], None]):
        self.tell = tell
        self.office = office
        self.peer = peer
        self.delay = delay
        self.signals = signals.install(_HANDLED)
        log.set_process("pcp_child", "PCP")
        process.set_title(f"pgpool: PCP: processing a client at {peer.host}")
        self.channel = Channel(fd, wakeup_fd=self.signals.wakeup_fd, on_wake=self.woken)
        self.desk = Desk(
            office.settings, office.shared, office.passwords, self.send, self.signals.wakeup_fd, self.woken
        )
        self.user = ""
        """'' until the client has proved who it is."""
        self.salt = b""
        self.refused = False
        """A login failed."""
        self.idle = False
        self.finishing = False
        self.login_until = time.monotonic() + LOGIN_LIMIT + delay

    def live(self) -> int:
        """Serve until the client leaves; the exit code tells the server whether it was ever let in."""
        try:
            while self.serve_one():
                pass
        except ChannelClosed as err:
            log.debug1(f"the PCP client at {self.peer.host} is gone: {err.message}")
        except ChannelTimeout:
            self.refuse(SessionFatal("unable to read from client", detail="the time for a message is over"))
        except PgpoolError as err:
            self.refuse(err)
        finally:
            self.channel.close()
        return EXIT_NOT_ADMITTED if self.refused else EXIT_ADMITTED if self.user else process.EXIT_QUIT

    def woken(self) -> None:
        """Signals: fast and immediate end at once, smart ends when the command is done; SIGUSR1 asks for the place of one
        who is not let in, SIGUSR2 for that of an idle one."""
        arrived = self.signals.drain()
        if arrived & _NOW or process.parent_is_gone():
            raise ProcessExit(process.EXIT_QUIT, "told to end at once")
        if signals.SIGTERM in arrived:
            self.finishing = True
        if signals.SIGHUP in arrived:
            self.desk.settings, self.desk.passwords = self.office.read_again(self.desk.settings)
        if self.finishing and self.idle:
            raise ProcessExit(process.EXIT_QUIT, "told to end")
        if signals.SIGUSR1 in arrived and not self.user:
            raise ProcessExit(process.EXIT_QUIT, "somebody else may try to log in")
        if signals.SIGUSR2 in arrived and self.idle:
            raise SessionFatal(
                "terminating PCP connection", detail="it is idle, and there are too many of them", sqlstate="53300"
            )

    # -- messages -----------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        self.channel.deadline = time.monotonic() + MESSAGE_LIMIT
        self.channel.send(data)

    def refuse(self, err: PgpoolError) -> None:
        """Tell the client why its connection ends, if it is there to be told."""
        log.problem(err)
        severity = "FATAL" if not isinstance(err, SessionFatal) else err.severity
        try:
            self.send(pcp.report(b"E", severity, err.sqlstate, err.message, err.detail, err.hint))
        except ChannelError:
            return

    def receive(self) -> tuple[bytes, bytes]:
        """The next request. One who is let in may be idle; a message that has begun must come to its end."""
        channel = self.channel
        if self.user and not channel.pending:
            self.idle = True
            self.tell(time.monotonic())
            try:
                self.woken()
                while channel.fd not in sockets.wait([channel.fd, self.signals.wakeup_fd]):
                    self.woken()
            finally:
                self.idle = False
                self.tell(BUSY)
        limit = time.monotonic() + MESSAGE_LIMIT
        channel.deadline = limit if self.user else min(limit, self.login_until)
        try:
            return channel.read_message(pcp.MAX_REQUEST - 5)
        except ChannelFraming:
            size = int.from_bytes(channel.pending[1:5], "big", signed=True)
            raise SessionFatal("invalid PCP packet", detail=f"incorrect packet length ({size})") from None

    def serve_one(self) -> bool:
        """One request and its answer; False when the client says goodbye. Raises what ends the connection."""
        kind, payload = self.receive()
        if kind == b"M":
            self.salt = os.urandom(pcp.SALT_BYTES)
            self.send(message(b"m", self.salt))
        elif kind == b"R":
            self.login(payload)
        elif not self.user:
            raise SessionFatal("authentication failed for new PCP connection", detail="connection not authorized")
        elif kind == b"X":
            return False
        else:
            self.command(kind, payload)
        return not self.finishing

    def login(self, payload: bytes) -> None:
        salt, self.salt, self.user = self.salt, b"", ""
        self.desk.pause(self.delay)
        self.refused = True
        if not salt:
            raise SessionFatal("authentication failed", detail="username and/or password does not match")
        request = pcp.read_login(payload)
        known, faults = users.load(self.office.pcp_file)
        for fault in faults:
            log.warning(str(fault))
        if not users.admits(known, request, salt):
            raise SessionFatal(
                f'authentication failed for user "{request.user}"', detail="username and/or password does not match"
            )
        self.refused, self.user = False, request.user
        self.tell(BUSY)
        process.set_title(f"pgpool: PCP: {self.user} at {self.peer.host}")
        self.send(message(b"r", pcp.texts(pcp.AUTHENTICATION_OK)))

    def command(self, kind: bytes, payload: bytes) -> None:
        act = COMMANDS.get(kind)
        if act is None:
            raise SessionFatal("PCP processing request", detail=f'unknown PCP packet type "{text(kind)}"')
        log.debug1(f"PCP command {text(kind)} of user {self.user}")
        try:
            reply = act(self.desk, payload)
        except (SessionFatal, ProtocolViolation, ChannelError):
            raise
        except PgpoolError as err:
            log.problem(err)
            self.send(pcp.report(b"E", "ERROR", err.sqlstate, err.message, err.detail, err.hint))
            return
        self.send(reply)
        after, self.desk.afterwards = self.desk.afterwards, None
        if after is not None:
            after()
