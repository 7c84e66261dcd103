# One session's bytes. relay_scan settles what the client sent, relay_flush sends it on, relay_process frames what a backend
# answered, relay_deliver sends that to the client, relay_loop waits. Every one of them may stop at any point with a reason
# and is simply called again: all progress is in the buffers' offsets and in the rings.

cdef extern from *:
    """
    static inline void add_one(uint32_t *p) { __atomic_fetch_add(p, 1, __ATOMIC_SEQ_CST); }
    """
    void add_one(uint32_t *p) noexcept nogil

cpdef enum Why:
    """Why run() came back."""
    MORE = 0              # internal: go on
    MESSAGE = 1           # the client's message at hand needs a decision
    NEED_LINK = 2         # it should go to the load balance node, which is not connected
    CATCH_UP = 3          # it should go to a node that does not know the session's state yet: catch_up_node
    DONE = 4              # a request with OP_NOTIFY is over: done_failed
    DIVERGED = 5          # a statement failed on a standby inside a transaction: the primary must fail too
    WAKE = 6              # a signal
    IDLE = 7              # the client said nothing for the time given
    TERMINATE = 8         # the client said good-bye
    CLIENT_GONE = 9
    CLIENT_BAD = 10       # a message no client may send: bad_what
    BACKEND_GONE = 11     # gone_node closed the connection
    BACKEND_BAD = 12
    NO_MEMORY = 13
    QUIET = 14            # internal: nothing was there to receive
    LOOK = 15             # Python asked to see every message first
    TOLD = 16             # Python asked to be told where each message went: told_node, told()
    ENDED = 17            # the transaction that Python watches is over: ended_well
    HANGUP = 18           # the client has gone while a request of it runs: running_node
    HEARD = 19            # messages of backends that Python logs: take_heard()
    AGAIN = 20            # a standby refused or lost a request that can be repeated on the primary: repeat()
    DOUBT = 21            # a server spoke as if the primary were another one: take_doubt()
    NODES = 22            # the epoch has moved: which nodes there are must be looked at before the client is heard

cdef enum:
    MAX_LINKS = 64
    MAX_SQL = 8388608                # a longer statement is not read before it is sent on

    ST_IN_TRANSACTION = 1            # model.State
    ST_FAILED = 2
    ST_WROTE_TXN = 4
    ST_WROTE_ANY = 8
    ST_WROTE_SESSION = 16
    ST_SERIALIZABLE = 32
    ST_PIN_TXN = 64
    ST_PIN_SESSION = 128
    ST_ON_STANDBY = 512              # r.primary is a standby's link for the time being (session/aside.py)

    EF_WRITE = 1 << 2                # model.Effect, as placed in Route.code
    EF_BEGIN = 2 << 2
    EF_BEGIN_PLAIN = 4 << 2
    EF_SERIALIZABLE = 8 << 2
    EF_PIN_TXN = 16 << 2
    EF_PIN_SESSION = 32 << 2
    EF_TEMP = 128 << 2
    EF_DDL = 256 << 2

    DUE_AGAIN = 1
    DUE_DOUBT = 2

    DEST_PRIMARY = 1                 # model.Dest
    DEST_BALANCE = 2

    TOO_LONG = 1 | (1 | 32) << 2 | 5 << 16 | 31 << 20    # Route(PRIMARY, TOO_LONG, WRITE | PIN_SESSION, OTHER)

cdef struct Heard:
    uint8_t node
    uint8_t kind
    uint32_t count                   # so many in a row

cdef inline int makes_temp(uint32_t code) noexcept nogil:
    """Of a statement with EF_TEMP: does its text make a temporary object (or hide what it does: CALL, DO, several)? A name
    may mean something else after each of these. Else only a function in it might: told once, for the whole session."""
    return code >> 16 & 15 >= 4 or code >> 20 == 3 or code >> 20 == 7  # counted as ddl or other; several; SELECT INTO

