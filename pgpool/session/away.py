"""What a session notes while a standby leads its READ ONLY transactions (aside.py acts on it)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgpool.session.state import Session


@dataclass(slots=True)
class Away:
    node: int = -1
    """The primary's node id while a standby is in its place."""
    back: Callable[[Session], None] | None = None
    """Called when that transaction is over."""
    opened: int = 0
    """Number of requests at the last BEGIN."""
    held: tuple[tuple[int, ...], bool] | None = None
    """What the primary had been given when it was last asked what the session holds there, and the answer."""
    default: tuple[int, bool] = (-1, False)
    """The journal's version, and default_transaction_read_only then."""
