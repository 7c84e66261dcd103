"""TLS to clients and to backends: what psql and drivers do, big results, certificates, reload, bytes before it begins."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import shutil
import socket
import ssl
import struct
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pgpool.auth import exchange
from pgpool.auth.binding import end_point
from pgpool.wire import messages
from pgpool.wire.startup import ssl_request, startup_packet
from tests.support.places import give, short_dir, wait_until
from tests.support.servers import Pgpool, Postgres

NOW = datetime.datetime.now(datetime.UTC)


class Authority:
    """A CA of our own, and what it signs: NAME.crt and NAME.key in its directory."""

    def __init__(self, place: Path):
        self.place = place
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        self.cert = self._sign(self.name, self.key, ca=True)
        self._write("ca.crt", self.cert.public_bytes(serialization.Encoding.PEM))

    def _sign(self, subject: x509.Name, key, ca: bool = False) -> x509.Certificate:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        # Python 3.13 checks by the letter of RFC 5280
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        usage = x509.KeyUsage(True, False, not ca, False, False, ca, ca, False, False)
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(days=1)).not_valid_after(NOW + datetime.timedelta(days=9))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(issuer, critical=False).add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )  # fmt: skip

    def issue(self, name: str, file: str = "", passphrase: bytes = b"") -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self._sign(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), key)
        lock = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        pem = serialization.PrivateFormat.PKCS8
        self._write(f"{file or name}.crt", cert.public_bytes(serialization.Encoding.PEM))
        self._write(f"{file or name}.key", key.private_bytes(serialization.Encoding.PEM, pem, lock))

    def _write(self, name: str, data: bytes) -> None:
        path = self.place / name
        path.write_bytes(data)
        path.chmod(0o600)

    def __getitem__(self, file: str) -> str:
        return str(self.place / file)


@pytest.fixture(scope="module")
def pki():
    place = short_dir("tls")
    made = Authority(place)
    made.issue("pgpool")
    made.issue("alice")
    made.issue("locked", passphrase=b"open sesame")
    yield made
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def server(pki):
    """A PostgreSQL with TLS: trust, but alice by her certificate."""
    made = Postgres("tls")
    try:
        made.create()
        if not made.knows_tls():
            pytest.skip("this PostgreSQL was built without TLS")
        for name in ("pgpool.crt", "pgpool.key", "ca.crt"):
            shutil.copy(pki[name], made.data / name)
            os.chmod(made.data / name, 0o600)
            give(made.data / name)
        made.execute("CREATE ROLE alice LOGIN")
        with made.connect("postgres") as conn:
            conn.execute("SET password_encryption = 'scram-sha-256'")
            conn.execute("CREATE ROLE bound LOGIN PASSWORD 'pencil'")
        hba = "local all all trust\nhostssl all alice all cert\nhost all bound all scram-sha-256\nhost all all all trust\n"
        (made.data / "pg_hba.conf").write_text(hba)
        made.stop()
        made.configure(ssl="on", ssl_cert_file="pgpool.crt", ssl_key_file="pgpool.key", ssl_ca_file="ca.crt")
        made.start()
        yield made
    finally:
        made.remove()


def tls_settings(pki, **more) -> dict[str, object]:
    base = {"ssl": True, "ssl_cert": pki["pgpool.crt"], "ssl_key": pki["pgpool.key"], "ssl_ca_cert": pki["ca.crt"]}
    return {**base, "backend_clustering_mode": "raw", "num_init_children": 4, **more}


@pytest.fixture(scope="module")
def both(pki, server):
    """A pgpool with TLS on both sides."""
    made = Pgpool([server], tls_settings(pki, backend_sslmode="verify-full"), files={
        "pool_hba.conf": "hostssl all alice all cert\nhostssl all all all trust\nhostnossl all postgres all trust\n",
    })  # fmt: skip
    made.settings["enable_pool_hba"] = True
    made.write_conf()
    try:
        yield made.start()
    finally:
        made.remove()


ENCRYPTED = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_both_sides_are_encrypted(both, pki, mode):
    with both.connect(sslmode=mode, sslrootcert=pki["ca.crt"]) as conn:
        assert conn.pgconn.ssl_in_use
        assert conn.execute(ENCRYPTED).fetchone()[0] is True
    with both.connect(sslmode="disable") as conn:
        assert not conn.pgconn.ssl_in_use
        assert conn.execute(ENCRYPTED).fetchone()[0] is True


def test_big_results_and_many_statements(both):
    """Records do not end where messages end, and bytes wait in places that poll() does not see."""
    with both.connect(sslmode="require") as conn:
        for size in (1, 16379, 16384, 16385, 40000, 3_000_000):
            text = "x" * size
            assert conn.execute("SELECT %s::text", [text]).fetchone()[0] == text
        rows = conn.execute("SELECT i, repeat('y', i % 300) FROM generate_series(1, 60000) i").fetchall()
        assert len(rows) == 60000 and rows[-1][0] == 60000
        with conn.pipeline():
            cursors = [conn.execute("SELECT %s::int", [i]) for i in range(300)]
        assert [c.fetchone()[0] for c in cursors] == list(range(300))


def test_copy_both_ways(both):
    data = b"".join(b"%d\t%s\n" % (i, b"z" * (i % 500)) for i in range(20000))
    with both.connect(sslmode="require") as conn:
        conn.execute("CREATE TEMP TABLE t (a int, b text)")
        with conn.cursor().copy("COPY t FROM STDIN") as copy:
            copy.write(data)
        with conn.cursor().copy("COPY (SELECT * FROM t ORDER BY a) TO STDOUT") as copy:
            assert b"".join(bytes(block) for block in copy) == data


def test_notifications_and_cancel(both):
    with both.connect(sslmode="require") as conn, both.connect(sslmode="require") as other:
        conn.execute("LISTEN tls")
        other.execute("NOTIFY tls, 'hello'")
        assert [n.payload for n in conn.notifies(timeout=20, stop_after=1)] == ["hello"]
        conn.execute("SET statement_timeout = '30s'")
        wait = conn.pgconn
        wait.send_query(b"SELECT pg_sleep(25)")
        wait_until(
            lambda: other.execute("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(25)'").fetchone()[0],
            "the statement to run",
        )
        conn.cancel_safe(timeout=20)
        result = wait.get_result()
        assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"57014"
        assert wait.get_result() is None


def test_links_are_reused(both):
    def pid() -> int:
        with both.connect(sslmode="require") as conn:
            return conn.info.backend_pid

    seen = [pid() for _ in range(12)]
    assert len(set(seen)) < len(seen)


def test_a_client_certificate(both, pki):
    alice = {"user": "alice", "sslcert": pki["alice.crt"], "sslkey": pki["alice.key"]}
    with pytest.raises(psycopg.OperationalError, match="CERT authentication failed"):
        both.connect(user="alice", sslmode="require", sslcert="/nowhere", sslkey="/nowhere").close()
    with pytest.raises(psycopg.OperationalError, match="CERT authentication failed"):
        both.connect(**{**alice, "sslcert": pki["pgpool.crt"], "sslkey": pki["pgpool.key"]}, sslmode="require").close()
    # right for us; our own certificate to the backend is missing, and that is the backend's word
    with pytest.raises(psycopg.OperationalError, match="connection requires a valid client certificate"):
        both.connect(**alice, sslmode="require").close()


def test_our_certificate_to_the_backend(server, pki):
    made = Pgpool([server], tls_settings(pki, backend_sslcert0=pki["alice.crt"], backend_sslkey0=pki["alice.key"]))
    try:
        made.start()
        with made.connect(user="alice", sslmode="require") as conn:
            assert conn.execute("SELECT current_user").fetchone()[0] == "alice"
    finally:
        made.remove()


HOW = {
    "hba": {"enable_pool_hba": True},
    "off": {},
    "query": {"auth_query_user": "postgres"},
    "relay": {"pool_passwd": ""},
}


@pytest.mark.parametrize("how", HOW)
def test_channel_binding(server, pki, how):
    """SCRAM-SHA-256-PLUS with clients and with backends: libpq takes it where it is offered, and can insist on it."""
    mark = len(server.log_text())
    made = Pgpool([server], tls_settings(pki, **HOW[how]), files={
        "pool_hba.conf": "host all bound all scram-sha-256\nhost all all all trust\n",
        "pool_passwd": "" if how == "query" else "bound:TEXTpencil\n",
    })  # fmt: skip
    options = {"user": "bound", "sslmode": "require"}
    try:
        made.start()
        if how == "relay":
            with pytest.raises(psycopg.OperationalError, match="channel binding"):
                made.connect(**options, password="pencil", channel_binding="require").close()
            with pytest.raises(psycopg.OperationalError, match=r"cannot be passed through.*\n.*channel_binding=disable"):
                made.connect(**options, password="pencil").close()
            made.connect(**options, password="pencil", channel_binding="disable").close()
            return
        for binding in ("require", "prefer", "disable"):
            for _ in range(2):  # the second time on a pooled connection
                with made.connect(**options, password="pencil", channel_binding=binding) as conn:
                    assert conn.execute("SELECT current_user").fetchone() == ("bound",)
            with pytest.raises(psycopg.OperationalError, match="authentication failed"):
                made.connect(**options, password="wrong", channel_binding=binding).close()
        with pytest.raises(psycopg.OperationalError, match="channel binding"):
            made.connect(user="bound", sslmode="disable", password="pencil", channel_binding="require").close()
        made.connect(user="bound", sslmode="disable", password="pencil").close()
        assert "channel-binding" not in server.log_text()[mark:]
    finally:
        made.remove()


def test_binding_to_another_certificate_is_refused(server, pki):
    """Somebody in the middle with a certificate of his own: the client's proof is of no use to him."""
    made = Pgpool([server], tls_settings(pki, enable_pool_hba=True), files={
        "pool_hba.conf": "host all bound all scram-sha-256\nhost all all all trust\n", "pool_passwd": "bound:TEXTpencil\n",
    })  # fmt: skip
    context = ssl.create_default_context(cafile=pki["ca.crt"])
    der = ssl.PEM_cert_to_DER_cert(Path(pki["ca.crt"]).read_text())
    mine = exchange.ScramClient(
        b"pencil", b"nonce", binding=end_point(der), offered=(exchange.MECHANISM_PLUS, exchange.MECHANISM)
    )
    try:
        made.start()
        with socket.create_connection((made.host, made.port), 10) as raw:
            raw.sendall(ssl_request())
            assert raw.recv(1) == b"S"
            with context.wrap_socket(raw, server_hostname="localhost") as sock:
                sock.sendall(startup_packet(user="bound", database="app"))
                assert b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0" in sock.recv(1000)
                sock.sendall(messages.sasl_initial_response(mine.mechanism, mine.first()))
                sock.sendall(messages.sasl_response(mine.final(sock.recv(1000)[9:])))
                assert b"unexpected SCRAM channel-binding attribute" in sock.recv(1000)
    finally:
        made.remove()


