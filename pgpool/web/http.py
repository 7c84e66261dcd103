"""HTTP/1.1 for small GETs as bytes in, bytes out: no socket, no clock. The parser is the h11 library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pgpool.web.answers import Answer

if TYPE_CHECKING:
    from pgpool.web.answers import Page

HEAD_MOST = 8192
"""Bytes of a request line with its headers."""


class Exchange:
    """One connection. ``receive`` what came, then ``answer`` until it gives b''; ``over``: close when all is sent."""

    def __init__(self, pages: Mapping[str, Page]):
        import h11  # a library needed only where the endpoint is switched on

        self._h11 = h11
        self._pages = pages
        self._conn = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MOST)
        self._request = None
        self._body = False
        self.over = False

    def receive(self, data: bytes) -> None:
        """Bytes from the client; b'' when it has closed its side."""
        try:
            self._conn.receive_data(data)
        except RuntimeError:  # bytes after the end
            self.over = True

    def answer(self) -> bytes:
        """The answer to the next whole request, one at a time; b'' when there is none yet."""
        h11 = self._h11
        while not self.over:
            try:
                event = self._conn.next_event()
            except h11.RemoteProtocolError as err:
                return self._refuse(err.error_status_hint, "bad request")
            if event is h11.NEED_DATA:
                return b""
            if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                self.over = True
            elif isinstance(event, h11.Request):
                self._request, self._body = event, False
            elif isinstance(event, h11.Data):
                return self._refuse(413, "a request has no body here")
            elif isinstance(event, h11.EndOfMessage):
                return self._send(self._choose(), self._request.method == b"HEAD")
        return b""

    def _choose(self) -> Answer:
        request = self._request
        path = request.target.partition(b"?")[0].decode("ascii", "replace")
        page = self._pages.get(path)
        if page is None:
            return Answer(404, f"not found; there is {', '.join(self._pages)}\n".encode())
        if request.method not in (b"GET", b"HEAD"):
            return Answer(405, b"only GET and HEAD\n")
        accept = ", ".join(value.decode("latin-1") for name, value in request.headers if name == b"accept")
        return page(accept)

    def _refuse(self, status: int, text: str) -> bytes:
        """An answer to what is no request of ours; the connection ends."""
        self.over = True
        if self._conn.our_state not in (self._h11.IDLE, self._h11.SEND_RESPONSE):
            return b""
        return self._send(Answer(status, text.encode() + b"\n"), False, close=True)

    def _send(self, answer: Answer, head: bool, close: bool = False) -> bytes:
        h11 = self._h11
        headers = [("Content-Type", answer.content_type), ("Content-Length", str(len(answer.body)))]
        if answer.status == 405:
            headers.append(("Allow", "GET, HEAD"))
        if close:
            headers.append(("Connection", "close"))
        out = self._conn.send(h11.Response(status_code=answer.status, headers=headers)) or b""
        if not head:
            out += self._conn.send(h11.Data(data=answer.body)) or b""
        out += self._conn.send(h11.EndOfMessage()) or b""
        if self._conn.our_state is h11.DONE and self._conn.their_state is h11.DONE:
            self._conn.start_next_cycle()
        else:
            self.over = True
        return out
