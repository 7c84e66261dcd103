"""Everything but queries and DML, settled by keywords. Sources: behaviour.md 5.1, PostgreSQL's manual.

Each function gets a Words (the tokens of one statement) and gives a Statement. Whatever does not look as the manual
says is unknown(): it goes to the primary and PostgreSQL complains.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from pgpool.model import Counter, Effect, Kind, Name, Reason, Statement
from pgpool.sql import keywords
from pgpool.sql.tokens import Tok, Token

_OTHER = (
    *(Kind.BEGIN, Kind.COMMIT, Kind.ROLLBACK, Kind.SAVEPOINT, Kind.RELEASE, Kind.ROLLBACK_TO),
    *(Kind.PREPARE_TRANSACTION, Kind.COMMIT_PREPARED, Kind.ROLLBACK_PREPARED),
    *(Kind.SET, Kind.RESET, Kind.SHOW, Kind.DISCARD, Kind.PREPARE, Kind.EXECUTE, Kind.DEALLOCATE),
    *(Kind.LOCK, Kind.EXPLAIN, Kind.LISTEN, Kind.UNLISTEN, Kind.NOTIFY, Kind.VACUUM, Kind.CHECKPOINT, Kind.LOAD),
    *(Kind.UNKNOWN, Kind.POOL_SHOW, Kind.PGPOOL),
)
_COUNTERS = {
    **dict.fromkeys(_OTHER, Counter.OTHER),
    Kind.EMPTY: Counter.SELECT,
    Kind.SELECT: Counter.SELECT,
    Kind.INSERT: Counter.INSERT,
    Kind.UPDATE: Counter.UPDATE,
    Kind.DELETE: Counter.DELETE,
}


def counter_of(kind: Kind) -> Counter:
    """The column of SHOW pool_backend_stats (commands.md 4): whatever is not named there counts as ddl."""
    return _COUNTERS.get(kind, Counter.DDL)


class Words:
    """The tokens of one statement, and a place in them."""

    def __init__(self, text: str, tokens: Sequence[Token], first: int, end: int, analyze: Callable[..., Statement]):
        self.text = text
        self.tokens = tokens
        self.first = self.at = first
        self.end = end
        self.analyze = analyze
        """analyze(first, end) -> Statement of a statement within this one."""

    def peek(self, offset: int = 0) -> Token | None:
        at = self.at + offset
        return self.tokens[at] if at < self.end else None

    def word(self, offset: int = 0) -> str:
        """The unquoted word or punctuation there, or ''."""
        token = self.peek(offset)
        return token.value if token and token.kind in (Tok.WORD, Tok.PUNCT) else ""

    def take(self, *choices: str) -> str:
        """Steps over the next word when it is one of ``choices``; gives it, or ''."""
        word = self.word()
        if word and word in choices:
            self.at += 1
            return word
        return ""

    def take_all(self, *words: str) -> bool:
        """Steps over these words when all of them follow in this order."""
        if any(self.word(i) != word for i, word in enumerate(words)):
            return False
        self.at += len(words)
        return True

    def name(self) -> Name | None:
        """Steps over a dotted name; None (and no step) when there is none."""
        token = self.peek()
        if token is None or token.kind not in (Tok.WORD, Tok.QUOTED):
            return None
        parts = [token.value]
        self.at += 1
        while self.word() == "." and (token := self.peek(1)) and token.kind in (Tok.WORD, Tok.QUOTED):
            parts.append(token.value)
            self.at += 2
        return Name(".".join(parts[:-1][-1:]), parts[-1])

    def done(self) -> bool:
        return self.at >= self.end

    def values(self) -> list[str]:
        """All words and punctuation from here to the end, other tokens as ''."""
        return [t.value if t.kind in (Tok.WORD, Tok.PUNCT) else "" for t in self.tokens[self.at : self.end]]


def make(kind: Kind, reason: Reason, effect: Effect = Effect.NONE, **fields) -> Statement:
    return Statement(kind, counter_of(kind), False, reason, effect=effect, **fields)


def write(kind: Kind, effect: Effect = Effect.NONE, **fields) -> Statement:
    return make(kind, Reason.NOT_A_READ, Effect.WRITE | effect, **fields)


def unknown(words: Words | None = None) -> Statement:
    """Not understood: it may do anything."""
    return make(Kind.UNKNOWN, Reason.UNPARSABLE, Effect.WRITE | Effect.MAY_CREATE_TEMP | Effect.DDL)


# -- transactions -------------------------------------------------------------------------------------------------


def begin(words: Words) -> Statement:
    """BEGIN [WORK|TRANSACTION] [modes], START TRANSACTION [modes]."""
    first = words.take("begin", "start")
    if not words.take("work", "transaction") and first == "start":
        return unknown()
    found = modes(words)
    if found is None:
        return unknown()
    effect = Effect.BEGIN
    if "serializable" in found:
        effect |= Effect.SERIALIZABLE | Effect.BEGIN_PLAIN
    if "write" in found:
        effect |= Effect.BEGIN_PLAIN
        if "repeatable" in found:
            # a standby would get a plain BEGIN and so lose the isolation level
            effect |= Effect.PIN_TRANSACTION
    return make(Kind.BEGIN, Reason.TRANSACTION_CONTROL, effect, access=access_of(found))


def access_of(found: set[str]) -> str:
    """READ ONLY or READ WRITE among transaction modes, as Statement.access has it. Both: nothing that is read here."""
    both = found & {"only", "write"}
    return both.pop() if len(both) == 1 else "write" if both else ""


def modes(words: Words) -> set[str] | None:
    """Transaction modes up to the end as the words that tell them apart; None when something else is there."""
    found: set[str] = set()
    while not words.done():
        if words.take_all("isolation", "level"):
            level = words.take("serializable", "repeatable", "read")
            if level == "read":
                level = words.take("committed", "uncommitted")
            elif level == "repeatable" and not words.take("read"):
                return None
        elif words.take("read"):
            level = words.take("write", "only")
        else:
            level = "deferrable" if words.take_all("not", "deferrable") else words.take("deferrable")
        if not level:
            return None
        found.add(level)
        words.take(",")
    return found


def finish(words: Words) -> Statement:
    """COMMIT, END, ROLLBACK, ABORT and what begins like them."""
    first = words.take("commit", "end", "rollback", "abort")
    kind = Kind.COMMIT if first in ("commit", "end") else Kind.ROLLBACK
    if first in ("commit", "rollback") and words.take("prepared"):
        kind = Kind.COMMIT_PREPARED if first == "commit" else Kind.ROLLBACK_PREPARED
        return make(kind, Reason.TRANSACTION_CONTROL, Effect.WRITE) if _one_string(words) else unknown()
    words.take("work", "transaction")
    if first == "rollback" and words.take("to"):
        words.take("savepoint")
        return _savepoint(words, Kind.ROLLBACK_TO)
    effect = Effect.NONE
    if words.take("and"):
        if not words.take("no"):
            # The next transaction begins without a BEGIN that a standby could be given.
            effect = Effect.PIN_TRANSACTION | Effect.JOURNAL
        if not words.take("chain"):
            return unknown()
    return make(kind, Reason.TRANSACTION_CONTROL, effect) if words.done() else unknown()


def _one_string(words: Words) -> bool:
    token = words.peek()
    return token is not None and token.kind is Tok.STRING and words.at + 1 == words.end


def _savepoint(words: Words, kind: Kind) -> Statement:
    name = words.name()
    if name is None or not words.done():
        return unknown()
    return make(kind, Reason.TRANSACTION_CONTROL, Effect.JOURNAL, name=name.name)


def savepoint(words: Words) -> Statement:
    words.at += 1
    return _savepoint(words, Kind.SAVEPOINT)


def release(words: Words) -> Statement:
    words.at += 1
    if words.at + 1 < words.end:
        words.take("savepoint")
    return _savepoint(words, Kind.RELEASE)


# -- prepared statements ------------------------------------------------------------------------------------------


def prepare(words: Words) -> Statement:
    """PREPARE name [(types)] AS statement, PREPARE TRANSACTION 'id'."""
    words.at += 1
    if words.word() == "transaction" and words.at + 2 == words.end:
        words.at += 1
        if not _one_string(words):
            return unknown()
        return make(Kind.PREPARE_TRANSACTION, Reason.TRANSACTION_CONTROL)
    name = words.name()
    if name is None or name.schema:
        return unknown()
    while not words.done() and words.word() != "as":  # the list of types
        words.at += 1
    if not words.take("as"):
        return unknown()
    inner = words.analyze(words.at, words.end)
    return make(Kind.PREPARE, Reason.SESSION_STATE, Effect.JOURNAL, name=name.name, inner=inner)


def execute(words: Words) -> Statement:
    """EXECUTE name [(arguments)]: functions in the arguments count as well as those of the prepared statement."""
    words.at += 1
    name = words.name()
    if name is None or not (words.done() or words.word() == "("):
        return unknown()
    arguments = words.analyze(words.at, words.end, arguments=True)
    effect = Effect.JOURNAL | arguments.effect
    return make(Kind.EXECUTE, Reason.WHERE_PREPARED, effect, name=name.name, functions=arguments.functions)


def deallocate(words: Words) -> Statement:
    words.at += 1
    if words.at + 1 < words.end:
        words.take("prepare")
    token = words.peek()
    name = words.name()
    if token is None or name is None or not words.done():
        return unknown()
    everything = token.kind is Tok.WORD and token.value == "all"
    return make(Kind.DEALLOCATE, Reason.SESSION_STATE, Effect.JOURNAL, name="" if everything else name.name)


def discard(words: Words) -> Statement:
    words.at += 1
    what = words.take("all", "plans", "sequences", "temp", "temporary")
    if not what or not words.done():
        return unknown()
    return make(Kind.DISCARD, Reason.SESSION_STATE, Effect.JOURNAL, name="temp" if what == "temporary" else what)


# -- cursors ------------------------------------------------------------------------------------------------------


def declare(words: Words) -> Statement:
    """DECLARE name ... CURSOR ... FOR query. The cursor lives on the primary; a query that surely only reads does not
    count as a write."""
    words.at += 1
    name = words.name()
    hold = False
    while not words.done() and not words.take("for"):
        hold = hold or (words.word() == "with" and words.word(1) == "hold")
        words.at += 1
    if name is None or words.done():
        return unknown()
    inner = words.analyze(words.at, words.end)
    return make(Kind.DECLARE, Reason.CURSOR, _run_effect(inner), name=name.name, hold=hold, inner=inner)


def _run_effect(inner: Statement) -> Effect:
    """The effect of running ``inner`` on the primary: without a look at the catalogs, any function may write."""
    effect = inner.effect & ~Effect.JOURNAL
    if not inner.readonly or inner.functions:
        effect |= Effect.WRITE
    return effect


def fetch(words: Words) -> Statement:
    return make(Kind.FETCH, Reason.CURSOR)


def close(words: Words) -> Statement:
    words.at += 1
    token = words.peek()
    everything = token is not None and token.kind is Tok.WORD and token.value == "all"
    name = words.name()
    if name is None or not words.done():
        return unknown()
    return make(Kind.CLOSE, Reason.CURSOR, name="" if everything else name.name)


# -- the rest -----------------------------------------------------------------------------------------------------


def explain(words: Words) -> Statement:
    """EXPLAIN [ANALYZE] [VERBOSE] statement, EXPLAIN (options) statement."""
    words.at += 1
    runs = False
    if words.word() == "(" and words.word(1) not in ("select", "with", "values", "table", "("):
        words.at += 1
        while not words.done() and words.word() != ")":
            option = words.take("analyze", "analyse")
            if option:
                token = words.peek()
                value = token.value.strip("'").lower() if token else ""
                runs = value not in ("false", "off", "0")
            else:
                words.at += 1
        words.at += 1
    else:
        while word := words.take("analyze", "analyse", "verbose"):
            runs |= word != "verbose"
    if words.done():
        return unknown()
    inner = words.analyze(words.at, words.end)
    return make(Kind.EXPLAIN, Reason.NOT_A_READ, _run_effect(inner) if runs else Effect.NONE, inner=inner)


def lock(words: Words) -> Statement:
    """Later reads of the transaction rely on the lock, so they follow it to the primary: it counts as a write."""
    return make(Kind.LOCK, Reason.LOCKING, Effect.WRITE)


def copy(words: Words) -> Statement:
    """COPY [BINARY] table [(columns)] FROM|TO ..., COPY (query) TO ..."""
    words.at += 1
    if words.word() == "(":
        first = words.at + 1
        depth = 0
        while not words.done():
            word = words.word()
            depth += (word == "(") - (word == ")")
            words.at += 1
            if depth == 0:
                break
        inner = words.analyze(first, words.at - 1)
        if depth or not words.take("to"):
            return unknown()
        return _copy_to(words, inner)
    if words.word() == "binary" and words.word(1) not in ("from", "to", "(", "."):
        words.at += 1
    table = words.name()
    if table is None:
        return unknown()
    if words.word() == "(":
        while not words.done() and not words.take(")"):
            words.at += 1
    direction = words.take("from", "to")
    if not direction:
        return unknown()
    if direction == "from":
        return write(Kind.COPY_FROM, tables=(table,))
    return _copy_to(words, Statement(Kind.SELECT, Counter.SELECT, True, Reason.BALANCED, tables=(table,)))


def _copy_to(words: Words, inner: Statement) -> Statement:
    if not words.take("stdout"):
        # a file or a program on the server: some server, so the primary
        return make(Kind.COPY_TO, Reason.NOT_A_READ, _run_effect(inner) | Effect.WRITE, inner=inner)
    return Statement(
        Kind.COPY_TO,
        counter_of(Kind.COPY_TO),
        inner.readonly,
        inner.reason,
        tables=inner.tables,
        functions=inner.functions,
        effect=inner.effect,
        inner=inner,
    )


_ROLE_BOUND = frozenset(("transaction_read_only", "in_hot_standby", "all"))


def show(words: Words) -> Statement:
    """SHOW name. What differs between a primary and a standby is asked of the primary."""
    words.at += 1
    name = variable(words)
    if not name or not words.done():
        return unknown()
    if name in keywords.POOL_SHOW:
        return make(Kind.POOL_SHOW, Reason.OWN_STATEMENT, Effect.JOURNAL, name=name)
    if name in _ROLE_BOUND:
        return make(Kind.SHOW, Reason.NODE_BOUND, name="" if name == "all" else name)
    return Statement(Kind.SHOW, counter_of(Kind.SHOW), True, Reason.BALANCED, name=name)


def variable(words: Words) -> str:
    """The name of a configuration variable, special spellings by the variable they mean; '' when there is none."""
    if words.take_all("time", "zone"):
        return "timezone"
    if words.take_all("session", "authorization"):
        return "session_authorization"
    if words.take_all("transaction", "isolation", "level"):
        return "transaction_isolation"
    first = words.at
    if words.name() is None:
        return ""
    return "".join(t.value for t in words.tokens[first : words.at]).lower()


def pgpool(words: Words) -> Statement:
    return make(Kind.PGPOOL, Reason.OWN_STATEMENT, Effect.JOURNAL)


_SETS = re.compile(r"\b(set|reset|set_config)\b", re.IGNORECASE)


def may_create_temp(words: Words) -> Statement:
    """CALL and DO run code that nobody here reads; a block that speaks of settings may change the session's."""
    kind = Kind.CALL if words.word() == "call" else Kind.DO
    effect = Effect.MAY_CREATE_TEMP
    if kind is Kind.DO and _SETS.search(words.text):
        effect |= Effect.PIN_SESSION
    return write(kind, effect)


def listen(words: Words) -> Statement:
    kind = Kind.LISTEN if words.word() == "listen" else Kind.UNLISTEN
    return make(kind, Reason.SESSION_STATE)


def simple(kind: Kind, effect: Effect = Effect.NONE) -> Callable[[Words], Statement]:
    """A statement whose first word says all."""
    return lambda words: write(kind, effect)
