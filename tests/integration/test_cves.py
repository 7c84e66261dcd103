"""Every CVE class that hit a PostgreSQL proxy (what_users_ask.md E and G), tried on ours.

Elsewhere: bytes before TLS (CVE-2021-3935, CVE-2021-43766) and certificates in test_tls, secrets in reports
(CVE-2023-22332) in test_secrets and here for PCP, odd ``options`` (CVE-2026-107349), long names (CVE-2012-4575) and a
password before the startup packet (CVE-2015-4054) in test_hostile_start, the full matrix of methods in test_auth,
auth_query (CVE-2025-12819, CVE-2025-2291, CVE-2015-6817) in test_auth_query.
"""

from __future__ import annotations

import base64
import contextlib
import struct
import time

import psutil
import psycopg
import pytest

from pgpool.auth import exchange
from tests.support.fakeserver import AUTH_OK, GREETING, READY, FakeServer, Link, ask_sasl, sasl_continue
from tests.support.pcp import Client
from tests.support.servers import Cluster, Pgpool
from tests.support.wire import PROTOCOL_3_0, SSL_REQUEST, RawClient, cstr, msg, query, startup

pytestmark = pytest.mark.needs_pgpool

SECRET = "S3CRET_pass"


# ---------------------------------------------------------------- hostile backends


@pytest.fixture(scope="module")
def fake():
    made = FakeServer()
    yield made
    made.close()


@pytest.fixture(scope="module")
def before_fake(fake: FakeServer):
    """A pgpool whose only backend is the fake one; it knows a password of alice and trusts whoever comes."""
    made = Pgpool(
        [fake], {"backend_clustering_mode": "raw", "num_init_children": 2, "enable_pool_hba": True,
                 "connection_cache": False, "wd_lifecheck_password": SECRET, "sr_check_password": SECRET},
        files={"pool_passwd": f"alice:TEXT{SECRET}\n", "pool_hba.conf": "host all all all trust\n"},
    )  # fmt: skip
    try:
        made.start(wait=False)
        made.wait_for_log("successfully started")
        yield made
    finally:
        made.remove()


def busy_seconds(pgpool: Pgpool) -> float:
    """CPU time that the children have used so far."""
    return sum(sum(p.cpu_times()[:2]) for p in pgpool.family())


def login_against(pgpool: Pgpool, fake: FakeServer, script, user: str = "alice") -> dict[str, str]:
    """What a client is told when the backend plays ``script``; it must be told soon, and for little CPU time."""
    fake.script = script
    began, used = time.monotonic(), busy_seconds(pgpool)
    with RawClient(pgpool.host, pgpool.port) as client:
        client.send(startup(user=user, database="app"))
        seen = client.wait_closed(8)
    assert time.monotonic() - began < 6 and busy_seconds(pgpool) - used < 1
    assert [m.kind for m in seen if m.kind in "EZ"] == ["E"], seen
    fields = seen[-1].fields
    assert fields["S"] == "FATAL" and len(fields["C"]) == 5 and fields["M"]
    assert SECRET not in str(seen)
    return fields


def scram(answer):
    """A backend that asks for SCRAM and sends ``answer(client's nonce)`` as server-first."""

    def play(link: Link) -> None:
        link.send(ask_sasl("SCRAM-SHA-256"))
        _, body = link.read()
        nonce = body.rpartition(b"r=")[2]
        link.send(sasl_continue(answer(nonce)))
        link.wait_end()

    return play


SALT = base64.b64encode(b"0123456789abcdef")


