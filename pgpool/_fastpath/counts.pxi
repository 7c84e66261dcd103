# What the hot path counts, in this child's hot cell (shared/layout.py): one writer, no lock, no system call.

from libc.time cimport time_t

cdef extern from "time.h" nogil:
    struct timespec:
        time_t tv_sec
        long tv_nsec
    enum: CLOCK_MONOTONIC, CLOCK_REALTIME
    int clock_gettime(int clock, timespec *ts)

cdef extern from *:
    """
    static inline int bits_of(uint64_t v) { return v ? 64 - __builtin_clzll(v) : 0; }
    """
    int bits_of(uint64_t v) noexcept nogil

cdef enum:
    HOT_WAITING = 0                  # the hot child cell (shared/layout.py)
    HOT_CONNECTING = 1
    HOT_IDLE = 2
    HOT_IN_TRANSACTION = 3
    HOT_EXECUTE = 4
    HOT_WAIT = 1600
    HOT_COUNTERS = 2048
    HOT_NODE = 512
    HOT_TEXT = 1024
    HOT_REASON_COUNT = 64
    HOT_LATENCY = 72                 # in the block of a node: two histograms, as primary and as load balance node
    HISTOGRAM_WORDS = 22             # a sum in microseconds, then the buckets
    BUCKETS = 21                     # below 64 us, 128 us ... 33.5 s, and all the rest
    FIRST_BITS = 6

cdef struct Hot:
    uint32_t status
    uint32_t text_len
    uint64_t activity_us
    uint64_t queries
    uint64_t hits
    uint64_t misses
    uint64_t clients
    uint64_t guests
    char pad[8]
    char text[1024]
    uint64_t reasons[64]

cdef inline uint64_t now_us() noexcept nogil:
    """CLOCK_MONOTONIC in microseconds: the same clock in all processes, and one that never jumps."""
    cdef timespec ts
    clock_gettime(CLOCK_MONOTONIC, &ts)
    return <uint64_t> ts.tv_sec * 1000000 + <uint64_t> ts.tv_nsec // 1000

cdef inline void hot_latency(Hot *h, int node, int standby, uint64_t us) noexcept nogil:
    """One request was answered after so long."""
    cdef uint64_t *row = <uint64_t *> (<char *> h + HOT_COUNTERS + node * HOT_NODE + HOT_LATENCY)
    cdef int bucket = bits_of(us >> FIRST_BITS)
    if standby:
        row += HISTOGRAM_WORDS
    row[0] += us
    row[1 + (bucket if bucket < BUCKETS else BUCKETS - 1)] += 1

cdef inline void hot_reason(Hot *h, uint32_t code) noexcept nogil:
    """One statement was routed: why it went where it went. Code 0: it was routed before."""
    if h != NULL and code:
        h.reasons[code >> 20 & (HOT_REASON_COUNT - 1)] += 1
