"""Facts in shared memory: one writer per cell, named in layout.py."""

from pgpool.shared.area import Shared

__all__ = ["Shared"]