def test_certificates_are_read_again(server, pki):
    """A new certificate counts after a reload; a broken one is told, and the old one goes on."""
    pki.issue("first", "moving")
    settings = tls_settings(pki, ssl_cert=pki["moving.crt"], ssl_key=pki["moving.key"], num_init_children=2)
    made = Pgpool([server], settings)

    def shown() -> str:
        context = ssl.create_default_context(cafile=pki["ca.crt"])
        with socket.create_connection((made.host, made.port), 10) as raw:
            raw.sendall(ssl_request())
            assert raw.recv(1) == b"S"
            with context.wrap_socket(raw, server_hostname="localhost") as sock:
                return dict(pair[0] for pair in sock.getpeercert()["subject"])["commonName"]

    try:
        made.start()
        assert shown() == "first"
        pki.issue("second", "moving")
        made.reload()
        wait_until(lambda: shown() == "second", "the new certificate to be shown")
        Path(pki["moving.crt"]).write_text("nonsense")
        mark = made.mark()
        made.reload()
        made.wait_for_log("could not load SSL certificate file", since=mark)
        assert shown() == "second"
    finally:
        made.remove()


def test_a_key_with_a_passphrase(server, pki):
    keys = {"ssl_cert": pki["locked.crt"], "ssl_key": pki["locked.key"], "num_init_children": 2}
    made = Pgpool([server], tls_settings(pki, ssl_passphrase_command="printf 'open %s\\n' sesame # %p", **keys))
    try:
        made.start()
        with made.connect(sslmode="require") as conn:
            assert conn.pgconn.ssl_in_use
    finally:
        made.remove()


