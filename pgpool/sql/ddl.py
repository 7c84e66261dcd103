"""CREATE, DROP and the other statements that change what the catalogs say. All go to the primary; what matters is which
of them make temporary objects or change what the relation cache knows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from pgpool.model import Effect, Kind, Statement
from pgpool.sql import utility
from pgpool.sql.utility import Words, simple, unknown, write


def create(words: Words) -> Statement:
    """CREATE [OR REPLACE] [TEMP] object ..."""
    words.at += 1
    words.take_all("or", "replace")
    words.take("global", "local")
    if words.take("temp", "temporary"):
        return write(Kind.CREATE_TEMP, Effect.MAY_CREATE_TEMP)
    ahead = words.tokens[words.at : min(words.at + 9, words.end)]
    if any(token.value == "pg_temp" and after.value == "." for token, after in pairwise(ahead)):
        return write(Kind.CREATE_TEMP, Effect.MAY_CREATE_TEMP)
    return write(Kind.DDL, Effect.DDL, name=words.word())


def drop(words: Words) -> Statement:
    """DROP object [IF EXISTS] name, ...: name is the kind of object, tables are the names of relations or databases."""
    words.at += 1
    words.take("materialized", "foreign")
    what = words.word()
    words.at += 1
    words.take_all("if", "exists")
    names = []
    if what in ("table", "view", "sequence", "database"):
        while (name := words.name()) is not None:
            names.append(name)
            if not words.take(","):
                break
    return write(Kind.DROP, Effect.DDL, name=what, tables=tuple(names))


_changes = simple(Kind.DDL, Effect.DDL)
_ddl = simple(Kind.DDL)
_vacuum = simple(Kind.VACUUM)


def security(words: Words) -> Statement:
    return write(Kind.DDL) if words.word(1) == "label" else unknown()


def imports(words: Words) -> Statement:
    return write(Kind.DDL, Effect.DDL) if words.word(1) == "foreign" else unknown()


HANDLERS: dict[str, Callable[[Words], Statement]] = {
    "begin": utility.begin,
    "start": utility.begin,
    "commit": utility.finish,
    "end": utility.finish,
    "rollback": utility.finish,
    "abort": utility.finish,
    "savepoint": utility.savepoint,
    "release": utility.release,
    "prepare": utility.prepare,
    "execute": utility.execute,
    "deallocate": utility.deallocate,
    "discard": utility.discard,
    "declare": utility.declare,
    "fetch": utility.fetch,
    "move": utility.fetch,
    "close": utility.close,
    "explain": utility.explain,
    "lock": utility.lock,
    "copy": utility.copy,
    "show": utility.show,
    "pgpool": utility.pgpool,
    "call": utility.may_create_temp,
    "do": utility.may_create_temp,
    "listen": utility.listen,
    "unlisten": utility.listen,
    "notify": simple(Kind.NOTIFY),
    "vacuum": _vacuum,
    "analyze": _vacuum,
    "analyse": _vacuum,
    "repack": _vacuum,
    "checkpoint": simple(Kind.CHECKPOINT),
    "load": simple(Kind.LOAD),
    "create": create,
    "drop": drop,
    "alter": _changes,
    "import": imports,
    "reassign": _ddl,
    "truncate": _ddl,
    "comment": _ddl,
    "grant": _ddl,
    "revoke": _ddl,
    "reindex": _ddl,
    "cluster": _ddl,
    "refresh": _ddl,
    "security": security,
}
"""First word -> what it is. SET and RESET are added by analyze.py, queries are not here."""
