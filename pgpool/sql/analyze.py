"""What one SQL string is: analyze(text) -> Statement. Never fails: what is not understood is a write.

Keywords settle all utility statements (utility.py, setting.py, ddl.py), tokens settle queries and DML (query.py), and
sqlglot is asked only about queries that the tokens leave open (hard.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pgpool.model import Counter, Effect, Kind, Name, Reason, Statement
from pgpool.sql import hard, keywords, setting, tokens
from pgpool.sql.ddl import HANDLERS
from pgpool.sql.levels import Hard, Query
from pgpool.sql.query import Scanner
from pgpool.sql.tokens import LexError, Tok, Token
from pgpool.sql.utility import Words, counter_of, unknown

_HANDLERS = {**HANDLERS, "set": setting.set_, "reset": setting.reset}
_MAX_NESTING = 4
"""PREPARE x AS ..., EXPLAIN EXPLAIN ...: deeper is nonsense."""
_SPACE = " \t\n\r\f\v"
_BLIND_KINDS = (Kind.INSERT, Kind.UPDATE, Kind.DELETE, Kind.MERGE)


def analyze(text: str, *, standard_conforming_strings: bool = True) -> Statement:
    """Everything the text alone says about one client string (behaviour.md 5.1).

    ``text`` is decoded by the client's encoding. The second argument is the session's setting of that name: it decides
    whether a backslash in '...' is an escape.
    """
    leading_space = text[:1] in _SPACE and bool(text)
    try:
        found = tokens.tokenize(text, standard_conforming_strings=standard_conforming_strings)
    except LexError:
        return replace(unknown(), leading=False, leading_space=leading_space, text=text)
    leading = not tokens.comment_first(text, found)
    ranges = tokens.split(found)
    if not ranges:
        statement = Statement(Kind.EMPTY, Counter.SELECT, True, Reason.BALANCED)
    elif len(ranges) == 1:
        statement = _one(text, found, *ranges[0])
    else:
        statement = _several([replace(_one(text, found, *r), text=_cut(text, found, *r)) for r in ranges])
    return replace(statement, leading=leading, leading_space=leading_space, text=text)


def _cut(text: str, found: Sequence[Token], first: int, end: int) -> str:
    return text[found[first].start : found[end - 1].end]


def _one(text: str, found: Sequence[Token], first: int, end: int, depth: int = 0) -> Statement:
    """The statement in found[first:end]."""

    def inner(at: int, until: int, arguments: bool = False) -> Statement:
        if arguments:
            return _arguments(found, at, until)
        if depth >= _MAX_NESTING or at >= until:
            return unknown()
        return replace(_one(text, found, at, until, depth + 1), text=_cut(text, found, at, until))

    token = found[first]
    if token.kind is Tok.WORD:
        if token.value == "select" and not depth and (statement := setting.called(found[first:end])):
            return statement
        if token.value in keywords.QUERY_STARTS or token.value in keywords.DML:
            return _query(text, found, first, end)
        handler = _HANDLERS.get(token.value)
        if handler is not None:
            return handler(Words(text, found, first, end, inner))
    elif token.value == "(" and token.kind is Tok.PUNCT:
        return _query(text, found, first, end)
    return unknown()


def _arguments(found: Sequence[Token], first: int, end: int) -> Statement:
    """The functions in the arguments of EXECUTE, as if they were a SELECT."""
    if first >= end:
        return Statement(Kind.SELECT, Counter.SELECT, True, Reason.BALANCED)
    try:
        query = Scanner.of_expressions(found, first, end)
    except Hard:
        return unknown()
    functions = _unique(query.functions)
    return Statement(Kind.SELECT, Counter.SELECT, True, Reason.BALANCED, functions=functions, effect=query.effect)


def _unique(names: list[Name]) -> tuple[Name, ...]:
    return tuple(dict.fromkeys(names))


def _query(text: str, found: Sequence[Token], first: int, end: int) -> Statement:
    try:
        query = Scanner(found, first, end).run()
    except Hard:
        names = hard.read_only_names(_cut(text, found, first, end), found[first:end])
        if names is None:
            return unknown()
        query = Query()
        query.tables, query.functions = names
    return _of_query(query)


def _of_query(query: Query) -> Statement:
    kind, effect = query.kind, query.effect
    tables, functions = _unique(query.tables), _unique(query.functions)
    if query.reason is not Reason.BALANCED:
        effect |= Effect.WRITE
    if query.into:
        effect |= Effect.MAY_CREATE_TEMP if query.into_temp else Effect.DDL
        kind = Kind.CREATE_TEMP if query.into_temp else kind
    if kind in _BLIND_KINDS:
        tables = (query.target,) if query.target else ()
        if any(f.name not in keywords.HARMLESS for f in functions):
            effect |= Effect.MAY_CREATE_TEMP
    counter = Counter.SELECT if query.kind is Kind.SELECT else counter_of(kind)
    readonly = query.reason is Reason.BALANCED
    return Statement(kind, counter, readonly, query.reason, tables=tables, functions=functions, effect=effect)


_CONTROLS = (
    *(Kind.BEGIN, Kind.COMMIT, Kind.ROLLBACK, Kind.SAVEPOINT, Kind.RELEASE, Kind.ROLLBACK_TO, Kind.PREPARE_TRANSACTION),
)


def _several(parts: list[Statement]) -> Statement:
    """A string with more than one statement goes to the primary as a whole.

    What it does to the session is known on the primary alone, and the parts cannot be told apart once they run:
    * transaction control: the primary may be in another transaction than before, without a BEGIN of its own that could
      be given to a standby, so the transaction is pinned;
    * SET and RESET: undone together when a part fails, and done together else, so the parts can be kept book of
      (JOURNAL) as if they had come alone. This is what drivers send when they connect;
    * PREPARE and DEALLOCATE stay even when a later part fails, so nobody knows what is there: pinned for the session;
    * SET in company of transaction control: unknown what was undone, pinned for the session.
    """
    effect = Effect.NONE
    controls = any(p.kind in _CONTROLS for p in parts)
    for part in parts:
        effect |= part.effect & ~(Effect.JOURNAL | Effect.BEGIN | Effect.BEGIN_PLAIN)
        if part.readonly and part.functions:
            effect |= Effect.WRITE  # nobody asks the catalogs about them
        if part.kind in (Kind.PREPARE, Kind.DEALLOCATE) or (part.kind is Kind.DISCARD and part.name == "all"):
            effect |= Effect.PIN_SESSION
        elif part.kind in (Kind.SET, Kind.RESET) and part.effect & Effect.JOURNAL:
            effect |= Effect.JOURNAL
            if controls and not part.local:
                effect |= Effect.PIN_SESSION
        elif part.kind is Kind.EXECUTE:
            effect |= Effect.WRITE
    if controls:
        effect |= Effect.PIN_TRANSACTION | Effect.JOURNAL
    # counted as the first part that is not a SELECT (measured with the incumbent)
    counter = next((p.counter for p in parts if p.counter is not Counter.SELECT), Counter.SELECT)
    reason = Reason.MULTI_STATEMENT
    return Statement(Kind.MULTI, counter, False, reason, effect=effect, parts=tuple(parts))
