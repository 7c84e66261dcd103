# The unnamed statement, when the relay has parsed it alone and Python has to bind it.

def take_unnamed(Relay relay):
    """``(node, Parse message)`` when the unnamed statement was parsed without Python since the last call, else None."""
    cdef CRelay *r = &relay.c
    if r.unnamed_known != 2:
        return None
    r.unnamed_known = 1
    message = r.unnamed_parse.data[r.unnamed_parse.start:r.unnamed_parse.end]
    return r.unnamed.node if r.unnamed != NULL else -1, message
