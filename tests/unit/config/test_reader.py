"""The grammar of pgpool.conf, include, and hostile files."""

import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpool.config.reader import MAX_FILE_SIZE, parse_line, quote, read_file, read_text, unquote

GOOD = [
    ("port = 5000", ("port", "5000")),
    ("port 5000", ("port", "5000")),
    ("port=5000", ("port", "5000")),
    ("  port\t=\t5000  # text", ("port", "5000")),
    ("port = 5000#text", ("port", "5000")),
    ("port = 5000\r", ("port", "5000")),
    ("port", ("port", "")),
    ("port =", ("port", "")),
    ("port = # nothing", ("port", "")),
    ("x = ''", ("x", "")),
    ("x = 'a b # c'", ("x", "a b # c")),
    ("x'a'", ("x", "a")),
    ("x = 'it''s'", ("x", "it's")),
    ("x = ''''", ("x", "'")),
    (r"x = 'a\.b\d'", ("x", r"a\.b\d")),
    (r"x = 'say \'hi\' '", ("x", r"say \'hi\' ")),
    (r"x = 'a\\'", ("x", r"a\\")),
    ("x = 'gr\u00fc\u00df'", ("x", "gr\u00fc\u00df")),
    ("x = 5min", ("x", "5min")),
    ("x = 5 min", ("x", "5 min")),
    ("x = 1.5h", ("x", "1.5h")),
    ("x = -1", ("x", "-1")),
    ("x = 0x1F", ("x", "0x1F")),
    ("x = 1e3", ("x", "1e3")),
    ("x = on", ("x", "on")),
    ("x = host.example-1:5432/a_b", ("x", "host.example-1:5432/a_b")),
    ("x = /var/run", ("x", "/var/run")),
    ("x = 10.0.0.1", ("x", "10.0.0.1")),
    ("x = ::1", ("x", "::1")),
    ("x = *", ("x", "*")),
    ("x = 2001:db8::1", ("x", "2001:db8::1")),
    ("x = 1a2b", ("x", "1a2b")),
    ("_x1 = 5", ("_x1", "5")),
    ("include 'other.conf'", ("include", "other.conf")),
]
NOTHING = ["", "   ", "\t\r", "# text", "  # a = 'b"]
BAD = ["= 5", "9port = 5", "a.b = 5", "a-b = 5", "@ = 5", "port = 'a", "port = 'a'b'", "port = 5000 5001", "x = a=b",
       'x = "a"', "x = a%b", "x = 'a' 'b'", "x = 5 min 2", "'port' = 5", "x == 5", "x = $HOME", "x = 'a\\'",
       "port\0 = 5", "gr\u00fc\u00df = 5", "x = (", "x = a,b"]


@pytest.mark.parametrize("line, pair", GOOD, ids=[line for line, _ in GOOD])
def test_line(line, pair):
    assert parse_line(line) == pair


@pytest.mark.parametrize("line", NOTHING)
def test_line_without_anything(line):
    assert parse_line(line) is None


@pytest.mark.parametrize("line", BAD)
def test_line_with_a_syntax_error(line):
    with pytest.raises(ValueError, match="syntax error"):
        parse_line(line)


def test_every_fault_is_reported_with_its_line():
    reading = read_text("a = 1\nb = 'x\n\n= 3\nc = 4 5\nd = 6")
    assert [(entry.key, entry.text, entry.line) for entry in reading.entries] == [("a", "1", 1), ("d", "6", 6)]
    assert [fault.line for fault in reading.faults] == [2, 4, 5]


@settings(deadline=None)
@given(st.text(st.characters(blacklist_characters="\n\0", blacklist_categories=["Cs"])))
def test_what_quote_writes_reads_back(text):
    try:
        quoted = quote(text)
    except ValueError:
        assert (len(text) - len(text.rstrip("\\"))) % 2 == 1
        return
    assert unquote(quoted[1:-1]) == text
    assert parse_line(f"name = {quoted}  # 'x") == ("name", text)


def test_what_a_line_cannot_hold_is_refused():
    for text in ("a\nb", "a\0b", "a\\", "a\\\\\\"):
        with pytest.raises(ValueError):
            quote(text)


@settings(deadline=None)
@given(st.text())
def test_no_text_makes_the_reader_fall_over(text):
    reading = read_text(text)
    for fault in reading.faults:
        assert 1 <= fault.line <= text.count("\n") + 1


