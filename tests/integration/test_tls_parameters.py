"""Each ssl_* parameter towards clients does what it says, after a reload, and a bad value changes nothing."""

from __future__ import annotations

import datetime
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from bench.targets import tls_settings
from tests.integration.test_tls import NOW, Authority
from tests.support.places import short_dir, wait_until
from tests.support.servers import Pgpool
from tests.support.wire import SSL_REQUEST

pytestmark = pytest.mark.needs_pgpool

DEFAULTS = dict.fromkeys(
    ("ssl_ciphers", "ssl_ecdh_curve", "ssl_dh_params_file", "ssl_prefer_server_ciphers", "ssl_crl_file", "ssl_ca_cert",
     "ssl_ca_cert_dir")
)  # fmt: skip
GCM, CHACHA, DHE = "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305", "DHE-RSA-AES128-GCM-SHA256"


@pytest.fixture(scope="module")
def place():
    made = short_dir("tls")
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def pki(place) -> Authority:
    made = Authority(place)
    made.issue("alice")
    made.issue("bob")
    return made


@pytest.fixture(scope="module")
def pgpool(cluster, place):
    made = Pgpool(
        cluster.nodes, {**tls_settings(place), "num_init_children": 2, "enable_pool_hba": True},
        files={"pool_hba.conf": "hostssl all alice,bob all cert\nhost all all all trust\n"},
    )  # fmt: skip
    try:
        yield made.start()
    finally:
        made.remove()


def reloaded(pgpool: Pgpool, **settings: object) -> str:
    """With these settings and else the defaults; what the log said about it."""
    mark = pgpool.mark()
    pgpool.write_conf(**{**DEFAULTS, **settings})
    pgpool.reload()
    pgpool.wait_for_log("reload config files", mark)
    return pgpool.log_since(mark)


def cipher(pgpool: Pgpool, ciphers: str = "", curve: str = "") -> str:
    """The cipher that a client of TLS 1.2 gets; why not, when it gets none."""
    context = ssl._create_unverified_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if ciphers:
        context.set_ciphers(ciphers)
    if curve:
        context.set_ecdh_curve(curve)
    try:
        with socket.create_connection((pgpool.host, pgpool.port), 10) as raw:
            raw.sendall(SSL_REQUEST)
            assert raw.recv(1) == b"S"
            with context.wrap_socket(raw) as sock:
                return sock.cipher()[0]
    except OSError as error:
        return f"none: {error}"


def comes(pgpool: Pgpool, expected: str, **client: str) -> None:
    """Both children have read the configuration when this is so ten times in a row."""
    wait_until(lambda: all(cipher(pgpool, **client).startswith(expected) for _ in range(10)), f"{expected} for {client}", 10)


def test_ciphers(pgpool):
    for name in (GCM, CHACHA):
        reloaded(pgpool, ssl_ciphers=name)
        comes(pgpool, name)
    comes(pgpool, "none", ciphers=GCM)
    mark = pgpool.mark()
    reloaded(pgpool, ssl_ciphers="nonsense")
    pgpool.wait_for_log("could not set the cipher list", mark)
    comes(pgpool, CHACHA)


def test_whose_order_counts(pgpool):
    both, other = f"{GCM}:{CHACHA}", f"{CHACHA}:{GCM}"
    reloaded(pgpool, ssl_ciphers=both)
    comes(pgpool, CHACHA, ciphers=other)
    reloaded(pgpool, ssl_ciphers=both, ssl_prefer_server_ciphers=True)
    comes(pgpool, GCM, ciphers=other)


def rounds(pgpool: Pgpool) -> int:
    """How often a client of TLS 1.3 speaks until the server has shown its certificate: 1, or 2 when it chose a curve that
    the server does not take."""
    context = ssl._create_unverified_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(came, goes)
    spoken = 0
    with socket.create_connection((pgpool.host, pgpool.port), 10) as raw:
        raw.sendall(SSL_REQUEST)
        assert raw.recv(1) == b"S"
        while True:
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                if said := goes.read():
                    raw.sendall(said)
                    spoken += 1
                came.write(raw.recv(65536))
            else:
                return spoken


