"""Passwords that somebody outside of PostgreSQL checks: the methods pam and ldap of pool_hba.conf (behaviour.md 9.2).

What PostgreSQL's pg_hba.conf does with the same options is the rule for what the incumbent's documents leave open.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

METHODS = ("pam", "ldap")
DEFAULT_SERVICE = "pgpool"
DEFAULT_LIMIT = 60.0
"""Seconds that PAM or a directory server may take where authentication_timeout sets no limit: what is its default."""
_FORBIDDEN = "*()\\/"
"""Never part of a user name that is searched for: they mean something in a filter."""


def prepare(method: str) -> None:
    """Load what ``check`` needs, before the fork that it is called in: the next login finds it loaded."""
    if method == "pam":
        import pam  # noqa: F401  (as below)
    else:
        import ldap3  # noqa: F401  (heavy, and needed by ldap lines only)


def check(method: str, user: str, password: bytes, options: Mapping[str, str], limit: float) -> str:
    """'' when ``user`` has this password; else why not, for the log. ``limit``: seconds it may take (ldap)."""
    try:
        text = password.decode()
    except UnicodeDecodeError:
        return "the password is not UTF-8"
    if not text or "\0" in text:
        return "the password is empty"  # a directory takes an empty one for an anonymous login
    if method == "pam":
        return _pam(user, text, options.get("pamservice") or DEFAULT_SERVICE)
    try:
        return _ldap(user, text, directory(options), math.ceil(limit))
    except ValueError as error:
        return str(error)


def _pam(user: str, password: str, service: str) -> str:
    # loads libpam, needed by pam lines only
    from pam import PamAuthenticator

    try:
        pam = PamAuthenticator()
        if pam.authenticate(user, password, service, resetcreds=False):
            return ""
    except (OSError, AttributeError, ValueError) as error:
        return f"PAM cannot be used: {error}"
    return f"{pam.reason}"


# ---------------------------------------------------------------- ldap


@dataclass(frozen=True, slots=True)
class Directory:
    """The options of an ldap line. ``base``: search and bind; else prefix and suffix make the name to bind with."""

    hosts: tuple[str, ...]
    port: int
    tls: str
    """'', 'ldaps', or 'start'."""
    prefix: str = ""
    suffix: str = ""
    base: str = ""
    scope: str = "sub"
    attribute: str = "uid"
    filter: str = ""
    bind_name: str = ""
    bind_password: str = ""


def directory(options: Mapping[str, str]) -> Directory:
    """What the options say; ldapurl and the single ones can be mixed, the latter win. ValueError: a bad URL."""
    found = {name: value for name, value in options.items() if name != "ldapurl"}
    scope = "sub"
    if "ldapurl" in options:
        url = urlsplit(options["ldapurl"])
        if url.scheme not in ("ldap", "ldaps"):
            raise ValueError(f'unsupported LDAP URL scheme: "{url.scheme}"')
        attribute, _, rest = url.query.partition("?")
        scope, _, search = rest.partition("?")
        scope = scope or "base"
        if scope not in ("base", "one", "sub"):
            raise ValueError(f'invalid scope in LDAP URL: "{scope}"')
        said = {
            "ldapscheme": url.scheme, "ldapserver": url.hostname or "", "ldapport": str(url.port or ""),
            "ldapbasedn": unquote(url.path.lstrip("/")), "ldapsearchattribute": unquote(attribute),
            "ldapsearchfilter": unquote(search),
        }  # fmt: skip
        found = {name: value for name, value in said.items() if value} | found
    secure = found.get("ldapscheme", "ldap") == "ldaps"
    return Directory(
        hosts=tuple(found.get("ldapserver", "localhost").split()) or ("localhost",),
        port=int(found.get("ldapport") or (636 if secure else 389)),
        tls="ldaps" if secure else "start" if found.get("ldaptls") == "1" else "",
        prefix=found.get("ldapprefix", ""),
        suffix=found.get("ldapsuffix", ""),
        base=found.get("ldapbasedn", ""),
        scope=scope,
        attribute=found.get("ldapsearchattribute", "uid"),
        filter=found.get("ldapsearchfilter", ""),
        bind_name=found.get("ldapbinddn", ""),
        bind_password=found.get("ldapbindpasswd", ""),
    )


def _ldap(user: str, password: str, where: Directory, limit: int) -> str:
    # heavy, and needed by ldap lines only
    from ldap3.core.exceptions import LDAPException, LDAPSocketOpenError

    # heavy, and needed by ldap lines only
    from ldap3.utils.dn import escape_rdn

    reason = ""
    for host in where.hosts:
        try:
            if not where.base:
                return _bind(host, where, where.prefix + escape_rdn(user) + where.suffix, password, limit)
            if any(c in _FORBIDDEN for c in user):
                return "invalid character in user name for LDAP authentication"
            found = _search(host, where, user, limit)
            return _bind(host, where, found.name, password, limit) if found.name else found.reason
        except LDAPSocketOpenError as error:
            reason = f"could not reach LDAP server {host}:{where.port}: {error}"  # the next one, perhaps
        except LDAPException as error:
            return f"LDAP server {host}:{where.port}: {error}"
    return reason


def _open(host: str, where: Directory, name: str, password: str, limit: int):
    """An ldap3 Connection, not bound yet; encrypted as configured, the server's certificate checked."""
    # heavy, and needed by ldap lines only
    import ldap3

    verified = 2  # ssl.CERT_REQUIRED, with the certificates that the system trusts
    server = ldap3.Server(
        host, where.port, use_ssl=where.tls == "ldaps", get_info=ldap3.NONE, connect_timeout=limit,
        tls=ldap3.Tls(validate=verified) if where.tls else None,
    )  # fmt: skip
    connection = ldap3.Connection(
        server, name or None, password or None, receive_timeout=limit, read_only=True, auto_referrals=False
    )
    connection.open()
    if where.tls == "start" and not connection.start_tls():
        raise ldap3.core.exceptions.LDAPStartTLSError("could not start LDAP TLS session")
    return connection


def _bind(host: str, where: Directory, name: str, password: str, limit: int) -> str:
    connection = _open(host, where, name, password, limit)
    try:
        if connection.bind():
            return ""
        return f'LDAP login failed for "{name}": {connection.result["description"]}'
    finally:
        connection.unbind()


@dataclass(frozen=True, slots=True)
class _Found:
    name: str = ""
    reason: str = ""


def _search(host: str, where: Directory, user: str, limit: int) -> _Found:
    """The distinguished name of the one entry that is this user."""
    wanted = where.filter.replace("$username", user) if where.filter else f"({where.attribute}={user})"
    if not wanted.startswith("("):
        wanted = f"({wanted})"
    scope = {"base": "BASE", "one": "LEVEL", "sub": "SUBTREE"}[where.scope]
    connection = _open(host, where, where.bind_name, where.bind_password, limit)
    try:
        if not connection.bind():
            description = connection.result["description"]
            return _Found(reason=f'could not perform initial LDAP bind for "{where.bind_name}": {description}')
        connection.search(where.base, wanted, scope, attributes=["1.1"], size_limit=2)
        names = [entry["dn"] for entry in connection.response or () if entry["type"] == "searchResEntry"]
    finally:
        connection.unbind()
    if len(names) != 1:
        return _Found(reason=f'LDAP search for "{wanted}" found {len(names)} entries instead of one')
    return _Found(names[0])
