"""The options of ldap lines."""

from __future__ import annotations

import pytest

from pgpool.auth.outside import Directory, check, directory


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"ldapprefix": "cn="}, Directory(("localhost",), 389, "", prefix="cn=")),
        ({"ldapserver": "a b", "ldapport": "1389"}, Directory(("a", "b"), 1389, "")),
        ({"ldapscheme": "ldaps", "ldapbasedn": "o=x"}, Directory(("localhost",), 636, "ldaps", base="o=x")),
        ({"ldaptls": "1"}, Directory(("localhost",), 389, "start")),
        ({"ldapurl": "ldap://h/o=x"}, Directory(("h",), 389, "", base="o=x", scope="base")),
        (
            {"ldapurl": "ldaps://h:7/o%3Dx?cn?one?(a=b)"},
            Directory(("h",), 7, "ldaps", base="o=x", scope="one", attribute="cn", filter="(a=b)"),
        ),
        ({"ldapurl": "ldap://h/o=x??sub", "ldapport": "9"}, Directory(("h",), 9, "", base="o=x", scope="sub")),
    ],
)
def test_options(options, found):
    assert directory(options) == found


@pytest.mark.parametrize("url", ["http://h/o=x", "ldap://h/o=x??tree", "ldap://h:port/o=x"])
def test_bad_urls(url):
    with pytest.raises(ValueError):
        directory({"ldapurl": url})


@pytest.mark.parametrize("password", [b"", b"\xff", b"a\0b"])
@pytest.mark.parametrize("method", ["pam", "ldap"])
def test_passwords_that_nobody_is_asked_about(method, password):
    """An empty one would be an anonymous login, which a directory grants."""
    assert check(method, "u", password, {"ldapserver": "nowhere.invalid", "ldapprefix": "cn="}, 1.0)