cdef struct CRelay:
    int fd                           # the client
    CTls *tls                        # NULL: plain
    int wakeup
    int woken                 # a signal came: before the client is heard, look at the backends
    int unlooked              # requests since the wakeup descriptor was looked at
    Buf rx                           # rx.start..pos is settled for cur and not yet sent
    Py_ssize_t pos
    Py_ssize_t rest                  # bytes of a long message that go to cur unread
    Py_ssize_t total                 # length of the message at pos
    int eof
    int pipelining                   # the client sends on without waiting for answers
    int greeted                      # the client has had its first ReadyForQuery
    int every                        # Python sees every message first (logging)
    int looked                       # it has seen the one at pos
    int tell                         # Python is told where each message went
    int told_node
    Py_ssize_t told_at
    Py_ssize_t told_size
    Py_ssize_t chunk
    int own_segment                  # Python answers the extended messages up to Sync
    CLink *links[64]
    int nlinks
    CLink *primary
    CLink *balance
    CLink *cur                       # the last link the client's messages went to
    CLink *segment                   # where the messages since the last Sync went
    Py_ssize_t segment_start
    uint32_t segment_ops
    uint64_t segment_links           # all links that saw a message of this segment
    CLink *portal                    # where the unnamed portal is
    CLink *unnamed                   # where the unnamed statement is
    Print unnamed_sql
    int unnamed_known                # settled by the table: Bind needs no Python; 2: parsed without Python, too
    Buf unnamed_parse                # its Parse message, for a Bind that has to move
    NamedMap named
    uint32_t state
    int wrote_pending
    int ddl_pending
    uint64_t context
    uint64_t salt
    int salted
    int backslash                    # standard_conforming_strings is off
    int unsafe_encoding              # bytes above 127 may hide a quote
    int exact
    char begin[256]
    int begin_len                    # 0: the transaction cannot be joined without Python
    Print sql                        # of the message at pos
    uint8_t ring[256]                # statement-level balancing: link indexes, drawn beforehand
    uint32_t ring_len
    uint32_t ring_pos
    Hot *hot
    uint64_t began                   # when the request under way began (now_us), 0: none is
    uint32_t portal_code             # route of what the unnamed portal runs: counted when it is executed
    uint32_t *epoch                  # of the shared header; of a table of its own: known itself
    uint32_t known                   # the epoch at which the session has last looked at the nodes
    Table table
    Seeds seeds
    int done_failed                  # events that wait for Python
    int dones
    int diverged
    int watching                     # Python wants to know when the transaction ends
    int ended
    int ended_well
    int group_failed                 # the primary reported an error since its last ReadyForQuery
    int rolled_back                  # the last CommandComplete said ROLLBACK
    int notify_execute               # 1: the Execute of the unnamed portal is to be reported when done; 2: its Bind is at hand
    CLink *wanted                    # CATCH_UP: who must be brought up to date
    int gone
    int bad
    int last_fatal                   # the last error the client got from a backend ended that backend
    Print last                       # the statement last looked up
    Py_ssize_t again_at              # a request that may be repeated (repeat.pxi); size 0: none is
    Py_ssize_t again_size
    char again_state[8]              # SQLSTATE of the refusal
    int repeating                    # the rest of the refused answer is not the client's
    int due                          # bits of what Python is to be told: DUE_AGAIN, DUE_DOUBT
    int force                        # up to the next ReadyForQuery everything goes to the primary
    int hold                         # a FATAL that nobody asked for is not for an idle client: Python goes on elsewhere
    int held_fatal                   # one came
    char *title
    int title_room
    int hearing                      # Python logs what backends say
    int nheard
    Heard heard[128]

# ---- backend -> client -----------------------------------------------------------------------------------------------

cdef int relay_deliver(CRelay *r, CLink *ln) noexcept nogil:
    """Send what is framed to the client."""
    cdef ssize_t n
    cdef pollfd p[2]
    while ln.rx.start < ln.seen:
        n = any_send(r.fd, r.tls, ln.rx.data + ln.rx.start, ln.seen - ln.rx.start)
        if n >= 0:
            ln.rx.start += n
            r.again_size = 0
            continue
        if errno == EAGAIN:
            p[0].fd = r.fd
            p[0].events = POLLOUT
            p[1].fd = r.wakeup
            p[1].events = POLLIN
            p[0].revents = p[1].revents = 0
            if poll(p, 2, -1) < 0 or p[1].revents:
                return WAKE
        elif errno != EINTR:
            return CLIENT_GONE
    return relay_drain(r) if tls_unsent(r.tls) else MORE