@pytest.mark.parametrize(
    "answer",
    [
        # CVE-2026-6669: iterations without end
        *(lambda nonce, n=n: b"r=%bx,s=%b,i=%d" % (nonce, SALT, n) for n in (0, -1, 1_000_001, 2**31 - 1, 2**63, 10**30)),
        # CVE-2026-6665: a nonce or salt longer than any buffer
        lambda nonce: b"r=%b,s=%b,i=4096" % (nonce + b"x" * 5000, SALT),
        lambda nonce: b"r=%b,s=%b,i=4096" % (nonce + b"x" * 29000, SALT),
        lambda nonce: b"r=%bx,s=%b,i=4096" % (nonce, base64.b64encode(b"s" * 5000)),
        # somebody else's nonce, ours unchanged, none
        lambda nonce: b"r=other,s=%b,i=4096" % SALT,
        lambda nonce: b"r=%b,s=%b,i=4096" % (nonce, SALT),
        lambda nonce: b"",
        lambda nonce: b"\0" * 100,
        lambda nonce: b"e=other-error",
    ],
)  # fmt: skip
def test_a_backend_that_breaks_scram(before_fake, fake, answer) -> None:
    assert login_against(before_fake, fake, scram(answer))["M"] == "failed to authenticate with backend"


def test_a_backend_that_skips_its_own_proof(before_fake, fake) -> None:
    """AuthenticationOk in the middle of SCRAM: it does not know the password, and nobody talks to it."""

    def play(link: Link) -> None:
        link.send(ask_sasl("SCRAM-SHA-256"))
        _, body = link.read()
        link.send(sasl_continue(b"r=%bx,s=%b,i=4096" % (body.rpartition(b"r=")[2], SALT)))
        link.read()
        link.send(GREETING)

    assert "failed to create a backend" in login_against(before_fake, fake, play)["M"]


@pytest.mark.parametrize("body", [b"\0", b"", b"SFATAL\0\0", b"Mno code\0\0", b"SFATAL\0Mno end", b"C\0M\0\0", b"\xff" * 40])
def test_a_server_error_without_its_fields(before_fake, fake, body: bytes) -> None:
    """CVE-2026-6666: SQLSTATE, severity or everything is missing, at login and in a session."""
    fake.script = lambda link: link.send(msg("E", body))
    with RawClient(before_fake.host, before_fake.port) as client:
        client.send(startup(user="alice", database="app"))
        assert [m.kind for m in client.wait_closed()] == ["E"]

    def in_session(link: Link) -> None:
        link.send(GREETING)
        while True:
            kind, _ = link.read()
            if kind == "Q":
                link.send(msg("E", body.replace(b"SFATAL", b"SERROR")), READY)

    fake.script = in_session
    with RawClient.login(before_fake, user="alice") as client:
        assert [m.kind for m in client.ask(query("SELECT 1"))] == ["E", "Z"]
        assert [m.kind for m in client.ask(query("SELECT 1"))] == ["E", "Z"]


@pytest.mark.parametrize("size", [0, 3, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 30_005])
@pytest.mark.parametrize("kind", ["R", "E", "N", "S", "K", "v"])
def test_lengths_of_a_backend_at_login(before_fake, fake, size: int, kind: str) -> None:
    """CVE-2026-6668, CVE-2026-107348: lengths that no sum may overflow on, and that nobody reserves memory for."""
    login_against(before_fake, fake, lambda link: link.send(kind.encode() + struct.pack("!I", size) + b"\0" * 64))


@pytest.mark.parametrize("size", [0, 3, 0x80000000, 0xFFFFFFFF])
def test_lengths_of_a_backend_in_a_session(before_fake, fake, size: int) -> None:
    def play(link: Link) -> None:
        link.send(GREETING)
        link.read()
        link.send(b"D" + struct.pack("!I", size) + b"\0" * 64)

    fake.script = play
    with RawClient.login(before_fake, user="alice") as client:
        client.send(query("SELECT 1"))
        assert client.wait_closed()[-1].kind == "E"
    assert all(p.memory_info().rss < 300 << 20 for p in before_fake.family())


@pytest.mark.parametrize("code", [2, 6, 7, 8, 9, 11, 12, 13, -1])
def test_authentication_codes_we_do_not_speak(before_fake, fake, code: int) -> None:
    fields = login_against(before_fake, fake, lambda link: link.send(msg("R", struct.pack("!i", code) + b"abcd")))
    assert "backend" in fields["M"]


