"""Sockets: listening, accepting, connecting, waiting, and the names of peers."""

from __future__ import annotations

import errno
import grp
import os
import select
import socket
import stat
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

BACKLOG_MAX = 10000
"""Longest queue of clients not yet accepted that we ask for (behaviour.md, limits of clients)."""

_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))
"""A dead peer is noticed within two minutes; the kernel's own defaults need more than two hours."""
_UNIX_RETRY = 0.02
DATAGRAM_REST = 10.0
"""Seconds for which nothing is sent to a listener that does not read."""


class Listener:
    """One listening, non-blocking socket. ``label`` is for the log (``0.0.0.0:9999``); ``path`` is set for unix."""

    def __init__(self, sock: socket.socket, label: str, path: str = ""):
        self._sock = sock
        self.label = label
        self.path = path
        self.is_unix = bool(path)
        self._stopped = False

    def fileno(self) -> int:
        return self._sock.fileno()

    def stop(self) -> None:
        """Refuse new clients from now on, in every process that has this socket, and remove its file; once."""
        if self._stopped:
            return
        self._stopped = True
        self.remove_path()
        with suppress(OSError):  # ENOTCONN: not listening any more
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def close(self) -> None:
        """Close our descriptor only; the file of a unix socket stays."""
        if self._sock.fileno() >= 0:
            os.close(self._sock.detach())  # less memory is touched than by close(): each child comes here

    def remove_path(self) -> None:
        """Remove the file of a unix socket, if it is there."""
        if self.path:
            try:
                os.unlink(self.path)
            except OSError:
                return


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a client comes from. Unix socket: host ``[local]``, port 0."""

    host: str
    port: int
    is_unix: bool = False
    name: str = ""
    """Its host name, when that was looked up (log_hostname)."""

    @property
    def label(self) -> str:
        """The host as logs and process titles show it."""
        return self.name or self.host


LOCAL_PEER = Peer("[local]", 0, True)


def listen_tcp(host: str, port: int, backlog: int) -> list[Listener]:
    """Listen on every address of ``host``; ``*`` is 0.0.0.0 and, where the machine has IPv6, ``::``.

    Raises OSError (``filename`` names the address) when an address cannot be resolved or bound; then none is left open.
    """
    listeners: list[Listener] = []
    try:
        for name in ("0.0.0.0", "::") if host == "*" else (host,):
            for family, _, _, _, address in _resolve(name, port, passive=True):
                label = f"{address[0]}:{port}"
                if any(listener.label == label for listener in listeners):
                    continue
                try:
                    listeners.append(_listen_one(family, address, backlog, label))
                except OSError as err:
                    if name == "::" and err.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                        continue
                    raise OSError(err.errno, err.strerror, label) from None
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _listen_one(family: int, address: tuple, backlog: int, label: str) -> Listener:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        tune(sock)  # accepted sockets inherit these options (tcp(7))
        sock.bind(address)
        sock.listen(min(backlog, BACKLOG_MAX))
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return Listener(sock, label)


def listen_unix(directory: str, port: int, backlog: int, permissions: int = 0o777, group: str = "") -> Listener:
    """Listen on ``directory/.s.PGSQL.port``. A file left by a dead server is replaced; one that answers is not.

    Raises OSError (``filename`` is the path), also for an unknown ``group``.
    """
    path = os.path.join(directory, f".s.PGSQL.{port}")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        remove_stale_unix(path)
        sock.bind(path)
        if group:
            os.chown(path, -1, _group_id(group))
        os.chmod(path, permissions)
        sock.listen(min(backlog, BACKLOG_MAX))
        sock.setblocking(False)
    except OSError as err:
        sock.close()
        raise OSError(err.errno, err.strerror or str(err), path) from None
    return Listener(sock, path, path)


def _group_id(name: str) -> int:
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise OSError(errno.EINVAL, f'group "{name}" does not exist') from None


def remove_stale_unix(path: str) -> bool:
    """Remove a unix socket file that nobody listens on; True when there was one.

    Raises OSError(EADDRINUSE) when somebody answers there, and leaves anything that is not a socket alone (EEXIST).
    """
    try:
        if not stat.S_ISSOCK(os.stat(path, follow_symlinks=False).st_mode):
            raise FileExistsError(errno.EEXIST, "file exists and is not a socket", path)
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(path)
    if code != errno.ECONNREFUSED:
        # Connected, or a full queue (EAGAIN), or not ours to look at: somebody may be serving there.
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
    os.unlink(path)
    return True


class Acceptor:
    """Waits for the next client on listening sockets that many processes share.

    The kernel wakes one waiting process per client (EPOLLEXCLUSIVE), and only a process that really waits. That is what
    serialize_accept is for, with nothing to hold and nothing to free when a process dies.
    """

    def __init__(self, listeners: Sequence[Listener], wakeup_fd: int = -1):
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._epoll = select.epoll()
        self._wakeup_fd = wakeup_fd
        for fd in self._listeners:
            self._epoll.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        if wakeup_fd >= 0:
            self._epoll.register(wakeup_fd, select.EPOLLIN)

    def wait(self, timeout: float | None = None) -> tuple[int, Peer] | None:
        """The next client as (fd, peer); the fd is blocking, close-on-exec, the caller closes it.

        None when ``timeout`` seconds have passed or the wakeup fd is readable. A socket that was stopped is waited for
        no more. OSError when descriptors have run out.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = [fd for fd, _ in self._epoll.poll(-1 if left is None else left)]
            if self._wakeup_fd in ready or not ready:
                return None
            for fd in ready:
                client = self._accept(fd)
                if client is not None:
                    return client

    def _accept(self, fd: int) -> tuple[int, Peer] | None:
        try:
            return accept(self._listeners[fd])
        except OSError as err:
            if err.errno != errno.EINVAL:
                raise
            self._epoll.unregister(fd)  # stopped by the parent, whose signal is on its way
            return None

    def leave(self) -> list[int]:
        """Wait no more; the listening descriptors. The kernel may have told only this process of a client: look again."""
        for fd in self._listeners:
            with suppress(OSError):  # one that was stopped is not registered any more
                self._epoll.unregister(fd)
        return list(self._listeners)

    def fileno(self) -> int:
        """The epoll descriptor, for a door."""
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()


