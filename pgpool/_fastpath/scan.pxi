# ---- client -> backend: settle each message at hand -----------------------------------------------------------------

cdef int relay_join(CRelay *r, CLink *ln) noexcept nogil:
    """Bring a link to where the session is: its settings (Python replays them) and its open transaction."""
    cdef int rc
    r.wanted = ln
    if not ln.ready:
        return CATCH_UP
    if ln != r.primary and r.state & ST_IN_TRANSACTION and ln.txn == 73:
        if r.begin_len == 0:
            return CATCH_UP
        if r.rx.start < r.pos:
            rc = relay_flush(r)
            if rc != MORE:
                return rc
        if link_query(ln, r.begin, r.begin_len, OP_SWALLOW) < 0:
            return NO_MEMORY
        ln.txn = 84
    return MORE

cdef inline CLink *relay_dest(CRelay *r, uint32_t code) noexcept nogil:
    """The link of a route code; NULL when the load balance node is not connected yet."""
    cdef CLink *ln
    if code & 3 == DEST_BALANCE:
        if r.primary.pending or r.force:
            return r.primary                               # what is under way there may change the session's state
        if r.ring_len:
            ln = r.links[r.ring[r.ring_pos]]
            return ln
        return r.balance
    return r.primary

cdef void relay_wrote(CRelay *r) noexcept nogil:
    r.wrote_pending = 1
    r.state |= ST_WROTE_SESSION
    if r.state & ST_IN_TRANSACTION:
        r.state |= ST_WROTE_TXN | ST_WROTE_ANY

cdef void relay_effects(CRelay *r, CLink *ln, uint32_t code, const char *text, Py_ssize_t n) noexcept nogil:
    """What a statement does to the session, booked when it is sent: if it fails the session errs to the primary's side."""
    cdef Py_ssize_t i
    hot_reason(r.hot, code)
    if code & DEST_BALANCE and r.ring_len:
        r.ring_pos = (r.ring_pos + 1) & 255
    if not code & (0x3FFF << 2):
        return
    if code & EF_WRITE:
        relay_wrote(r)
    if code & EF_SERIALIZABLE:
        r.state |= ST_SERIALIZABLE
    if code & EF_PIN_TXN:
        r.state |= ST_PIN_TXN
    if code & EF_PIN_SESSION:
        r.state |= ST_PIN_SESSION
    if code & EF_BEGIN and not r.state & ST_IN_TRANSACTION:
        if code & EF_BEGIN_PLAIN or text == NULL:
            text = b"BEGIN"
            n = 5
        if n < 256:
            for i in range(n):
                r.begin[i] = text[i]
            r.begin_len = <int> n
        else:
            r.begin_len = 0
    if code & EF_TEMP and (code & EF_DDL or not r.salted or makes_temp(code)):
        r.salt = avalanche(r.salt + 1)
        r.context ^= r.salt
        r.salted = r.salted or 1
    if code & EF_TEMP and code >> 16 & 15 == 4:            # counted as DDL: it does make one
        r.salted = 2
    if code & EF_DDL:
        r.ddl_pending = 1

cdef void relay_asked(CRelay *r, CLink *ln, uint32_t code, const char *text, Py_ssize_t n) noexcept nogil:
    """A simple query goes out."""
    relay_effects(r, ln, code, text, n)
    relay_count(r, ln.node, code >> 16 & 15)
    relay_begun(r, text, n)

cdef void relay_bound(CRelay *r, CLink *ln, uint32_t code, const char *text, Py_ssize_t n) noexcept nogil:
    """A Bind goes out: its statement counts when it is executed, and each time (commands.md 4)."""
    relay_effects(r, ln, code, text, n)
    relay_begun(r, text, n)
    if r.total > 5 and r.rx.data[r.pos + 5] == 0:
        r.portal_code = code

