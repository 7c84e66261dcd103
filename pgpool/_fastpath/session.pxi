# ---- the face that Python sees ---------------------------------------------------------------------------------------

cdef class Relay:
    """The bytes of one client session after another. Made once per child; ``begin`` and ``end`` frame a session.

    ``hot`` is this child's hot cell, ``header`` the shared header (epoch at byte 8), ``verdicts`` the table's bytes (all
    writable views of shared memory which must outlive the relay), ``seeds`` two random 64-bit numbers that all children
    share, ``wakeup`` a descriptor that becomes readable when a signal came.
    """

    cdef CRelay c
    cdef list held
    cdef Tls tls
    cdef object keep

    def __cinit__(self, uint8_t[::1] hot, uint8_t[::1] header, uint8_t[::1] verdicts, tuple seeds, int wakeup):
        cdef uint64_t buckets
        memset(&self.c, 0, sizeof(CRelay))
        if hot is not None:
            self.c.hot = <Hot *> &hot[0]
        self.c.epoch = <uint32_t *> &header[8] if header is not None else &self.c.known
        if verdicts is not None:
            buckets = 1
            while buckets * 2 * 64 <= <uint64_t> verdicts.shape[0]:
                buckets *= 2
            self.c.table.words = <uint64_t *> &verdicts[0]
            self.c.table.mask = buckets - 1
        make_seeds(&self.c.seeds, seeds[0], seeds[1])
        self.c.wakeup = wakeup
        self.held = []
        self.keep = (hot, header, verdicts)

    def __dealloc__(self):
        buf_free(&self.c.rx)
        buf_free(&self.c.unnamed_parse)
        named_clear(&self.c.named)

    # -- a session begins and ends --

    def begin(self, int fd, uint64_t context, Tls tls=None):
        """Serve the client on ``fd`` (under ``tls``) from now on; ``context`` is mixed into every verdict's key."""
        cdef CRelay *r = &self.c
        r.fd = fd
        self.tls = tls
        r.tls = &tls.c if tls is not None else NULL
        r.rx.start = r.rx.end = r.pos = r.rest = r.total = 0
        r.eof = r.pipelining = r.own_segment = r.looked = 0
        r.primary = r.balance = r.cur = r.segment = r.portal = r.unnamed = r.wanted = NULL
        r.segment_links = r.segment_ops = 0
        r.segment_start = -1
        r.unnamed_known = r.wrote_pending = r.ddl_pending = r.salted = r.began = r.state = 0
        r.context = r.salt = context
        r.known = r.epoch[0]
        r.backslash = r.unsafe_encoding = r.begin_len = r.greeted = r.portal_code = 0
        r.ring_len = r.ring_pos = 0
        r.dones = r.done_failed = r.diverged = r.watching = r.ended = r.group_failed = r.rolled_back = r.notify_execute = 0
        r.last_fatal = r.hold = r.held_fatal = r.nheard = r.nlinks = r.again_size = r.due = r.repeating = r.force = 0
        set_patience(fd, 20)
        r.chunk = READ_SIZE // 2
        self.held = []
        if r.hot != NULL:
            r.hot.text_len = 0
            relay_rested(r, 73)

    def end(self):
        """Forget the session. Links stay with their owner."""
        cdef CRelay *r = &self.c
        cdef Link link
        for link in self.held:
            link.c.index = -1
        self.held = []
        self.tls = None
        r.tls = NULL
        memset(r.links, 0, sizeof(r.links))
        r.nlinks = 0
        r.primary = r.balance = r.cur = r.segment = r.portal = r.unnamed = NULL
        named_clear(&r.named)
        r.rx.start = r.rx.end = r.pos = 0
        if r.rx.cap > KEEP_SIZE:
            buf_free(&r.rx)
        buf_free(&r.unnamed_parse)
        if r.hot != NULL:
            r.hot.status = HOT_WAITING
            r.hot.text_len = 0

    def attach(self, Link link):
        """Add a link; its place in the session's table. Raises OverflowError past 64."""
        cdef int i
        for i in range(self.c.nlinks):
            if self.c.links[i] == NULL:
                break
        else:
            i = self.c.nlinks
        if i >= MAX_LINKS:
            raise OverflowError("a session can hold 64 backend connections")
        self.c.links[i] = &link.c
        link.c.index = i
        if i == self.c.nlinks:
            self.c.nlinks += 1
        self.held.append(link)
        return i

    def detach(self, Link link):
        """Take a lost link out; nothing of the session may depend on it any more."""
        cdef CRelay *r = &self.c
        cdef CLink *c = &link.c
        cdef uint32_t i
        if c.index < 0:
            return
        r.links[c.index] = NULL
        r.segment_links &= ~(<uint64_t> 1 << c.index)
        for i in range(r.named.cap):
            r.named.rows[i].links &= ~(<uint64_t> 1 << c.index)
        if r.balance == c:
            r.balance = NULL
        if r.cur == c:
            r.cur = NULL
        if r.segment == c:
            r.segment = NULL
        if r.portal == c:
            r.portal = NULL
        if r.unnamed == c:
            r.unnamed = NULL
        c.index = -1
        self.held.remove(link)

    def set_primary(self, Link link):
        self.c.primary = &link.c if link is not None else NULL

    def set_balance(self, Link link):
        self.c.balance = &link.c if link is not None else NULL

    def set_ring(self, bytes indexes):
        """Statement-level balancing: 256 link indexes drawn beforehand, used one after the other; b'' turns it off."""
        if indexes and len(indexes) != 256:
            raise ValueError("the ring holds 256 link indexes")
        self.c.ring_len = <uint32_t> len(indexes)
        self.c.ring_pos = 0
        if indexes:
            memcpy(self.c.ring, <const char *> indexes, 256)

    def set_title(self, size_t address, int room):
        """Where the last word of the process title stands; the memory must stay writable."""
        self.c.title = <char *> address
        self.c.title_room = room

    def watch(self, *, bint every=False, bint tell=False, bint exact=False, bint hold=False):
        """``every``: LOOK for each message; ``tell``: TOLD after each; ``exact``: constants count; ``hold``: an idle client
        is not shown the FATAL of a primary that shuts down."""
        self.c.every, self.c.tell = every, tell
        self.c.exact, self.c.hold = exact, hold

    # -- running --

    def run(self, int timeout=-1):
        """Serve until Python is wanted; a Why. ``timeout``: milliseconds the client may be idle."""
        cdef int why
        with nogil:
            why = relay_loop(&self.c, timeout)
        return why

    def barrier(self):
        """Send what is settled, and wait until the client has all answers that are due. MORE, or why it stopped."""
        cdef int why = MORE
        with nogil:
            if self.c.cur != NULL:
                why = relay_settle(&self.c, self.c.cur, 0)
        return why

    def flush(self):
        """Send what is settled. MORE, or why it stopped."""
        cdef int why
        with nogil:
            why = relay_flush(&self.c)
        return why

    def finish(self, Link link):
        """Wait until ``link`` has answered everything, our own requests too. MORE, or why it stopped."""
        cdef int why
        with nogil:
            why = relay_settle(&self.c, &link.c, 1)
        return why

    def ask(self, Link link, bytes sql, *, bint capture=False):
        """Queue a simple query of our own; ``finish`` sends it and waits."""
        if link_query(&link.c, sql, len(sql), OP_CAPTURE if capture else OP_SWALLOW) < 0:
            raise MemoryError

    def say(self, Link link, bytes message, str op):
        """Queue a message of our own (Parse, Close ...) to go out before the client's next one to this link."""
        if link_say(&link.c, message, len(message), (ord(op) | OP_SWALLOW) if op else 0) < 0:
            raise MemoryError
        link.c.solicited = op in ("Q", "S")

    def push(self, Link link):
        """Try to send queued messages of our own now."""
        relay_send_tx(&link.c)

    def reply(self, bytes data):
        """Send bytes of our own to the client. Call ``barrier`` first. MORE, or CLIENT_GONE."""
        cdef const char *p = data
        cdef Py_ssize_t n = len(data)
        with nogil:
            if relay_reply(&self.c, p, n) < 0:
                with gil:
                    return CLIENT_GONE
        return MORE

    # -- the message at hand --

    @property
    def kind(self):
        """Letter of the message at hand."""
        return chr(<uint8_t> self.c.rx.data[self.c.pos])

    @property
    def whole(self):
        """The message at hand is here to its last byte."""
        return self.c.rx.end - self.c.pos >= self.c.total

    def message(self):
        """The message at hand, as far as it is here, header included."""
        return PyBytes_FromStringAndSize(self.c.rx.data + self.c.pos, min(self.c.rx.end - self.c.pos, self.c.total))

    def told(self):
        """The message just sent on (after TOLD), header included."""
        return PyBytes_FromStringAndSize(self.c.rx.data + self.c.told_at, self.c.told_size)

    @property
    def told_node(self):
        return self.c.told_node

    @property
    def bad(self):
        """After CLIENT_BAD: the unknown message type, -1 for a wrong length, 0 for a malformed message."""
        return self.c.bad

    def look_up(self, bytes sql):
        """Fingerprint this SQL as the message at hand; the route code the table holds for it now, or 0."""
        if relay_print(&self.c, sql, len(sql)) != MORE:
            raise ValueError("NUL in a statement")
        self.c.last = self.c.sql
        return verdict_get(&self.c.table, verdict_key(&self.c.sql, self.c.context, self.c.state,
                                                      self.c.epoch[0]))

    @property
    def unsure(self):
        """The lexer of the fingerprint was not sure where this statement ends: treat it as a write."""
        return bool(self.c.sql.flags & FP_UNSURE)

    def settle(self, uint32_t code):
        """Store the route code of the statement last looked up, for its context, state and epoch."""
        verdict_put(&self.c.table, verdict_key(&self.c.sql, self.c.context, self.c.state,
                                               self.c.epoch[0]), code)

    def take(self, Link link, uint32_t code, bytes text=None, *, bint notify=False, bint unnamed=False):
        """Send the message at hand to ``link`` under a route ``code``: effects booked, reply expected.

        ``text``: its SQL, when it has any. ``notify``: come back with DONE when it is answered. ``unnamed``: it is the
        Parse of the unnamed statement. MORE, or why it stopped: handle that and call again.
        """
        cdef CRelay *r = &self.c
        cdef CLink *ln = &link.c
        cdef int kind = <uint8_t> r.rx.data[r.pos], rc = MORE
        cdef const char *sql = NULL
        cdef Py_ssize_t n = 0, have = r.rx.end - r.pos
        cdef int flag = OP_NOTIFY if notify else 0
        if have > r.total:
            have = r.total
        if text is not None:
            sql = text
            n = len(text)
        with nogil:
            if kind == 81 or kind == 70:
                if r.segment != NULL:
                    rc = segment_enter(r, ln)
                    ln = r.segment
                else:
                    rc = relay_select(r, ln)
                    if rc == MORE:
                        rc = relay_join(r, ln)
                if rc == MORE:
                    relay_asked(r, ln, code, sql, n)
                    rc = relay_take(r, ln, kind | flag, <int> have)
                    ln.solicited = 1
                    repeat_allow(r, ln, r.pos - have, 1)
            elif kind == 83:
                rc = scan_sync(r)
            else:
                rc = segment_enter(r, ln)
                if rc == MORE:
                    ln = r.segment
                    if kind == 66:
                        relay_bound(r, ln, code, sql, n)
                        notify_bound(r)
                    elif kind == 69:
                        relay_executed(r, ln, code)
                    elif kind == 80 and unnamed:
                        r.unnamed = ln
                        r.unnamed_sql = r.sql
                        r.unnamed_known = 0
                        r.unnamed_parse.start = r.unnamed_parse.end = 0
                        if ln != r.primary and buf_add(&r.unnamed_parse, r.rx.data + r.pos, have) < 0:
                            rc = NO_MEMORY
                        if code & EF_BEGIN and sql != NULL:
                            relay_note_begin(r, code, sql, n)
                    if rc == MORE:
                        rc = segment_take(r, kind | flag, <int> have)
                    if kind == 80 and not unnamed:
                        r.segment_start = -1               # others note where it is prepared: it cannot move any more
        return rc

    def known_unnamed(self):
        """The table can settle Binds of the unnamed statement just parsed."""
        self.c.unnamed_known = 1

    def note_portal(self, Link link):
        """The unnamed portal is on this link."""
        self.c.portal = &link.c
    def skip(self):
        """The message at hand is dealt with and goes nowhere. Call ``barrier`` first."""
        cdef CRelay *r = &self.c
        r.pos += r.total
        r.looked = 0
        r.rx.start = r.pos

    def segment_link(self):
        """The node id of the link that extended messages go to since the last Sync, or -1."""
        return self.c.segment.node if self.c.segment != NULL else -1

    def portal_node(self):
        return self.c.portal.node if self.c.portal != NULL else -1

    # -- named statements --

    def remember(self, bytes name, Link link, bytes begin=None):
        """``name`` is the statement last looked up, and prepared on ``link``. ``begin``: its text when it is a BEGIN."""
        cdef Named *row = named_add(&self.c.named, name_print(&self.c.seeds, name, len(name)))
        cdef Py_ssize_t i
        if row == NULL:
            raise MemoryError
        row.sql = self.c.sql
        row.links = <uint64_t> 1 << link.c.index
        free(row.begin)
        row.begin = NULL
        if begin is not None:
            row.begin = <char *> malloc(<size_t> len(begin) + 1)
            if row.begin == NULL:
                raise MemoryError
            memcpy(row.begin, <const char *> begin, <size_t> len(begin))
            row.begin[len(begin)] = 0

    def prepared_on(self, bytes name, Link link):
        """``link`` knows the named statement too from now on."""
        cdef Named *row = named_find(&self.c.named, name_print(&self.c.seeds, name, len(name)))
        if row != NULL:
            row.links |= <uint64_t> 1 << link.c.index

    def forget(self, bytes name=None):
        """A named statement is gone; None: all of them."""
        cdef Named *row
        if name is None:
            named_clear(&self.c.named)
            return
        row = named_find(&self.c.named, name_print(&self.c.seeds, name, len(name)))
        if row != NULL:
            named_drop(row)

    # -- state --

    @property
    def state(self):
        """model.State bits."""
        return self.c.state

    @state.setter
    def state(self, uint32_t value):
        self.c.state = value

    def made_temp(self):
        return self.c.salted == 2

    @property
    def context(self):
        """Changes when the session may own temporary tables: what was known of names before counts no more."""
        return self.c.context

    @property
    def own_segment(self):
        """Python answers the extended messages up to the next Sync."""
        return bool(self.c.own_segment)

    @own_segment.setter
    def own_segment(self, bint value):
        self.c.own_segment = value

    @property
    def begin_text(self):
        """What a standby is sent to join the open transaction; b'' when only Python can bring it there."""
        return PyBytes_FromStringAndSize(self.c.begin, self.c.begin_len)

    @property
    def backslash(self):
        """standard_conforming_strings is off."""
        return bool(self.c.backslash)

    @property
    def primary_busy(self):
        """The client waits for something the primary was asked, or shall be."""
        return self.c.force or (self.c.primary != NULL and self.c.primary.pending > 0)

    def next_in_ring(self):
        """The link index that statement-level balancing would use now, or -1."""
        return self.c.ring[self.c.ring_pos] if self.c.ring_len else -1

    def take_done(self):
        """``(done, failed)``: how many requests with ``notify`` are over since the last call."""
        pair = self.c.dones, self.c.done_failed
        self.c.dones = self.c.done_failed = 0
        return pair

    def watch_transaction(self):
        """Come back with ENDED when the open transaction (or this request, outside of one) is over."""
        self.c.watching = 1

    def take_ended(self):
        """After ENDED: did it commit?"""
        self.c.ended = 0
        return bool(self.c.ended_well)

    def notify_execute(self):
        """The unnamed portal is bound next: come back with DONE when its Execute is answered, or will not be."""
        notify_next(&self.c)

    def wanted_node(self):
        """After CATCH_UP: the node to be brought up to date."""
        return self.c.wanted.node if self.c.wanted != NULL else -1

    def rebase(self, uint64_t context):
        """A new session context (search_path, role ...); what the session may own of temporary tables stays in it."""
        self.c.context = context ^ self.c.salt if self.c.salted else context

    def take_diverged(self):
        self.c.diverged = 0

    def gone_node(self):
        """After BACKEND_GONE or BACKEND_BAD: which node."""
        cdef CLink *ln = self.c.links[self.c.gone]
        return ln.node if ln != NULL else -1

    def rest(self):
        """Set the reported status after an answer of our own."""
        relay_rested(&self.c, self.c.primary.txn if self.c.primary != NULL else 73)

    def begun(self, bytes text, uint32_t code=0):
        """Report a request that we answer ourselves; ``code``: its route, counted by its reason."""
        relay_begun(&self.c, text, len(text))
        hot_reason(self.c.hot, code)

    def feed(self, bytes pending):
        """The client was greeted; these bytes of it were read before the relay took over."""
        self.c.greeted = 1
        if pending and buf_add(&self.c.rx, pending, len(pending)) < 0:
            raise MemoryError

    def current_node(self):
        """The node that client messages went to last, or -1."""
        return self.c.cur.node if self.c.cur != NULL else -1

    def node_at(self, int index):
        """The node id of a link index, or -1."""
        return self.c.links[index].node if 0 <= index < self.c.nlinks and self.c.links[index] != NULL else -1

    def take_held_fatal(self):
        """Has the primary said good-bye to an idle client (see ``watch``)?"""
        held, self.c.held_fatal = self.c.held_fatal, 0
        return bool(held)

    @property
    def midway(self):
        """The client has got a part of a message and not the rest: nothing else may be said to it."""
        return bool(relay_midway(&self.c))

    def last_error_was_fatal(self):
        """The last ErrorResponse the client got from a backend was FATAL or PANIC."""
        return bool(self.c.last_fatal)

    def index_of(self, Link link):
        return link.c.index

    def read_as(self, *, bint backslash, bytes client_encoding):
        """How SQL is to be read at the start of the session; ParameterStatus changes it later."""
        cdef bytes message = b"S\0\0\0\0client_encoding\0" + client_encoding + b"\0\0\0\0\0\0\0\0"
        self.c.backslash = backslash
        relay_parameter(&self.c, message, len(message))
