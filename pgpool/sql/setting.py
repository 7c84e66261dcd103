"""SET and RESET: which variable, for how long, and may a standby be told? Source: behaviour.md 5.1.

Effects: JOURNAL means a standby that joins later is told too. Without JOURNAL the statement concerns the primary alone
(READ WRITE, constraints). SERIALIZABLE keeps the reads of the transaction on the primary; for the whole session
PIN_SESSION does that, because a standby cannot be serializable at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from pgpool.model import Counter, Effect, Kind, Reason, Statement
from pgpool.sql.tokens import Tok, Token
from pgpool.sql.utility import Words, access_of, make, modes, unknown, variable

_OFF = frozenset(("off", "false", "f", "no", "n", "0", "of", "fa", "fal", "fals"))
_ON = frozenset(("on", "true", "tru", "tr", "t", "yes", "ye", "y", "1"))
_OF_TRANSACTION = frozenset(("transaction_read_only", "transaction_isolation", "transaction_deferrable"))
_CALL = ("select", "set_config", "(", "", ",", "", ",", "", ")")
"""Words and punctuation of a call of set_config with three constants."""
_NAME = re.compile(r"'([A-Za-z_][A-Za-z0-9_$]*(?:\.[A-Za-z_][A-Za-z0-9_$]*)*)'")
_VALUE = re.compile(r"'[^'\\]*(?:''[^'\\]*)*'")


def reset(words: Words) -> Statement:
    words.at += 1
    if words.word() == "all" and words.at + 1 == words.end:
        return make(Kind.RESET, Reason.SESSION_STATE, Effect.JOURNAL)
    name = variable(words)
    if not name or not words.done():
        return unknown()
    effect = Effect.NONE if name in _OF_TRANSACTION else Effect.JOURNAL
    return make(Kind.RESET, Reason.SESSION_STATE, effect, name=name, local=name in _OF_TRANSACTION)


def set_(words: Words) -> Statement:
    """SET [SESSION|LOCAL] variable ..., SET TRANSACTION ..., SET SESSION CHARACTERISTICS ..., SET CONSTRAINTS ..."""
    words.at += 1
    if words.take_all("session", "characteristics", "as", "transaction"):
        return _transaction(words, "session characteristics")
    if words.take("constraints"):
        return make(Kind.SET, Reason.SESSION_STATE, name="constraints", local=True)
    local = False
    following = words.word(1)
    if following not in ("to", ".", "") or (words.peek(1) is not None and words.peek(1).kind is Tok.QUOTED):
        if words.word() == "session" and following != "authorization":
            words.at += 1
        elif words.word() == "local":
            local = True
            words.at += 1
    if words.take("transaction"):
        if words.take("snapshot"):
            # A snapshot was exported by the primary; a standby cannot take it.
            return make(Kind.SET, Reason.SESSION_STATE, Effect.PIN_TRANSACTION, name="transaction snapshot", local=True)
        return _transaction(words, "transaction")
    name, value = _assignment(words)
    if not name:
        return unknown()
    return _variable_set(name, value, local)


def _transaction(words: Words, name: str) -> Statement:
    found = modes(words)
    if not found:
        return unknown()
    local = name == "transaction"
    effect = Effect.JOURNAL
    if "serializable" in found:
        effect = Effect.SERIALIZABLE if local else Effect.PIN_SESSION
    elif "write" in found:
        # A standby refuses it and needs it not. Together with an isolation level it cannot be replayed in part.
        effect = Effect.NONE
        if "repeatable" in found:
            effect = Effect.PIN_TRANSACTION if local else Effect.PIN_SESSION
    return make(Kind.SET, Reason.SESSION_STATE, effect, name=name, local=local, access=access_of(found))


_SPECIAL = {
    "names": "client_encoding",
    "schema": "search_path",
    "role": "role",
    "seed": "seed",
    "catalog": "catalog",
}


def _assignment(words: Words) -> tuple[str, str]:
    """(variable, first token of the value in lower case without quotes); ('', '') when it is neither."""
    special = words.word()
    if words.take_all("time", "zone"):
        name = "timezone"
    elif words.take_all("session", "authorization"):
        name = "session_authorization"
    elif words.take_all("xml", "option"):
        name = "xmloption"
    elif special in _SPECIAL and words.word(1) not in ("to", ".") and not _equals(words, 1):
        words.at += 1
        name = _SPECIAL[special]
        if words.done() and special != "names":
            return "", ""
    else:
        name = variable(words)
        if not name:
            return "", ""
        if _equals(words, 0):
            words.at += 1
        elif not words.take("to"):
            return "", ""
        if words.done():
            return "", ""
    token = words.peek()
    return name, token.value.strip("'").lower() if token else ""


def _equals(words: Words, offset: int) -> bool:
    token = words.peek(offset)
    return token is not None and token.kind is Tok.OP and token.value == "="


def _variable_set(name: str, value: str, local: bool) -> Statement:
    local = local or name in _OF_TRANSACTION
    effect = Effect.JOURNAL
    if name in ("transaction_isolation", "default_transaction_isolation") and value not in (
        "read committed",
        "read uncommitted",
        "repeatable read",
    ):
        # serializable, or a spelling or default nobody here can tell
        effect = Effect.SERIALIZABLE if name == "transaction_isolation" else Effect.PIN_SESSION
        if name == "default_transaction_isolation" and value == "default":
            effect = Effect.JOURNAL
    elif name == "transaction_read_only" and (value in _OFF or value == "default"):
        effect = Effect.NONE
    access = "only" if name == "transaction_read_only" and value in _ON else ""
    return make(Kind.SET, Reason.SESSION_STATE, effect, name=name, local=local, access=access)


def called(found: Sequence[Token]) -> Statement | None:
    """SELECT [pg_catalog.]set_config('name', 'value', true|false), nothing else: SET or SET LOCAL in other words, so that a
    standby is told of it too. None for anything else: expressions.set_config_effect says what that does to the session. The
    settings of the transaction itself are left out, since they cannot be set once a query has run."""
    tokens = list(found)
    if [t[:2] for t in tokens[1:3]] == [(Tok.WORD, "pg_catalog"), (Tok.PUNCT, ".")]:
        del tokens[1:3]
    if len(tokens) != len(_CALL) or any(
        t.value != word or t.kind not in (Tok.WORD, Tok.PUNCT) for t, word in zip(tokens, _CALL, strict=True) if word
    ):
        return None
    name, value, local = tokens[3], tokens[5], tokens[7]
    spelled = _NAME.fullmatch(name.value)
    if spelled is None or not _VALUE.fullmatch(value.value) or local[:2] not in ((Tok.WORD, "true"), (Tok.WORD, "false")):
        return None
    key = spelled[1].lower()
    if key in _OF_TRANSACTION:
        return None
    statement = _variable_set(key, value.value.strip("'").lower(), local.value == "true")
    return replace(statement, counter=Counter.SELECT) if statement.effect is Effect.JOURNAL else None
