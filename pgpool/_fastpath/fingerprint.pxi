# A fingerprint: two keyed 64-bit hashes of one SQL string, constants and comments left out. Two strings with one
# fingerprint mean the same to the router. What cannot be told apart safely is hashed to the letter instead.

cdef enum:
    FP_EXACT = 1          # hashed to the letter: a utility statement, or the lexer was not sure
    FP_MULTI = 2          # a second statement follows a semicolon
    FP_COMMENT_FIRST = 4  # a comment stands before the first token
    FP_SPACE_FIRST = 8
    FP_COMMENT = 16
    FP_UNSURE = 32        # unterminated string or comment, or a number glued to a word
    FP_BYTES = 64         # bytes above 127

cdef enum:
    TOK_NONE, TOK_WORD, TOK_VALUE, TOK_COMMA, TOK_OP, TOK_OTHER

cdef struct Print:
    uint64_t a
    uint64_t b
    uint32_t flags

cdef struct Seeds:
    uint64_t a
    uint64_t b
    uint64_t ka           # odd multipliers
    uint64_t kb

cdef uint8_t CLASS[256]   # 1 space, 2 word start, 4 word inside, 8 digit, 16 operator character

cdef void init_classes() noexcept:
    cdef int c
    memset(CLASS, 0, 256)
    for c in b" \t\n\r\f\v":
        CLASS[c] = 1
    for c in range(128, 256):
        CLASS[c] = 6
    for c in b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_":
        CLASS[c] = 6
    for c in b"0123456789":
        CLASS[c] = 4 | 8
    CLASS[36] = 4         # $ inside a word
    for c in b"~!@#^&|`?+-*/%<>=":
        CLASS[c] = 16

init_classes()

cdef inline uint64_t avalanche(uint64_t h) noexcept nogil:
    h ^= h >> 32
    h *= 0xD6E8FEB86659FD93ULL
    h ^= h >> 32
    h *= 0xD6E8FEB86659FD93ULL
    h ^= h >> 32
    return h

cdef inline void mix(Print *p, Seeds *k, uint64_t v) noexcept nogil:
    p.a = (p.a ^ v) * k.ka
    p.a ^= p.a >> 29
    p.b = ((p.b << 23 | p.b >> 41) + v) * k.kb

cdef void mix_bytes(Print *p, Seeds *k, const uint8_t *s, Py_ssize_t n) noexcept nogil:
    cdef uint64_t v
    mix(p, k, <uint64_t> n)
    while n >= 8:
        memcpy(&v, s, 8)
        mix(p, k, v)
        s += 8
        n -= 8
    if n:
        v = 0
        memcpy(&v, s, <size_t> n)
        mix(p, k, v)

cdef inline uint8_t fold(uint8_t c) noexcept nogil:
    return c | 32 if 65 <= c <= 90 else c

cdef void mix_word(Print *p, Seeds *k, const uint8_t *s, Py_ssize_t n) noexcept nogil:
    """Folded like PostgreSQL folds unquoted names: ASCII only."""
    cdef uint64_t v = 1
    cdef Py_ssize_t i
    for i in range(n):
        v = v << 8 | fold(s[i])
        if i & 7 == 6:
            mix(p, k, v)
            v = 1
    mix(p, k, v << 4 | 4)

cdef Py_ssize_t skip_string(const uint8_t *s, Py_ssize_t i, Py_ssize_t n, int backslash) noexcept nogil:
    """s[i] is the opening quote; the position behind the closing one, or -1."""
    cdef uint8_t quote = s[i]
    i += 1
    while i < n:
        if s[i] == quote:
            if i + 1 < n and s[i + 1] == quote:
                i += 2
                continue
            return i + 1
        if backslash and s[i] == 92:
            i += 1
        i += 1
    return -1

