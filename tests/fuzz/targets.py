"""What is fuzzed: functions from bytes to nothing that raise only when something is wrong, with texts to begin from."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from dataclasses import dataclass

from pgpool._fastpath import frontend_frames
from pgpool.auth import aes, exchange, hba, passwd
from pgpool.auth.binding import end_point
from pgpool.config.loading import load_text
from pgpool.errors import ConfigFaults, PgpoolError, ProtocolViolation
from pgpool.pcp import users
from pgpool.wire import messages, pcp, startup
from tests.unit.fastpath import twin


@dataclass(frozen=True, slots=True)
class Target:
    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    """Pieces that the grammar knows: mutation inserts them."""
    compiled: bool = False
    """Nothing of it is Python: coverage has nothing to go by."""


class NoResolver:
    """A world without names and groups."""

    def name_of(self, address: str) -> str:
        return address

    def addresses_of(self, name: str) -> list[str]:
        raise OSError("unknown")

    def interfaces(self) -> list:
        return []

    def roles_of(self, user: str) -> set[str]:
        return {user}


def first_packet(data: bytes) -> None:
    """What is accepted goes to a backend as we have understood it."""
    with contextlib.suppress(PgpoolError):
        startup.packet_length(data[:4])
    try:
        parsed = startup.parse_startup(data)
    except PgpoolError:
        return
    if isinstance(parsed, startup.Startup):
        again = startup.parse_startup(parsed.render()[4:])
        assert isinstance(again, startup.Startup)
        assert (again.params, again.user) == (parsed.params, parsed.user), "the backend would read something else"


READERS = (
    messages.read_parse, messages.read_bind, messages.read_target, messages.read_execute, messages.read_query,
    messages.read_password, messages.read_sasl_initial, messages.read_sasl_mechanisms, messages.read_parameter_status,
    messages.read_backend_key_data, messages.read_negotiate, messages.data_row_values, messages.row_description_names,
)  # fmt: skip


def wire_messages(data: bytes) -> None:
    for read in READERS:
        with contextlib.suppress(ProtocolViolation):
            read(data)
    messages.error_fields(data)


def framing(data: bytes) -> None:
    """The compiled code and its slow twin agree, in one piece and cut in two."""
    assert frontend_frames(data) == twin.frames(data)
    half = data[: len(data) // 2]
    assert frontend_frames(half) == twin.frames(half)


def pool_hba(data: bytes) -> None:
    def read(path: str) -> str:
        return "alice, bob\n@more\n" if path.endswith("names") else "carol"

    try:
        rules = hba.parse(data.decode("utf-8", "surrogateescape"), "/etc/pool_hba.conf", read).rules
    except ConfigFaults:
        return
    for host, local in (("10.0.0.7", False), ("fd00::7", False), ("", True)):
        found = hba.match(rules, host, local, False, "alice", "shop", NoResolver())
        assert found is None or found.method in hba.METHODS


def pool_passwd(data: bytes) -> None:
    entries, _ = passwd.parse(data.decode("utf-8", "surrogateescape"), "pool_passwd", b"a key")
    for entry in entries.values():
        secret = entry.secret
        assert bool(secret.problem) or any((secret.password, secret.md5, secret.verifier)), "it opens with nothing"
        again = passwd.read_secret("TEXT" + (secret.password or b"x").decode("utf-8", "surrogateescape"), None)
        assert again.password == (secret.password or b"x"), "a password changes on its way through a file"


def configuration(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    if "include" in text:
        return  # no files here
    with contextlib.suppress(ConfigFaults):
        load_text(text, "/nowhere/pgpool.conf")


def pcp_messages(data: bytes) -> None:
    for read in (pcp.read_login, pcp.read_promote, pcp.one_text, pcp.read_report, pcp.read_values):
        with contextlib.suppress(ProtocolViolation, PgpoolError):
            read(data)
    with contextlib.suppress(ProtocolViolation, PgpoolError):
        pcp.read_row(data, b"ArraySize")
    pcp.number(data.decode("latin-1"))
    users.parse(data.decode("utf-8", "surrogateescape"), "pcp.conf")


VERIFIER = exchange.make_verifier(b"secret", b"0123456789abcdef", 1)


def scram(data: bytes) -> None:
    """Whatever comes, nobody is let in: the proof in it would have to be found by chance."""
    head, _, tail = data.partition(b"\n")
    for plus in (False, True):
        server = exchange.ScramServer(VERIFIER, b"server", binding=b"x" * 32, plus=plus)
        with contextlib.suppress(exchange.ExchangeFailed):
            server.first(head)
            server.final(tail)
            raise AssertionError("let in")
    client = exchange.ScramClient(b"secret", b"client")
    with contextlib.suppress(exchange.ExchangeFailed):
        client.final(head)
        client.check(tail)
        raise AssertionError("a server proved what it does not know")
    exchange.parse_verifier(data.decode("latin-1"))
    end_point(data)
    with contextlib.suppress(aes.CannotDecrypt):
        aes.decrypt(data.decode("latin-1"), b"a key")


def _message(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("!I", len(payload) + 4) + payload


PACKET = startup.startup_packet(user="alice", database="shop", options="-c search_path=a", application_name="x")[4:]
SESSION = b"".join(
    _message(kind, payload)
    for kind, payload in (
        (b"Q", b"SELECT 1\0"), (b"P", b"s\0SELECT $1\0\0\1\0\0\0\x17"), (b"B", b"\0s\0\0\0\0\1\0\0\0\1x\0\0"),
        (b"D", b"S\0"), (b"E", b"\0\0\0\0\0"), (b"S", b""), (b"d", b"copy"), (b"X", b""),
    )
)  # fmt: skip

TARGETS = {
    "startup": Target(
        first_packet, (PACKET, PACKET[:-1], startup.cancel_packet(1, b"abcd")[4:], startup.ssl_request()[4:]),
        (b"user\0", b"replication\0true\0", b"_pq_.x\0", b"\0\3\0\2", b"options\0-c=\0"),
    ),
    "messages": Target(
        wire_messages, (SESSION[5:], b"SFATAL\0C28000\0Mno\0\0", b"SCRAM-SHA-256\0\0\0\0\3n,,"), (b"\xff\xff\xff\xff",)
    ),
    "frames": Target(
        framing, (SESSION, SESSION[:20]), (b"Q\0\0\0\4", b"\x7f\xff\xff\xff", b"\0\0\0\3"), compiled=True
    ),
    "hba": Target(
        pool_hba,
        (
            b"local all all trust\nhost shop,\"a b\" +staff,alice 10.0.0.0/8 scram-sha-256\nhostssl all all samenet cert\n",
            b"host all all 10.0.0.1 255.0.0.0 md5\nhost @names @names .example.com password # c\n",
            b'host all all all ldap ldapurl="ldap://h/dc=x?uid?sub" ldapbindpasswd=s backend_use_passwd=1\n',
        ),
        (b"all", b"samehost", b"samerole", b"::1/128", b'"', b",", b"@names", b"reject", b"pam pamservice=x", b"\n"),
    ),
    "passwd": Target(
        pool_passwd,
        (
            b"alice:md5" + b"0" * 32 + b"\nbob:TEXTsecret\ncarol:plain:other:plain\n",
            b"dave:" + aes.encrypt(b"secret", b"a key").encode() + b"\n",
            b"erin:" + exchange.render_verifier(VERIFIER).encode() + b":b:TEXTx\n",
        ),
        (b":", b"AES", b"TEXT", b"md5", b"SCRAM-SHA-256$", b"\n", b"\0"),
    ),
    "config": Target(
        configuration,
        (
            b"port = 9999\nbackend_hostname0 = 'h'\nbackend_port0 = 5432\nlisten_addresses = '*'\n",
            b"ssl = on # x\nmax_pool=4\n",
        ),
        (b"'", b"''", b"\\", b"=", b"\n", b"backend_weight1 = 1e9", b"10min", b"-1", b"9" * 30),
    ),
    "pcp": Target(
        pcp_messages,
        (pcp.login("postgres", "0" * 32)[5:], b"postgres:" + b"0" * 32 + b"\n", b"0 n\0", b"ArraySize\0" + b"\0\0\0\1"),
        (b"\0", b"-1", b"CommandComplete\0", b"n,"),
    ),
    "scram": Target(
        scram,
        (
            b"n,,n=,r=abcd\nc=biws,r=abcdserver,p=" + b"A" * 43 + b"=", b"y,,n=,r=a\n", b"p=tls-server-end-point,,n=,r=a\n",
            b"r=clientx,s=QUJD,i=1\nv=" + b"A" * 43 + b"=", exchange.render_verifier(VERIFIER).encode(),
            aes.encrypt(b"secret", b"a key").encode(), bytes.fromhex("3013300230003006060465040401"),
        ),
        (b"r=client", b",i=", b",s=", b"e=", b"c=", b",p=", b"="),
    ),
}  # fmt: skip
