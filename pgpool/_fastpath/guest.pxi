# Clients that come again. What Python decided about one (he may come in, to these links, with this greeting) holds for a while
# for the next one who sends the same start-up packet from the same address: his session begins, and usually ends, without Python.

cdef enum:
    GUEST_RING = 64                  # nodes drawn beforehand for the reads of coming sessions
    TITLE_WORD = 24                  # room for what the session does, at the end of the title

cdef struct ChildCell:               # shared/layout.py CHILD
    uint32_t seq
    int32_t pid
    double start_time
    uint64_t served
    uint32_t connected
    int32_t pool
    int32_t balance_node
    double session_start
    double session_end
    char host[128]
    char port[32]

cdef struct SlotCell:                # shared/layout.py SLOT, up to its names
    uint32_t seq
    uint32_t filled
    uint32_t connected
    uint32_t major
    uint32_t minor
    uint32_t counter
    double created
    double client_connected
    double client_disconnected

def cell_sizes():
    """Bytes of the two structs above, for the test that compares them with shared/layout.py."""
    return sizeof(ChildCell), sizeof(SlotCell)

cdef inline double now_real() noexcept nogil:
    """time.time()."""
    cdef timespec ts
    clock_gettime(CLOCK_REALTIME, &ts)
    return <double> ts.tv_sec + <double> ts.tv_nsec * 1e-9

cdef inline uint32_t cell_open(uint32_t *seq) noexcept nogil:
    """Readers see that the cell is being written (layout.Record.write does the same)."""
    seq[0] |= 1
    barrier_store()
    return seq[0]

cdef inline void cell_shut(uint32_t *seq, uint32_t busy) noexcept nogil:
    barrier_store()
    seq[0] = busy + 1

cdef class Guest:
    """A client that would be let in again as it was the last time, to the links of one pool entry.

    ``owner``: whatever Python needs to go on with a session of his. ``links``: those of the entry, all reset between sessions;
    ``primary`` is one of them. ``ring``: 64 node ids, one drawn for the reads of each session. ``packet``: his start-up packet,
    length word included; ``greeting``: all that he gets for it. ``reset``: whole Query messages, ``resets`` of them.
    ``child``, ``slot``: the shared cells of this child and of the pool entry. ``context``: see Relay.begin; ``name``: what stands
    in the process title before his address. Good while the epoch is ``epoch`` and
    the door's rules are ``rules``. ``tls``: he spoke it, and showed no certificate; another who does not is not he.
    """

    cdef readonly object owner
    cdef readonly list links
    cdef readonly Link primary
    cdef Link balance                # of the session at hand, None when it is not connected
    cdef bytes packet, greeting, reset, ring, name
    cdef int resets, at, pool, backslash
    cdef bytes client_encoding
    cdef uint64_t context
    cdef readonly uint32_t epoch
    cdef readonly uint64_t rules
    cdef readonly bint tls
    cdef dict addresses
    cdef public bint good
    cdef int every, tell, exact, hold, hearing
    cdef object keep
    cdef ChildCell *child
    cdef SlotCell *slot
    cdef int fd
    cdef Tls wire
    cdef readonly str host
    cdef readonly int port
    cdef readonly double began
    cdef readonly double rested
    cdef readonly int node
    cdef readonly int why

    def __init__(self, Relay relay, object owner, list links, Link primary, bytes ring, bytes packet, bytes greeting,
                 bytes reset, int resets, uint8_t[::1] child, uint8_t[::1] slot, int pool, bytes name, uint64_t context,
                 uint32_t epoch, uint64_t rules, bint tls, bint backslash, bytes client_encoding):
        if len(ring) != GUEST_RING or child.shape[0] < <Py_ssize_t> sizeof(ChildCell) \
                or slot.shape[0] < <Py_ssize_t> sizeof(SlotCell):
            raise ValueError("not the cells, or the ring, of a guest")
        self.owner, self.links, self.primary, self.ring, self.packet = owner, links, primary, ring, packet
        self.greeting, self.reset, self.resets = greeting, reset, resets
        self.keep = (child, slot)
        self.child = <ChildCell *> &child[0]
        self.slot = <SlotCell *> &slot[0]
        self.pool, self.name, self.context, self.epoch, self.rules = pool, name, context, epoch, rules
        self.tls, self.backslash, self.client_encoding = tls, backslash, client_encoding
        self.every, self.tell, self.exact = relay.c.every, relay.c.tell, relay.c.exact
        self.hold, self.hearing = relay.c.hold, relay.c.hearing
        self.addresses = {}
        self.good = True
        self.fd = -1

    def admit(self, bytes address, str host, double life):
        """For ``life`` seconds he may come from there; as a Newcomer's ``address``, and as text."""
        self.addresses[address] = host, now_us() + <uint64_t> (life * 1e6)

    @property
    def places(self):
        """How many addresses he has come from."""
        return len(self.addresses)

    def release(self):
        """The descriptor: from now on the caller's."""
        fd, self.fd = self.fd, -1
        return fd

    def take_tls(self):
        """What is on that descriptor: the caller's, too. None: nothing."""
        wire, self.wire = self.wire, None
        return wire

