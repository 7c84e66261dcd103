"""A TCP proxy that misbehaves on demand: it delays, cuts, holds back, and splits streams into tiny pieces."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time


class FaultProxy:
    """Listens on a free port of 127.0.0.1 and passes bytes to (host, port). One thread per connection.

    Attributes, changed at any time: `split` bytes per send (0: as they come), `delay` seconds before each send,
    `hold` True keeps all bytes back, `refuse` True closes new connections at once, `cut_after` server bytes after
    which a connection is reset (None: never), `cut_after_client` likewise for client bytes.
    `to_server`/`to_client` count bytes passed.
    """

    def __init__(self, host: str, port: int):
        self.target = (host, port)
        self.split = 0
        self.delay = 0.0
        self.hold = False
        self.refuse = False
        self.cut_after: int | None = None
        self.cut_after_client: int | None = None
        self.to_server = 0
        self.to_client = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._stop = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = "127.0.0.1"
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._stop:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuse:
                _reset(client)
                continue
            try:
                server = socket.create_connection(self.target, 10)
            except OSError:
                _reset(client)
                continue
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(30)
            with self._lock:
                self._pairs.append((client, server))
            threading.Thread(target=self._pump, args=(client, server), daemon=True).start()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        passed = {client: 0, server: 0}
        open_ends = {client, server}
        try:
            while open_ends and not self._stop:
                if self.hold:
                    time.sleep(0.005)
                    continue
                for source in select.select(list(open_ends), [], [], 0.05)[0]:
                    target = server if source is client else client
                    data = source.recv(65536)
                    if not data:
                        open_ends.discard(source)
                        target.shutdown(socket.SHUT_WR)
                        continue
                    if not self._pass(source is client, data, target, passed, source):
                        return
        except (OSError, ValueError):  # cut() closed the sockets under us
            pass
        finally:
            _reset(client)
            _reset(server)

    def _pass(self, from_client: bool, data: bytes, target: socket.socket, passed: dict, source: socket.socket) -> bool:
        """Send on in pieces; False when the connection has to be cut here."""
        limit = self.cut_after_client if from_client else self.cut_after
        cut = limit is not None and passed[source] + len(data) > limit
        if cut:
            data = data[: max(0, limit - passed[source])]  # type: ignore[operator]
        step = self.split or max(1, len(data))
        for start in range(0, len(data), step):
            while self.hold and not self._stop:
                time.sleep(0.005)
            if self.delay:
                time.sleep(self.delay)
            target.sendall(data[start : start + step])
        passed[source] += len(data)
        if from_client:
            self.to_server += len(data)
        else:
            self.to_client += len(data)
        return not cut

    def cut(self) -> None:
        """Reset every connection now."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for sock in pair:
                _reset(sock)

    def close(self) -> None:
        self._stop = True
        self._listener.close()
        self.cut()


def _reset(sock: socket.socket) -> None:
    """Close with RST, as a machine that died and came back would."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()