def accept(listener: Listener) -> tuple[int, Peer] | None:
    """Take one client from the queue, as (fd, peer); None when there is none (any more). Never waits."""
    try:
        fd, address = listener._sock._accept()  # accept() without making a socket object of it
    except OSError as err:
        if err.errno in (errno.EAGAIN, errno.ECONNABORTED, errno.EINTR, errno.EPROTO):
            return None
        raise
    return fd, LOCAL_PEER if listener.is_unix else Peer(_plain(address[0]), address[1])


def peer_of(address: bytes, port: int) -> Peer:
    """The peer whose address is family and bytes (_fastpath.Newcomer), b"" for a unix socket."""
    if not address:
        return LOCAL_PEER
    if address[0] == socket.AF_INET:
        return Peer(socket.inet_ntop(socket.AF_INET, address[1:5]), port)
    host = socket.inet_ntop(socket.AF_INET6, address[1:17])
    scope = int.from_bytes(address[17:21], sys.byteorder)
    return Peer(f"{host}%{_interface(scope)}" if scope else host, port)


def _interface(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)


_TCP_INFO_BYTES = 60
_INFO_UNACKED, _INFO_SACKED = 24, 28
"""Offsets in struct tcp_info (linux/tcp.h); it only ever grows at its end."""


def accept_queue(listener: Listener) -> tuple[int, int] | None:
    """(clients waiting to be accepted, how many may wait). None for unix sockets, of which the kernel tells nothing,
    and for a listener that was stopped."""
    if listener.is_unix:
        return None
    try:
        info = listener._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return None
    if info[0] != _TCP_LISTEN:
        return None
    return _info_word(info, _INFO_UNACKED), _info_word(info, _INFO_SACKED)


_TCP_LISTEN = 10


def _info_word(info: bytes, at: int) -> int:
    return int.from_bytes(info[at : at + 4], sys.byteorder)


def connect(host: str, port: int, timeout_ms: int = 0, wakeup_fd: int = -1) -> int:
    """Connect to a server; returns a blocking fd. ``host`` '' is the unix socket in /tmp, ``/dir`` the one in there.

    Every address of the name is tried. ``timeout_ms`` 0 waits for ever. Raises OSError: TimeoutError, InterruptedError
    when ``wakeup_fd`` becomes readable first, EHOSTUNREACH with the resolver's text, or the last address's own error.
    """
    deadline = time.monotonic() + timeout_ms / 1000 if timeout_ms > 0 else None
    if host == "" or host.startswith("/"):
        path = os.path.join(host or "/tmp", f".s.PGSQL.{port}")
        return _connect_one(socket.AF_UNIX, path, deadline, wakeup_fd)
    last: OSError = OSError(errno.EADDRNOTAVAIL, f'name "{host}" has no address')
    for family, _, _, _, address in _resolve(host, port):
        try:
            return _connect_one(family, address, deadline, wakeup_fd)
        except (TimeoutError, InterruptedError):
            raise
        except OSError as err:
            last = err
    raise last


def _connect_one(family: int, address: tuple | str, deadline: float | None, wakeup_fd: int) -> int:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        while code == errno.EAGAIN:  # a unix socket whose queue is full: the kernel has no event for "try again"
            _wait_connect([], _UNIX_RETRY, deadline, wakeup_fd)
            code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            _wait_connect([sock.fileno()], None, deadline, wakeup_fd)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        if family != socket.AF_UNIX:
            tune(sock)
        sock.setblocking(True)
        return sock.detach()
    except BaseException:
        sock.close()
        raise


