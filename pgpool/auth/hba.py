"""pool_hba.conf: reading it (all faults at once) and matching a client against it (behaviour.md 9.2).

Matching is a pure function: what only the system knows (names of addresses, our own interfaces) comes in as
``Resolver``. The grammar is that of PostgreSQL's pg_hba.conf: fields separated by blanks, lists by commas, ``"quoted"``
words lose their special meaning, ``#`` begins a comment, ``@file`` in a list stands for the words of that file.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ..errors import ConfigFaults, Fault
from .outside import directory

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

METHODS = ("trust", "reject", "md5", "scram-sha-256", "cert", "password", "pam", "ldap")
_PAM_OPTIONS = {"pamservice", "backend_use_passwd"}
_LDAP_OPTIONS = {
    "ldapserver", "ldapport", "ldapscheme", "ldaptls", "ldapprefix", "ldapsuffix", "ldapbasedn", "ldapbinddn",
    "ldapbindpasswd", "ldapsearchattribute", "ldapsearchfilter", "ldapurl", "backend_use_passwd",
}  # fmt: skip
_OPTIONS = {"pam": _PAM_OPTIONS, "ldap": _LDAP_OPTIONS}
MAX_INCLUDE = 10
"""How deep ``@file`` may nest."""
MAX_WORDS = 100_000


class Resolver(Protocol):
    """What matching must ask the system; asked only when a line needs it."""

    def name_of(self, address: str) -> str:
        """The host name of an address, or the address itself when it has none."""

    def addresses_of(self, name: str) -> Sequence[str]:
        """The addresses of a host name; OSError when there are none."""

    def interfaces(self) -> Sequence[Interface]:
        """Our own addresses with their netmasks."""

    def roles_of(self, user: str) -> Collection[str]:
        """The roles the user is a member of, himself included. May raise AuthenticationFailed: nobody knows now."""


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    quoted: bool = False

    def keyword(self, name: str) -> bool:
        return not self.quoted and self.text == name


@dataclass(frozen=True, slots=True)
class Rule:
    """One line. Of ``address``, ``name`` and ``network`` one is set, of a local line none."""

    line: int
    type: str
    """'local', 'host', 'hostssl' or 'hostnossl'."""
    databases: tuple[Word, ...]
    users: tuple[Word, ...]
    method: str
    address: str = ""
    """'all', 'samehost' or 'samenet'."""
    name: str = ""
    """A host name or '.suffix', in lower case."""
    network: tuple[int, int, int] | None = None
    """(IP version, address, mask), address and mask as integers."""
    options: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Hba:
    rules: tuple[Rule, ...]


# ---------------------------------------------------------------- words


def _scan(line: str) -> Iterator[tuple[str, bool, bool]]:
    """Words of a line as (text, quoted, a comma follows). ValueError: a quote is not closed."""
    pos, end = 0, len(line)
    while True:
        while pos < end and line[pos] in " \t\r\n\f\v,":
            pos += 1
        if pos >= end or line[pos] == "#":
            return
        text, quoted, inside = [], False, False
        while pos < end:
            char = line[pos]
            if char == '"':
                quoted, inside = quoted or not text, not inside
            elif not inside and (char in " \t\r\n\f\v,#"):
                break
            else:
                text.append(char)
            pos += 1
        if inside:
            raise ValueError("a quote is not closed")
        yield "".join(text), quoted, pos < end and line[pos] == ","


def _fields(line: str) -> list[list[Word]]:
    """Fields of a line; a field is a list of words separated by commas."""
    fields: list[list[Word]] = []
    more = False
    for text, quoted, comma in _scan(line):
        if more:
            fields[-1].append(Word(text, quoted))
        else:
            fields.append([Word(text, quoted)])
        more = comma
    return fields


class _Bad(Exception):
    """This line cannot be used; the text says why."""


def _expand(words: list[Word], directory: str, read: Callable[[str], str], depth: int = 0) -> list[Word]:
    """Replaces every ``@file`` by the words of that file, whose own path counts from where the file is."""
    found: list[Word] = []
    for word in words:
        if word.quoted or not word.text.startswith("@") or len(word.text) == 1:
            found.append(word)
            continue
        if depth >= MAX_INCLUDE:
            raise _Bad(f'"{word.text}" is nested too deep')
        path = os.path.join(directory, word.text[1:])
        try:
            inner = [w for line in read(path).split("\n") for f in _fields(line) for w in f]
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise _Bad(f'could not open file "{path}" (from "{word.text}"): {reason}') from None
        found += _expand(inner, os.path.dirname(path), read, depth + 1)
        if len(found) > MAX_WORDS:
            raise _Bad("too many names")
    return found


# ---------------------------------------------------------------- lines


def parse(text: str, name: str, read: Callable[[str], str]) -> Hba:
    """The rules of a file's text. ``name`` is its path (faults, ``@file``); ``read(path)`` reads an ``@file``.

    Raises ConfigFaults with everything that is wrong. Never anything else.
    """
    rules: list[Rule] = []
    faults: list[Fault] = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            fields = _fields(line)
            if fields:
                rules.append(_rule(number, fields, os.path.dirname(name), read))
        except (_Bad, ValueError) as error:
            faults.append(Fault(name, number, str(error)))
    if faults:
        raise ConfigFaults(faults)
    return Hba(tuple(rules))


def _single(fields: list[list[Word]], index: int, missing: str, multiple: str) -> Word:
    if index >= len(fields):
        raise _Bad(missing)
    if len(fields[index]) > 1:
        raise _Bad(multiple)
    return fields[index][0]


def _rule(number: int, fields: list[list[Word]], directory: str, read: Callable[[str], str]) -> Rule:
    kind = _single(fields, 0, "", "multiple values specified for connection type").text
    if kind not in ("local", "host", "hostssl", "hostnossl"):
        raise _Bad(f'invalid connection type "{kind}"')
    if len(fields) < 2:
        raise _Bad("end-of-line before database specification")
    if len(fields) < 3:
        raise _Bad("end-of-line before role specification")
    databases = tuple(_expand(fields[1], directory, read))
    users = tuple(_expand(fields[2], directory, read))
    index, where = 3, _Where()
    if kind != "local":
        index, where = _address(fields)
    method = _single(
        fields, index, "end-of-line before authentication method", "multiple values specified for authentication type"
    ).text
    if method not in METHODS:
        raise _Bad(f'invalid authentication method "{method}"')
    if method == "cert" and kind != "hostssl":
        raise _Bad("cert authentication is only supported on hostssl connections")
    options = _options(method, [w for f in fields[index + 1 :] for w in f])
    return Rule(number, kind, databases, users, method, where.address, where.name, where.network, options)


class _Where(NamedTuple):
    address: str = ""
    name: str = ""
    network: tuple[int, int, int] | None = None


def _address(fields: list[list[Word]]) -> tuple[int, _Where]:
    """Index of the method's field, and where the clients of a host line are."""
    word = _single(
        fields, 3, "end-of-line before IP address specification", "multiple values specified for host address"
    )
    if not word.quoted and word.text in ("all", "samehost", "samenet"):
        return 4, _Where(word.text)
    text, slash, bits = word.text.partition("/")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        if slash:
            raise _Bad(f'specifying both host name and CIDR mask is invalid: "{word.text}"') from None
        if not text or any(c.isspace() for c in text) or ":" in text or _looks_numeric(text):
            raise _Bad(f'invalid IP address "{text}"') from None
        return 4, _Where(name=text.lower())
    if getattr(address, "scope_id", None):
        raise _Bad(f'invalid IP address "{text}"')
    size = address.max_prefixlen
    if slash:
        if not (bits.isascii() and bits.isdigit() and int(bits[:4]) <= size and len(bits) <= 3):
            raise _Bad(f'invalid CIDR mask in address "{word.text}"')
        mask = ((1 << size) - 1) ^ ((1 << (size - int(bits))) - 1)
        return 4, _Where(network=(address.version, int(address), mask))
    mask_word = _single(
        fields,
        4,
        "end-of-line before netmask specification (give a mask as in 192.168.1.0/24 or as a field of its own)",
        "multiple values specified for netmask",
    )
    try:
        netmask = ipaddress.ip_address(mask_word.text)
    except ValueError:
        raise _Bad(f'invalid IP mask "{mask_word.text}"') from None
    if netmask.version != address.version:
        raise _Bad("IP address and mask do not match")
    return 5, _Where(network=(address.version, int(address), int(netmask)))