def test_a_login_without_end(before_fake, fake) -> None:
    """ParameterStatus for ever: cut off after 256 kB."""

    def play(link: Link) -> None:
        link.send(AUTH_OK)
        while True:
            link.send(msg("S", cstr("name", "x" * 20000)))

    login_against(before_fake, fake, play)


def test_what_a_man_in_the_middle_says_before_tls(fake) -> None:
    """CVE-2024-10977, CVE-2021-43767: an error in front of TLS is not repeated, bytes behind the 'S' are not believed."""
    settings = {"backend_clustering_mode": "raw", "num_init_children": 1, "backend_sslmode": "require",
                "backend_flag0": "DISALLOW_TO_FAILOVER"}  # fmt: skip
    made = Pgpool([fake], settings)
    error = msg("E", cstr("SFATAL", "C28000", "Mpay at evil.example") + b"\0")
    try:
        made.start(wait=False)
        made.wait_for_log("successfully started")
        for answer in (error, b"S" + GREETING, b"N", b"X", b"\0"):
            fake.ssl_answer = answer
            fields = login_against(made, fake, lambda link: None)
            assert "failed to create a backend" in fields["M"], fields
            assert "evil" not in str(fields) and "evil" not in made.log_text()
    finally:
        fake.ssl_answer = b"N"
        made.remove()


def test_pcp_shows_no_password(before_fake) -> None:
    """CVE-2023-22332 by PCP: the configuration report has none of them."""
    with Client(before_fake.host, before_fake.pcp_port) as admin:
        admin.login("postgres", "postgres")
        shown = str(list(admin.pool_status()))
    assert "wd_lifecheck_user" in shown or "sr_check_user" in shown
    assert SECRET not in shown


# ---------------------------------------------------------------- hostile clients


FRONTS = {"clear": "password", "hashed": "md5", "scrammed": "scram-sha-256"}


@pytest.fixture(scope="module")
def guarded(cluster: Cluster):
    """Roles with passwords on the shared cluster, and a pgpool that asks for them itself."""
    with cluster.primary.connect("postgres") as conn:
        for name in FRONTS:
            conn.execute(f"CREATE ROLE cve_{name} LOGIN PASSWORD '{SECRET}'")
    cluster.wait_for_catchup()
    methods = {**FRONTS, "unknown": "scram-sha-256"}
    rules = "".join(f"host all cve_{name} all {method}\n" for name, method in methods.items())
    made = Pgpool(
        cluster.nodes, {"num_init_children": 3, "enable_pool_hba": True, "authentication_timeout": 5},
        files={
            "pool_hba.conf": rules + "host all postgres all trust\n",
            "pool_passwd": "".join(f"cve_{name}:TEXT{SECRET}\n" for name in FRONTS),
        },
    )  # fmt: skip
    try:
        yield made.start()
    finally:
        made.remove()
        with cluster.primary.connect("postgres") as conn:
            for name in FRONTS:
                conn.execute(f"DROP ROLE cve_{name}")


def assert_refused(client: RawClient, sqlstate: str = "08P01") -> None:
    seen = client.wait_closed(8)
    assert [m.kind for m in seen] == ["E"], seen
    assert (seen[0].fields["S"], seen[0].fields["C"]) == ("FATAL", sqlstate)


def client_first(client: RawClient) -> bytes:
    """Begin SCRAM; the server-first that comes back."""
    client.send(msg("p", cstr("SCRAM-SHA-256") + struct.pack("!i", 12) + b"n,,n=,r=abcd"))
    return client.read().body[4:]


OTHER = startup(user="postgres", database="app")


