"""The stack of parentheses that query.py walks with: levels, what was found, and looking around in the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from pgpool.model import Effect, Kind, Name, Reason
from pgpool.sql import keywords as kw
from pgpool.sql.tokens import Tok, Token


class Hard(Exception):
    """The tokens alone do not tell: ``what`` was not expected."""


class In(IntEnum):
    """What a parenthesis level waits for next."""

    START = 0
    """The beginning of a query: SELECT, VALUES, TABLE, WITH, DML or another parenthesis."""
    EXPR = 1
    """Anything with expressions in it: select list, WHERE, arguments, ORDER BY ..."""
    CTE_NAME = 2
    CTE_AS = 3
    CTE_AFTER = 4
    CTE_TAIL = 5
    """SEARCH or CYCLE clause."""
    TABLE = 6
    FROM = 7
    """A table, function or parenthesis must follow."""
    ITEM = 8
    """After a FROM item: alias, TABLESAMPLE, JOIN, comma or the next clause."""
    ON = 9
    """A join condition: an expression inside of FROM."""
    NAMES = 10
    """Column names or definitions, type modifiers: nothing that is run."""
    DML = 11
    """Behind INSERT, UPDATE, DELETE, MERGE: only function names matter."""


class Level:
    """One open parenthesis, or the whole statement."""

    __slots__ = (
        "call",
        "closer",
        "columns",
        "ctes",
        "grouping",
        "mark",
        "pending",
        "query",
        "recursive",
        "state",
        "tail_set",
    )

    def __init__(self, state: In, columns: bool = False, closer: str = ")"):
        self.state = state
        self.closer = closer
        self.query = state is In.START
        """A query stands directly on this level, so FROM and UNION are its own."""
        self.ctes: set[str] = set()
        """WITH names that can be seen here and below."""
        self.pending = ""
        self.recursive = False
        self.mark = 0
        self.tail_set = False
        self.grouping = False
        """In GROUP BY, where CUBE and ROLLUP are no functions."""
        self.columns = columns
        """In JSON_TABLE, where COLUMNS is no function."""
        self.call = False
        """Arguments of a function, which OVER and FILTER may follow."""


class Query:
    """What was found. ``reason`` is BALANCED as long as nothing writes."""

    def __init__(self) -> None:
        self.kind = Kind.SELECT
        self.reason = Reason.BALANCED
        self.tables: list[Name] = []
        self.functions: list[Name] = []
        self.effect = Effect.NONE
        self.into = False
        self.into_temp = False
        self.target: Name | None = None
        """The table a top-level INSERT, UPDATE, DELETE or MERGE changes."""

    def blame(self, reason: Reason) -> None:
        """The first reason stays; but what only locks rows hides no write, and a write in WITH comes before all."""
        if self.reason in (Reason.BALANCED, Reason.LOCKING) or reason is Reason.WRITES_IN_WITH:
            self.reason = reason


NAME_TOKENS = (Tok.WORD, Tok.QUOTED)
MAX_DEPTH = 500
COMPLETE = (In.EXPR, In.ITEM, In.ON, In.NAMES, In.DML)
"""States in which a level may end."""
_OPERAND_WORDS = kw.VALUE_WORDS | {"end", "null", "true", "false", "default"}


class Cursor:
    """A place (``i``) in tokens[first:end], the open parentheses, and what was found so far."""

    def __init__(self, tokens: Sequence[Token], first: int, end: int, state: In):
        self.tokens = tokens
        self.first = first
        self.end = end
        self.i = first
        self.levels = [Level(state)]
        self.found = Query()
        self.call_end = -1
        """Index of the last parenthesis that closed the arguments of a function."""

    def peek(self, offset: int = 1) -> Token | None:
        at = self.i + offset
        return self.tokens[at] if self.first <= at < self.end else None

    def word_at(self, offset: int = 1) -> str:
        """The unquoted word or the punctuation there, else ''."""
        token = self.peek(offset)
        return token.value if token and token.kind in (Tok.WORD, Tok.PUNCT) else ""

    def is_label(self, at: int) -> bool:
        """Is the word at ``at`` a mere name, because AS or a dot stands before it? No keyword has a meaning there."""
        if at <= self.first:
            return False
        before = self.tokens[at - 1]
        if before.kind is Tok.PUNCT:
            return before.value == "."
        if before.kind is not Tok.WORD or before.value != "as":
            return False
        run = 1  # in AS AS AS every second one is a label itself
        while at - run > self.first and self.tokens[at - run - 1][:2] == (Tok.WORD, "as"):
            run += 1
        dotted = at - run > self.first and self.tokens[at - run - 1][:2] == (Tok.PUNCT, ".")
        return bool(run % 2) != dotted

    def qualified(self, at: int) -> tuple[Name, int]:
        """The dotted name whose first word is at ``at``, and the index behind it."""
        parts = [self.tokens[at].value]
        at += 1
        while at + 1 < self.end and self.tokens[at].value == "." and self.tokens[at].kind is Tok.PUNCT:
            part = self.tokens[at + 1]
            if part.kind not in NAME_TOKENS:
                raise Hard(part.value)
            parts.append(part.value)
            at += 2
        if len(parts) > 3:
            raise Hard("name with too many dots")
        return Name(parts[-2] if len(parts) > 1 else "", parts[-1]), at

    def name_start(self, at: int) -> int:
        """The index of the first word of the dotted name that ends at ``at``."""
        while (
            at - 2 >= self.first
            and self.tokens[at - 1].kind is Tok.PUNCT
            and self.tokens[at - 1].value == "."
            and self.tokens[at - 2].kind in NAME_TOKENS
        ):
            at -= 2
        return at

    def after_operand(self, offset: int = -1) -> bool:
        """Is the token at ``offset`` the end of an expression? (Perhaps a keyword that is not reserved.)"""
        before = self.peek(offset)
        if before is None:
            return False
        if before.kind is Tok.WORD:
            value = before.value
            return value not in kw.RESERVED or value in _OPERAND_WORDS or self.is_label(self.i + offset)
        if before.kind is Tok.OP:
            return before.value == "*" and self.word_at(offset - 1) == "."  # t.*
        return before.kind is not Tok.PUNCT or before.value in (")", "]")

    def matching(self, at: int) -> int:
        """The index of the parenthesis that closes the one at ``at``."""
        depth = 0
        for i in range(at, self.end):
            if self.tokens[i].kind is Tok.PUNCT:
                if self.tokens[i].value == "(":
                    depth += 1
                elif self.tokens[i].value == ")":
                    depth -= 1
                    if depth == 0:
                        return i
        raise Hard("(")

    def push(self, state: In, *, columns: bool = False, grouping: bool = False, closer: str = ")") -> None:
        if len(self.levels) > MAX_DEPTH:
            raise Hard("nesting")
        self.levels.append(Level(state, columns or self.levels[-1].columns, closer))
        self.levels[-1].grouping = grouping

    def bracket(self, level: Level, value: str) -> None:
        """Array brackets and the end of any level."""
        if value == "[" and level.state in (In.EXPR, In.ON, In.NAMES, In.DML):
            self.push(In.EXPR if level.state is In.ON else level.state, closer="]")
            return
        if value != level.closer or len(self.levels) == 1 or level.state not in COMPLETE:
            raise Hard(value)
        self.levels.pop()
        if level.call:
            self.call_end = self.i

    def open_plain(self, grouping: bool = False) -> None:
        """A parenthesis in an expression: a subquery or more expression."""
        following = self.word_at()
        if following in kw.QUERY_STARTS:
            self.push(In.START)
        else:
            if following in kw.DML and self.may_begin_dml(self.i + 1):
                self.found.blame(Reason.WRITES_IN_WITH)
            self.push(In.EXPR, grouping=grouping)

    def may_begin_dml(self, at: int) -> bool:
        """Can INSERT, UPDATE, DELETE or MERGE at ``at`` be the verb, by the word behind it? Else it is a name."""
        token = self.tokens[at + 1] if at + 1 < self.end else None
        if token is None or token.kind not in NAME_TOKENS:
            return False
        verb = self.tokens[at].value
        if verb != "update":
            return token[:2] == (Tok.WORD, "from" if verb == "delete" else "into")
        return token.kind is Tok.QUOTED or token.value == "only" or token.value not in _NEVER_A_TABLE


_NEVER_A_TABLE = (
    kw.RESERVED | kw.JOIN_WORDS | {"is", "isnull", "notnull", "like", "ilike", "similar", "join", "overlaps"}
)
