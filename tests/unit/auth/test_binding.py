"""auth/binding and SCRAM-SHA-256-PLUS: certificates of every kind, and both sides of the exchange."""

from __future__ import annotations

import datetime
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from pgpool.auth import exchange as x
from pgpool.auth.binding import end_point

NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(key, digest, pss: bool = False) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).public_key(key.public_key())
        .serial_number(4711).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    )  # fmt: skip
    more = {"rsa_padding": padding.PSS(padding.MGF1(digest), digest.digest_size)} if pss else {}
    return builder.sign(key, digest, **more).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("pss", [False, True])
@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512", "sha224"])
def test_rsa(name: str, pss: bool) -> None:
    der = certificate(RSA_KEY, getattr(hashes, name.upper())(), pss)
    assert end_point(der) == hashlib.new(name, der).digest()


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_ecdsa(name: str) -> None:
    der = certificate(EC_KEY, getattr(hashes, name.upper())())
    assert end_point(der) == hashlib.new(name, der).digest()


def test_nothing_is_bound_to_ed25519() -> None:
    assert end_point(certificate(ed25519.Ed25519PrivateKey.generate(), None)) == b""


DER = certificate(EC_KEY, hashes.SHA256())


@given(st.binary(max_size=60) | st.integers(0, len(DER)).map(lambda n: DER[:n] if n < len(DER) else b""))
def test_what_is_no_certificate_binds_nothing(data: bytes) -> None:
    assert end_point(data) == b""


BINDING = end_point(DER)
VERIFIER = x.make_verifier(b"pencil", b"0123456789abcdef")
BOTH = (x.MECHANISM_PLUS, x.MECHANISM)


def run(client: x.ScramClient, server: x.ScramServer) -> None:
    client.check(server.final(client.final(server.first(client.first()))))


def test_both_sides_bound_to_one_channel() -> None:
    client = x.ScramClient(b"pencil", b"client", binding=BINDING, offered=BOTH)
    assert client.mechanism == x.MECHANISM_PLUS and client.first().startswith(b"p=tls-server-end-point,,")
    server = x.ScramServer(VERIFIER, b"server", binding=BINDING, plus=True)
    run(client, server)
    assert server.keys is not None
    again = x.ScramClient(server.keys, b"client", binding=b"another backend's", offered=BOTH)
    run(again, x.ScramServer(VERIFIER, b"server", binding=b"another backend's", plus=True))


def test_two_channels_are_found_out() -> None:
    """Somebody in the middle shows the client a certificate of his own."""
    client = x.ScramClient(b"pencil", b"client", binding=b"his", offered=BOTH)
    with pytest.raises(x.ExchangeFailed, match="channel-binding"):
        run(client, x.ScramServer(VERIFIER, b"server", binding=BINDING, plus=True))


def test_an_offer_that_was_taken_away_is_found_out() -> None:
    client = x.ScramClient(b"pencil", b"client", binding=BINDING)
    assert client.mechanism == x.MECHANISM and client.first().startswith(b"y,,")
    with pytest.raises(x.ExchangeFailed, match="thinks the server does not"):
        run(client, x.ScramServer(VERIFIER, b"server", binding=BINDING))
    run(x.ScramClient(b"pencil", b"client", binding=BINDING), x.ScramServer(VERIFIER, b"server"))
    run(x.ScramClient(b"pencil", b"client"), x.ScramServer(VERIFIER, b"server", binding=BINDING))


@pytest.mark.parametrize("first", [b"n,,n=,r=abc", b"y,,n=,r=abc", b"p=tls-unique,,n=,r=abc", b"p=,,n=,r=abc", b"p,,n=,r=a"])
def test_a_flag_that_does_not_fit_the_choice(first: bytes) -> None:
    with pytest.raises(x.ExchangeFailed):
        x.ScramServer(VERIFIER, b"server", binding=BINDING, plus=True).first(first)


@pytest.mark.parametrize("first", [b"p=tls-server-end-point,,n=,r=abc", b"p=tls-unique,,n=,r=abc"])
@pytest.mark.parametrize("binding", [b"", BINDING], ids=["plain", "TLS"])
def test_binding_without_the_mechanism(first: bytes, binding: bytes) -> None:
    with pytest.raises(x.ExchangeFailed, match="requires SCRAM channel binding"):
        x.ScramServer(VERIFIER, b"server", binding=binding).first(first)
