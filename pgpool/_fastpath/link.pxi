# One backend connection as the relay sees it: a descriptor, what arrived, and a ring of what was asked and is not yet
# answered. The ring is how a reply is told from the reply to something we asked on our own account.

from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, errno

cdef extern from "sys/socket.h" nogil:
    enum: MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK
    ssize_t recv(int fd, void *buf, size_t n, int flags)
    ssize_t send(int fd, const void *buf, size_t n, int flags)
    enum: SOL_SOCKET, SO_RCVTIMEO
    int setsockopt(int fd, int level, int name, const void *value, unsigned int size)

cdef extern from "sys/time.h" nogil:
    struct timeval:
        long tv_sec
        long tv_usec

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    """

cdef extern from "poll.h" nogil:
    enum: POLLIN, POLLOUT, POLLRDHUP
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long n, int timeout)

cdef enum:
    # An op is the letter of the frontend message, with flags.
    OP_SWALLOW = 0x100     # asked by us: the client does not see the answer
    OP_CAPTURE = 0x200     # asked by us: the answer is kept for Python
    OP_NOTIFY = 0x400      # Python wants to know when it is done, and whether it failed
    OP_OURS = 0x300
    OP_COPY_END = 99 | 0x100   # a mark: here the client ended its COPY data; nothing answers it

    READ_SIZE = 16384
    READ_MOST = 262144
    KEEP_SIZE = 32768

cdef struct CLink:
    int fd
    CTls *tls                # NULL: plain
    int node                 # backend id
    int index                # place in the relay's table
    int txn                  # 'I', 'T' or 'E', as of its last ReadyForQuery
    int ready                # the session's settings are replayed here
    int dead
    Buf rx
    Py_ssize_t seen          # bytes rx.start..seen are framed and wait to be sent to the client
    Py_ssize_t rest          # bytes of the current message that did not arrive yet
    int rest_drop
    Py_ssize_t chunk         # how much to ask for at once
    uint16_t *ops
    uint32_t head, tail, cap # cap is a power of two; tail - head entries
    uint32_t pending         # entries the client waits for
    int solicited            # the backend will answer all it was sent without another word
    int skipping             # it reported an error and ignores everything up to a Sync we did not send yet
    int copy_in
    int touched              # it was sent something since its last reset
    int failed               # the op at the head saw an ErrorResponse
    int own_failed           # an op of ours failed since Python last looked
    Buf tx                   # injected bytes to go out before the client's next ones
    Buf captured

cdef void set_patience(int fd, long ms) noexcept nogil:
    """recv on fd gives up after so long: a signal that came just before it is noticed then at the latest."""
    cdef timeval tv
    tv.tv_sec = 0
    tv.tv_usec = ms * 1000
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(timeval))

cdef int op_push(CLink *ln, int op) noexcept nogil:
    cdef uint16_t *fresh
    cdef uint32_t i, n = ln.tail - ln.head
    if n == ln.cap:
        fresh = <uint16_t *> malloc((ln.cap * 2 if ln.cap else 32) * sizeof(uint16_t))
        if fresh == NULL:
            return -1
        for i in range(n):
            fresh[i] = ln.ops[(ln.head + i) & (ln.cap - 1)]
        free(ln.ops)
        ln.ops = fresh
        ln.cap = ln.cap * 2 if ln.cap else 32
        ln.head = 0
        ln.tail = n
    ln.ops[ln.tail & (ln.cap - 1)] = <uint16_t> op
    ln.tail += 1
    ln.touched = 1
    if not op & OP_OURS:
        ln.pending += 1
    return 0

cdef inline int op_head(CLink *ln) noexcept nogil:
    return ln.ops[ln.head & (ln.cap - 1)] if ln.tail != ln.head else 0

cdef inline void op_pop(CLink *ln) noexcept nogil:
    if not ln.ops[ln.head & (ln.cap - 1)] & OP_OURS:
        ln.pending -= 1
    ln.head += 1
    while ln.head != ln.tail and ln.ops[ln.head & (ln.cap - 1)] == OP_COPY_END:
        ln.head += 1

cdef int op_copy_begins(CLink *ln) noexcept nogil:
    """The backend is in COPY IN: it ignores the Syncs it was sent behind the COPY, up to the client's CopyDone or CopyFail.
    Was that sent already?"""
    cdef uint32_t i, keep = ln.head + 1
    cdef int op, ended = 0
    for i in range(ln.head + 1, ln.tail):
        op = ln.ops[i & (ln.cap - 1)]
        if op == OP_COPY_END and not ended:
            ended = 1
        elif (op & 0xFF) == 83 and not ended:
            if not op & OP_OURS:
                ln.pending -= 1
        else:
            ln.ops[keep & (ln.cap - 1)] = <uint16_t> op
            keep += 1
    ln.tail = keep
    return ended

cdef inline int completes(int op, int kind) noexcept nogil:
    """Does a backend message of this kind end this op? ReadyForQuery and errors are handled apart."""
    op &= 0xFF
    if op == 69:                                           # Execute: C s I
        return kind == 67 or kind == 115 or kind == 73
    if op == 66:                                           # Bind: 2
        return kind == 50
    if op == 80:                                           # Parse: 1
        return kind == 49
    if op == 68:                                           # Describe: T or n
        return kind == 84 or kind == 110
    if op == 67:                                           # Close: 3
        return kind == 51
    return 0

cdef int link_room(CLink *ln, Py_ssize_t want) noexcept nogil:
    cdef Py_ssize_t was = ln.rx.start
    if ln.rx.start == ln.rx.end:
        ln.rx.start = ln.rx.end = ln.seen = 0
        was = 0
    if buf_room(&ln.rx, want) < 0:
        return -1
    ln.seen -= was - ln.rx.start
    return 0

cdef int link_say(CLink *ln, const char *bytes, Py_ssize_t n, int op) noexcept nogil:
    """Queue bytes of our own, with the op that answers them (0 for none), to go out before the client's next ones."""
    if buf_add(&ln.tx, bytes, n) < 0:
        return -1
    ln.touched = 1
    if op:
        return op_push(ln, op)
    return 0

