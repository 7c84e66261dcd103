"""Facts in shared memory: one writer per cell, named in layout.py."""

from pgpool.shared.area import Shared
from pgpool.shared.children import Child, ChildStatus
from pgpool.shared.layout import Lock
from pgpool.shared.nodes import Node
from pgpool.shared.requests import Request, RequestFlag, RequestKind
from pgpool.shared.slots import Slot

__all__ = ["Child", "ChildStatus", "Lock", "Node", "Request", "RequestFlag", "RequestKind", "Shared", "Slot"]
