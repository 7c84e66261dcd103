"""A data directory is replaced only when it is certainly the node's own and no server runs on it."""

import os
from types import SimpleNamespace

import pytest

from pgpool.config.settings import Settings
from pgpool.pcp.recovery_own import OLD, Directory, Source, Unfit

NOBODY = 65534


def directory(tmp_path, data, other="/nowhere/else"):
    values = {("work_dir", None): str(tmp_path)}
    for node, path in enumerate((other, data)):
        values |= {
            ("backend_hostname", node): "h",
            ("backend_port", node): 5000 + node,
            ("backend_data_directory", node): str(path),
        }
    settings = Settings(values)
    source = Source(settings.backends[0], "u", "it's", "postgres", "1", "/nowhere")
    return Directory(SimpleNamespace(settings=settings), settings.backends[1], source)


def made(tmp_path, **files):
    """A directory with these files, of a user who may run PostgreSQL."""
    path = tmp_path / "data"
    path.mkdir()
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    return path


def test_an_empty_directory_may_be_filled(tmp_path):
    path = made(tmp_path)
    directory(tmp_path, path).check()
    path.rename(path.with_name("data" + OLD))  # a recovery was killed at its worst moment
    directory(tmp_path, path).check()
    assert path.is_dir()


@pytest.mark.parametrize("data", ["", "relative/path", "/", "/data"])
def test_odd_paths(tmp_path, data):
    with pytest.raises(Unfit) as caught:
        directory(tmp_path, data).check()
    assert "no absolute path" in caught.value.detail


def test_what_must_not_be_replaced(tmp_path):
    def why(target) -> str:
        with pytest.raises(Unfit) as caught:
            target.check()
        return caught.value.detail

    assert "No such file" in why(directory(tmp_path, tmp_path / "none"))
    (tmp_path / "file").write_text("")
    assert "not a directory" in why(directory(tmp_path, tmp_path / "file"))
    (tmp_path / "link").symlink_to(tmp_path)
    assert "not a directory" in why(directory(tmp_path, tmp_path / "link"))
    path = made(tmp_path, letter="dear")
    assert "neither empty nor a data directory" in why(directory(tmp_path, path))
    (path / "letter").rename(path / "PG_VERSION")
    assert "data directory of node 0 as well" in why(directory(tmp_path, path, other=path))
    (path / "postmaster.pid").write_text(f"{os.getpid()}\n{path}\n")
    assert "a server (pid" in why(directory(tmp_path, path))


def test_connection_string_is_quoted(tmp_path):
    target = directory(tmp_path, "/x/y")
    target.source.user = "o'x\\"
    assert "user='o\\'x\\\\'" in target._conninfo() and "it's" not in target._conninfo()
