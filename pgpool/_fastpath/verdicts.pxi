# The verdict table: shared memory, no lock. An entry is two words, written one by one; the second carries 32 bits of an
# independent hash, so a pair of which a reader saw only one half is a miss, never a wrong answer.

cdef struct Table:
    uint64_t *words
    uint64_t mask                    # of buckets; a bucket is four entries, one cache line

cdef struct Key:
    uint64_t slot
    uint32_t check

cdef inline Key verdict_key(Print *p, uint64_t context, uint32_t state, uint32_t epoch) noexcept nogil:
    cdef Key k
    cdef uint64_t salt = context ^ (<uint64_t> state * 0x9E3779B97F4A7C15ULL) ^ (<uint64_t> epoch * 0xC2B2AE3D27D4EB4FULL) \
        ^ (<uint64_t> p.flags << 48)
    k.slot = avalanche(p.a ^ salt)
    if k.slot == 0:
        k.slot = 1
    k.check = <uint32_t> (avalanche(p.b + salt) >> 32)
    return k

cdef uint32_t verdict_get(Table *t, Key k) noexcept nogil:
    """The route code stored for this key, 0 for none."""
    cdef uint64_t *e
    cdef uint64_t value
    cdef int i
    if t.words == NULL:
        return 0
    e = t.words + (k.slot >> 8 & t.mask) * 8
    for i in range(4):
        if e[2 * i] == k.slot:
            value = e[2 * i + 1]
            if <uint32_t> (value >> 32) == k.check:
                return <uint32_t> value
    return 0

cdef void verdict_put(Table *t, Key k, uint32_t code) noexcept nogil:
    """Store; a full bucket loses the entry that the key itself picks (old epochs go the same way)."""
    cdef uint64_t *e
    cdef int i, victim = <int> (k.slot & 3)
    if t.words == NULL:
        return
    e = t.words + (k.slot >> 8 & t.mask) * 8
    for i in range(4):
        if e[2 * i] == k.slot or e[2 * i] == 0:
            victim = i
            break
    e[2 * victim + 1] = 0
    e[2 * victim] = k.slot
    e[2 * victim + 1] = <uint64_t> k.check << 32 | code
