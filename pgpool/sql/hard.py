"""Queries that the tokens leave open: sqlglot's parse tree, behind an allow-list of node types.

sqlglot never decides alone. The words that make a query write (INTO, FOR UPDATE, data-modifying WITH) were looked for
in the tokens before, the functions are taken from the tokens too, and any node type that is not listed here means "not
understood". The version is pinned in pyproject.toml: its answers change from release to release.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from pgpool.model import Name
from pgpool.sql import keywords as kw
from pgpool.sql.tokens import Tok, Token

MAX_TOKENS = 5_000
MAX_DEPTH = 60

_ALLOWED = (
    *(exp.Condition, exp.Func, exp.Identifier, exp.ObjectIdentifier, exp.Table, exp.Alias, exp.TableAlias, exp.Star),
    *(exp.Select, exp.Union, exp.Intersect, exp.Except, exp.Subquery, exp.Values, exp.Tuple, exp.With, exp.CTE),
    *(exp.From, exp.Join, exp.Lateral, exp.TableSample, exp.Where, exp.Group, exp.Having, exp.Order, exp.Ordered),
    *(exp.Cube, exp.Rollup, exp.GroupingSets, exp.Distinct, exp.Limit, exp.LimitOptions, exp.Offset, exp.Fetch),
    *(exp.Window, exp.WindowSpec, exp.Filter, exp.WithinGroup, exp.DataType, exp.DataTypeParam, exp.Var),
    *(exp.Interval, exp.AtTimeZone, exp.Variadic, exp.National, exp.Unnest),
)
"""Conditions and functions of any kind, and these; whatever else sqlglot may find is not understood."""
_TOP = (exp.Select, exp.Union, exp.Intersect, exp.Except, exp.Values, exp.Table, exp.Subquery)


def read_only_names(text: str, tokens: Sequence[Token]) -> tuple[list[Name], list[Name]] | None:
    """(tables, functions) of a query that only reads, names perhaps too many; None when that is not sure."""
    if len(tokens) > MAX_TOKENS or not _harmless_words(tokens):
        return None
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    try:
        trees = sqlglot.parse(text, read="postgres")
    except (SqlglotError, RecursionError, ValueError, TypeError, AttributeError, IndexError, KeyError):
        return None
    if len(trees) != 1 or not isinstance(trees[0], _TOP):
        return None
    tables: list[Name] = []
    for node in trees[0].walk():
        if not isinstance(node, _ALLOWED):
            return None
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            tables.append(_table(node))
    return tables, _functions(tokens)


def _table(node: exp.Table) -> Name:
    def part(identifier: exp.Expression | None) -> str:
        if not isinstance(identifier, exp.Identifier):
            return ""
        return identifier.name if identifier.quoted else identifier.name.lower()

    return Name(part(node.args.get("db")), part(node.this))


def _harmless_words(tokens: Sequence[Token]) -> bool:
    """No word that could make the query write, whatever its place; parentheses close."""
    depth = 0
    for i, token in enumerate(tokens):
        if token.kind is Tok.UNICODE:
            return False
        if token.kind is Tok.PUNCT:
            depth += (token.value == "(") - (token.value == ")")
            if token.value == ";" or depth < 0 or depth > MAX_DEPTH:
                return False
        if token.kind is Tok.WORD and (
            token.value in kw.DML
            or token.value in ("into", "create", "set_config")
            or (
                token.value == "for" and i + 1 < len(tokens) and tokens[i + 1].value in ("update", "share", "no", "key")
            )
        ):
            return False
    return depth == 0


def _functions(tokens: Sequence[Token]) -> list[Name]:
    """Every name before a parenthesis."""
    found = []
    for i, token in enumerate(tokens[:-1]):
        if token.kind not in (Tok.WORD, Tok.QUOTED) or tokens[i + 1][:2] != (Tok.PUNCT, "("):
            continue
        if token.kind is Tok.WORD and (token.value in kw.RESERVED or token.value in kw.TYPES | kw.SYNTAX_CALLS):
            continue
        dotted = i >= 2 and tokens[i - 1][:2] == (Tok.PUNCT, ".")
        found.append(Name(tokens[i - 2].value if dotted else "", token.value))
    return found
