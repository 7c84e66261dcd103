"""READ ONLY transactions that run wholly on the load balance node (read_only_transactions_on_standby, ours). Pure.

For the length of such a transaction the standby takes the primary's place in its session: it gets BEGIN, every statement and
COMMIT, and the primary hears nothing of it.
"""

from __future__ import annotations

from pgpool.model import Dest, Effect, Kind, Reason, Route, Statement

ENDS = (Kind.COMMIT, Kind.ROLLBACK, Kind.PREPARE_TRANSACTION)
_KEPT = Effect.JOURNAL | Effect.BEGIN | Effect.BEGIN_PLAIN
"""Effects that mean something there: nothing can be written, no catalog changes, and the transaction has one node only."""


def may_begin(statement: Statement, read_only_by_default: bool) -> bool:
    """Does this BEGIN open a transaction that can run on a standby? A SERIALIZABLE one cannot (PostgreSQL, hot standby)."""
    if statement.kind is not Kind.BEGIN or statement.effect & Effect.SERIALIZABLE:
        return False
    return statement.access == "only" or (not statement.access and read_only_by_default)


def makes_read_only(statement: Statement) -> bool:
    """SET TRANSACTION READ ONLY and its other spelling."""
    return statement.kind is Kind.SET and statement.local and statement.access == "only" and not (
        statement.effect & Effect.SERIALIZABLE
    )


def there(statement: Statement) -> Route:
    """The route of a statement inside of such a transaction: to the node that leads it."""
    effect = statement.effect & _KEPT
    cacheable = not (effect & Effect.JOURNAL or statement.kind in (*ENDS, Kind.BEGIN) or unfit(statement))
    return Route(Dest.PRIMARY, Reason.ON_STANDBY, effect, statement.counter, cacheable)


def unfit(statement: Statement) -> str:
    """Why a statement would do other than it says when it ran there; '' when it would not."""
    if statement.parts and any(part.kind in (*ENDS, Kind.BEGIN) for part in statement.parts):
        return "several statements in one string would end the transaction and go on behind it"
    if statement.hold or any(part.hold for part in statement.parts):
        return "a cursor WITH HOLD would outlive the transaction, where the session does not look for it"
    if statement.effect & Effect.PIN_SESSION:
        return "it changes the session in a way that the primary cannot be told of"
    return ""
