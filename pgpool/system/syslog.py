"""syslog(3) as PostgreSQL speaks it: numbered messages, long ones in parts."""

from __future__ import annotations

import os
import time

from pgpool.system.sockets import Datagram

SOCKET = "/dev/log"
LIMIT = 900
"""Bytes of a record in one message; many a syslog daemon cuts at 1024."""
SEVERITY = {
    "DEBUG": 7, "LOG": 6, "INFO": 6, "NOTICE": 5, "WARNING": 5, "ERROR": 4, "FATAL": 3, "PANIC": 2,
}  # fmt: skip
"""Level -> severity of syslog (behaviour.md 13)."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def parts(record: bytes, number: int) -> list[bytes]:
    """``[number] text``, or, for text of several lines or more than LIMIT bytes, ``[number-part] text`` for each part,
    cut at a blank where there is one and never inside of a UTF-8 character."""
    record = record.rstrip(b"\n")
    if len(record) <= LIMIT and b"\n" not in record:
        return [b"[%d] %s" % (number, record)]
    pieces = []
    for line in record.split(b"\n"):
        while len(line) > LIMIT:
            cut = LIMIT
            while cut > 1 and line[cut] & 0xC0 == 0x80:
                cut -= 1
            blank = line.rfind(b" ", 1, cut + 1)
            cut = blank if blank > 0 else cut
            pieces.append(line[:cut])
            line = line[cut:].removeprefix(b" ") if blank > 0 else line[cut:]
        if line:
            pieces.append(line)
    return [b"[%d-%d] %s" % (number, part, piece) for part, piece in enumerate(pieces, 1)]


class Syslog:
    """``facility``: its code times 8; ``ident`` stands in front of the pid. The socket is /dev/log, or what the
    environment's PGPOOL_SYSLOG_SOCKET (ours, for containers) names."""

    def __init__(self, facility: int, ident: str) -> None:
        self.facility = facility
        self.ident = ident
        self._socket = Datagram(os.environ.get("PGPOOL_SYSLOG_SOCKET") or SOCKET)
        self._number = 0

    def close(self) -> None:
        self._socket.close()

    def send(self, word: str, record: bytes, *, whole: bool = False) -> bool:
        """One record of level ``word``; ``whole``: as a single message without a number. False: nobody listens."""
        self._number += 1
        pieces = [record.rstrip(b"\n")] if whole else parts(record, self._number)
        now = time.localtime()
        stamp = f"{_MONTHS[now.tm_mon - 1]} {now.tm_mday:2d} {now.tm_hour:02d}:{now.tm_min:02d}:{now.tm_sec:02d}"
        head = f"<{self.facility | SEVERITY.get(word, 6)}>{stamp} {self.ident}[{os.getpid()}]: ".encode()
        return all(self._socket.send(head + piece) for piece in pieces)