@pytest.mark.parametrize("data", [OTHER, SSL_REQUEST, query("SELECT 1"), msg("S"), msg("d", b"x"), msg("\0", b"")])
@pytest.mark.parametrize("name", FRONTS)
@pytest.mark.parametrize("database", ["app", "no such database"])
def test_messages_out_of_order_in_a_login(guarded, name: str, data: bytes, database: str) -> None:
    """CVE-2026-107350: a second StartupMessage while a password is asked for, as somebody who needs none."""
    with RawClient(guarded.host, guarded.port) as client:
        client.send(startup(user=f"cve_{name}", database=database))
        assert client.read().kind == "R"
        client.send(data, query("SELECT current_user"))
        assert_refused(client)
    if name == "scrammed":
        with RawClient(guarded.host, guarded.port) as client:
            client.send(startup(user=f"cve_{name}", database=database))
            assert client.read().kind == "R"
            assert client_first(client).startswith(b"r=abcd")
            client.send(data, query("SELECT current_user"))
            assert_refused(client)


def test_what_is_sent_ahead_of_the_login_is_not_carried_out(guarded) -> None:
    """A query right behind the startup packet, and behind a wrong password."""
    with RawClient(guarded.host, guarded.port) as client:
        client.send(startup(user="cve_clear", database="app"), msg("p", cstr("wrong")), query("SELECT current_user"))
        kinds = [m.kind for m in client.wait_closed()]
        assert kinds == ["R", "E"]


@pytest.mark.parametrize("size", [-2, -(2**31), 2**31 - 1, 2**31 - 8, 65536, 13, 1])
def test_length_of_the_first_sasl_answer(guarded, size: int) -> None:
    """CVE-2026-6664: the inner length of SASLInitialResponse against the length of the message."""
    with RawClient(guarded.host, guarded.port) as client:
        client.send(startup(user="cve_scrammed", database="app"))
        client.read()
        client.send(msg("p", cstr("SCRAM-SHA-256") + struct.pack("!i", size) + b"n,,n=,r=abcd"))
        assert_refused(client)


@pytest.mark.parametrize("size", [0, 3, 65540, 1 << 20, 2**31 - 1, 2**32 - 1])
@pytest.mark.parametrize("name", FRONTS)
def test_length_of_a_password_message(guarded, name: str, size: int) -> None:
    """CVE-2026-6668: before the login a message has at most 64 kB, whatever its length word says."""
    with RawClient(guarded.host, guarded.port) as client:
        client.send(startup(user=f"cve_{name}", database="app"))
        client.read()
        client.send(b"p" + struct.pack("!I", size) + b"x" * 16)
        assert_refused(client)
    assert all(p.memory_info().rss < 300 << 20 for p in guarded.family())


def test_ten_thousand_parameters(guarded) -> None:
    """As many as fit into a startup packet: the backend's answer, at once."""
    used = busy_seconds(guarded)
    body = struct.pack("!i", PROTOCOL_3_0) + cstr("user", "postgres", "database", "app") + cstr("a", "b") * 2000
    packet = struct.pack("!i", len(body) + 5) + body + b"\0"
    for _ in range(3):
        with RawClient(guarded.host, guarded.port) as client:
            client.send(packet)
            assert client.wait_closed()[-1].fields["C"] == "42704"
    assert busy_seconds(guarded) - used < 1


def test_scram_tells_nobody_who_exists(guarded) -> None:
    """Of a user without an entry nothing shows but what a wrong password shows: the same exchange to its end, the same
    text (CVE-2015-6817: and never somebody else's session)."""
    answers = []
    for user in ("cve_scrammed", "cve_unknown"):
        with RawClient(guarded.host, guarded.port) as client:
            client.send(startup(user=user, database="app"))
            asked = client.read()
            first = client_first(client)
            nonce, salt, count = (part[2:] for part in first.split(b","))
            assert nonce.startswith(b"abcd") and len(base64.b64decode(salt)) == 16 and count == b"4096"
            client.send(msg("p", b"c=biws,r=%b,p=%b" % (nonce, base64.b64encode(b"x" * 32))))
            fields = client.wait_closed()[-1].fields
            answers.append((asked, len(first), *(fields[f].replace(user, "USER") for f in "SCMD")))
    assert answers[0] == answers[1]


