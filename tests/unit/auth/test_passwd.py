"""auth/passwd and auth/aes: every form of pool_passwd, vectors of Debian's pg_enc and pg_md5, faults with line."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool.auth import aes, passwd

KEY = b"mykey"
LONG_KEY = "ä long key with spaces and more than thirty-two characters".encode()
VERIFIER = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="  # noqa: E501

#: (key, password, text) printed by `pg_enc -K key password` of Debian's pgpool2 4.3.5
VECTORS = [
    (KEY, b"a", "AESmpGJhjFbC06iej2JXJMKog=="),
    (KEY, b"123456789012345", "AESo5nZjlsI8F1BRAKrO5cIbw=="),
    (KEY, b"1234567890123456", "AESFiCifnZISts5XH5yzTKxoKtGNjNBdWTwpxHHRIM5Px4="),
    (KEY, "pässwörd".encode(), "AESk/54Z7dIFr+aNVyBinGTvw=="),
    (KEY, b"sc-secret", "AESH2Tbp4a5wGvAvX6Sikwv/w=="),
    (LONG_KEY, b"a", "AES/h5zdLT2ZIn+zsgJ7VoGfA=="),
    (LONG_KEY, b"1234567890123456", "AES3s2V8GD/S5Fo3In8YswyU5n333a2/7kwLTfy6SpYx8o="),
    (LONG_KEY, "pässwörd".encode(), "AESKFPqdn3w8oJSsjGpkPO/6A=="),
]


@pytest.mark.parametrize(("key", "password", "text"), VECTORS)
def test_pg_enc_vectors(key: bytes, password: bytes, text: str) -> None:
    assert aes.encrypt(password, key) == text
    assert aes.decrypt(text, key) == password


@pytest.mark.skipif(not shutil.which("pg_enc", path="/usr/sbin:/usr/bin"), reason="Debian's pgpool2 is not installed")
@pytest.mark.parametrize("password", ["x", "0123456789abcdef0123456789abcdef", "a b:c", "日本"])
def test_pg_enc_alive(password: str) -> None:
    program = shutil.which("pg_enc", path="/usr/sbin:/usr/bin")
    out = subprocess.run([program, "-K", "k 1", password], capture_output=True, text=True, check=True).stdout
    assert out.split("pool_passwd string: ")[1].strip() == aes.encrypt(password.encode(), b"k 1")


passwords = st.binary(max_size=100).map(lambda b: b.replace(b"\0", b"x"))


@given(password=passwords, other=st.binary(max_size=8))
def test_aes_with_any_other_key_gives_no_password_with_a_nul(password: bytes, other: bytes) -> None:
    with contextlib.suppress(aes.CannotDecrypt):
        assert b"\0" not in aes.decrypt(aes.encrypt(password, KEY), other)


@given(password=passwords, key=st.binary(min_size=1, max_size=60))
def test_aes_round_trip(password: bytes, key: bytes) -> None:
    assert aes.decrypt(aes.encrypt(password, key), key) == password


@given(text=st.text(max_size=60))
def test_aes_garbage(text: str) -> None:
    with contextlib.suppress(aes.CannotDecrypt):
        aes.decrypt("AES" + text, KEY)


def entry(line: str, key: bytes | None = KEY) -> passwd.Secret:
    entries, _ = passwd.parse(line, "pool_passwd", key)
    (found,) = entries.values()
    return found.secret


def test_forms() -> None:
    assert entry("bob:md521f3163f8f86fa10bdefbfbd502a8f06").md5 == b"md521f3163f8f86fa10bdefbfbd502a8f06"
    assert entry("bob:AESH2Tbp4a5wGvAvX6Sikwv/w==").password == b"sc-secret"
    assert entry("bob:TEXTsecret").password == b"secret"
    assert entry("bob:secret").password == b"secret"
    assert entry("bob:md5short").password == b"md5short"
    found = entry("bob:" + VERIFIER)
    assert found.kind == "scram" and found.verifier is not None and found.verifier.iterations == 4096


def test_second_pair_is_read_and_never_used() -> None:
    entries, faults = passwd.parse("bob:TEXTfront:root:TEXTback\neve:" + VERIFIER + ":root:x", "f", KEY)
    assert not faults
    assert entries["bob"].backend_user == "root" and entries["bob"].secret.password == b"front"
    assert entries["eve"].backend_user == "root" and entries["eve"].secret.verifier is not None
    admission = passwd.PasswordFile(entries).admission("bob")
    assert admission.user == "bob" and admission.password == b"front"


def test_faults_name_line_and_reason_and_spare_the_rest() -> None:
    text = (
        "# comment\n\nnocolon\n:x\nbob:\nsam:TEXTgood\r\nsam:TEXTsecond\n"
        "pat:SCRAM-SHA-256$x:y$z:w\nkim:AES%%%\ntim:TEXTa:b\nbad:TEXT\n"
    )
    entries, faults = passwd.parse(text, "pool_passwd", KEY)
    assert [f.line for f in faults] == [3, 4, 5, 7, 8, 9, 10, 11]
    assert entries["sam"].secret.password == b"good"
    assert not entries["pat"].secret and not entries["kim"].secret
    assert all("good" not in str(f) and "second" not in str(f) for f in faults)


def test_aes_without_or_with_another_key_is_of_no_use() -> None:
    line = "bob:" + aes.encrypt(b"secret", KEY)
    for key in (None, b"other"):
        secret = entry(line, key)
        assert not secret and secret.password is None and "decrypt" in secret.problem


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    entries, faults = passwd.parse(text, "f", KEY)
    assert all(user and e.user == user for user, e in entries.items())
    assert all(f.line >= 1 for f in faults)


@given(st.binary(max_size=100))
def test_any_bytes_are_read(data: bytes) -> None:
    passwd.parse("bob:" + data.decode("utf-8", "surrogateescape"), "f", KEY)


def test_load_creates_the_file_for_the_owner_only(tmp_path) -> None:
    path = tmp_path / "pool_passwd"
    found = passwd.load(str(path), str(tmp_path / "nokey"))
    assert found.find("bob") is None and path.read_bytes() == b"" and path.stat().st_mode & 0o777 == 0o600
    assert passwd.load("", str(tmp_path / "nokey")).find("bob") is None


def test_load_reads_again_what_changed(tmp_path) -> None:
    path, key = tmp_path / "pool_passwd", tmp_path / "key"
    key.write_text("mykey\nsecond line\n")
    key.chmod(0o600)
    path.write_text("bob:TEXTold\n")
    assert passwd.load(str(path), str(key)).admission("bob").password == b"old"
    path.write_text("bob:" + aes.encrypt(b"new", KEY) + "\n")
    found = passwd.load(str(path), str(key))
    assert found.admission("bob").password == b"new" and found.faults == []
    key.chmod(0o644)
    assert ["key file" in f.message for f in passwd.load(str(path), str(key)).faults] == [True]


def test_where_the_key_file_is(monkeypatch) -> None:
    monkeypatch.setenv("PGPOOLKEYFILE", "/a/b")
    monkeypatch.setenv("HOME", "/home/x")
    assert aes.key_file("/c") == "/c" and aes.key_file() == "/a/b"
    monkeypatch.delenv("PGPOOLKEYFILE")
    assert aes.key_file() == "/home/x/.pgpoolkey"


def test_own_sessions_take_every_form_or_the_entry() -> None:
    entries, _ = passwd.parse("chk:TEXTstored", "f", KEY)
    file = passwd.PasswordFile(entries, key=KEY)
    assert file.own("chk", "").password == b"stored"
    assert file.own("chk", "plain").password == b"plain"
    assert file.own("chk", "TEXTx").password == b"x"
    assert file.own("chk", aes.encrypt(b"y", KEY)).password == b"y"
    assert file.own("chk", "md5" + "0" * 32).md5 == b"md5" + b"0" * 32
    assert file.own("nobody", "").password is None
    assert all(file.own("chk", t).verified for t in ("", "plain"))


def test_secrets_are_not_shown() -> None:
    text = "a:TEXTtop\nb:" + aes.encrypt(b"top", KEY) + "\nc:top\nd:md521f3163f8f86fa10bdefbfbd502a8f06\n"
    entries, _ = passwd.parse(text, "f", KEY)
    file = passwd.PasswordFile(entries, key=KEY)
    for thing in (entries, file, vars(file)["_entries"], *(file.admission(u) for u in "abcd")):
        assert "top" not in repr(thing) and "21f3163f" not in repr(thing)


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path) -> None:
    path = tmp_path / "pool_passwd"
    path.write_text("x:y")
    path.chmod(0)
    with pytest.raises(OSError):
        passwd.load(str(path), "/nokey")
