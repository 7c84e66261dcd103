# Is the primary still the primary? What servers say by the way: an error 25006 from the primary, and in_hot_standby
# (PostgreSQL 14), which a server reports at the first request after its promotion.

cdef inline int refuses_writes(const char *p, Py_ssize_t n) noexcept nogil:
    """Is this ErrorResponse, of which n bytes are at hand, a 25006 (read_only_sql_transaction)?"""
    cdef const char *state = sqlstate_of(p, n)
    return state != NULL and memcmp(state, b"25006", 5) == 0

cdef void relay_role(CRelay *r, CLink *ln, const char *p, Py_ssize_t n) noexcept nogil:
    """A ParameterStatus of n bytes: a primary that has become a standby, or a standby that was promoted?"""
    if n < 22 or memcmp(p + 5, b"in_hot_standby\0", 15):
        return
    if (memcmp(p + 20, b"on", 2) == 0) == (ln == r.primary):
        r.due |= DUE_DOUBT

def take_doubt(Relay relay):
    """Somebody should look who the primary is (DOUBT): that has been seen to."""
    relay.c.due &= ~DUE_DOUBT