cdef int relay_drain(CRelay *r) noexcept nogil:
    """Send the records that the client has not got yet."""
    cdef pollfd p[2]
    while tls_unsent(r.tls) and tls_push(r.tls) < 0:
        if errno != EAGAIN:
            return CLIENT_GONE
        p[0].fd = r.fd
        p[0].events = POLLOUT
        p[1].fd = r.wakeup
        p[1].events = POLLIN
        p[0].revents = p[1].revents = 0
        if poll(p, 2, -1) < 0 or p[1].revents:
            return WAKE
    return MORE

cdef void relay_error_seen(CRelay *r, CLink *ln, const char *p, Py_ssize_t n, int client) noexcept nogil:
    """Count an ErrorResponse by severity. Fields may be missing; n bytes are at hand."""
    cdef Py_ssize_t i = 5, j
    cdef int severity = 8
    while i < n and p[i]:
        j = i + 1
        while j < n and p[j]:
            j += 1
        if j >= n:
            break
        if p[i] == 86 or p[i] == 83:                       # V, or S of a server before 9.6
            severity = 6 if p[i + 1] == 80 else 7 if p[i + 1] == 70 else 8
        i = j + 1
    relay_count(r, ln.node, severity)
    if client:
        r.group_failed |= ln == r.primary
        r.last_fatal = severity != 8

cdef void relay_parameter(CRelay *r, const char *p, Py_ssize_t n) noexcept nogil:
    """Two ParameterStatus change how SQL is read."""
    if n > 33 and memcmp(p + 5, b"standard_conforming_strings\0", 28) == 0:
        r.backslash = memcmp(p + 33, b"off", 3) == 0
    elif n > 21 and memcmp(p + 5, b"client_encoding\0", 16) == 0:
        p += 21
        r.unsafe_encoding = memcmp(p, b"SJIS", 4) == 0 or memcmp(p, b"BIG5", 4) == 0 or memcmp(p, b"GBK", 3) == 0 \
            or memcmp(p, b"UHC", 3) == 0 or memcmp(p, b"GB18", 4) == 0 or memcmp(p, b"JOHA", 4) == 0 \
            or memcmp(p, b"SHIFT", 5) == 0

cdef int relay_settled(CRelay *r, CLink *ln, int txn) noexcept nogil:
    """A ReadyForQuery for the client: the session's state follows. What Python must do at once, or MORE."""
    cdef int i
    cdef CLink *other
    cdef uint64_t began = r.began
    ln.txn = txn
    r.force = 0
    relay_rested(r, txn)
    if began and r.hot != NULL:
        hot_latency(r.hot, ln.node, ln != r.primary or r.state & ST_ON_STANDBY != 0, r.hot.activity_us - began)
        if ln.pending:
            r.began = r.hot.activity_us                    # a pipeline: the next one has its turn from now on
    if ln != r.primary:
        r.diverged = txn == 69 and r.primary != NULL and r.primary.txn == 84
        return DIVERGED if r.diverged else MORE
    if txn == 73:
        if ln.pending:
            return MORE                                    # more is under way: what it did is not known to be over
        r.state &= ~(ST_IN_TRANSACTION | ST_FAILED | ST_WROTE_TXN | ST_SERIALIZABLE | ST_PIN_TXN)
        r.wrote_pending = 0
        r.begin_len = 0
        if r.watching:
            r.watching = 0
            r.ended = 1
            r.ended_well = not r.rolled_back and not r.group_failed
        r.group_failed = 0
        if r.ddl_pending:
            r.ddl_pending = 0
            add_one(r.epoch)
        for i in range(r.nlinks):
            other = r.links[i]
            if other != NULL and other != ln and other.txn != 73 and not other.dead:
                link_query(other, b"ROLLBACK", 8, OP_SWALLOW)
                other.txn = 73
                relay_send_tx(other)
        return ENDED if r.ended else MORE
    r.group_failed = 0
    r.state |= ST_IN_TRANSACTION
    if txn == 69:
        r.state |= ST_FAILED
    else:
        r.state &= ~ST_FAILED
    if r.wrote_pending:
        r.state |= ST_WROTE_TXN | ST_WROTE_ANY
    return MORE