def test_no_round_trip_more_than_needed(pgpool):
    """Clients begin with X25519, which is taken unless somebody has said what is."""
    for curve, expected in ((None, 1), ("prime256v1", 2), ("X25519", 1)):
        reloaded(pgpool, ssl_ecdh_curve=curve)
        wait_until(lambda expected=expected: {rounds(pgpool) for _ in range(10)} == {expected}, f"{curve}", 10)
    reloaded(pgpool)
    comes(pgpool, GCM, ciphers=GCM, curve="prime256v1")


def test_curve(pgpool):
    reloaded(pgpool, ssl_ecdh_curve="secp384r1", ssl_ciphers=GCM)
    comes(pgpool, GCM, curve="secp384r1")
    comes(pgpool, "none", curve="prime256v1")
    mark = pgpool.mark()
    reloaded(pgpool, ssl_ecdh_curve="nonsense")
    pgpool.wait_for_log('unrecognized ECDH curve "nonsense"', mark)


def test_diffie_hellman(pgpool, place):
    reloaded(pgpool)
    comes(pgpool, DHE, ciphers=DHE)  # built-in parameters
    file = place / "dh.pem"
    argv = ["openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe3072", "-out", file]
    subprocess.run(argv, check=True, capture_output=True)
    file.chmod(0o644)
    assert "DH parameters" not in reloaded(pgpool, ssl_dh_params_file=file)
    comes(pgpool, DHE, ciphers=DHE)
    mark = pgpool.mark()
    reloaded(pgpool, ssl_dh_params_file=place / "bench.crt")
    pgpool.wait_for_log("could not load DH parameters file", mark)
    comes(pgpool, DHE, ciphers=DHE)


def enters(pgpool: Pgpool, pki: Authority, user: str) -> bool:
    options = {"user": user, "sslmode": "require", "sslcert": pki[f"{user}.crt"], "sslkey": pki[f"{user}.key"]}
    try:
        pgpool.connect(**options).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(scope="module")
def users(cluster):
    for name in ("alice", "bob"):
        cluster.primary.execute(f"CREATE ROLE {name} LOGIN")
    cluster.wait_for_catchup()
    yield
    for name in ("alice", "bob"):
        cluster.primary.execute(f"DROP ROLE {name}")


def test_revoked_certificates(pgpool, pki, place, users):
    reloaded(pgpool, ssl_ca_cert=pki["ca.crt"])
    wait_until(lambda: all(enters(pgpool, pki, "alice") for _ in range(6)), "alice to come in", 10)
    cert = x509.load_pem_x509_certificate(Path(pki["alice.crt"]).read_bytes())
    revoked = x509.RevokedCertificateBuilder().serial_number(cert.serial_number).revocation_date(NOW).build()
    crl = (
        x509.CertificateRevocationListBuilder().issuer_name(pki.name).last_update(NOW - datetime.timedelta(days=1))
        .next_update(NOW + datetime.timedelta(days=9)).add_revoked_certificate(revoked).sign(pki.key, hashes.SHA256())
    )  # fmt: skip
    (place / "crl.pem").write_bytes(crl.public_bytes(serialization.Encoding.PEM))
    reloaded(pgpool, ssl_ca_cert=pki["ca.crt"], ssl_crl_file=place / "crl.pem")
    wait_until(lambda: not any(enters(pgpool, pki, "alice") for _ in range(6)), "alice to be refused", 10)
    assert enters(pgpool, pki, "bob")


def test_a_directory_of_authorities(pgpool, pki, place, users):
    directory = place / "authorities"
    directory.mkdir()
    reloaded(pgpool, ssl_ca_cert_dir=directory)
    wait_until(lambda: not any(enters(pgpool, pki, "bob") for _ in range(6)), "bob to be refused", 10)
    shutil.copy(pki["ca.crt"], directory)
    (directory / "ca.crt").chmod(0o644)
    subprocess.run(["openssl", "rehash", directory], check=True, capture_output=True)
    reloaded(pgpool, ssl_ca_cert_dir=directory)
    wait_until(lambda: all(enters(pgpool, pki, "bob") for _ in range(6)), "bob to come in", 10)