def test_without_a_usable_key_clients_get_no(server, pki):
    """As Pgpool-II: the start goes on with a warning, and clients are told that there is no TLS."""
    made = Pgpool([server], tls_settings(pki, ssl_key=pki["alice.key"], num_init_children=2))
    try:
        made.start()
        assert "clients cannot use TLS" in made.log_text()
        with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
            made.connect(sslmode="require").close()
        with made.connect(sslmode="prefer") as conn:
            assert not conn.pgconn.ssl_in_use
    finally:
        made.remove()


def test_a_backend_must_have_tls(cluster, pki):
    """backend_sslmode = require against a server without TLS: no session, and nothing is sent in the clear."""
    made = Pgpool([cluster.primary], tls_settings(pki, backend_sslmode="require", num_init_children=2))
    try:
        made.start(wait=False)
        made.wait_for_log("server does not support SSL, but SSL was required")
    finally:
        made.remove()


def direct(both, pki, protocols: list[str]) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=pki["ca.crt"])
    if protocols:
        context.set_alpn_protocols(protocols)
    raw = socket.create_connection((both.host, both.port), 10)
    return context.wrap_socket(raw, server_hostname="localhost")


def test_direct_tls(both, pki):
    """PostgreSQL 17's sslnegotiation=direct: no SSLRequest, but ALPN."""
    with direct(both, pki, ["postgresql"]) as sock:
        sock.sendall(startup_packet(user="postgres", database="app"))
        assert sock.recv(9) == b"R" + struct.pack("!II", 8, 0)
    with direct(both, pki, []) as sock:
        assert b"without ALPN" in sock.recv(300)
    with pytest.raises((ssl.SSLError, OSError)):
        direct(both, pki, ["http/1.1"]).close()


