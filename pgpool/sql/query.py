"""SELECT, WITH, VALUES, TABLE and DML by their tokens: which tables are read, which functions called, does it write?

One pass with a stack of parenthesis levels. It knows the clauses that matter (WITH lists, FROM lists, everything else)
and takes for granted that the text is valid: text that PostgreSQL's parser refuses writes nothing anywhere. What it
does not expect raises Hard, and somebody else decides. Names may be too many (that costs a look-up), never too few.

Not seen, on purpose: operators, casts and types whose functions are volatile, and functions called as ``row.function``.
"""

from __future__ import annotations

from collections.abc import Sequence

from pgpool.model import Kind, Reason
from pgpool.sql import keywords as kw
from pgpool.sql.expressions import Expressions
from pgpool.sql.levels import COMPLETE, NAME_TOKENS, Hard, In, Level, Query
from pgpool.sql.tokens import Tok, Token

_DML_KIND = {"insert": Kind.INSERT, "update": Kind.UPDATE, "delete": Kind.DELETE, "merge": Kind.MERGE}


class Scanner(Expressions):
    """Walks tokens[first:end] once."""

    def __init__(self, tokens: Sequence[Token], first: int, end: int, state: In = In.START):
        super().__init__(tokens, first, end, state)

    def run(self) -> Query:
        """Raises Hard."""
        while self.i < self.end:
            level = self.levels[-1]
            token = self.tokens[self.i]
            if token.kind is Tok.PUNCT and token.value in ")[];":
                self.bracket(level, token.value)
            elif token.kind is Tok.UNICODE:
                raise Hard(token.value)
            else:
                _STEPS[level.state](self, level, token)
            self.i += 1
        if len(self.levels) != 1 or self.levels[-1].state not in COMPLETE:
            raise Hard("end of text")
        return self.found

    # -- queries --------------------------------------------------------------------------------------------------

    def start(self, level: Level, token: Token) -> None:
        word = token.value
        if token.kind is Tok.PUNCT and word == "(":
            level.state = In.EXPR
            if self.word_at() not in kw.QUERY_STARTS and self.word_at() != "(":
                raise Hard(self.word_at())
            self.push(In.START)
        elif token.kind is not Tok.WORD:
            raise Hard(word)
        elif word in ("select", "values"):
            level.state = In.EXPR
        elif word == "table":
            level.state = In.TABLE
        elif word == "with":
            level.state = In.CTE_NAME
            level.mark = len(self.found.tables)
            if self.word_at() == "recursive" and self.word_at(2) not in ("as", "("):
                level.recursive = True
                self.i += 1
        elif word in kw.DML:
            self.begin_dml(level, word)
        elif word in ("all", "distinct") and self.word_at(-1) in kw.SET_OPERATIONS:
            pass
        else:
            raise Hard(word)

    def begin_dml(self, level: Level, word: str) -> None:
        level.state = In.DML
        if len(self.levels) > 1:
            self.found.blame(Reason.WRITES_IN_WITH)
            return
        self.found.kind = _DML_KIND[word]
        self.found.blame(Reason.NOT_A_READ)
        at = self.i + 1
        while at < self.end and self.tokens[at].kind is Tok.WORD and self.tokens[at].value in ("into", "from", "only"):
            at += 1
        enclosed = at < self.end and self.tokens[at][:2] == (Tok.PUNCT, "(") and self.tokens[at - 1].value == "only"
        at += enclosed
        if at >= self.end or self.tokens[at].kind not in NAME_TOKENS:
            raise Hard(word)
        self.found.target, at = self.qualified(at)
        if enclosed and (at >= self.end or self.tokens[at].value != ")"):
            raise Hard("only")
        self.i = at - 1 + enclosed

    def cte_name(self, level: Level, token: Token) -> None:
        if token.kind not in NAME_TOKENS or (token.kind is Tok.WORD and token.value in kw.RESERVED):
            raise Hard(token.value)
        level.pending = token.value
        if level.recursive:
            level.ctes.add(token.value)
        level.state = In.CTE_AS

    def cte_as(self, level: Level, token: Token) -> None:
        if token.kind is Tok.PUNCT and token.value == "(":
            before = self.word_at(-1)
            if before == "as" or (before == "materialized" and self.word_at(-2) in ("as", "not")):
                level.state = In.CTE_AFTER
                self.push(In.START)
            else:
                self.push(In.NAMES)
        elif token.kind is not Tok.WORD or token.value not in ("as", "not", "materialized"):
            raise Hard(token.value)

    def cte_after(self, level: Level, token: Token) -> None:
        if level.pending and not level.recursive:
            level.ctes.add(level.pending)
        level.pending = ""
        if token.kind is Tok.PUNCT and token.value == ",":
            level.state = In.CTE_NAME
        elif token.kind is Tok.WORD and token.value in ("search", "cycle"):
            level.state = In.CTE_TAIL
            level.tail_set = False
        else:
            if level.recursive:
                self.forget_forward_references(level)
            level.state = In.START
            if token.value == "with":
                raise Hard("with")
            self.start(level, token)

    def forget_forward_references(self, level: Level) -> None:
        """WITH RECURSIVE a AS (... FROM b), b AS ...: b is no table."""
        tables = self.found.tables
        tables[level.mark :] = [t for t in tables[level.mark :] if t.schema or t.name not in level.ctes]

    def cte_tail(self, level: Level, token: Token) -> None:
        word = token.value
        if token.kind is Tok.PUNCT and word == "(":
            self.cte_after(level, token)
        elif token.kind is Tok.WORD and word == "set":
            level.tail_set = True
        elif token.kind is Tok.WORD and word == "cycle":
            level.tail_set = False
        elif level.tail_set and (
            (word == "," and token.kind is Tok.PUNCT) or (token.kind is Tok.WORD and self.verb(word))
        ):
            self.cte_after(level, token)

    def verb(self, word: str) -> bool:
        if word in kw.DML:
            return self.may_begin_dml(self.i) and self.word_at(-1) != "set"
        return word in kw.QUERY_STARTS

    # -- FROM -----------------------------------------------------------------------------------------------------

    def from_item(self, level: Level, token: Token) -> None:
        word = token.value
        if token.kind is Tok.PUNCT and word == "(":
            level.state = In.ITEM
            following = self.word_at()
            self.push(In.START if following in kw.QUERY_STARTS else In.FROM)
        elif token.kind is Tok.QUOTED:
            self.from_name(level, token)
        elif token.kind is not Tok.WORD:
            raise Hard(word)
        elif word in ("only", "lateral"):
            pass
        elif word == "rows" and self.word_at() == "from" and self.word_at(2) == "(":
            self.i += 2
            level.state = In.ITEM
            self.push(In.EXPR)
        elif word in kw.VALUE_WORDS and self.word_at() != "(":
            level.state = In.ITEM
        elif word in kw.RESERVED and word not in kw.VALUE_WORDS and word != "cast":
            raise Hard(word)
        elif self.word_at() == "(":
            level.state = In.ITEM
            self.i += 1
            self.call(level, self.i - 1)
        else:
            self.from_name(level, token)

    def from_name(self, level: Level, token: Token) -> None:
        """A table name, or the dotted name of a function."""
        if token.kind not in NAME_TOKENS:
            raise Hard(token.value)
        if token.kind is Tok.WORD and token.value == "only" and level.state is In.TABLE:
            return
        if token.kind is Tok.WORD and token.value in kw.RESERVED:
            raise Hard(token.value)
        name, at = self.qualified(self.i)
        self.i = at - 1
        if self.word_at() == "(" and level.state is In.FROM:
            level.state = In.ITEM
            self.i += 1
            self.call(level, self.i - 1)
            return
        level.state = In.EXPR if level.state is In.TABLE else In.ITEM
        if name.schema or not any(name.name in outer.ctes for outer in self.levels):
            self.found.tables.append(name)

    def after_item(self, level: Level, token: Token) -> None:
        word = token.value
        if token.kind is Tok.PUNCT:
            if word == ",":
                level.state = In.FROM
            elif word == "(" and self.peek(-1).kind in NAME_TOKENS:  # type: ignore[union-attr]
                self.push(In.NAMES)
            else:
                raise Hard(word)
        elif token.kind is Tok.OP:
            if word != "*":
                raise Hard(word)
        elif token.kind is Tok.QUOTED:
            pass
        elif token.kind is not Tok.WORD:
            raise Hard(word)
        elif word == "tablesample":
            self.table_sample()
        elif word == "repeatable" and self.word_at() == "(":
            self.i += 1
            self.push(In.EXPR)
        elif word == "on":
            level.state = In.ON
        elif (
            word in ("as", "using", "ordinality")
            or word in kw.JOIN_WORDS
            or (word == "with" and self.word_at() == "ordinality")
        ):
            pass
        elif word == "join":
            level.state = In.FROM
        elif word in kw.RESERVED:
            self.clause(level, word)
        # else: an alias

    def table_sample(self) -> None:
        """TABLESAMPLE method (...): the two methods of PostgreSQL itself are marked volatile in the
        catalogs, but only choose rows."""
        name, at = self.qualified(self.i + 1)
        if at >= self.end or self.tokens[at].value != "(":
            raise Hard("tablesample")
        if name.name not in ("bernoulli", "system") or name.schema not in ("", "pg_catalog"):
            self.found.functions.append(name)
        self.i = at
        self.push(In.EXPR)

    @staticmethod
    def of_expressions(tokens: Sequence[Token], first: int, end: int) -> Query:
        """What the expressions in tokens[first:end], which hold no subquery, call and do. Raises Hard."""
        inner = Scanner(tokens, first, end, In.EXPR)
        if any(t.kind is Tok.WORD and t.value in kw.QUERY_STARTS for t in tokens[first:end]):
            raise Hard("subquery")
        return inner.run()


_STEPS = {
    In.START: Scanner.start,
    In.EXPR: Scanner.expression,
    In.CTE_NAME: Scanner.cte_name,
    In.CTE_AS: Scanner.cte_as,
    In.CTE_AFTER: Scanner.cte_after,
    In.CTE_TAIL: Scanner.cte_tail,
    In.TABLE: Scanner.from_name,
    In.FROM: Scanner.from_item,
    In.ITEM: Scanner.after_item,
    In.ON: Scanner.expression,
    In.NAMES: Scanner.names_only,
    In.DML: Scanner.dml,
}
