"""auth/hba: the whole grammar, all faults at once, and matching with a resolver of our own making."""

from __future__ import annotations

import ipaddress
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool.auth import hba
from pgpool.errors import ConfigFaults
from pgpool.system.interfaces import interfaces


class Fake:
    """A resolver with a small world; counts how often it is asked."""

    names: ClassVar = {"10.0.0.7": "Web.Example.com", "10.0.0.8": "liar.example.com", "fd00::7": "web.example.com"}
    addresses: ClassVar = {"web.example.com": ["10.0.0.7", "fd00:0::7"], "liar.example.com": ["10.9.9.9"]}

    def __init__(self) -> None:
        self.asked = 0

    def name_of(self, address: str) -> str:
        self.asked += 1
        return self.names.get(address, address)

    def addresses_of(self, name: str) -> list[str]:
        if name not in self.addresses:
            raise OSError("unknown")
        return self.addresses[name]

    def roles_of(self, user: str) -> set[str]:
        self.asked += 1
        return {"bob": {"bob", "staff", "shop"}}.get(user, {user})

    def interfaces(self) -> list:
        return [ipaddress.ip_interface(a) for a in ("127.0.0.1/8", "192.168.1.5/24", "fd00::5/64")]


def rules(text: str, files: dict[str, str] | None = None) -> tuple[hba.Rule, ...]:
    def read(path: str) -> str:
        if files is None or path not in files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return files[path]

    return hba.parse(text, "/etc/pool_hba.conf", read).rules


def method(
    text: str, host: str = "10.0.0.7", user: str = "bob", database: str = "shop", ssl: bool = False, **kw
) -> str:
    found = hba.match(rules(text, kw.get("files")), host, host == "", ssl, user, database, kw.get("resolver") or Fake())
    return found.method if found else "-"


@pytest.mark.parametrize(
    ("line", "host", "hit"),
    [
        ("host all all 10.0.0.0/8 md5", "10.200.1.1", True),
        ("host all all 10.0.0.0/8 md5", "11.0.0.1", False),
        ("host all all 10.1.2.3/8 md5", "10.0.0.1", True),
        ("host all all 0.0.0.0/0 md5", "1.2.3.4", True),
        ("host all all 0.0.0.0/0 md5", "::1", False),
        ("host all all ::/0 md5", "1.2.3.4", False),
        ("host all all ::/0 md5", "fe80::1%eth0", True),
        ("host all all 10.0.0.7/32 md5", "10.0.0.7", True),
        ("host all all 10.0.0.7/32 md5", "10.0.0.6", False),
        ("host all all 10.0.0.0 255.255.255.0 md5", "10.0.0.9", True),
        ("host all all 10.0.0.0 255.255.255.0 md5", "10.0.1.9", False),
        ("host all all fd00:: ffff:ffff:ffff:ffff:: md5", "fd00::9", True),
        ("host all all fd00:: ffff:ffff:ffff:ffff:: md5", "fd00:1::9", False),
        ("host all all ::1/128 md5", "::1", True),
        ("host all all all md5", "1.2.3.4", True),
        ("host all all all md5", "fd00::1", True),
        ("host all all samehost md5", "192.168.1.5", True),
        ("host all all samehost md5", "192.168.1.6", False),
        ("host all all samenet md5", "192.168.1.6", True),
        ("host all all samenet md5", "fd00::6", True),
        ("host all all samenet md5", "192.168.2.6", False),
        ("host all all web.example.com md5", "10.0.0.7", True),
        ("host all all WEB.example.COM md5", "fd00::7", True),
        ("host all all .example.com md5", "10.0.0.7", True),
        ("host all all example.com md5", "10.0.0.7", False),
        ("host all all .example.com md5", "10.0.0.8", False),
        ("host all all .example.com md5", "10.0.0.9", False),
        ("local all all md5", "10.0.0.7", False),
        ("local all all md5", "", True),
        ("host all all all md5", "", False),
        ('host all all "all" md5', "10.0.0.7", False),
    ],
)
def test_address(line: str, host: str, hit: bool) -> None:
    assert method(line, host) == ("md5" if hit else "-")