cdef void relay_executed(CRelay *r, CLink *ln, uint32_t code) noexcept nogil:
    """An Execute goes out; ``code`` counts for a named portal. What follows an error up to Sync is not carried out."""
    if ln.skipping:
        return
    if r.total > 5 and r.rx.data[r.pos + 5] == 0 and r.portal_code:
        code = r.portal_code
    relay_count(r, ln.node, code >> 16 & 15 if code else 5)

cdef int relay_take(CRelay *r, CLink *ln, int op, int kept) noexcept nogil:
    """The message at pos goes to ln: book its op (0 for none) and move on. ``kept``: how much of it is at hand."""
    if op and not (ln.skipping and (op & 0xFF) != 83):
        if op_push(ln, op) < 0:
            return NO_MEMORY
    r.rest = r.total - kept
    r.pos += kept
    r.looked = 0
    if r.tell and op:
        r.told_node = ln.node
        r.told_at = r.pos - kept
        r.told_size = kept
        return TOLD
    return MORE

cdef inline uint32_t relay_look_up(CRelay *r, Print *sql) noexcept nogil:
    cdef uint32_t code = verdict_get(&r.table, verdict_key(sql, r.context, r.state, r.epoch[0]))
    r.last = sql[0]
    if r.hot != NULL:
        if code:
            r.hot.hits += 1
        else:
            r.hot.misses += 1
    return code

cdef int relay_print(CRelay *r, const char *text, Py_ssize_t n) noexcept nogil:
    """Fingerprint the SQL at hand; CLIENT_BAD when a NUL stands inside."""
    if memchr(text, 0, <size_t> n) != NULL:
        return CLIENT_BAD
    fingerprint(<const uint8_t *> text, n, &r.seeds, r.backslash, r.exact, &r.sql)
    if r.unsafe_encoding and r.sql.flags & FP_BYTES:
        r.sql.flags |= FP_UNSURE
    return MORE

cdef int scan_malformed(CRelay *r, int kind) noexcept nogil:
    """The frame is whole but not its fields: PostgreSQL itself says what is wrong."""
    cdef CLink *ln = r.segment if r.segment != NULL else r.primary
    cdef int rc
    if kind == 81:
        rc = relay_select(r, ln)
        if rc == MORE:
            rc = relay_take(r, ln, kind, <int> r.total)
            ln.solicited = 1
        return rc
    rc = segment_enter(r, ln)
    if rc != MORE:
        return rc
    return segment_take(r, kind, <int> r.total)

cdef int scan_query(CRelay *r, char *p, Py_ssize_t avail) noexcept nogil:
    cdef uint32_t code
    cdef CLink *ln
    cdef int rc, kept
    cdef char *text = p + 5
    cdef Py_ssize_t n = r.total - 6
    if avail < r.total:
        if r.total <= MAX_SQL:
            return MORE
        code = TOO_LONG
        kept = <int> avail
        n = avail - 5
    else:
        kept = <int> r.total
        if n < 0 or p[r.total - 1] != 0 or relay_print(r, text, n) != MORE:
            return scan_malformed(r, 81)
        code = relay_look_up(r, &r.sql)
        if code == 0:
            return MESSAGE
    ln = relay_dest(r, code)
    if r.segment != NULL:
        return MESSAGE                                     # a Query before Sync: rare enough for Python
    if ln == NULL:
        return NEED_LINK
    rc = relay_select(r, ln)
    if rc == MORE:
        rc = relay_join(r, ln)
    if rc != MORE:
        return rc
    relay_asked(r, ln, code, text, n)
    rc = relay_take(r, ln, 81, kept)
    ln.solicited = 1
    repeat_allow(r, ln, r.pos - kept, 1)
    return rc

