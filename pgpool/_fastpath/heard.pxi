# ---- log_backend_messages: what backends said, as runs of one kind; off, it costs one test a message -----------------

cdef int relay_heard(CRelay *r, int node, int kind) noexcept nogil:
    """Note one message; 1 when there is no room for another run. Python empties it before that can be."""
    cdef Heard *last = &r.heard[r.nheard - 1] if r.nheard else NULL
    if last != NULL and last.node == node and last.kind == kind:
        last.count += 1
        return 0
    if r.nheard < 128:
        r.heard[r.nheard].node = <uint8_t> node
        r.heard[r.nheard].kind = <uint8_t> kind
        r.heard[r.nheard].count = 1
        r.nheard += 1
    return r.nheard >= 127

def listen_to(Relay relay, bint on):
    """Come back with HEARD when backends have said something, or no longer."""
    relay.c.hearing = on
    if not on:
        relay.c.nheard = 0

def take_heard(Relay relay):
    """[(node, kind, how many in a row)] since the last call."""
    cdef int i
    found = [(relay.c.heard[i].node, chr(relay.c.heard[i].kind), relay.c.heard[i].count) for i in range(relay.c.nheard)]
    relay.c.nheard = 0
    return found