@pytest.mark.parametrize(
    ("databases", "users", "hit"),
    [
        ("all", "all", True),
        ("shop", "bob", True),
        ("shop,other", "al,bob", True),
        ("shop, other", "al,  bob", True),
        ("other", "all", False),
        ("all", "al", False),
        ("sameuser", "all", False),
        ("samerole", "all", True),
        ("samegroup", "all", True),
        ('"samerole"', "all", False),
        ("all", "+bob", True),
        ("all", "+staff", True),
        ("all", "+other,+staff", True),
        ("all", "+other", False),
        ("all", '"+staff"', False),
        ("all", '+"staff"', True),
        ("all", "staff", False),
        ('"all"', "all", False),
        ("all", '"all"', False),
        ('"shop"', '"bob"', True),
        ("Shop", "all", False),
        ("@names", "all", True),
        ("all", "@names", True),
        ("all", "@nested", True),
        ("all", '"@names"', False),
        ("all", "@empty", False),
    ],
)
def test_database_and_user(databases: str, users: str, hit: bool) -> None:
    files = {
        "/etc/names": "al # a comment\nshop,bob\n\n",
        "/etc/nested": "@sub/deep",
        "/etc/sub/deep": "@deeper",
        "/etc/sub/deeper": "bob",
        "/etc/empty": "# nobody",
    }
    assert method(f"host {databases} {users} all md5", files=files) == ("md5" if hit else "-")


def test_keywords_are_words_only_without_quotes() -> None:
    assert method("host sameuser all all md5", user="bob", database="bob") == "md5"
    assert method('host "sameuser" all all md5', database="sameuser") == "md5"
    assert method('host all "+bob" all md5', user="+bob") == "md5"
    assert method("host all +bob all md5", user="+bob") == "-"
    assert method("host samerole all all md5", database="samerole") == "-"
    assert method('host "with blank, and comma" all all md5', database="with blank, and comma") == "md5"


def test_ssl_types() -> None:
    assert method("hostssl all all all md5") == "-"
    assert method("hostssl all all all md5", ssl=True) == "md5"
    assert method("hostnossl all all all md5") == "md5"
    assert method("hostnossl all all all md5", ssl=True) == "-"


def test_the_first_line_that_fits_decides() -> None:
    text = "host all eve all reject\nhost all all 10.0.0.0/8 scram-sha-256\nhost all all all trust\n"
    assert method(text, user="eve") == "reject"
    assert method(text) == "scram-sha-256"
    assert method(text, host="11.0.0.1") == "trust"


def test_the_resolver_is_asked_only_when_a_name_is_reached() -> None:
    fake = Fake()
    method("host all all 10.0.0.7/32 trust\nhost all all .example.com md5", resolver=fake)
    assert fake.asked == 0
    method("host all all a.b md5\nhost all all .example.com md5\nhost all all x.y md5", resolver=fake)
    assert fake.asked == 1


FAULTS = [
    ("foo all all md5", 'invalid connection type "foo"'),
    ("local,host all all md5", "multiple values specified for connection type"),
    ("local", "end-of-line before database specification"),
    ("local all", "end-of-line before role specification"),
    ("local all all", "end-of-line before authentication method"),
    ("host all all", "end-of-line before IP address specification"),
    ("host all all 10.0.0.1,10.0.0.2 md5", "multiple values specified for host address"),
    ("host all all 10.0.0.1", "end-of-line before netmask specification"),
    ("host all all 10.0.0.1 md5", 'invalid IP mask "md5"'),
    ("host all all 10.0.0.1 ffff:: md5", "IP address and mask do not match"),
    ("host all all 10.0.0.1/33 md5", "invalid CIDR mask"),
    ("host all all 10.0.0.1/-1 md5", "invalid CIDR mask"),
    ("host all all 10.0.0.1/ md5", "invalid CIDR mask"),
    ("host all all ::1/129 md5", "invalid CIDR mask"),
    ("host all all 10.0.0.300/8 md5", "specifying both host name and CIDR mask"),
    ("host all all web.example.com/8 md5", "specifying both host name and CIDR mask"),
    ("host all all 10.0.0 md5", "invalid IP address"),
    ("host all all 1:2:3 md5", "invalid IP address"),
    ("local all all md5,trust", "multiple values specified for authentication type"),
    ("local all all gss", 'invalid authentication method "gss"'),
    ("local all all MD5", "invalid authentication method"),
    ("local all all cert", "cert authentication is only supported on hostssl connections"),
    ("local all all trust x", "authentication option not in name=value format: x"),
    ("local all all trust a=b", 'unrecognized authentication option name: "a"'),
    ("local all all pam ldapserver=x", 'unrecognized authentication option name: "ldapserver"'),
    ("local all all ldap ldapserver=x", "requires argument"),
    ("local all all ldap ldapprefix=a ldapbasedn=b", "cannot use ldapbasedn"),
    ("local all all ldap ldapbasedn=b ldapport=99999", "invalid LDAP port"),
    ('local "all all md5', "a quote is not closed"),
    ("local @nofile all md5", "could not open file"),
    ("local all @loop md5", "nested too deep"),
]