cdef int segment_enter(CRelay *r, CLink *ln) noexcept nogil:
    """Choose where the extended messages up to the next Sync go; a batch that turns out to write moves to the primary."""
    cdef CLink *was = r.segment
    cdef int rc
    cdef uint32_t i
    if was == NULL:
        rc = relay_select(r, ln)
        if rc == MORE:
            rc = relay_join(r, ln)
        if rc == MORE:
            r.segment = ln
            r.segment_start = r.pos
            r.segment_ops = 0
            r.segment_links = <uint64_t> 1 << ln.index
        return rc
    if ln != r.primary or was == ln or was == r.primary or was.skipping:
        return MORE
    if r.segment_start == r.rx.start and r.segment_ops <= was.tail - was.head and not r.rest:
        # nothing of it was sent: move it whole
        rc = relay_join(r, ln)
        if rc != MORE:
            return rc
        if was.pending == r.segment_ops:
            for i in range(r.segment_ops):
                if op_push(ln, was.ops[(was.tail - r.segment_ops + i) & (was.cap - 1)]) < 0:
                    return NO_MEMORY
            was.tail -= r.segment_ops
            was.pending -= r.segment_ops
            if r.unnamed == was:
                r.unnamed = ln
            if r.portal == was:
                r.portal = ln
            r.cur = r.segment = ln
            r.segment_links = <uint64_t> 1 << ln.index
            return MORE
    rc = relay_select(r, ln)
    if rc != MORE:
        return rc
    if was.skipping:
        return relay_select(r, was)
    r.segment = ln
    r.segment_start = r.pos
    r.segment_ops = 0
    r.segment_links |= <uint64_t> 1 << ln.index
    return relay_join(r, ln)

cdef int segment_take(CRelay *r, int op, int kept) noexcept nogil:
    cdef CLink *ln = r.segment
    cdef uint32_t tail = ln.tail
    cdef int rc = relay_take(r, ln, op, kept)
    r.segment_ops += ln.tail - tail
    ln.solicited = 0
    return rc

cdef int scan_parse(CRelay *r, char *p, Py_ssize_t avail) noexcept nogil:
    cdef uint32_t code
    cdef CLink *ln
    cdef int rc
    cdef char *text = p + 6
    cdef char *end
    cdef Py_ssize_t n
    if avail < r.total:
        if r.total <= MAX_SQL:
            return MORE
        if memchr(p + 5, 0, <size_t> max(avail - 5, 0)) != NULL:
            return MESSAGE                                 # its name is here: all that Python reads of so long a one
        return CLIENT_BAD if avail - 5 > SMALL_MESSAGE else MORE
    end = <char *> memchr(p + 5, 0, <size_t> (r.total - 5))
    if end == NULL or not parse_is_whole(end + 1, p + r.total):
        return scan_malformed(r, 80)
    if p[5] != 0:
        return MESSAGE                                     # a named statement: Python keeps book
    n = cstrlen(text)
    relay_print(r, text, n)
    code = relay_look_up(r, &r.sql)
    if code == 0:
        return MESSAGE
    ln = relay_dest(r, code)
    if ln == NULL:
        return NEED_LINK
    rc = segment_enter(r, ln)
    if rc != MORE:
        return rc
    r.unnamed = r.segment
    r.unnamed_sql = r.sql
    r.unnamed_known = 2                                    # Python has not seen it (unnamed.pxi)
    r.unnamed_parse.start = r.unnamed_parse.end = 0
    if buf_add(&r.unnamed_parse, p, r.total) < 0:
        return NO_MEMORY
    if code & EF_BEGIN:
        relay_note_begin(r, code, text, n)
    relay_begun(r, text, n)
    return segment_take(r, 80, <int> r.total)

cdef void relay_note_begin(CRelay *r, uint32_t code, const char *text, Py_ssize_t n) noexcept nogil:
    """Keep the text of an unnamed BEGIN for the moment a standby joins (relay_effects at Bind does not see it)."""
    if r.state & ST_IN_TRANSACTION:
        return
    if code & EF_BEGIN_PLAIN or n > 255:
        text = b"BEGIN"
        n = 5
    memcpy(r.begin, text, <size_t> n)
    r.begin_len = <int> n