def _wait_connect(writes: list[int], pause: float | None, deadline: float | None, wakeup_fd: int) -> None:
    """Wait for ``writes`` or, when given, for ``pause`` seconds; raises TimeoutError and InterruptedError."""
    left = None if deadline is None else deadline - time.monotonic()
    if left is not None and left <= 0:
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    limit = left if pause is None else pause if left is None else min(pause, left)
    ready = wait([wakeup_fd] if wakeup_fd >= 0 else [], limit, writes)
    if wakeup_fd in ready and not ready.intersection(writes):
        raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))
    if not ready and pause is None:
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def pair() -> tuple[int, int]:
    """Two connected stream sockets, which no program that is started gets."""
    one, other = socket.socketpair()
    return one.detach(), other.detach()


def tune(sock: socket.socket) -> None:
    """TCP: send at once, notice a dead peer."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def wait(reads: Iterable[int], timeout: float | None = None, writes: Iterable[int] = ()) -> set[int]:
    """The fds that can be read, written, or are broken; empty when ``timeout`` seconds (None: no limit) have passed."""
    poll = select.poll()
    for fd in reads:
        poll.register(fd, select.POLLIN)
    for fd in writes:
        poll.register(fd, select.POLLOUT)
    milliseconds = None if timeout is None else max(0, int(timeout * 1000 + 0.999))
    return {fd for fd, _ in poll.poll(milliseconds)}


def hung_up(fd: int) -> bool:
    """Has the peer closed its side?"""
    poll = select.poll()
    poll.register(fd, select.POLLRDHUP)
    return bool(poll.poll(0))


def is_readable(fd: int) -> bool:
    """Is there something to read now, be it the end of the stream?"""
    return bool(wait([fd], 0))


def host_name(address: str) -> str:
    """The name of an address for log_hostname, or the address itself when it has none. Asks the resolver, may block."""
    try:
        return socket.getnameinfo((address, 0), socket.NI_NAMEREQD | socket.NI_NUMERICSERV)[0]
    except OSError:
        return address


def is_address(host: str) -> bool:
    """Is this an IP address and not a name?"""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host.partition("%")[0])
            return True
        except OSError:
            continue
    return False


NAME_FRESH = 5.0
NAMES_MAX = 1000
"""Names remembered by one process: backends, and clients' names in pool_hba.conf."""
_names: dict[tuple[str, int, bool], tuple[float, list[tuple]]] = {}


def addresses_of(host: str) -> list[str]:
    """All addresses of a name, as text; OSError when the resolver knows none."""
    return list(dict.fromkeys(_plain(address[0]) for _, _, _, _, address in _resolve(host, 0)))


def _resolve(host: str, port: int, *, passive: bool = False) -> list[tuple]:
    """getaddrinfo, remembered for NAME_FRESH seconds; what was found last is used while the resolver has no answer."""
    flags = socket.AI_PASSIVE if passive else 0
    key = host, port, passive
    until, known = _names.get(key, (0.0, []))
    now = time.monotonic()
    if now < until:
        return known
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=flags)
    except socket.gaierror as err:
        if not known or err.errno != socket.EAI_AGAIN:
            raise OSError(errno.EHOSTUNREACH, f"{err.strerror}", host) from None
        found = known
    if len(_names) >= NAMES_MAX:
        _names.clear()
    _names[key] = now + NAME_FRESH, found
    return found


def limit_lookups() -> None:
    """Let the C library's resolver wait 2 s for a name server instead of 5, and ask once: a look-up blocks its process.
    Call before the first one; RES_OPTIONS in the environment wins."""
    os.environ.setdefault("RES_OPTIONS", "timeout:2 attempts:1")


def _plain(address: str) -> str:
    """A v4 client on a v6 socket is shown, and matched by pool_hba.conf, as v4."""
    return address.removeprefix("::ffff:") if address.startswith("::ffff:") and "." in address else address


class Datagram:
    """Messages to a unix datagram socket (syslog's, a service manager's); ``@name`` is an abstract one.

    Connected when first used, and again when the listener was replaced. One that does not read is waited for once, for
    a second; then all messages are dropped for DATAGRAM_REST.
    """

    def __init__(self, path: str) -> None:
        self._rest_until = 0.0
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._sock: socket.socket | None = None

    def send(self, data: bytes) -> bool:
        """False when nobody listens, or takes it."""
        if self._rest_until and time.monotonic() < self._rest_until:
            return False
        for _ in range(2):
            try:
                if self._sock is None:
                    self._sock = self._connect()
                self._sock.send(data)
                return True
            except TimeoutError:
                self._rest_until = time.monotonic() + DATAGRAM_REST
                return False
            except OSError as err:
                self.close()
                if err.errno == errno.EMSGSIZE and len(data) > 4096:
                    data = data[: len(data) // 2]
        return False

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(1.0)
            sock.connect(self._address)
        except OSError:
            sock.close()
            raise
        return sock