@pytest.mark.parametrize(("line", "reason"), FAULTS)
def test_faults(line: str, reason: str) -> None:
    with pytest.raises(ConfigFaults) as caught:
        rules(line, {"/etc/loop": "@loop"})
    (fault,) = caught.value.faults
    assert reason in fault.message and fault.line == 1


def test_all_faults_at_once() -> None:
    text = "# head\n" + "".join(f"{line}\nlocal all all trust\n" for line, _ in FAULTS)
    with pytest.raises(ConfigFaults) as caught:
        rules(text, {"/etc/loop": "@loop"})
    assert [f.line for f in caught.value.faults] == [2 + 2 * i for i in range(len(FAULTS))]


def test_options_of_pam_and_ldap() -> None:
    text = (
        "local all all pam pamservice=pgpool\nhostssl all all all cert\nlocal all all trust\n"
        'host all all all ldap ldapserver=a.b ldapprefix="cn=" ldapsuffix=", dc=example" backend_use_passwd\n'
    )
    with pytest.raises(ConfigFaults, match="name=value"):
        rules(text)
    found = hba.parse(text.replace("backend_use_passwd", "backend_use_passwd=1"), "f", lambda p: "")
    assert found.rules[0].options == {"pamservice": "pgpool"}
    assert found.rules[3].options["ldapsuffix"] == ", dc=example"


def test_missing_file(tmp_path) -> None:
    with pytest.raises(ConfigFaults, match="could not open the file: No such file"):
        hba.load(str(tmp_path / "nothing"))


def test_load_resolves_at_files_beside_it(tmp_path) -> None:
    (tmp_path / "admins").write_text("root\nbob\n")
    path = tmp_path / "pool_hba.conf"
    path.write_text("local all @admins trust\n")
    (rule,) = hba.load(str(path)).rules
    assert [w.text for w in rule.users] == ["root", "bob"]


words = st.sampled_from(
    ["host", "local", "hostssl", "all", "sameuser", "@f", '"a b"', "10.0.0.0/8", "::1/128", "1.2.3.4", "255.0.0.0",
     "md5", "trust", "ldap", "a=b", ",", "#", '"', "samenet", ".x.y", "+g"]
)  # fmt: skip


@given(st.text(max_size=200) | st.lists(words, max_size=9).map(" ".join), st.text(max_size=20), st.text(max_size=20))
def test_any_text_is_read_or_faulted(text: str, user: str, database: str) -> None:
    try:
        found = rules(text, {"/etc/f": text})
    except ConfigFaults as error:
        assert error.faults
        return
    for host in ("10.0.0.7", "::1", "", user):
        hba.match(found, host, host == "", False, user, database, Fake())


@given(
    address=st.ip_addresses(),
    prefix=st.integers(0, 128),
    client=st.ip_addresses(),
)
def test_networks_as_the_library_sees_them(address, prefix: int, client) -> None:
    prefix = min(prefix, address.max_prefixlen)
    network = ipaddress.ip_network((address, prefix), strict=False)
    hit = client.version == network.version and client in network
    assert method(f"host all all {address}/{prefix} md5", str(client)) == ("md5" if hit else "-")
    assert method(f"host all all {address} {network.netmask} md5", str(client)) == ("md5" if hit else "-")


def test_options_with_secrets_are_not_shown() -> None:
    (rule,) = rules("local all all ldap ldapbasedn=x ldapbinddn=y ldapbindpasswd=topsecret")
    assert "topsecret" not in repr(rule)


def test_own_interfaces_hold_the_loopback() -> None:
    assert ipaddress.ip_address("127.0.0.1") in [i.ip for i in interfaces()]
