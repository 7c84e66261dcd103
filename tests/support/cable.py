"""Another host on this machine: a network namespace at the other end of a cable (veth) that can be cut.

Needs root and a kernel that gives namespaces; `Cable.refused()` says why there is none.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import shutil
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

from .places import pg_bin, run, server_user, spawn
from .postgres import Postgres

NOWHERE = "02:00:00:00:00:99"
"""The hardware address of nobody: a frame sent there vanishes."""
_numbers = itertools.count()


class Cable:
    """Two addresses: `near` is on this host, `far` in a namespace of its own.

    `cut` makes packets vanish in both directions, as a pulled cable in the middle of a network does: no RST, no ICMP, and
    the interfaces stay up, so nobody at either end is told. The frames are addressed to nobody, which needs nothing from
    the kernel but the namespace (no netem, no packet filter).
    """

    def __init__(self) -> None:
        _sweep()
        number = next(_numbers)
        self.name = f"pgt{os.getpid()}_{number}"
        first = int(IPv4Address("198.18.0.0")) + 4 * ((os.getpid() * 8 + number) % 32768)  # RFC 2544: on no real network
        self.near, self.far = str(IPv4Address(first + 1)), str(IPv4Address(first + 2))
        self._ends = (f"pgt{os.getpid()}n{number}"[:15], "cable0")
        _ip("netns", "add", self.name)
        try:
            near, far = self._ends
            _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", self.name)
            for inside, end, address in ((False, near, self.near), (True, far, self.far)):
                self._at(inside, "addr", "add", f"{address}/30", "dev", end)
                self._at(inside, "link", "set", end, "up")
            self._at(True, "link", "set", "lo", "up")
            self._hardware = [self._address(inside) for inside in (False, True)]
            self.mend()
        except BaseException:
            self.remove()
            raise

    @staticmethod
    @functools.cache
    def refused() -> str:
        """Why no cable can be laid on this machine; '' when one can."""
        if os.getuid() != 0:
            return "network namespaces need root"
        if missing := [word for word in ("ip", "nsenter", "setpriv") if shutil.which(word) is None]:
            return f"not installed: {', '.join(missing)}"
        try:
            Cable().remove()
        except RuntimeError as error:
            return f"no network namespace: {error}"
        return ""

    def cut(self) -> None:
        self._direct(NOWHERE, NOWHERE)

    def mend(self) -> None:
        self._direct(*self._hardware)

    def server(self, far: str):
        """What makes the servers of a Cluster: the one called `far` at the far end, the others at this one."""
        return lambda name, settings: WiredPostgres(self, name == far, name, settings)

    def spawn_far(self, *program: object, log: Path) -> subprocess.Popen:
        """Start a program at the far end, as the servers' user; it ends with this process."""
        user = server_user()
        argv = ["nsenter", f"--net=/run/netns/{self.name}", "setpriv", f"--reuid={user}", f"--regid={user}"]
        return spawn([*argv, "--clear-groups", "--pdeathsig", "INT", *program], user=None, log=log)

    def remove(self) -> None:
        """Everything in the namespace must have ended."""
        _ip("netns", "del", self.name)
        with contextlib.suppress(RuntimeError):  # it has gone with its other end, soon or already
            _ip("link", "del", self._ends[0])

    def _at(self, inside: bool, *words: str) -> str:
        return _ip(*(("-n", self.name) if inside else ()), *words)

    def _address(self, inside: bool) -> str:
        return re.search(r"link/ether (\S+)", self._at(inside, "link", "show", "dev", self._ends[inside]))[1]

    def _direct(self, near: str, far: str) -> None:
        """Where frames go that are meant for `near` and `far`."""
        for inside, address, hardware in ((False, self.far, far), (True, self.near, near)):
            end = self._ends[inside]
            self._at(inside, "neigh", "replace", address, "lladdr", hardware, "dev", end, "nud", "permanent")


class WiredPostgres(Postgres):
    """A server that listens at one end of a cable only. Its unix socket can be reached from here whatever the cable does."""

    def __init__(self, cable: Cable, far: bool, name: str, settings: dict[str, str] | None = None):
        self.host = cable.far if far else cable.near
        super().__init__(name, {**(settings or {}), "listen_addresses": self.host})
        self._cable, self._far = cable, far

    def configure(self, **settings: str) -> None:
        super().configure(**settings)
        hba = self.data / "pg_hba.conf"
        if "all samenet trust" not in hba.read_text():
            with hba.open("a") as file:
                file.write("host all all samenet trust\nhost replication all samenet trust\n")

    def _spawn(self) -> subprocess.Popen:
        if not self._far:
            return super()._spawn()
        return self._cable.spawn_far(pg_bin() / "postgres", "-D", self.data, log=self.log)

    def aside(self, sql: str) -> list[tuple]:
        """Rows, asked for by the unix socket."""
        with self.connect(host=str(self.place)) as conn:
            return conn.execute(sql).fetchall()


def _ip(*words: str) -> str:
    return run(["ip", *words]).stdout


@functools.cache
def _sweep() -> None:
    """Remove the namespaces of test runs that were killed: the name holds the pid of their process."""
    for path in Path("/run/netns").glob("pgt*_*"):
        match = re.fullmatch(r"pgt(\d+)_\d+", path.name)
        if match and not Path("/proc", match.group(1)).exists():
            with contextlib.suppress(RuntimeError):
                _ip("netns", "del", path.name)