def _looks_numeric(text: str) -> bool:
    """A name of digits and dots only is a mistyped address: asking the resolver for it is no use."""
    return all(c.isdigit() or c == "." for c in text)


def _options(method: str, words: list[Word]) -> dict[str, str]:
    allowed = _OPTIONS.get(method, set())
    options: dict[str, str] = {}
    for word in words:
        name, equals, value = word.text.partition("=")
        if not equals:
            raise _Bad(f"authentication option not in name=value format: {name}")
        if name not in allowed:
            raise _Bad(f'unrecognized authentication option name: "{name}" (method {method})')
        options[name] = value
    if method == "ldap":
        _check_ldap(options)
    return options


def _check_ldap(options: dict[str, str]) -> None:
    port = options.get("ldapport", "")
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise _Bad(f'invalid LDAP port number: "{port}"')
    if "ldapurl" in options:
        directory(options)  # ValueError: a bad one
        return
    prefix = "ldapprefix" in options or "ldapsuffix" in options
    search = {"ldapbasedn", "ldapbinddn", "ldapbindpasswd", "ldapsearchattribute", "ldapsearchfilter"} & set(options)
    if prefix and search:
        raise _Bad(
            "cannot use ldapbasedn, ldapbinddn, ldapbindpasswd, ldapsearchattribute or ldapsearchfilter "
            "together with ldapprefix or ldapsuffix"
        )
    if not prefix and "ldapbasedn" not in options:
        raise _Bad(
            'authentication method "ldap" requires argument "ldapbasedn", "ldapprefix", or "ldapsuffix" to be set'
        )
    if {"ldapsearchattribute", "ldapsearchfilter"} <= set(options):
        raise _Bad("cannot use ldapsearchattribute together with ldapsearchfilter")