cdef int scan_bind(CRelay *r, char *p, Py_ssize_t avail) noexcept nogil:
    cdef Py_ssize_t have = avail if avail < r.total else r.total, most = have - 5
    cdef char *name
    cdef char *end
    cdef Named *row = NULL
    cdef uint32_t code
    cdef CLink *ln
    cdef int rc
    end = <char *> memchr(p + 5, 0, <size_t> most) if most > 0 else NULL
    name = end + 1
    if end != NULL:
        end = <char *> memchr(name, 0, <size_t> (p + have - name)) if name < p + have else NULL
    if end == NULL:
        if avail >= r.total:
            return scan_malformed(r, 66)
        return CLIENT_BAD if most > SMALL_MESSAGE else MORE
    if p[5] != 0:                                          # a named portal
        return MORE if avail < r.total and r.total <= MAX_SQL else MESSAGE
    if end == name:
        if not r.unnamed_known or r.unnamed == NULL:
            return MESSAGE
        code = relay_look_up(r, &r.unnamed_sql)
        if code == 0:
            return MESSAGE
        ln = relay_dest(r, code)
        if r.unnamed == r.primary or ln == NULL or code & DEST_BALANCE:
            ln = r.unnamed if r.unnamed == r.primary or not (r.primary.pending or r.force) else r.primary
    else:
        row = named_find(&r.named, name_print(&r.seeds, name, end - name))
        if row == NULL:
            return MESSAGE
        code = relay_look_up(r, &row.sql)
        if code == 0:
            return MESSAGE
        ln = relay_dest(r, code)
        if ln == NULL:
            return NEED_LINK
    rc = segment_enter(r, ln)
    if rc != MORE:
        return rc
    ln = r.segment
    if row == NULL:
        if ln != r.unnamed:                                # the transaction writes by now: parse it again there
            if ln.skipping or r.unnamed_parse.end == 0:
                return MESSAGE
            rc = relay_flush(r)
            if rc != MORE:
                return rc
            if link_say(ln, r.unnamed_parse.data, r.unnamed_parse.end, 80 | OP_SWALLOW) < 0:
                return NO_MEMORY
            r.unnamed = ln
    elif not row.links >> ln.index & 1:
        return MESSAGE
    relay_effects(r, ln, code & ~EF_BEGIN if row == NULL else code, row.begin if row != NULL else NULL,
                  cstrlen(row.begin) if row != NULL else 0)
    relay_begun(r, NULL, 0)
    notify_void(r)
    r.portal = ln
    r.portal_code = code
    return segment_take(r, 66, <int> have)

cdef int scan_rest_of_segment(CRelay *r, int kind, char *p) noexcept nogil:
    """Execute, Describe, Close: where the statement or portal is. Whole messages only."""
    cdef CLink *ln = r.segment
    cdef Named *row
    cdef int rc
    cdef char *name = p + 5
    if kind != 69:
        name += 1
    if r.total < 6 + (kind != 69) or memchr(name, 0, <size_t> (r.total - (name - p))) == NULL \
            or (kind != 69 and p[5] != 83 and p[5] != 80):
        return scan_malformed(r, kind)
    if cstrlen(name) + 1 + (4 if kind == 69 else 0) != r.total - (name - p):
        return scan_malformed(r, kind)
    if name[0] != 0:
        if kind != 68 or p[5] != 83 or ln == NULL:         # only Describe of a named statement known where we are
            return MESSAGE
        row = named_find(&r.named, name_print(&r.seeds, name, cstrlen(name)))
        if row == NULL or not row.links >> ln.index & 1:
            return MESSAGE
    elif ln == NULL:
        ln = r.unnamed if kind != 69 and p[5] == 83 else r.portal
        ln = ln if ln != NULL else r.primary
        if r.state & ST_FAILED and ln != r.primary: return MESSAGE  # that standby's part of the transaction must fail too
        rc = segment_enter(r, ln)
        if rc != MORE:
            return rc
    if kind == 69:
        relay_executed(r, r.segment, r.portal_code)
        kind |= notify_executed(r)
    return segment_take(r, kind, <int> r.total)