@settings(deadline=None)
@given(st.binary())
def test_no_bytes_make_the_reader_fall_over(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "bytes.conf"
    path.write_bytes(data)
    read_file(str(path))


def write(directory, **files):
    for name, text in files.items():
        (directory / f"{name}.conf").write_text(text)
    return str(directory / f"{next(iter(files))}.conf")


def test_include_is_relative_to_the_file_it_stands_in(tmp_path):
    (tmp_path / "sub").mkdir()
    main = write(tmp_path, main="a = 1\ninclude 'sub/one.conf'\nd = 4")
    write(tmp_path / "sub", one="b = 2\ninclude = 'two.conf'", two="c = 3")
    reading = read_file(main)
    assert [(entry.key, os.path.basename(entry.file), entry.line) for entry in reading.entries] == [
        ("a", "main.conf", 1), ("b", "one.conf", 1), ("c", "two.conf", 1), ("d", "main.conf", 3)]
    assert not reading.faults


def test_include_loop(tmp_path):
    main = write(tmp_path, main="a = 1\ninclude 'one.conf'\nb = 2", one="\ninclude 'main.conf'", self="")
    reading = read_file(main)
    assert [(os.path.basename(fault.file), fault.line) for fault in reading.faults] == [("one.conf", 2)]
    assert "includes itself" in reading.faults[0].message
    assert [entry.key for entry in reading.entries] == ["a", "b"]


def test_include_loop_through_a_symbolic_link(tmp_path):
    main = write(tmp_path, main="include 'link.conf'")
    (tmp_path / "link.conf").symlink_to(tmp_path / "main.conf")
    assert len(read_file(main).faults) == 1


@pytest.mark.parametrize("depth, good", [(10, True), (11, False)])
def test_include_depth(tmp_path, depth, good):
    for level in range(depth + 1):
        text = f"include '{level + 1}.conf'\n" if level < depth else "last = 1\n"
        (tmp_path / f"{level}.conf").write_text(text)
    reading = read_file(str(tmp_path / "0.conf"))
    assert [entry.key for entry in reading.entries] == (["last"] if good else [])
    assert bool(reading.faults) != good
    assert good or "nesting depth 10" in reading.faults[0].message


@pytest.mark.parametrize("name", ["missing.conf", "", ".", "a\\0b", "/dev/zero"])
def test_include_of_something_that_is_no_file(tmp_path, name):
    reading = read_file(write(tmp_path, main=f"include '{name}'\na = 1"))
    assert len(reading.faults) == 1
    assert [entry.key for entry in reading.entries] == ["a"]


def test_missing_file_is_left_to_the_caller(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_file(str(tmp_path / "missing.conf"))


@pytest.mark.parametrize("data, line, reason", [
    (b"a = 1\nb = '\0'\n", 2, "NUL byte"),
    (b"\x7fELF\x02\x01\x01\0\0\0", 1, "NUL byte"),
    (b"#" + b"x" * MAX_FILE_SIZE, 0, "larger than"),
])
def test_hostile_file(tmp_path, data, line, reason):
    path = tmp_path / "x.conf"
    path.write_bytes(data)
    (fault,) = read_file(str(path)).faults
    assert fault.line == line and reason in fault.message


def test_directory_and_device(tmp_path):
    for path in (str(tmp_path), "/dev/zero"):
        (fault,) = read_file(path).faults
        assert fault.message == "is not a regular file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file(tmp_path):
    path = write(tmp_path, main="a = 1")
    os.chmod(path, 0)
    (fault,) = read_file(path).faults
    assert "Permission denied" in fault.message


def test_huge_lines_and_no_last_line_end(tmp_path):
    path = tmp_path / "x.conf"
    path.write_text("a = '" + "x" * 300_000 + "'\n" + "b" * 300_000 + " = 1\nc = " + "9" * 300_000 + "\nd = 1")
    reading = read_file(str(path))
    assert [len(entry.text) for entry in reading.entries] == [300_000, 1, 300_000, 1]
    path.write_text("a = '" + "\\" * 300_000 + "''" * 100_000)
    assert len(read_file(str(path)).faults) == 1


def test_encodings(tmp_path):
    path = tmp_path / "x.conf"
    path.write_bytes(b"\xef\xbb\xbfa = 'b\xfc'\r\nc = 'd'\r\n")
    reading = read_file(str(path))
    assert [entry.key for entry in reading.entries] == ["a", "c"]
    assert os.fsencode(reading.entries[0].text) == b"b\xfc" or sys.getfilesystemencoding() != "utf-8"
