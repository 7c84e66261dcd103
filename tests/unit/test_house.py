"""The house: floors, doors, pure rooms, sizes. Each rule is a function from source text to faults, itself tested."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FLOORS = {
    "": 0, "errors": 0, "model": 0,
    "_fastpath": 1, "config": 1,
    "wire": 2, "sql": 2, "system": 2,
    "policy": 3, "shared": 3,
    "auth": 4,
    "backend": 5,
    "cache": 6,
    "session": 7, "watchdog": 7,
    "pcp": 8,
    "roles": 9,
    "web": 8,
    "cli": 10, "__main__": 11,
}  # fmt: skip
"""Room -> floor; '' is pgpool/__init__.py."""

DOORS = {
    "socket": ("system/sockets.py",),
    "ssl": ("system/sockets.py",),
    "select": ("system/sockets.py",),
    "selectors": ("system/sockets.py",),
    "mmap": ("system/memory.py",),
    "fcntl": ("system/memory.py",),
    "signal": ("system/signals.py",),
    "subprocess": ("system/process.py",),
    "multiprocessing": (),
    "threading": (),
    "concurrent": (),
    "asyncio": (),
    "sqlglot": ("sql/",),
}
"""Module -> the only files (or rooms, with a slash) that import it. No threads in a process that forks."""

OS_DOORS = {
    **dict.fromkeys(
        ("fork", "forkpty", "wait", "wait3", "wait4", "waitid", "waitpid", "kill", "killpg", "system", "popen",
         "posix_spawn", "posix_spawnp", "execv", "execve", "execvp", "execvpe", "execl", "execle", "execlp", "execlpe"),
        ("system/process.py",),
    ),
    "lockf": ("system/memory.py",),
    "memfd_create": ("system/memory.py",),
    "register_at_fork": ("system/process.py",),
}  # fmt: skip
"""Functions of os -> the only files that use them."""

PURE = ("errors.py", "model.py", "wire/", "policy/", "sql/", "auth/exchange.py", "auth/binding.py")
IMPURE = {
    "os", "socket", "ssl", "select", "selectors", "mmap", "fcntl", "signal", "subprocess", "time", "random", "secrets",
    "threading", "asyncio", "multiprocessing", "tempfile", "shutil",
}  # fmt: skip

TOOLS_AND_WEB = ("cli/tools", "web/")
NOT_FOR_TOOLS = {"roles", "session", "sql"}

MAX_FILE = 500
MAX_FUNCTION = 60
LONG_FILES: dict[str, str] = {}
"""File -> why it may be longer."""
LONG_FUNCTIONS: dict[str, str] = {}
"""file::function -> why it may be longer."""


parse = cache(ast.parse)
"""Every rule reads the same files."""


@dataclass(frozen=True)
class Arrow:
    """One import: ``target`` is a full module name; ``hidden``: inside a function."""

    target: str
    line: int
    hidden: bool


@cache
def arrows(file: str, source: str) -> list[Arrow]:
    """Every import of a file (path below pgpool/), wherever it stands; ``from pgpool import x`` counts as pgpool.x."""
    tree = parse(source)
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    package = ["pgpool", *Path(file).parts[:-1]]
    found = []
    for node in ast.walk(tree):
        hidden = id(node) in inside
        if isinstance(node, ast.Import):
            found += [Arrow(alias.name, node.lineno, hidden) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            if module == "pgpool":
                found += [Arrow(f"pgpool.{alias.name}", node.lineno, hidden) for alias in node.names]
            else:
                found.append(Arrow(module, node.lineno, hidden))
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else "?"
            found.append(Arrow(str(name), node.lineno, True))
    return found


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def room_of(file: str) -> str:
    """``policy/route.py`` -> policy; ``errors.py`` -> errors; ``__init__.py`` -> ''."""
    first = Path(file).parts[0]
    return first if "/" in file else Path(first).stem.replace("__init__", "")


def room_of_module(module: str) -> str:
    """``pgpool.policy.route`` -> policy; '' for the package itself and for the names in its __init__."""
    part = [*module.split("."), ""][1]
    return part if part in FLOORS or part in known_rooms() else ""


@cache
def known_rooms() -> set[str]:
    """What lies in pgpool/, whether or not it has a floor."""
    names = {path.stem for path in (ROOT / "pgpool").iterdir() if path.is_dir() or path.suffix in (".py", ".pyx")}
    return {name for name in names if not name.startswith("__")}


def floor_faults(file: str, source: str) -> list[str]:
    """Imports that go up, or sideways to another room on the same floor."""
    room = room_of(file)
    if room not in FLOORS:
        return [f"{file}: room {room!r} has no floor"]
    faults = []
    for arrow in arrows(file, source):
        if arrow.target.split(".")[0] != "pgpool":
            continue
        target = room_of_module(arrow.target)
        if target not in FLOORS:
            faults.append(f"{file}:{arrow.line}: room {target!r} has no floor")
        elif target != room and FLOORS[target] >= FLOORS[room] and not FLOORS[target] == FLOORS[room] == 0:
            faults.append(f"{file}:{arrow.line}: {room} (floor {FLOORS[room]}) imports {arrow.target}")
        if file.startswith(TOOLS_AND_WEB) and target in NOT_FOR_TOOLS:
            faults.append(f"{file}:{arrow.line}: tools and web never import {target}")
    return faults


def hidden_faults(file: str, source: str) -> list[str]:
    """Imports inside functions: of a heavy optional library, or (commands only, which shall start quickly) of a lower
    room. Either says so, on the line or right above it."""
    lines = ["", *source.splitlines()]
    faults = []
    for arrow in arrows(file, source):
        if not arrow.hidden:
            continue
        top, room = arrow.target.split(".")[0], room_of_module(arrow.target)
        lazy_command = room_of(file) == "cli" and room != "cli"
        if top in ("pgpool", "?", "") and not lazy_command:
            faults.append(f"{file}:{arrow.line}: import of {arrow.target} hides in a function")
        elif "#" not in lines[arrow.line] + lines[arrow.line - 1]:
            faults.append(f"{file}:{arrow.line}: import of {arrow.target} in a function does not say why")
    return faults


def _at(file: str, places: tuple[str, ...]) -> bool:
    return any(file == place or (place.endswith("/") and file.startswith(place)) for place in places)


def door_faults(file: str, source: str) -> list[str]:
    """The operating system and sqlglot used elsewhere than at their door."""
    faults = []
    for arrow in arrows(file, source):
        top = arrow.target.split(".")[0]
        if top in DOORS and not _at(file, DOORS[top]):
            faults.append(f"{file}:{arrow.line}: {top} is imported only in {', '.join(DOORS[top]) or 'no room'}")
    for node in ast.walk(parse(source)):
        names = []
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            names = [alias.name for alias in node.names]
        for name in names:
            if name in OS_DOORS and not _at(file, OS_DOORS[name]):
                faults.append(f"{file}:{node.lineno}: os.{name} is used only in {', '.join(OS_DOORS[name])}")
    return faults


def purity_faults(file: str, source: str) -> list[str]:
    """Clocks, dice, files and sockets in rooms which only decide."""
    if not _at(file, PURE):
        return []
    faults = []
    for arrow in arrows(file, source):
        if arrow.target.split(".")[0] in IMPURE:
            faults.append(f"{file}:{arrow.line}: a pure room imports {arrow.target}")
    for node in ast.walk(parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("open", "input", "print")
        ):
            faults.append(f"{file}:{node.lineno}: a pure room calls {node.func.id}()")
    return faults


def word_faults(file: str, source: str) -> list[str]:
    """struct.pack_into zeroes the bytes before it writes them: in shared memory another process sees that."""
    return [
        f"{file}:{node.lineno}: pack_into is not for shared memory (shared/layout.py)"
        for node in ast.walk(parse(source))
        if isinstance(node, ast.Attribute) and node.attr == "pack_into"
    ]


def size_faults(file: str, source: str) -> list[str]:
    """Files of 500 lines and more, functions of 60 and more."""
    faults = []
    length = len(source.splitlines())
    if length >= MAX_FILE and file not in LONG_FILES:
        faults.append(f"{file}: {length} lines")
    if file.endswith(".py"):
        for name, lines in function_sizes(parse(source)):
            if lines >= MAX_FUNCTION and f"{file}::{name}" not in LONG_FUNCTIONS:
                faults.append(f"{file}::{name}: {lines} lines")
    return faults


def function_sizes(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, int]]:
    """(dotted name, lines from ``def`` to the last line) of every function and method."""
    for node in ast.iter_child_nodes(tree):
        name = prefix
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}.{node.name}".lstrip(".")
            if not isinstance(node, ast.ClassDef):
                yield name, (node.end_lineno or node.lineno) - node.lineno + 1
        yield from function_sizes(node, name)


# ---- the house as it stands --------------------


def sources(folder: str, *suffixes: str) -> Iterator[tuple[str, str]]:
    """(path below ``folder``, text) of our own files."""
    base = ROOT / folder
    for path in sorted(base.rglob("*")):
        if path.suffix in suffixes and path.is_file():
            yield path.relative_to(base).as_posix(), path.read_text(encoding="utf-8")


@pytest.mark.parametrize("rule", [floor_faults, hidden_faults, door_faults, purity_faults, word_faults])
def test_the_house_keeps(rule):
    faults = [fault for file, source in sources("pgpool", ".py") for fault in rule(file, source)]
    assert not faults, "\n".join(["", *faults])


@pytest.mark.parametrize("folder", ["pgpool", "tests", "bench"])
def test_sizes(folder):
    faults = [
        fault for file, source in sources(folder, ".py", ".pyx", ".pxi", ".pyi") for fault in size_faults(file, source)
    ]
    assert not faults, "\n".join(["", *faults])


def test_every_room_has_a_floor():
    rooms = {room for room in known_rooms() if (ROOT / "pgpool" / room).is_dir() or room in ("errors", "model")}
    assert rooms <= FLOORS.keys()


def test_exceptions_are_still_needed_and_say_why():
    for file, why in LONG_FILES.items():
        assert len(why) > 10 and len((ROOT / file).read_text().splitlines()) >= MAX_FILE, file
    for place, why in LONG_FUNCTIONS.items():
        file, _, name = place.partition("::")
        assert len(why) > 10 and dict(function_sizes(parse((ROOT / file).read_text())))[name] >= MAX_FUNCTION, place


# ---- the rules can fail --------------------


@pytest.mark.parametrize(
    ("rule", "file", "source"),
    [
        (floor_faults, "policy/x.py", "from pgpool.session import show"),
        (floor_faults, "policy/x.py", "from ..session.show import answer"),
        (floor_faults, "policy/x.py", "from .. import roles"),
        (floor_faults, "policy/x.py", "from pgpool import shared"),
        (floor_faults, "policy/x.py", "import pgpool.shared.area"),
        (floor_faults, "wire/x.py", "if True:\n    from pgpool.sql import names"),
        (floor_faults, "errors.py", "from pgpool.config import params"),
        (floor_faults, "policy/x.py", "def f():\n    import pgpool.roles.parent"),
        (floor_faults, "policy/x.py", "import importlib\nimportlib.import_module('pgpool.roles.parent')"),
        (floor_faults, "attic/x.py", "pass"),
        (floor_faults, "cli/tools.py", "from pgpool.sql import names"),
        (floor_faults, "web/page.py", "from pgpool.session import show"),
        (hidden_faults, "policy/x.py", "def f():\n    from pgpool.model import Kind  # heavy"),
        (hidden_faults, "sql/x.py", "def f():\n    import sqlglot"),
        (hidden_faults, "cli/pgpool.py", "def f():\n    from ..roles import parent"),
        (hidden_faults, "cli/setup_demo.py", "def f():\n    from .setup import plan  # the other way round at the top"),
        (hidden_faults, "sql/x.py", "f = lambda: __import__('sqlglot')"),
        (door_faults, "session/x.py", "import socket"),
        (door_faults, "session/x.py", "from select import poll"),
        (door_faults, "system/process.py", "import mmap"),
        (door_faults, "session/x.py", "import os\nos.fork()"),
        (door_faults, "session/x.py", "from os import kill"),
        (door_faults, "policy/x.py", "from sqlglot import exp"),
        (door_faults, "system/process.py", "import threading"),
        (purity_faults, "policy/x.py", "import time"),
        (purity_faults, "wire/x.py", "def f():\n    from random import random"),
        (purity_faults, "auth/exchange.py", "from os import urandom"),
        (purity_faults, "sql/x.py", "open('x')"),
        (word_faults, "shared/x.py", "S.pack_into(buf, 0, 1)"),
        (size_faults, "x.py", "pass\n" * MAX_FILE),
        (size_faults, "x.py", "class C:\n    def f(self):\n" + "        pass\n" * (MAX_FUNCTION - 1)),
    ],
)
def test_a_fault_is_found(rule, file, source):
    assert rule(file, source)


@pytest.mark.parametrize(
    ("rule", "file", "source"),
    [
        (
            floor_faults,
            "session/x.py",
            "from pgpool.shared import Shared\nfrom .show import answer\nfrom ..errors import E",
        ),
        (floor_faults, "session/__init__.py", "from .show import answer\nfrom . import show"),
        (floor_faults, "model.py", "from pgpool.errors import PgpoolError"),
        (floor_faults, "session/show.py", "from pgpool import version_text"),
        (floor_faults, "cli/tools_x.py", "from pgpool.pcp import client"),
        (hidden_faults, "sql/x.py", "def f():\n    import sqlglot  # heavy: 40 MB"),
        (hidden_faults, "sql/x.py", "def f():\n    # heavy: 40 MB\n    import sqlglot"),
        (hidden_faults, "cli/pgpool.py", "def f():\n    # heavy\n    from ..roles import parent"),
        (door_faults, "sql/hard.py", "import sqlglot"),
        (door_faults, "system/sockets.py", "import socket, ssl, select"),
        (door_faults, "session/x.py", "import os\nos.getpid()"),
        (purity_faults, "session/x.py", "import time"),
        (purity_faults, "auth/exchange.py", "import hashlib"),
        (size_faults, "x.py", "pass\n" * (MAX_FILE - 1)),
        (size_faults, "x.py", "def f():\n" + "    pass\n" * (MAX_FUNCTION - 2)),
    ],
)
def test_what_is_allowed_is_not_a_fault(rule, file, source):
    assert not rule(file, source)