cdef int scan_sync(CRelay *r) noexcept nogil:
    cdef CLink *ln = r.segment
    cdef uint32_t ops
    cdef int i, rc
    if r.total != 5:
        return CLIENT_BAD
    if ln == NULL:
        ln = r.primary
        rc = relay_select(r, ln)
        if rc != MORE:
            return rc
    if r.segment_links & ~(<uint64_t> 1 << ln.index):
        for i in range(r.nlinks):                          # the batch has moved: end it where it began
            if r.links[i] != NULL and i != ln.index and r.segment_links >> i & 1 and not r.links[i].dead:
                r.links[i].skipping = 0
                r.links[i].solicited = 1
                if link_say(r.links[i], b"S\0\0\0\4", 5, 83 | OP_SWALLOW) < 0:
                    return NO_MEMORY
                relay_send_tx(r.links[i])
    notify_void(r)
    ops = r.segment_ops + 1
    r.segment = NULL
    r.segment_links = 0
    r.segment_ops = 0
    ln.skipping = 0
    ln.solicited = 1
    rc = relay_take(r, ln, 0 if ln.copy_in else 83, 5)
    if r.segment_start >= 0 and not ln.copy_in:
        repeat_allow(r, ln, r.segment_start, ops)
    return rc

cdef int relay_scan(CRelay *r) noexcept nogil:
    """Settle the messages at hand one by one; MORE when the rest needs more bytes."""
    cdef Py_ssize_t avail, before
    cdef uint32_t size
    cdef int kind, limit, rc
    cdef char *p
    while True:
        avail = r.rx.end - r.pos
        if r.rest:
            if avail <= 0:
                return MORE
            if avail > r.rest:
                avail = r.rest
            r.pos += avail
            r.rest -= avail
            continue
        if avail < 5:
            return MORE
        p = r.rx.data + r.pos
        kind = <uint8_t> p[0]
        limit = frontend_limit(kind)
        size = be32(p + 1)
        if limit == 0 or size < 4 or size > <uint32_t> limit:
            r.bad = kind if limit == 0 else -1
            return CLIENT_BAD
        r.total = <Py_ssize_t> size + 1
        r.bad = 0
        before = r.pos
        if r.every and not r.looked:
            if avail < r.total and r.total <= MAX_SQL:
                return MORE
            r.looked = 1
            return LOOK
        if kind == 100 or kind == 99 or kind == 102:       # COPY data: to whom has asked for it
            if r.cur == NULL:
                r.cur = r.primary
            if kind != 100:
                if avail < r.total:
                    return MORE
                # a simple query is over then; an Execute is answered when a Sync or Flush follows
                r.cur.solicited = (op_head(r.cur) & 0xFF) == 81
                if not r.cur.copy_in and r.cur.head != r.cur.tail and op_push(r.cur, OP_COPY_END) < 0:
                    return NO_MEMORY                       # sent before the backend said that it wants data
                r.cur.copy_in = 0
            if avail > r.total:
                avail = r.total
            rc = relay_take(r, r.cur, 0, <int> avail)
            if rc != MORE:
                return rc
            continue
        if r.own_segment and kind != 88 and kind != 81:
            if avail < r.total:
                return MORE
            return MESSAGE
        if r.epoch[0] != r.known and r.segment == NULL:
            return NODES
        if kind == 81:
            rc = scan_query(r, p, avail)
        elif kind == 80:
            rc = scan_parse(r, p, avail)
        elif kind == 66:
            rc = scan_bind(r, p, avail)
        elif kind == 70:
            if avail < r.total and r.total <= MAX_SQL:
                return MORE
            return MESSAGE
        elif avail < r.total:
            return MORE
        elif kind == 83:
            rc = scan_sync(r)
        elif kind == 72:
            if r.total != 5:
                return CLIENT_BAD
            if r.cur == NULL:
                r.cur = r.primary
            r.cur.solicited = 1
            rc = relay_take(r, r.cur, 0, 5)
        elif kind == 88:
            return TERMINATE
        else:
            rc = scan_rest_of_segment(r, kind, p)
        if rc != MORE:
            return rc
        if r.pos == before:
            return MORE                                    # not taken: needs more bytes
