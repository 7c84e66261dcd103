"""The password file of PCP clients."""

import pytest

from pgpool.pcp.client import find_password, split_fields, stored_password

FILE = "# comment\nbad line\nh:9898:u:first\n*:9898:u:any\\:host\nh:*:*:last\\\\\n"


@pytest.mark.parametrize(
    ("host", "port", "user", "password"),
    [("h", "9898", "u", "first"), ("x", "9898", "u", "any:host"), ("h", "1", "z", "last\\"), ("x", "1", "u", None)],
)
def test_the_first_line_that_fits(host, port, user, password):
    assert find_password(FILE, host, port, user) == password


def test_escapes():
    assert split_fields(r"a\:b:c\\:d") == ["a:b", "c\\", "d"]


@pytest.mark.parametrize(("mode", "found"), [(0o600, True), (0o640, False), (0o604, False)])
def test_a_file_that_others_can_read_is_not_used(tmp_path, monkeypatch, mode, found):
    path = tmp_path / "pass"
    path.write_text("localhost:*:*:secret\n")
    path.chmod(mode)
    monkeypatch.setenv("PCPPASSFILE", str(path))
    told = []
    assert stored_password("", 9898, "u", told.append) == ("secret" if found else None)
    assert stored_password("/tmp", 9898, "u", told.append) == ("secret" if found else None)
    assert bool(told) != found and "secret" not in "".join(told)
    monkeypatch.setenv("PCPPASSFILE", str(tmp_path))
    assert stored_password("", 9898, "u", told.append) is None
