# A read that a standby refuses, or that is lost with it, before the client has seen anything of the answer is sent once more,
# to the primary. Its bytes are still in the receive buffer: nothing is received from the client while it is under way.

cdef enum:
    ST_REFUSED = 1 << 31             # no state of a session: what was learnt holds in all of them

cdef inline void repeat_allow(CRelay *r, CLink *ln, Py_ssize_t at, uint32_t ops) noexcept nogil:
    """The request rx.data[at..pos], just taken by ln with so many ops, may be repeated: a read outside a transaction, whole,
    with nothing behind it and nothing due before it."""
    cdef uint32_t i
    r.again_size = r.again_state[0] = 0
    if ln == r.primary or r.state & ST_IN_TRANSACTION or r.rest or r.pos != r.rx.end or r.pipelining or ln.pending != ops:
        return
    for i in range(ln.tail - ops, ln.tail):
        if ln.ops[i & (ln.cap - 1)] & OP_NOTIFY:
            return                                         # Python keeps book of how it ends
    r.again_at = at
    r.again_size = r.pos - at

cdef const char *sqlstate_of(const char *p, Py_ssize_t n) noexcept nogil:
    """The five letters in an ErrorResponse or NoticeResponse of which n bytes are at hand; NULL when they are not among them."""
    cdef Py_ssize_t i = 5, j
    while i < n and p[i]:
        j = i + 1
        while j < n and p[j]:
            j += 1
        if p[i] == 67 and j - i == 6 and j < n:            # C
            return p + i + 1
        i = j + 1
    return NULL

cdef inline int says_goodbye(const char *state) noexcept nogil:
    """A warning with this SQLSTATE is a backend's last word."""
    return state != NULL and (memcmp(state, b"57P01", 5) == 0 or memcmp(state, b"57P02", 5) == 0)

cdef inline int relay_leaves(CRelay *r, CLink *ln) noexcept nogil:
    """A standby's backend has said by itself that it ends: it is given up before somebody asks it."""
    ln.dead = 1
    r.gone = ln.index
    return BACKEND_GONE

cdef int repeat_wanted(CRelay *r, CLink *ln, int op, const char *p, Py_ssize_t n) noexcept nogil:
    """Does this ErrorResponse or NoticeResponse say what the primary would not? Errors 25006 (read-only) and 40001 (conflict
    with recovery); the warnings 57P01 and 57P02 with which all backends of a server go at once. An error 57P01 does not:
    somebody wants this backend's work to end. Nor does a silent end: the statement itself may have crashed the server."""
    cdef const char *state
    if not r.again_size or ln != r.cur or op == 0 or op & OP_OURS:
        return 0
    state = sqlstate_of(p, n)
    if state == NULL:
        return 0
    if p[0] == 69:
        if memcmp(state, b"25006", 5) and memcmp(state, b"40001", 5):
            return 0
        r.repeating = 1                                    # the rest of this answer is not the client's
    elif not says_goodbye(state):
        return 0
    memcpy(r.again_state, state, 5)
    ln.rx.start = ln.seen                                  # the client has seen nothing of it
    return 1

cdef int relay_lost(CRelay *r, CLink *ln, int unsent) noexcept nogil:
    """A backend hung up; ``unsent``: before it had taken the whole request."""
    ln.dead = 1
    r.gone = ln.index
    if r.again_size and ln == r.cur and ln.pending and (unsent or r.again_state[0]):
        return AGAIN
    return BACKEND_GONE

cdef inline Key repeat_key(CRelay *r, uint32_t state) noexcept nogil:
    return verdict_key(&r.last, r.context, state, r.epoch[0])

def was_refused(Relay relay):
    """The route code with which the statement last looked up was learnt, in whatever state the session was; or 0."""
    return verdict_get(&relay.c.table, repeat_key(&relay.c, ST_REFUSED))

def repeatable(Relay relay):
    """The request under way, if there is one, can be repeated on the primary."""
    cdef CRelay *r = &relay.c
    return bool(r.again_size and r.cur != NULL and r.cur.pending)

def refused(Relay relay):
    """After AGAIN: the SQLSTATE of the standby's refusal or good-bye; '' when it did not take the request."""
    return relay.c.again_state[:5].decode("ascii") if relay.c.again_state[0] else ""

def repeat(Relay relay, uint32_t code, *, bint learn):
    """After AGAIN: the request is at hand once more, and everything up to its end goes to the primary.

    ``code``: its route, counted by its reason; ``learn``: remember it, for all children, as long as the epoch lasts.
    """
    cdef CRelay *r = &relay.c
    hot_reason(r.hot, code)
    if learn:
        verdict_put(&r.table, repeat_key(r, r.state), code)
        verdict_put(&r.table, repeat_key(r, ST_REFUSED), code)
    r.rx.start = r.pos = r.again_at
    r.rx.end = r.again_at + r.again_size
    r.again_size = r.repeating = 0
    r.due &= ~DUE_AGAIN
    r.again_state[0] = 0
    r.force = 1
    r.looked = r.every
    r.segment = NULL
    r.segment_links = r.segment_ops = 0
    r.segment_start = -1
