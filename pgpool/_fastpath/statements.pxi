# A session's named statements, as far as Bind must find them without Python: keyed hash of the name -> fingerprint of the
# text, the links that know the statement, and, for BEGIN, its text. Python holds the whole Parse message.

cdef struct Named:
    uint64_t a                       # hash of the name; 0 = free, 1 = deleted
    uint64_t b
    Print sql
    uint64_t links                   # bit i: link i has it prepared
    char *begin                      # NUL-terminated text when it opens a transaction

cdef struct NamedMap:
    Named *rows
    uint32_t cap                     # power of two
    uint32_t used                    # live and deleted

cdef Print name_print(Seeds *k, const char *name, Py_ssize_t n) noexcept nogil:
    cdef Print p
    p.a = k.a
    p.b = k.b
    p.flags = 0
    mix_bytes(&p, k, <const uint8_t *> name, n)
    p.a = avalanche(p.a)
    p.b = avalanche(p.b)
    if p.a < 2:
        p.a = 2
    return p

cdef Named *named_find(NamedMap *m, Print p) noexcept nogil:
    cdef uint32_t i
    if m.cap == 0:
        return NULL
    i = <uint32_t> p.a & (m.cap - 1)
    while m.rows[i].a:
        if m.rows[i].a == p.a and m.rows[i].b == p.b:
            return &m.rows[i]
        i = (i + 1) & (m.cap - 1)
    return NULL

cdef Named *named_add(NamedMap *m, Print p) noexcept nogil:
    """A row for this name, found or fresh; NULL when memory is out."""
    cdef Named *row = named_find(m, p)
    cdef Named *old = m.rows
    cdef uint32_t i, j, was = m.cap, cap = 64, live = 0
    if row != NULL:
        return row
    if (m.used + 1) * 2 > m.cap:
        for i in range(was):                               # who closes as many as he prepares needs no larger table
            live += old[i].a > 1
        while cap < (live + 1) * 4:
            cap *= 2
        m.rows = <Named *> malloc(cap * sizeof(Named))
        if m.rows == NULL:
            m.rows = old
            return NULL
        memset(m.rows, 0, cap * sizeof(Named))
        m.cap = cap
        m.used = 0
        for i in range(was):
            if old[i].a > 1:
                j = <uint32_t> old[i].a & (cap - 1)
                while m.rows[j].a:
                    j = (j + 1) & (cap - 1)
                m.rows[j] = old[i]
                m.used += 1
        free(old)
    i = <uint32_t> p.a & (m.cap - 1)
    while m.rows[i].a > 1:
        i = (i + 1) & (m.cap - 1)
    if m.rows[i].a == 0:
        m.used += 1
    memset(&m.rows[i], 0, sizeof(Named))
    m.rows[i].a = p.a
    m.rows[i].b = p.b
    return &m.rows[i]

cdef void named_drop(Named *row) noexcept nogil:
    free(row.begin)
    memset(row, 0, sizeof(Named))
    row.a = 1

cdef void named_clear(NamedMap *m) noexcept nogil:
    cdef uint32_t i
    for i in range(m.cap):
        free(m.rows[i].begin)
    free(m.rows)
    m.rows = NULL
    m.cap = m.used = 0