@pytest.mark.skipif(psycopg.pq.version() < 170000, reason="this libpq does not know sslnegotiation")
def test_direct_tls_of_libpq(both, pki):
    """What libpq does with it, a cancel request included (which comes on a TLS connection of its own)."""
    options = {"sslnegotiation": "direct", "sslmode": "verify-full", "sslrootcert": pki["ca.crt"]}
    with both.connect(**options) as conn:
        assert conn.pgconn.ssl_in_use and conn.execute(ENCRYPTED).fetchone()[0] is True
        conn.pgconn.send_query(b"SELECT pg_sleep(25)")
        with both.connect() as other:
            count = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(25)' AND state = 'active'"
            wait_until(lambda: other.execute(count).fetchone()[0], "the statement to run")
        conn.cancel_safe(timeout=20)
        result = conn.pgconn.get_result()
        assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"57014"
        assert conn.pgconn.get_result() is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(both, pki, version):
    context = ssl.create_default_context(cafile=pki["ca.crt"])
    context.minimum_version = context.maximum_version = version
    with socket.create_connection((both.host, both.port), 10) as raw:
        raw.sendall(ssl_request())
        assert raw.recv(1) == b"S"
        with context.wrap_socket(raw, server_hostname="localhost") as sock:
            sock.sendall(startup_packet(user="postgres", database="app"))
            assert sock.recv(1) == b"R"


def test_bytes_before_the_handshake_are_refused(both):
    with socket.create_connection((both.host, both.port), 10) as sock:
        sock.sendall(ssl_request() + startup_packet(user="postgres", database="app"))
        assert b"received unencrypted data after SSL request" in sock.recv(500)
    with socket.create_connection((both.host, both.port), 10) as sock:
        sock.sendall(ssl_request())
        assert sock.recv(1) == b"S"
        with contextlib.suppress(OSError):
            sock.sendall(startup_packet(user="postgres", database="app"))
            assert b"R" + struct.pack("!II", 8, 0) not in sock.recv(500)


def test_a_client_that_vanishes_in_the_handshake(both):
    for _ in range(6):
        with socket.create_connection((both.host, both.port), 10) as sock:
            sock.sendall(ssl_request())
            assert sock.recv(1) == b"S"
            sock.sendall(b"\x16\x03\x01\x02\x00\x01")
    with both.connect(sslmode="require") as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
