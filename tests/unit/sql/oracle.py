"""The real PostgreSQL grammar (pglast, test-only) as a judge: does a text write, what tables and functions has it?"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from pglast.parser import ParseError, parse_sql_json

READ_ONLY_NODES = {"SelectStmt", "VariableShowStmt", "CopyStmt"}
WRITING_NODES = {"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"}


@dataclass
class Verdict:
    parsed: bool = True
    writes: bool = False
    """Anything but plain reading: DML, locks, INTO, a utility statement, more than one statement."""
    statements: int = 0
    top: str = ""
    tables: set[tuple[str, str]] = field(default_factory=set)
    functions: set[tuple[str, str]] = field(default_factory=set)


def judge(text: str) -> Verdict:
    verdict = Verdict()
    try:
        tree = json.loads(parse_sql_json(text))
    except (ParseError, RecursionError, ValueError):
        return Verdict(parsed=False, writes=True)
    statements = [s["stmt"] for s in tree.get("stmts", ())]
    verdict.statements = len(statements)
    verdict.writes = len(statements) > 1
    for statement in statements:
        verdict.top = next(iter(statement))
        if verdict.top not in READ_ONLY_NODES:
            verdict.writes = True
        _walk(statement, verdict, frozenset())
    return verdict


def _walk(node: Any, verdict: Verdict, visible: frozenset[str]) -> None:
    if isinstance(node, list):
        for item in node:
            _walk(item, verdict, visible)
        return
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if (
            key in WRITING_NODES
            or key in ("lockingClause", "intoClause")
            or (key == "CopyStmt" and (value.get("is_from") or value.get("filename") or value.get("is_program")))
        ):
            verdict.writes = True
        elif key == "RangeVar":
            _range_var(value, verdict, visible)
        elif key == "FuncCall":
            _function(value, verdict)
    relation = node.get("relation")
    if isinstance(relation, dict) and "relname" in relation:
        _range_var(relation, verdict, visible)
    inner = _with(node, verdict, visible) if isinstance(node.get("withClause"), dict) else visible
    for key, value in node.items():
        if key != "withClause":
            _walk(value, verdict, inner)


def _with(node: dict[str, Any], verdict: Verdict, visible: frozenset[str]) -> frozenset[str]:
    clause = node["withClause"]
    queries = [c["CommonTableExpr"] for c in clause["ctes"]]
    names = [q["ctename"] for q in queries]
    if clause.get("recursive"):
        visible |= frozenset(names)
    for name, query in zip(names, queries, strict=True):
        _walk(query, verdict, visible)
        visible |= {name}
    return visible


def _range_var(value: dict[str, Any], verdict: Verdict, visible: frozenset[str]) -> None:
    schema = value.get("schemaname", "")
    if schema or value["relname"] not in visible:
        verdict.tables.add((schema, value["relname"]))


def _function(value: dict[str, Any], verdict: Verdict) -> None:
    if value.get("funcformat") == "COERCE_SQL_SYNTAX":
        return
    parts = [p["String"]["sval"] for p in value["funcname"]]
    verdict.functions.add((parts[-2] if len(parts) > 1 else "", parts[-1]))
