# Byte buffers and message framing: type byte, then a big-endian length that counts itself (protocol 3.0, "Message Formats").

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset
from cpython.bytes cimport PyBytes_FromStringAndSize

cdef enum:
    SMALL_MESSAGE = 10000            # what PostgreSQL accepts for messages without user data
    LARGE_MESSAGE = 0x3FFFFFFF       # 1 GB - 1

cdef struct Buf:
    # Bytes start..end of data are valid; cap is what was allocated.
    char *data
    Py_ssize_t start
    Py_ssize_t end
    Py_ssize_t cap

cdef inline uint32_t be32(const char *p) noexcept nogil:
    cdef const uint8_t *u = <const uint8_t *> p
    return (<uint32_t> u[0] << 24) | (<uint32_t> u[1] << 16) | (<uint32_t> u[2] << 8) | u[3]

cdef inline void put_be32(char *p, uint32_t v) noexcept nogil:
    cdef uint8_t *u = <uint8_t *> p
    u[0] = <uint8_t> (v >> 24)
    u[1] = <uint8_t> ((v >> 16) & 255)
    u[2] = <uint8_t> ((v >> 8) & 255)
    u[3] = <uint8_t> (v & 255)

cdef int buf_room(Buf *b, Py_ssize_t want) noexcept nogil:
    """Make room for `want` more bytes behind end, moving or growing; -1 when memory is out."""
    cdef Py_ssize_t have = b.end - b.start, cap
    cdef char *fresh
    if b.cap - b.end >= want:
        return 0
    if b.start:
        if have:
            memmove(b.data, b.data + b.start, <size_t> have)
        b.start = 0
        b.end = have
    if b.cap - b.end >= want:
        return 0
    cap = b.cap if b.cap else 8192
    while cap - have < want:
        cap *= 2
    fresh = <char *> realloc(b.data, <size_t> cap)
    if fresh == NULL:
        return -1
    b.data = fresh
    b.cap = cap
    return 0

cdef int buf_add(Buf *b, const char *p, Py_ssize_t n) noexcept nogil:
    if buf_room(b, n) < 0:
        return -1
    memcpy(b.data + b.end, p, <size_t> n)
    b.end += n
    return 0

cdef void buf_free(Buf *b) noexcept nogil:
    free(b.data)
    b.data = NULL
    b.start = b.end = b.cap = 0

cdef inline void buf_shrink(Buf *b, Py_ssize_t keep) noexcept nogil:
    """Give a buffer that one big message has blown up back to the allocator; only when it is empty."""
    if b.start == b.end:
        b.start = b.end = 0
        if b.cap > keep:
            buf_free(b)

cdef int frontend_limit(int kind) noexcept nogil:
    """The longest length word PostgreSQL takes for this frontend message; 0 for a type it does not know."""
    if kind == 81 or kind == 80 or kind == 66 or kind == 70 or kind == 100:       # Q P B F d
        return LARGE_MESSAGE
    if kind == 68 or kind == 69 or kind == 67 or kind == 83 or kind == 72 or kind == 88 or kind == 99 or kind == 102:
        return SMALL_MESSAGE                                                       # D E C S H X c f
    return 0

cdef inline Py_ssize_t cstrlen(const char *s) noexcept nogil:
    cdef Py_ssize_t n = 0
    if s == NULL:
        return 0
    while s[n]:
        n += 1
    return n

cdef int parse_is_whole(const char *text, const char *end) noexcept nogil:
    """Behind a Parse's name: a string, a count and that many type oids, nothing else."""
    cdef const char *stop = <const char *> memchr(text, 0, <size_t> (end - text)) if end > text else NULL
    if stop == NULL or end - stop < 3:
        return 0
    return end - stop - 3 == 4 * (<int> (<uint8_t> stop[1]) << 8 | <uint8_t> stop[2])

def frontend_frames(const uint8_t[::1] data):
    """Cut frontend bytes into messages: ``(list of (type, start, length incl. header), bad)``.

    ``bad`` is None, or (position, 'type' | 'length') of the first message no client may send. A message not yet whole
    is left out. For tests against a slow twin; the relay frames in place with the same rules.
    """
    cdef Py_ssize_t pos = 0, n = data.shape[0], total
    cdef int limit
    cdef uint32_t size
    found = []
    while n - pos >= 5:
        limit = frontend_limit(data[pos])
        if limit == 0:
            return found, (pos, "type")
        size = be32(<const char *> &data[pos + 1])
        if size < 4 or size > <uint32_t> limit:
            return found, (pos, "length")
        total = <Py_ssize_t> size + 1
        if n - pos < total:
            break
        found.append((chr(data[pos]), pos, total))
        pos += total
    return found, None