cdef void relay_send_tx(CLink *ln) noexcept nogil:
    """Try to send queued bytes of our own without waiting; the rest goes with the next flush."""
    cdef ssize_t n = 0
    if ln.tx.start < ln.tx.end:
        n = any_send(ln.fd, ln.tls, ln.tx.data + ln.tx.start, ln.tx.end - ln.tx.start)
    elif tls_unsent(ln.tls):
        tls_push(ln.tls)
    if n > 0:
        ln.tx.start += n
    if ln.tx.start == ln.tx.end:
        ln.tx.start = ln.tx.end = 0

cdef int relay_failed_op(CRelay *r, CLink *ln, int op) noexcept nogil:
    """An ErrorResponse answers op. Extended messages are skipped up to Sync, so their ops are over too."""
    cdef int kind = op & 0xFF, event = MORE
    if kind == 81 or kind == 70 or kind == 83:             # Query, FunctionCall, Sync: ReadyForQuery follows
        ln.failed = 1
        ln.copy_in = 0
        return MORE
    while op and (op & 0xFF) != 83:
        if op & OP_NOTIFY:
            r.done_failed += 1
            event = DONE
        op_pop(ln)
        op = op_head(ln)
    ln.skipping = (op & 0xFF) != 83
    ln.copy_in = 0
    return event

