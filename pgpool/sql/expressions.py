"""Expressions inside a query: which functions are called, and where the words that end a clause stand."""

from __future__ import annotations

from pgpool.model import Effect, Name, Reason
from pgpool.sql import keywords as kw
from pgpool.sql.levels import NAME_TOKENS, Cursor, Hard, In, Level
from pgpool.sql.tokens import Tok, Token

_PAIRS = {
    "sets": ("grouping",),
    "first": ("fetch",),
    "next": ("fetch",),
    "zone": ("time",),
}
_INFIX = frozenset(("like", "ilike", "overlaps", "is", "isnull", "notnull", "similar", "join"))
_NOT_CALLED_IN_DML = kw.RESERVED | kw.TYPES | kw.SYNTAX_CALLS | {"set", "conflict", "by", "over", "filter"}
_MEANT = (
    frozenset(
        ("into", "for", "from", "select", "group", "order", "having", "where", "window", "limit", "offset", "fetch")
    )
    | frozenset(("join", "using"))
    | kw.SET_OPERATIONS
)


class Expressions(Cursor):
    """The part of the scanner that reads expressions."""

    def clause(self, level: Level, word: str) -> None:
        """A reserved word that ends FROM or stands between expressions."""
        if word in kw.SET_OPERATIONS:
            level.query = True
            level.state = In.START
        elif word in kw.AFTER_FROM or word == "into":
            level.query = True
            level.state = In.EXPR
            level.grouping = word == "group"
            self.locking_or_into(word)
        else:
            raise Hard(word)

    def locking_or_into(self, word: str) -> None:
        if word == "for" and self.word_at() in ("update", "share", "no", "key"):
            self.found.blame(Reason.LOCKING)
        elif word == "into":
            self.found.blame(Reason.SELECT_INTO)
            self.found.into = True
            at = 2 if self.word_at() in ("local", "global") else 1
            self.found.into_temp |= self.word_at(at) in ("temp", "temporary", "pg_temp")

    def expression(self, level: Level, token: Token) -> None:
        word = token.value
        if token.kind is Tok.PUNCT:
            if word == "(":
                self.open_in_expression(level)
            elif word == "," and level.state is In.ON:
                level.state = In.FROM
            return
        if token.kind is not Tok.WORD or word not in _MEANT or self.is_label(self.i):
            return
        if word in ("into", "for"):
            self.locking_or_into(word)
        elif word == "from":
            if level.query and not self.distinct_from():
                level.state = In.FROM
        elif word in kw.SET_OPERATIONS:
            self.clause(level, word)
        elif word in ("group", "order", "having", "where", "window", "limit", "offset", "fetch"):
            within = self.word_at(-1) == "within"  # an aggregate's WITHIN GROUP is no clause
            if level.query and level.state is In.ON and not within:
                level.state = In.EXPR
            level.grouping = word == "group" and not within
        elif level.state is In.ON:
            self.join_word(level, word)
        elif word == "select":
            raise Hard(word)

    def join_word(self, level: Level, word: str) -> None:
        if word == "join" and self.after_operand():
            level.state = In.FROM
        elif word == "using" and self.word_at() == "(":
            level.state = In.ITEM
        elif word in ("select", "join"):
            raise Hard(word)

    def distinct_from(self) -> bool:
        """a IS [NOT] DISTINCT FROM b"""
        if self.word_at(-1) != "distinct":
            return False
        return self.word_at(-2) == "is" or (self.word_at(-2) == "not" and self.word_at(-3) == "is")

    def open_in_expression(self, level: Level) -> None:
        before = self.peek(-1)
        if before is None or before.kind not in NAME_TOKENS:
            self.open_plain()
        else:
            self.call(level, self.i - 1)

    def call(self, level: Level, last: int) -> None:
        """A parenthesis (at self.i) behind a name whose last word is at ``last``: a function call, or syntax."""
        first = self.name_start(last)
        word = self.tokens[last].value if self.tokens[last].kind is Tok.WORD else ""
        before = self.tokens[first - 1] if first > self.first else None
        if before is not None and (
            (before.kind is Tok.PUNCT and before.value == "::") or (before.kind is Tok.WORD and self.is_label(first))
        ):
            self.push(In.NAMES)  # a type with a modifier: x::numeric(10,2), CAST(x AS geometry(Point, 4326))
            return
        if first == last and word:
            if word in kw.RESERVED or word in kw.TYPES or self.is_syntax(level, word):
                self.open_plain(grouping=word == "sets")
                self.levels[-1].call = word in ("filter", "group")
                return
            if word in kw.SYNTAX_CALLS or word in kw.LATE_SYNTAX_CALLS:
                if word in kw.LATE_SYNTAX_CALLS:
                    self.found.functions.append(Name("", word))
                self.open_plain()
                self.levels[-1].columns |= word == "json_table"
                self.levels[-1].call = True
                return
            if word == "operator" and self.explicit_operator():
                return
        self.add_function(self.qualified(first)[0])
        self.push(In.EXPR)
        self.levels[-1].call = True

    def add_function(self, name: Name) -> None:
        """A call whose opening parenthesis is at self.i."""
        self.found.functions.append(name)
        if name.name == "set_config" and name.schema in ("", "pg_catalog"):
            self.found.effect |= self.set_config_effect()

    def is_syntax(self, level: Level, word: str) -> bool:
        """Words that are no keyword of their own, but are none the less no function in this place."""
        before = self.word_at(-2)
        if word == "by":
            return before in ("group", "order", "partition")
        if word in ("over", "filter"):
            return self.call_end == self.i - 2 or self.word_at(-3) in ("ignore", "respect")
        if word in ("rollup", "cube"):
            return level.grouping and before in ("by", ",", "(", "all", "distinct")
        if word in _INFIX:
            return self.word_at(-2) == "not" or self.after_operand(-2)
        if word == "columns":
            return level.columns
        return before in _PAIRS.get(word, ())

    def explicit_operator(self) -> bool:
        """OPERATOR(pg_catalog.+): steps over it."""
        at = self.i + 1
        while at + 1 < self.end and self.tokens[at].kind in NAME_TOKENS and self.tokens[at + 1].value == ".":
            at += 2
        if at + 1 < self.end and self.tokens[at].kind is Tok.OP and self.tokens[at + 1].value == ")":
            self.i = at + 1
            return True
        return False

    def set_config_effect(self) -> Effect:
        """set_config(name, value, true) is undone at the end of the transaction, anything else stays."""
        closing = self.matching(self.i)
        last = self.tokens[closing - 1]
        is_local = (
            last.kind is Tok.WORD and last.value == "true" and self.tokens[closing - 2].value in (",", "=>", ":=")
        )
        return Effect.PIN_TRANSACTION if is_local else Effect.PIN_SESSION

    # -- places where nothing is read -----------------------------------------------------------------------------

    def names_only(self, level: Level, token: Token) -> None:
        if token.kind is Tok.PUNCT and token.value == "(":
            self.push(In.NAMES)
        elif (token.kind is Tok.WORD and (token.value == "select" or token.value == "from")) or (
            token.kind is Tok.OP and token.value not in ("+", "-")
        ):
            raise Hard(token.value)

    def dml(self, level: Level, token: Token) -> None:
        if token.kind is not Tok.PUNCT or token.value != "(":
            return
        before = self.peek(-1)
        if before is not None and before.kind in NAME_TOKENS:
            first = self.name_start(self.i - 1)
            lone = before.kind is Tok.WORD and first == self.i - 1
            columns = (first > self.first and self.tokens[first - 1].value == "into") or self.merge_columns(before)
            if not columns and not (lone and before.value in _NOT_CALLED_IN_DML) and not self.is_label(first):
                self.add_function(self.qualified(first)[0])
        self.push(In.DML)

    def merge_columns(self, before: Token) -> bool:
        """MERGE ... THEN INSERT (columns) VALUES ...: the parenthesis (at self.i) behind INSERT calls nothing."""
        if before.value != "insert" or self.word_at(-2) != "then":
            return False
        return self.word_at(self.matching(self.i) + 1 - self.i) in ("values", "overriding")
