# The epoch moves with every change of nodes, settings and schema. A verdict holds for one epoch and is shared by all children, so
# that a session may find one of the new epoch before it has looked at the nodes itself: relay_scan comes back (NODES) first.

def known_epoch(Relay relay):
    """The epoch at which the session has last looked at the nodes."""
    return relay.c.known

def look_at_nodes(Relay relay):
    """The session is about to look at the nodes as they are now."""
    relay.c.known = relay.c.epoch[0]