cdef Py_ssize_t skip_comment(const uint8_t *s, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """s[i:] starts a comment; the position behind it, or -1. Block comments nest."""
    cdef int depth = 0
    if s[i] == 45:
        while i < n and s[i] != 10 and s[i] != 13:
            i += 1
        return i
    while i + 1 < n:
        if s[i] == 47 and s[i + 1] == 42:
            depth += 1
            i += 2
        elif s[i] == 42 and s[i + 1] == 47:
            depth -= 1
            i += 2
            if depth == 0:
                return i
        else:
            i += 1
    return -1

cdef Py_ssize_t skip_dollar(const uint8_t *s, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """s[i] is a dollar: the position behind a dollar-quoted string, 0 when it starts none, -1 when it never ends."""
    cdef Py_ssize_t j = i + 1, tag
    if j < n and CLASS[s[j]] & 8:
        return 0
    while j < n and CLASS[s[j]] & 4 and s[j] != 36:
        j += 1
    if j >= n or s[j] != 36:
        return 0
    tag = j - i + 1
    j += 1
    while j + tag <= n:
        if s[j] == 36 and memcmp(s + j, s + i, <size_t> tag) == 0:
            return j + tag
        j += 1
    return -1

cdef Py_ssize_t skip_number(const uint8_t *s, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Digits, one point, an exponent that has digits: never a letter more, so no keyword hides in a number."""
    while i < n and (CLASS[s[i]] & 8 or s[i] == 95):
        i += 1
    if i < n and s[i] == 46:
        i += 1
        while i < n and CLASS[s[i]] & 8:
            i += 1
    if i < n and s[i] | 32 == 101:
        if i + 1 < n and CLASS[s[i + 1]] & 8:
            i += 2
        elif i + 2 < n and (s[i + 1] == 43 or s[i + 1] == 45) and CLASS[s[i + 2]] & 8:
            i += 3
        else:
            return i
        while i < n and CLASS[s[i]] & 8:
            i += 1
    return i

cdef int blindable(const uint8_t *s, Py_ssize_t n) noexcept nogil:
    """The first keyword of statements whose route never depends on a constant."""
    cdef uint8_t w[6]
    cdef Py_ssize_t i
    if n < 4 or n > 6:
        return 0
    for i in range(n):
        w[i] = fold(s[i])
    if n == 6:
        return memcmp(w, b"select", 6) == 0 or memcmp(w, b"insert", 6) == 0 or memcmp(w, b"update", 6) == 0 \
            or memcmp(w, b"delete", 6) == 0 or memcmp(w, b"values", 6) == 0
    if n == 5:
        return memcmp(w, b"table", 5) == 0 or memcmp(w, b"merge", 5) == 0
    return memcmp(w, b"with", 4) == 0

cdef void fingerprint(const uint8_t *s, Py_ssize_t n, Seeds *k, int backslash, int exact, Print *p) noexcept nogil:
    """Hash s[0:n] into p. ``backslash``: standard_conforming_strings is off. ``exact``: constants count."""
    cdef Py_ssize_t i = 0, j
    cdef uint8_t c
    cdef int before = TOK_NONE, comma = 0, ended = 0, spaced = 0, first = 1, escape
    p.a = k.a
    p.b = k.b
    p.flags = 0
    if n and CLASS[s[0]] & 1:
        p.flags |= FP_SPACE_FIRST
    while i < n:
        c = s[i]
        if CLASS[c] & 1:
            i += 1
            spaced = 1
            continue
        if i + 1 < n and ((c == 45 and s[i + 1] == 45) or (c == 47 and s[i + 1] == 42)):
            p.flags |= FP_COMMENT | (FP_COMMENT_FIRST if before == TOK_NONE else 0)
            i = skip_comment(s, i, n)
            spaced = 1
            if i < 0:
                p.flags |= FP_UNSURE
                break
            continue
        if c == 59:
            ended = 1
            i += 1
            continue
        if ended:
            if comma:
                mix(p, k, 44)
                comma = 0
            p.flags |= FP_MULTI
            mix(p, k, 59)
            ended = 0
            before = TOK_OTHER
        j = -2                                   # the end of a constant, when this token is one
        if CLASS[c] & 2:
            if i + 1 < n and s[i + 1] == 39 and (c | 32 == 101 or c | 32 == 98 or c | 32 == 120 or c | 32 == 110):
                j = skip_string(s, i + 1, n, c | 32 == 101 or (c | 32 == 110 and backslash))
            elif i + 2 < n and c | 32 == 117 and s[i + 1] == 38 and s[i + 2] == 39:
                j = skip_string(s, i + 2, n, 0)
            elif i + 2 < n and c | 32 == 117 and s[i + 1] == 38 and s[i + 2] == 34:
                p.flags |= FP_UNSURE             # U&"..": rare enough to be compared to the letter
                break
            else:
                j = i
                escape = 0
                while j < n and CLASS[s[j]] & 4:
                    escape |= s[j]
                    j += 1
                if escape & 128:
                    p.flags |= FP_BYTES
                if first:
                    first = 0
                    if not blindable(s + i, j - i):
                        exact = 1
                if comma:
                    mix(p, k, 44)
                    comma = 0
                mix_word(p, k, s + i, j - i)
                i = j
                before = TOK_WORD
                spaced = 0
                continue
        elif CLASS[c] & 8 or (c == 46 and i + 1 < n and CLASS[s[i + 1]] & 8):
            j = skip_number(s, i, n)
            if j < n and CLASS[s[j]] & 2:
                p.flags |= FP_UNSURE
                break
        elif c == 39:
            j = skip_string(s, i, n, backslash)
        elif c == 36:
            j = skip_dollar(s, i, n)
            if j == 0:
                j = i + 1
                if j < n and CLASS[s[j]] & 8:
                    while j < n and CLASS[s[j]] & 8:
                        j += 1
                    if j < n and CLASS[s[j]] & 2:
                        p.flags |= FP_UNSURE
                        break
                else:
                    p.flags |= FP_UNSURE
                    break
        if j == -1:
            p.flags |= FP_UNSURE
            break
        if j >= 0:                               # a constant or a parameter; `1, 2, 3` counts once
            if comma and before == TOK_VALUE:
                comma = 0
            else:
                if comma:
                    mix(p, k, 44)
                    comma = 0
                mix(p, k, 2)
            first = 0
            before = TOK_VALUE
            i = j
            spaced = 0
            continue
        if c == 44 and before == TOK_VALUE and not comma:
            comma = 1
            i += 1
            continue
        if comma:
            mix(p, k, 44)
            comma = 0
        if c == 34:
            j = skip_string(s, i, n, 0)
            if j < 0:
                p.flags |= FP_UNSURE
                break
            mix(p, k, 3)
            mix_bytes(p, k, s + i, j - i)
            i = j
            before = TOK_OTHER
            first = 0
        else:
            if CLASS[c] & 16:
                if before == TOK_OP and spaced:
                    mix(p, k, 32)
                before = TOK_OP
            else:
                before = TOK_OTHER
            if c != 40:
                first = 0
            mix(p, k, 256 + c)
            i += 1
        spaced = 0
    if comma:
        mix(p, k, 44)
    if before == TOK_NONE and not p.flags & FP_UNSURE:
        exact = 0                                # empty, or nothing but comments
    if exact or p.flags & FP_UNSURE:
        p.a = k.a
        p.b = k.b
        p.flags |= FP_EXACT
        mix_bytes(p, k, s, n)
    p.a = avalanche(p.a)
    p.b = avalanche(p.b)

def fingerprint_of(const uint8_t[::1] sql, *, bint backslash=False, bint exact=False, uint64_t seed=1):
    """``(a, b, flags)`` of one SQL string without its NUL: for tests against the slow twin."""
    cdef Seeds k
    cdef Print p
    make_seeds(&k, seed, ~seed)
    if sql.shape[0] == 0:
        fingerprint(NULL, 0, &k, backslash, exact, &p)
    else:
        fingerprint(&sql[0], sql.shape[0], &k, backslash, exact, &p)
    return p.a, p.b, p.flags

cdef void make_seeds(Seeds *k, uint64_t a, uint64_t b) noexcept nogil:
    """The multipliers are secret too: texts that collide cannot be built without them."""
    k.a = avalanche(a ^ 0x6A09E667F3BCC909ULL)
    k.b = avalanche(b ^ 0xBB67AE8584CAA73BULL)
    k.ka = avalanche(a + 0x3C6EF372FE94F82BULL) | 1
    k.kb = avalanche(b + 0xA54FF53A5F1D36F1ULL) | 1