def load(path: str) -> Hba:
    """Reads and parses a file. Raises ConfigFaults; a file that cannot be read is a fault of line 0."""

    def read(name: str) -> str:
        with open(name, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()

    try:
        text = read(path)
    except OSError as error:
        raise ConfigFaults([Fault(path, 0, f"could not open the file: {error.strerror}")]) from None
    return parse(text, path, read)


# ---------------------------------------------------------------- matching


def match(
    rules: Sequence[Rule], host: str, is_unix: bool, ssl: bool, user: str, database: str, resolver: Resolver
) -> Rule | None:
    """The first rule for this client, or None. ``host``: the client's address as text (of no meaning when is_unix)."""
    address = None if is_unix else _parse_address(host)
    names = _Names(host, resolver)
    for rule in rules:
        if rule.type == "local" if is_unix else _type_matches(rule.type, ssl):
            if not is_unix and not _address_matches(rule, address, names, resolver):
                continue
            if _database_matches(rule.databases, database, user, resolver) and _user_matches(rule.users, user, resolver):
                return rule
    return None


def _type_matches(kind: str, ssl: bool) -> bool:
    return kind == "host" or kind == ("hostssl" if ssl else "hostnossl")


def _parse_address(host: str) -> Address | None:
    try:
        # a link-local client carries its interface behind a percent sign
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


_GROUPS = ("samerole", "samegroup")


def _database_matches(words: tuple[Word, ...], database: str, user: str, resolver: Resolver) -> bool:
    for word in words:
        if word.keyword("all") or (word.keyword("sameuser") and database == user):
            return True
        if word.text in _GROUPS and not word.quoted:
            if database in resolver.roles_of(user):
                return True
        elif word.text == database and (word.quoted or word.text not in ("sameuser", "all")):
            return True
    return False


def _user_matches(words: tuple[Word, ...], user: str, resolver: Resolver) -> bool:
    for word in words:
        if word.keyword("all"):
            return True
        if not word.quoted and word.text.startswith("+"):
            if word.text[1:] in resolver.roles_of(user):
                return True
        elif word.text == user:
            return True
    return False


def _address_matches(rule: Rule, address: Address | None, names: _Names, resolver: Resolver) -> bool:
    if rule.address == "all":
        return True
    if address is None:
        return False
    if rule.network is not None:
        version, network, mask = rule.network
        return address.version == version and (int(address) ^ network) & mask == 0
    if rule.address in ("samehost", "samenet"):
        for own in resolver.interfaces():
            if own.version == address.version and (
                own.ip == address or (rule.address == "samenet" and address in own.network)
            ):
                return True
        return False
    return names.matches(rule.name, address)


class _Names:
    """The client's host name, asked for once and only when a line needs it."""

    def __init__(self, host: str, resolver: Resolver):
        self._host = host
        self._resolver = resolver
        self._name: str | None = None
        self._confirmed: bool | None = None

    def matches(self, pattern: str, address: Address) -> bool:
        """The reverse name fits, and the name leads back to the address (a reverse name alone proves nothing)."""
        if self._name is None:
            self._name = self._resolver.name_of(self._host).lower()
        if self._name == self._host.lower():
            return False
        if not (self._name.endswith(pattern) if pattern.startswith(".") else self._name == pattern):
            return False
        if self._confirmed is None:
            try:
                found = self._resolver.addresses_of(self._name)
            except OSError:
                found = []
            self._confirmed = any(_parse_address(text) == address for text in found)
        return self._confirmed