cdef int link_query(CLink *ln, const char *sql, Py_ssize_t n, int flags) noexcept nogil:
    """Queue a simple Query of our own."""
    cdef char head[5]
    head[0] = 81
    put_be32(head + 1, <uint32_t> (n + 5))
    if buf_add(&ln.tx, head, 5) < 0 or buf_add(&ln.tx, sql, n) < 0:
        return -1
    ln.solicited = 1
    return link_say(ln, b"\0", 1, 81 | flags)

cdef class Link:
    """A connection to one backend: its descriptor and what is under way on it. Lives in the pool between sessions.

    ``fd`` must be a connected stream socket on which login is over and nothing was read ahead; ``tls`` what is on it.
    """

    cdef CLink c
    cdef Tls tls

    def __cinit__(self, int fd, int node, Tls tls=None):
        memset(&self.c, 0, sizeof(CLink))
        self.c.fd = fd
        self.tls = tls
        self.c.tls = &tls.c if tls is not None else NULL
        self.c.node = node
        self.c.index = -1
        self.c.txn = 73
        self.c.chunk = READ_SIZE
        set_patience(fd, 100)

    def __dealloc__(self):
        buf_free(&self.c.rx)
        buf_free(&self.c.tx)
        buf_free(&self.c.captured)
        free(self.c.ops)

    @property
    def fd(self):
        return self.c.fd

    @property
    def node(self):
        return self.c.node

    @property
    def txn(self):
        """Transaction state of its last ReadyForQuery: 'I', 'T' or 'E'."""
        return chr(self.c.txn)

    @txn.setter
    def txn(self, str value):
        self.c.txn = ord(value)

    @property
    def ready(self):
        return bool(self.c.ready)

    @ready.setter
    def ready(self, bint value):
        self.c.ready = value

    @property
    def dead(self):
        """The backend closed the connection or sent what no backend may send."""
        return bool(self.c.dead)

    @dead.setter
    def dead(self, bint value):
        self.c.dead = value

    @property
    def touched(self):
        """It was sent something since it was made, or since its last reset."""
        return bool(self.c.touched)

    @touched.setter
    def touched(self, bint value):
        self.c.touched = value

    @property
    def waiting(self):
        """Requests not yet answered, ours included."""
        return self.c.tail - self.c.head

    @property
    def pending(self):
        """Requests the client waits for."""
        return self.c.pending

    @property
    def skipping(self):
        return bool(self.c.skipping)

    @property
    def copying(self):
        return bool(self.c.copy_in)

    def quiet(self):
        """Nothing is under way, half read or unsent: fit to be kept for another client."""
        cdef CLink *c = &self.c
        return not (c.dead or c.tail != c.head or c.rest or c.rx.end > c.rx.start or c.tx.end > c.tx.start
                    or c.skipping or c.copy_in or tls_unsent(c.tls))

    def alive(self):
        """Look without waiting: False when the backend hung up or sent something nobody asked for."""
        cdef char byte
        cdef ssize_t n
        if self.c.tls != NULL:                             # a record without data (a key update) is no word
            n = tls_recv(self.c.tls, &byte, 1, MSG_DONTWAIT)
        else:
            n = recv(self.c.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT)
        return n < 0 and errno == EAGAIN

    def take_captured(self):
        """The messages kept for Python since the last call, whole and in order."""
        data = PyBytes_FromStringAndSize(self.c.captured.data + self.c.captured.start,
                                         self.c.captured.end - self.c.captured.start) if self.c.captured.data else b""
        buf_free(&self.c.captured)
        return data

    def take_failure(self):
        """Did a request of ours fail since the last call?"""
        failed = bool(self.c.own_failed)
        self.c.own_failed = 0
        return failed

    def shed(self):
        """Give memory that one big row has taken back; between sessions."""
        if self.c.rx.start == self.c.rx.end:
            self.c.seen = 0
        buf_shrink(&self.c.rx, KEEP_SIZE)
        buf_shrink(&self.c.tx, KEEP_SIZE)
        if self.c.tls != NULL:
            buf_shrink(&self.c.tls.inb, KEEP_SIZE)
            self.c.tls.chunk = RECORD + 256
        self.c.chunk = READ_SIZE