cdef int relay_process(CRelay *r, CLink *ln) noexcept nogil:
    """Frame what arrived from a backend. Stops where Python is wanted (after the message that wants it), where framed bytes
    must be sent before others are dropped (-1), or with MORE when it needs more bytes."""
    cdef Py_ssize_t avail, total, need, take
    cdef uint32_t size
    cdef char *p
    cdef int kind, op, drop, event, async_, rc
    while True:
        avail = ln.rx.end - ln.seen
        if avail <= 0:
            return MORE
        if ln.rest:
            take = ln.rest if ln.rest < avail else avail
            if ln.rest_drop:
                if ln.seen > ln.rx.start:
                    return -1
                ln.rx.start += take
            ln.seen += take
            ln.rest -= take
            continue
        if avail < 5:
            return MORE
        p = ln.rx.data + ln.seen
        kind = <uint8_t> p[0]
        size = be32(p + 1)
        if size < 4 or size > LARGE_MESSAGE:
            return BACKEND_BAD
        total = <Py_ssize_t> size + 1
        op = op_head(ln)
        if kind == 68 and not op & OP_CAPTURE:             # DataRow, the common one
            need = 5
        elif op & OP_CAPTURE:
            need = total
        elif kind == 90:
            if size != 5:
                return BACKEND_BAD
            need = 6
        elif kind == 69 or (kind == 78 and (r.again_size or op == 0)):
            need = total if total < 1024 else 1024
        elif kind == 83:
            if size > SMALL_MESSAGE:
                return BACKEND_BAD
            need = total
        elif kind == 67:
            need = total if total < 13 else 13
        else:
            need = 5
        if avail < need:
            if link_room(ln, need - avail) < 0:
                return NO_MEMORY
            return MORE
        async_ = kind == 78 or kind == 65 or kind == 83    # NoticeResponse, NotificationResponse, ParameterStatus
        drop = op & OP_OURS or (r.repeating and ln == r.cur)
        if kind == 65 or (kind == 83 and r.greeted):
            drop = ln != r.primary
        elif op == 0 and ln != r.primary:
            drop = 1                                       # a node the client does not know of speaks up
        elif kind == 69 and (op & 0xFF) == 80 and op & OP_SWALLOW:
            drop = 0                                       # a statement we carried to this node is refused: the client's
        elif kind == 69 and op == 0 and r.hold and ln.txn == 73:
            drop = r.held_fatal = 1
        elif (kind == 69 or kind == 78) and repeat_wanted(r, ln, op, p, need):
            drop = 1
        if drop and ln.seen > ln.rx.start:
            return -1
        event = MORE
        if kind == 90:                                     # ReadyForQuery
            if (op & 0xFF) != 83 and (op & 0xFF) != 81 and (op & 0xFF) != 70:
                return BACKEND_BAD
            op_pop(ln)
            if op & OP_NOTIFY:
                event = DONE
                if ln.failed:
                    r.done_failed += 1
                else:
                    r.dones += 1
            if op & OP_OURS:
                if ln.failed:
                    ln.own_failed = 1
                if ln.head == ln.tail:
                    ln.txn = p[5]
            elif drop:
                r.due |= DUE_AGAIN
                event = AGAIN
            else:
                rc = relay_settled(r, ln, p[5])
                if rc != MORE:
                    event = rc
            ln.failed = 0
            ln.copy_in = 0
        elif kind == 69:
            relay_error_seen(r, ln, p, need, not drop)
            if ln == r.primary and refuses_writes(p, need):
                r.due |= DUE_DOUBT
            if op:
                event = relay_failed_op(r, ln, op)
            elif ln != r.primary:
                event = relay_leaves(r, ln)
            if (not drop and r.last_fatal) or (drop and op == 0 and ln == r.primary):
                ln.dead = 1                                # it hangs up now: so do we, at once
                r.gone = ln.index
                event = BACKEND_GONE
        elif async_:
            if kind == 83:
                relay_role(r, ln, p, total)
            if kind == 83 and ln == r.primary:
                relay_parameter(r, p, total)
            elif kind == 78 and op == 0 and ln != r.primary and says_goodbye(sqlstate_of(p, need)):
                event = relay_leaves(r, ln)
        elif kind == 71 or kind == 87:                     # CopyInResponse, CopyBothResponse
            ln.copy_in = not op_copy_begins(ln)
        elif kind == 67 and (op & 0xFF) == 81:
            r.rolled_back = total >= 13 and memcmp(p + 5, b"ROLLBACK", 8) == 0
        elif completes(op, kind):
            if kind == 67 and not op & OP_OURS:
                r.rolled_back = total >= 13 and memcmp(p + 5, b"ROLLBACK", 8) == 0
            op_pop(ln)
            if op & OP_NOTIFY:
                r.dones += 1
                event = DONE
        elif kind == 49 or kind == 50 or kind == 51:
            return BACKEND_BAD                             # an answer to nothing
        if r.hearing and relay_heard(r, ln.node, kind) and event == MORE:
            event = HEARD
        take = total if total < avail else avail
        if drop:
            if op & OP_CAPTURE and kind != 78 and kind != 65 and buf_add(&ln.captured, p, total) < 0:
                return NO_MEMORY
            ln.rx.start += take
        ln.rest = total - take
        ln.rest_drop = drop != 0
        ln.seen += take
        if event != MORE:
            return event

cdef int relay_pass(CRelay *r, CLink *ln) noexcept nogil:
    """Process and deliver until all that arrived is dealt with."""
    cdef int rc, sent
    while True:
        rc = relay_process(r, ln)
        sent = relay_deliver(r, ln)
        if sent != MORE:
            return sent                                    # an event stays in its flag
        if rc != -1:
            if rc == BACKEND_BAD:
                r.gone = ln.index
            return rc

cdef int relay_pull(CRelay *r, CLink *ln, int flags) noexcept nogil:
    """Receive once from a backend and pass it on. MORE also when nothing was there (errno EAGAIN)."""
    cdef ssize_t n
    if link_room(ln, ln.chunk) < 0:
        return NO_MEMORY
    n = any_recv(ln.fd, ln.tls, ln.rx.data + ln.rx.end, ln.rx.cap - ln.rx.end, flags)
    if n > 0:
        if n >= ln.chunk and ln.chunk < READ_MOST:
            ln.chunk *= 2
        ln.rx.end += n
        return relay_pass(r, ln)
    if n == 0 or (errno != EAGAIN and errno != EINTR):
        return relay_lost(r, ln, 0)
    return WAKE if errno == EINTR else QUIET
