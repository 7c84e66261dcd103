"""TLS: which certificates and rules hold towards clients and towards each backend (behaviour.md 9.4).

One set of contexts per process, made before the first fork and made anew at a reload; what cannot be used then leaves
what was there in force. The bytes are the compiled unit's matter (``_fastpath.Tls``).
"""

from __future__ import annotations

import importlib.util
import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pgpool._fastpath import TlsContext, TlsError, load_openssl

from . import process

if TYPE_CHECKING:
    from pgpool.config.settings import BackendConf, Settings

AUTO = "auto"
DISABLE = "disable"
_MAY_BE_PLAIN = (AUTO, "prefer")
_CHECKED = ("verify-ca", "verify-full")
PROMPT = "Enter PEM pass phrase:"
PASSPHRASE_WAIT = 30.0
MAX_KEY_FILE = 1 << 20
_PARAMETERS = (
    "ssl", "ssl_key", "ssl_cert", "ssl_ca_cert", "ssl_ca_cert_dir", "ssl_crl_file", "ssl_ciphers",
    "ssl_prefer_server_ciphers", "ssl_ecdh_curve", "ssl_dh_params_file", "ssl_passphrase_command",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BackendTls:
    """How to talk to one backend. ``context`` None: TLS is switched off, or ``problem`` says why it cannot be used."""

    context: TlsContext | None = None
    may_be_plain: bool = True
    check_host: bool = False
    problem: str = ""


@dataclass(slots=True)
class Contexts:
    key: tuple = ()
    server: TlsContext | None = None
    backends: dict[int, BackendTls] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    """(parameter to blame, what is wrong): clients are answered ``N``, or a backend cannot be reached."""
    warnings: list[str] = field(default_factory=list)


_OFF = BackendTls()
_held = Contexts()


def server_context(settings: Settings) -> TlsContext | None:
    """What clients may encrypt with; None: they are told that there is no TLS."""
    return _contexts(settings).server if settings.ssl else None


def backend_tls(settings: Settings, backend: BackendConf) -> BackendTls:
    """How to talk to this backend."""
    if backend.sslmode == DISABLE or (backend.sslmode == AUTO and not settings.ssl):
        return _OFF
    found = _contexts(settings).backends.get(backend.id)
    return found or BackendTls(None, False, problem="TLS is not set up for this backend")


def renew(settings: Settings) -> Contexts:
    """Read all certificates again. What cannot be used is in ``problems``; what was there before stays in force."""
    global _held
    _held = _build(settings, _held)
    return _held


def _contexts(settings: Settings) -> Contexts:
    return _held if _held.key == _key(settings) else renew(settings)


def _key(settings: Settings) -> tuple:
    backends = tuple((b.id, b.sslmode, b.sslrootcert, b.sslcert, b.sslkey) for b in settings.backends if b.used)
    return (settings.confdir, *(settings.value(name) for name in _PARAMETERS), backends)


def _build(settings: Settings, old: Contexts) -> Contexts:
    made = Contexts(_key(settings))
    if settings.ssl and settings.ssl_cert and settings.ssl_key:
        try:
            made.server = _server(settings, made)
        except TlsError as error:
            made.problems.append(("ssl_cert", str(error)))
            made.server = old.server
    for backend in settings.backends:
        if not backend.used or backend.sslmode == DISABLE or (backend.sslmode == AUTO and not settings.ssl):
            continue
        try:
            made.backends[backend.id] = _backend(settings, backend, made)
        except TlsError as error:
            made.problems.append(("backend_sslmode", f"backend {backend.id}: {error}"))
            made.backends[backend.id] = old.backends.get(backend.id) or BackendTls(None, False, problem=str(error))
    return made


def _load() -> None:
    """OpenSSL as Python's own ssl module has it; where that is built in, or has it linked in, by its usual names."""
    spec = importlib.util.find_spec("_ssl")
    own = spec.origin if spec is not None and spec.has_location else ""
    load_openssl([name for name in (own, "", "libssl.so.3", "libssl.so.1.1") if name is not None])


def _server(settings: Settings, made: Contexts) -> TlsContext:
    _load()
    key = settings.path("ssl_key")
    context = partial(
        TlsContext,
        True,
        cert=settings.path("ssl_cert"),
        key=key,
        passphrase=_passphrase(key, settings.ssl_passphrase_command, made),
        ca_file=settings.path("ssl_ca_cert"),
        ca_dir=settings.path("ssl_ca_cert_dir"),
        crl=settings.path("ssl_crl_file"),
        ciphers=settings.ssl_ciphers,
        dh=settings.path("ssl_dh_params_file"),
        prefer_server=settings.ssl_prefer_server_ciphers,
    )
    if ("ssl_ecdh_curve", None) not in settings.origins:
        # The curve that clients begin with (PostgreSQL 18 has it in its default, too): any other one costs them another
        # round trip in TLS 1.3. Where OpenSSL may not use it (FIPS) the default stands alone.
        with suppress(TlsError):
            return context(groups=f"X25519:{settings.ssl_ecdh_curve}")
    return context(groups=settings.ssl_ecdh_curve)


def _backend(settings: Settings, backend: BackendConf, made: Contexts) -> BackendTls:
    _load()
    root, directory = settings.resolve(backend.sslrootcert), ""
    if not root:
        root, directory = settings.path("ssl_ca_cert"), settings.path("ssl_ca_cert_dir")
    if backend.sslmode in _CHECKED and not (root or directory):
        raise TlsError(f"backend_sslmode {backend.sslmode} needs backend_sslrootcert or ssl_ca_cert")
    if bool(backend.sslcert) != bool(backend.sslkey):
        raise TlsError("backend_sslcert and backend_sslkey belong together")
    key = settings.resolve(backend.sslkey)
    passphrase = _passphrase(key, settings.ssl_passphrase_command, made) if key else b""
    context = TlsContext(
        False, cert=settings.resolve(backend.sslcert), key=key, passphrase=passphrase, ca_file=root, ca_dir=directory
    )
    return BackendTls(context, backend.sslmode in _MAY_BE_PLAIN, backend.sslmode == "verify-full")


def _passphrase(key: str, command: str, made: Contexts) -> bytes:
    """The key's passphrase by ssl_passphrase_command, where it has one; tells of a key that others can read."""
    try:
        mode = os.stat(key).st_mode
        with open(key, "rb") as file:
            encrypted = b"ENCRYPTED" in file.read(MAX_KEY_FILE)
    except OSError as error:
        raise TlsError(f'could not access private key file "{key}": {error.strerror}') from None
    if mode & 0o077:
        made.warnings.append(
            f'private key file "{key}" has group or world access: permissions should be u=rw (0600) or less'
        )
    if not encrypted or not command:
        return b""
    words = command.replace("%%", "\0").replace("%p", PROMPT).replace("\0", "%")
    try:
        code, text = process.run(["/bin/sh", "-c", words], env=process.outer_environment(), timeout=PASSPHRASE_WAIT)
    except (OSError, TimeoutError) as error:
        raise TlsError(f"ssl_passphrase_command failed: {error}") from None
    if code:
        raise TlsError(f"ssl_passphrase_command failed with exit code {code}")
    return text.split("\n", 1)[0].rstrip("\r").encode("utf-8", "surrogateescape")
