"""_fastpath.pyi says what the compiled module has, no more and no less."""

import ast
from pathlib import Path

import pgpool._fastpath as module

STUB = ast.parse((Path(module.__file__).parent / "_fastpath.pyi").read_text())


def members(body):
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign):
            yield node.target.id
        elif isinstance(node, ast.Assign):
            yield node.targets[0].id


def public(names):
    return {n for n in names if not n.startswith("_")}


def test_module_level():
    own = {n for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__}
    assert public(members(STUB.body)) - {"Bytes"} == public(own)


def test_classes():
    for node in STUB.body:
        if isinstance(node, ast.ClassDef):
            real = getattr(module, node.name)
            names = [m.name for m in real] if node.name == "Why" else vars(real)
            assert public(members(node.body)) == public(names), node.name


def test_why_numbers():
    [why] = [n for n in STUB.body if isinstance(n, ast.ClassDef) and n.name == "Why"]
    assert {n.targets[0].id: n.value.value for n in why.body} == {m.name: m.value for m in module.Why}
