# Requests of whose end Python wants to hear. An Execute comes later than the Bind for which Python asked that, or never.

cdef inline void notify_void(CRelay *r) noexcept nogil:
    """The Execute of the unnamed portal does not come any more, or comes to nothing."""
    if r.notify_execute:
        r.notify_execute = 0
        r.done_failed += 1

cdef inline void notify_next(CRelay *r) noexcept nogil:
    notify_void(r)
    r.notify_execute = 2

cdef inline int notify_executed(CRelay *r) noexcept nogil:
    """The Execute of the unnamed portal is at hand: what to add to its op."""
    if r.segment.skipping:
        notify_void(r)
    if not r.notify_execute:
        return 0
    r.notify_execute = 0
    return OP_NOTIFY

cdef inline void notify_bound(CRelay *r) noexcept nogil:
    """A Bind goes out: that for which Python has asked, or one that takes the portal from it."""
    if r.notify_execute == 2:
        r.notify_execute = 1
    elif r.rx.data[r.pos + 5] == 0:
        notify_void(r)