# CVE-2025-46801, the three configurations of its description: the proxy vouched for a client nobody had checked.
BYPASS = {
    "hba password, no entry, backend asks": (
        {"enable_pool_hba": True}, "host all all all password\n", "", ("scram-sha-256", "md5", "password")),
    "off, no entry, backend asks in clear": (
        {"enable_pool_hba": False}, "", "", ("password",)),
    "raw, clear entry, backend asks in clear": (
        {"enable_pool_hba": False, "backend_clustering_mode": "raw"}, "", f"{{role}}:TEXT{SECRET}\n", ("password",)),
    "raw, hba password, clear entry": (
        {"enable_pool_hba": True, "backend_clustering_mode": "raw"}, "host all all all password\n",
        f"{{role}}:TEXT{SECRET}\n", ("password", "md5", "scram-sha-256")),
}  # fmt: skip


@pytest.fixture(scope="module")
def asking(cluster: Cluster):
    """The shared servers, asking each role by the method in its name."""
    methods = ("password", "md5", "scram-sha-256")
    lines = "".join(f'host all "by {method}" all {method}\n' for method in methods)
    try:
        with cluster.primary.connect("postgres") as conn:
            for method in methods:
                conn.execute(f"SET password_encryption = '{'md5' if method == 'md5' else 'scram-sha-256'}'")
                conn.execute(f"CREATE ROLE \"by {method}\" LOGIN PASSWORD '{SECRET}'")
        cluster.wait_for_catchup()
        with cluster.asking(lines):
            yield cluster
    finally:
        cluster.execute("DROP ROLE IF EXISTS " + ", ".join(f'"by {method}"' for method in methods))


@pytest.mark.parametrize("case", BYPASS)
def test_nobody_comes_in_without_a_check(asking: Cluster, make_pgpool, case: str) -> None:
    """Wrong password, none and an empty one, on fresh links and on pooled ones that the right password has made."""
    settings, hba, entry, methods = BYPASS[case]
    passwd = "".join(entry.format(role=f"by {method}") for method in methods)
    pgpool = make_pgpool(
        {**settings, "num_init_children": 1, "max_pool": 4}, nodes=asking.nodes,
        files={"pool_hba.conf": "host all postgres all trust\n" + hba, "pool_passwd": passwd},
    )  # fmt: skip

    def tries(user: str) -> None:
        for password in ("wrong", "", None, SECRET + "x", SECRET[:-1]):
            options = {} if password is None else {"password": password}
            with contextlib.suppress(psycopg.OperationalError):
                pgpool.connect("app", user=user, passfile="/nonexistent", **options).close()
                raise AssertionError(f"{user} got in with {password!r}")

    for method in methods:
        user = f"by {method}"
        tries(user)
        for _ in range(2):
            with pgpool.connect("app", user=user, password=SECRET) as conn:
                assert conn.execute("SELECT current_user").fetchone() == (user,)
            tries(user)


def test_nobody_changes_what_is_not_his(guarded) -> None:
    """CVE-2026-6667: what an ordinary user may say to pgpool itself changes his own session only."""
    with guarded.connect("app", user="cve_clear", password=SECRET) as conn:
        for name, value in (("enable_pool_hba", "off"), ("port", "1"), ("failover_command", "touch /tmp/x")):
            result = conn.pgconn.exec_(f"PGPOOL SET {name} TO '{value}'".encode())
            assert result.status == psycopg.pq.ExecStatus.FATAL_ERROR, name
    assert all(psutil.pid_exists(p.pid) for p in guarded.family())


def test_the_verifier_is_not_the_password(guarded, cluster) -> None:
    """Who has read pool_passwd's verifier, or a md5 hash, does not get in by it."""
    verifier = exchange.render_verifier(exchange.make_verifier(SECRET.encode(), b"0123456789abcdef"))
    for name in FRONTS:
        user = f"cve_{name}"
        for stolen in (verifier, exchange.md5_secret(SECRET.encode(), user.encode()).decode(), f"TEXT{SECRET}"):
            with pytest.raises(psycopg.OperationalError, match="authentication failed"):
                guarded.connect("app", user=user, password=stolen).close()