cdef int guest_fit(Guest g, CRelay *r) except -1:
    """All links of the entry are at rest: the answers to the last reset are read. 0: Python must look."""
    cdef Link link
    for link in g.links:
        if link.c.dead or link.c.index >= 0:
            return 0
    for link in g.links:
        if link.c.tail != link.c.head:
            r.links[0] = &link.c
            r.nlinks = 1
            link.c.index = 0
            with nogil:
                rc = relay_settle(r, &link.c, 1)
            link.c.index = -1
            r.links[0] = NULL
            r.nlinks = 0
            if rc != MORE:
                return 0
        if link.c.own_failed or link.c.txn != 73 or not link.quiet() or not link.alive():
            return 0
    return 1

cdef int guest_begin(Guest g, Relay relay, int fd, Tls tls, bint ours, str host, int port, size_t title, int room) except -1:
    """Begin his session on ``fd``. 0: this is one for Python, nothing has happened to the client. ``ours``: nobody has counted him
    yet, and the descriptor is the guest's, who hangs up at the end."""
    cdef CRelay *r = &relay.c
    cdef Link link
    cdef bytes text
    cdef const char *p
    cdef Py_ssize_t n
    cdef uint32_t busy
    cdef int rc
    relay.begin(fd, g.context, tls)
    if not guest_fit(g, r):
        relay.end()
        return 0
    g.fd, g.host, g.port, g.began, g.why = fd if ours else -1, host, port, now_real(), MORE
    g.wire = tls if ours else None
    r.every, r.tell, r.exact, r.hold, r.hearing = g.every, g.tell, g.exact, g.hold, g.hearing
    relay.attach(g.primary)
    g.primary.c.ready = 1
    r.primary = &g.primary.c
    r.known = g.epoch
    relay.read_as(backslash=g.backslash, client_encoding=g.client_encoding)
    g.node = <uint8_t> g.ring[g.at]
    g.at = (g.at + 1) % GUEST_RING
    g.balance = None
    for link in g.links:
        if link.c.node == g.node:
            g.balance = link
    if g.balance is not None:
        if g.balance is not g.primary:
            relay.attach(g.balance)
            g.balance.c.ready = 1                          # it was reset like the primary: there is nothing to catch up with
        r.balance = &g.balance.c
    text = host.encode()
    if r.hot != NULL:
        r.hot.guests += 1
    busy = cell_open(&g.child.seq)
    g.child.connected = 1
    g.child.served += ours
    g.child.pool = g.pool
    g.child.balance_node = g.node
    g.child.session_start = g.began
    memset(g.child.host, 0, 128)
    memcpy(g.child.host, <const char *> text, <size_t> min(len(text), 127))
    memset(g.child.port, 0, 32)
    decimal(g.child.port, port)
    cell_shut(&g.child.seq, busy)
    busy = cell_open(&g.slot.seq)
    g.slot.connected = 1
    g.slot.counter += 1
    g.slot.client_connected = g.began
    g.slot.client_disconnected = 0
    cell_shut(&g.slot.seq, busy)
    guest_title(g, r, title, room, text)
    r.greeted = 1
    relay_rested(r, 73)
    p = g.greeting
    n = len(g.greeting)
    with nogil:
        rc = relay_reply(r, p, n)
    if rc < 0:
        g.why = CLIENT_GONE
    return 1

