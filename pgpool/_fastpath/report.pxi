# What SHOW pool_pools, ps and the statistics tell about this child: written where it stands, no system call.

cdef void relay_title(CRelay *r, const char *text, Py_ssize_t n) noexcept nogil:
    """The last word of the process title, written in place: no call, no allocation."""
    cdef Py_ssize_t i
    if r.title_room <= 0:
        return
    for i in range(r.title_room):
        r.title[i] = text[i] if i < n else 0

def write_title(size_t address, int size, bytes text):
    """Write a process title in place, without a system call: ``size`` bytes at ``address`` (system/process.title_area)."""
    cdef int n = <int> len(text) if len(text) < size else size - 1
    cdef char *at = <char *> address
    memcpy(at, <const char *> text, <size_t> n)
    memset(at + n, 0, <size_t> (size - n))

cdef void relay_begun(CRelay *r, const char *text, Py_ssize_t n) noexcept nogil:
    """A request starts: what SHOW pool_pools and ps tell about this child."""
    cdef Py_ssize_t i = 0
    cdef char word[24]
    if r.hot == NULL:
        return
    r.hot.status = HOT_EXECUTE
    r.hot.queries += 1
    if r.began == 0:                                       # the first one since the last answer: one look at the clock
        r.began = r.hot.activity_us = now_us()
    if text == NULL:
        return
    if n > HOT_TEXT - 1:
        n = HOT_TEXT - 1
    memcpy(r.hot.text, text, <size_t> n)
    r.hot.text_len = <uint32_t> n
    if r.title_room > 0:
        while i < n and i < 20 and CLASS[<uint8_t> text[i]] & 2:
            word[i] = text[i] & ~32
            i += 1
        relay_title(r, word, i)

cdef void relay_rested(CRelay *r, int txn) noexcept nogil:
    """ReadyForQuery went to the client."""
    if r.hot == NULL:
        return
    r.began = 0
    r.hot.activity_us = now_us()
    if txn == 73:
        r.hot.status = HOT_IDLE
        relay_title(r, b"idle", 4)
    else:
        r.hot.status = HOT_IN_TRANSACTION
        relay_title(r, b"idle in transaction", 19)

cdef inline void relay_count(CRelay *r, int node, int what) noexcept nogil:
    if r.hot != NULL:
        (<uint64_t *> (<char *> r.hot + HOT_COUNTERS + node * HOT_NODE))[what] += 1