cdef void decimal(char *to, int value) noexcept nogil:
    """A port number and its NUL."""
    cdef int i = 0, j
    cdef char digits[12]
    while value > 0 or i == 0:
        digits[i] = <char> (48 + value % 10)
        value //= 10
        i += 1
    for j in range(i):
        to[j] = digits[i - 1 - j]
    to[i] = 0

cdef void guest_title(Guest g, CRelay *r, size_t title, int room, bytes host) noexcept:
    """``pgpool: USER DATABASE HOST(PORT) idle``, its last word left to the relay."""
    cdef char text[512]
    cdef Py_ssize_t n = 0, i
    cdef bytes part
    if not title:
        return
    for part in (g.name, host, b"("):
        i = min(<Py_ssize_t> len(part), 200 - n if n < 200 else 0)
        memcpy(text + n, <const char *> part, <size_t> i)
        n += i
    if not (host.startswith(b"[") or g.port == 0):
        decimal(text + n, g.port)
        while text[n]:
            n += 1
    else:
        text[n] = 48
        n += 1
    memcpy(text + n, b") ", 2)
    n += 2
    if n + TITLE_WORD > room:
        n = room - TITLE_WORD
    memcpy(<char *> title, text, <size_t> n)
    r.title = <char *> title + n
    r.title_room = TITLE_WORD
    relay_title(r, b"idle", 4)
    memset(<char *> title + n + TITLE_WORD, 0, <size_t> (room - n - TITLE_WORD))

cdef int guest_tidy(Guest g, CRelay *r) noexcept nogil:
    """He said good-bye and left nothing open: his session can end without Python."""
    cdef int i
    cdef CLink *ln
    if r.segment != NULL or r.own_segment or r.state & (ST_IN_TRANSACTION | ST_FAILED) or r.rest:
        return 0
    for i in range(r.nlinks):
        ln = r.links[i]
        if ln == NULL:
            continue
        if ln.dead or ln.txn != 73 or ln.head != ln.tail or ln.rest or ln.rx.end > ln.rx.start or ln.tx.end > ln.tx.start \
                or ln.skipping or ln.copy_in:
            return 0
    return 1

cdef int guest_end(Guest g, Relay relay) except -1:
    """Reset the links that were used, without waiting; tell that the session is over; hang up, if that is ours to do."""
    cdef Link link
    cdef int i
    cdef uint32_t busy
    for link in (g.primary, g.balance):
        if link is not None and link.c.touched:
            if buf_add(&link.c.tx, g.reset, len(g.reset)) < 0:
                link.c.dead = 1
                continue
            for i in range(g.resets):
                if op_push(&link.c, 81 | OP_SWALLOW) < 0:
                    link.c.dead = 1
            link.c.touched = 0
            link.c.solicited = 1
            relay_send_tx(&link.c)
            link.shed()
    relay.end()
    if g.wire is not None:
        g.wire.goodbye()
        g.wire = None
    if g.fd >= 0:
        close_fd(g.release())
    g.rested = now_us() * 1e-6
    busy = cell_open(&g.slot.seq)
    g.slot.connected = 0
    g.slot.client_disconnected = now_real()
    cell_shut(&g.slot.seq, busy)
    busy = cell_open(&g.child.seq)
    g.child.connected = 0
    g.child.balance_node = -1
    g.child.session_end = g.slot.client_disconnected
    g.child.host[0] = g.child.port[0] = 0
    cell_shut(&g.child.seq, busy)
    return 0

cdef int guest_serve(Guest g, Relay relay) except -1:
    """His session up to its end (1), or up to something for Python (0), which is in ``why``."""
    cdef CRelay *r = &relay.c
    cdef int why = g.why
    with nogil:
        if why == MORE:
            why = relay_loop(r, -1)
        if why == TERMINATE and (r.cur == NULL or relay_settle(r, r.cur, 0) == MORE) and guest_tidy(g, r):
            why = MORE
    if why == MORE:
        guest_end(g, relay)
        return 1
    g.why = why
    return 0
