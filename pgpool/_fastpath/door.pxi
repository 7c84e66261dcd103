# The door of a child: wait for a client, take him in, read what he says first. A guest's session begins (and ends) here; everybody
# else goes to Python with what was read.

from libc.stdint cimport int32_t

cdef extern from "sys/epoll.h" nogil:
    enum: EPOLL_CTL_DEL
    struct epoll_data:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data data
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)

cdef extern from "unistd.h" nogil:
    int close_fd "close"(int fd)

cdef extern from "sys/socket.h" nogil:
    enum: AF_INET, AF_INET6, SOCK_CLOEXEC
    struct sockaddr:
        unsigned short sa_family
    int accept4(int fd, sockaddr *address, unsigned int *size, int flags)
    int getsockopt(int fd, int level, int name, void *value, unsigned int *size)

cdef extern from *:
    """
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <errno.h>
    typedef union { struct sockaddr any; struct sockaddr_in v4; struct sockaddr_in6 v6; struct sockaddr_storage room; } address;
    /* the address without its port: family, then its bytes; a v4 address on a v6 socket counts as v4. Bytes written. */
    static inline int address_bytes(const address *a, unsigned char *to, int *port) {
        if (a->any.sa_family == AF_INET) {
            to[0] = AF_INET; memcpy(to + 1, &a->v4.sin_addr, 4); *port = ntohs(a->v4.sin_port);
            return 5;
        }
        if (a->any.sa_family == AF_INET6) {
            *port = ntohs(a->v6.sin6_port);
            if (IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr)) {
                to[0] = AF_INET; memcpy(to + 1, (const char *) &a->v6.sin6_addr + 12, 4);
                return 5;
            }
            to[0] = AF_INET6; memcpy(to + 1, &a->v6.sin6_addr, 16); memcpy(to + 17, &a->v6.sin6_scope_id, 4);
            return 21;
        }
        *port = 0;
        return 0;
    }
    /* milliseconds since a client's last bytes came, or since he stands in the queue; -1 where the kernel does not tell */
    static inline long waited_ms(int fd) {
        struct tcp_info info; socklen_t size = sizeof(info);
        return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0 ? -1 : (long) info.tcpi_last_data_recv;
    }
    static inline void barrier_store(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }
    """
    ctypedef union address:
        sockaddr any
    int address_bytes(const address *a, unsigned char *to, int *port) noexcept nogil
    long waited_ms(int fd) noexcept nogil
    void barrier_store() noexcept nogil
    enum: EINVAL, ECONNABORTED

cdef enum:
    FIRST_MOST = 10000               # MAX_STARTUP_PACKET_LENGTH
    FIRST_WAIT = 50000               # microseconds in which the first packet must be here
    ASKED_TLS = 1
    ASKED_GSS = 2

cdef class Newcomer:
    """A client for Python: his descriptor, where he comes from, and what he said so far.

    ``address``: family and bytes, b"" on a unix socket. ``asked``: 1 when an SSLRequest was answered with N, 2 for a
    GSSENCRequest. ``data``: read and not dealt with. ``since``: when he was taken in, as time.monotonic() counts. ``rules``: the
    door's, then. ``tls``: for Python to note that he speaks it. ``wire``: TLS that the door has begun, its handshake done or not;
    then ``data`` came from under it.
    """

    cdef int fd
    cdef readonly bytes address
    cdef readonly int port
    cdef readonly int asked
    cdef readonly bytes data
    cdef readonly double since
    cdef readonly uint64_t rules
    cdef public bint tls
    cdef readonly Tls wire

    def release(self):
        """The descriptor: from now on the caller's."""
        fd, self.fd = self.fd, -1
        return fd

cdef struct First:
    char data[10000]
    int have
    int asked

cdef int first_packet(First *f, int fd, int wakeup, int tls, uint64_t until) noexcept nogil:
    """Read up to a whole start-up packet, refusing encryption where we have none. 1: it is here, and nothing else; 2: it is an
    SSLRequest, for us who have it; 0: Python goes on from here: something unusual, a signal, or somebody who takes his time, and
    must be seen and counted meanwhile."""
    cdef pollfd p[2]
    cdef ssize_t n
    cdef uint32_t size, code
    cdef int left
    f.have = f.asked = 0
    while True:
        if f.have >= 8 or (f.have and f.data[0]):          # a first byte that is not 0: TLS at once, or nonsense
            size = be32(f.data) if f.have >= 8 else 0
            if size < 8 or size > FIRST_MOST:
                return 0
            code = be32(f.data + 4)
            if code == 80877103 or code == 80877104:       # SSLRequest, GSSENCRequest
                left = ASKED_TLS if code == 80877103 else ASKED_GSS
                if size != 8 or f.have != 8 or f.asked & left:
                    return 0
                if tls and left == ASKED_TLS:
                    return 2
                if send(fd, b"N", 1, MSG_NOSIGNAL) != 1:
                    return 0
                f.asked |= left
                f.have = 0
                continue
            if f.have >= <int> size:
                return f.have == <int> size
        n = recv(fd, f.data + f.have, <size_t> (FIRST_MOST - f.have), MSG_DONTWAIT)
        if n > 0:
            f.have += <int> n
            continue
        if n == 0 or errno != EAGAIN:
            return 0
        if now_us() >= until:
            return 0
        left = <int> ((until - now_us()) // 1000) + 1
        p[0].fd = fd
        p[1].fd = wakeup
        p[0].events = p[1].events = POLLIN
        p[0].revents = p[1].revents = 0
        if poll(p, 2, left) <= 0 or p[1].revents:
            return 0

cdef class Door:
    """``epoll``: a descriptor on which the listening sockets and the relay's wakeup are registered. ``words``: u32 in shared
    memory; while one of them is not 0 there are no guests: Python must look at what it means.
    """

    cdef Relay relay
    cdef int epoll, wakeup
    cdef size_t title
    cdef int room
    cdef object keep
    cdef uint32_t *words[8]
    cdef int nwords
    cdef address where               # of the client just taken in; its size
    cdef unsigned int where_size
    cdef public TlsContext tls       # None: we do not speak it
    cdef public list guests
    cdef public uint64_t rules       # changes when those by which clients are let in may have changed: guests of before are none
    cdef readonly double rested      # end of the last guest's session, time.monotonic()
    cdef readonly uint64_t served

    def __init__(self, Relay relay, int epoll, list words):
        cdef uint32_t[::1] word
        if len(words) > 8:
            raise ValueError("the door watches 8 words at most")
        self.relay, self.epoll, self.wakeup = relay, epoll, relay.c.wakeup
        self.keep = words
        for word in words:
            self.words[self.nwords] = &word[0]
            self.nwords += 1
        self.guests = []

    cdef int troubled(self) noexcept nogil:
        cdef int i
        for i in range(self.nwords):
            if self.words[i][0]:
                return 1
        return 0

    def entitle(self, size_t title, int room):
        """Where the process title stands, for the titles of guests; one with less than 64 bytes is left as it is."""
        self.title, self.room = title if room >= 64 else 0, room

    def wait(self, int timeout):
        """A Newcomer; a Guest whose session needs Python (``why``); None after a signal, when nobody has come for ``timeout``
        milliseconds (-1: for ever), and after a guest when one of the words is set. Raises OSError when descriptors have run out.
        """
        cdef epoll_event events[8]
        cdef int i, n, fd
        while True:
            with nogil:
                n = epoll_wait(self.epoll, events, 8, timeout)
            if n <= 0:
                return None
            for i in range(n):
                if events[i].data.fd == self.wakeup:
                    return None
            for i in range(n):
                fd = self.take(events[i].data.fd)
                if fd < 0:
                    continue
                came = self.first(fd)
                if came is not None:
                    return came
                if self.troubled():
                    return None
                break                                      # a guest has come and gone; others may have the next ones

    def last(self, list listeners):
        """One more client, without waiting, from one of these sockets; as ``wait``."""
        cdef int fd
        for listener in listeners:
            try:
                fd = self.take(listener)
            except OSError:
                continue
            if fd >= 0:
                return self.first(fd)
        return None

    cdef int take(self, int listener) except -2:
        """Take one client in; -1 when there is none (any more)."""
        cdef int fd
        self.where_size = sizeof(address)
        fd = accept4(listener, &self.where.any, &self.where_size, SOCK_CLOEXEC)
        if fd >= 0:
            return fd
        if errno == EINVAL:                                # stopped by the parent, whose signal is on its way
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, listener, NULL)
        elif errno != EAGAIN and errno != ECONNABORTED and errno != EINTR and errno != EPROTO:
            PyErr_SetFromErrno(OSError)
            return -2
        return -1

    cdef object first(self, int fd):
        """Serve him as a guest (None: he has gone), or say who he is."""
        cdef First f
        cdef unsigned char raw[24]
        cdef int n, port = 0, whole, has_tls = self.tls is not None
        cdef uint64_t since = now_us()
        cdef bytes place
        cdef Guest guest
        cdef Newcomer stranger
        cdef Tls wire = None
        n = address_bytes(&self.where, raw, &port)
        place = PyBytes_FromStringAndSize(<char *> raw, n)
        self.note(waited_ms(fd) if n else -1)
        with nogil:
            whole = first_packet(&f, fd, self.wakeup, has_tls, since + FIRST_WAIT)
        if whole == 2:
            whole = 0
            if self.encrypting():
                wire = begin_tls(self.tls, &f, fd, self.wakeup, since + FIRST_WAIT, &whole)
        if whole and (wire is None or not wire.peer_certificate()):
            guest = self.known(f.data, f.have, place, wire is not None)
            if guest is not None and guest_begin(
                guest, self.relay, fd, wire, True, guest.addresses[place][0], port, self.title, self.room
            ):
                self.served += 1
                if not guest_serve(guest, self.relay):
                    return guest
                self.rested = guest.rested
                if self.title:
                    write_title(self.title, self.room, b"pgpool: wait for connection request")
                return None
        stranger = Newcomer.__new__(Newcomer)
        stranger.fd, stranger.address, stranger.port, stranger.asked = fd, place, port, f.asked
        stranger.data = PyBytes_FromStringAndSize(f.data, f.have)
        stranger.since = since * 1e-6
        stranger.rules = self.rules
        stranger.wire = wire
        return stranger

    cdef int encrypting(self):
        """Is any guest one who encrypts? Else who asks for it is Python's at once."""
        cdef Guest guest
        for guest in self.guests:
            if guest.tls and guest.good:
                return 1
        return 0

    def again(self, Newcomer came, int fd, Tls tls, bytes packet):
        """Serve a Newcomer as a guest whose first packet (length word included) Python has read, from under TLS perhaps.

        False: he is none, and nothing has happened to him. True: his session has ended. A Guest: it needs Python (``why``).
        Python has counted him, and hangs up.
        """
        cdef Guest guest = self.known(packet, <int> len(packet), came.address, tls is not None)
        if guest is None or not guest_begin(
            guest, self.relay, fd, tls, False, guest.addresses[came.address][0], came.port, self.title, self.room
        ):
            return False
        return True if guest_serve(guest, self.relay) else guest

    cdef Guest known(self, const char *packet, int size, bytes place, bint tls):
        """The guest who sent this, if everything is as it was when Python made him one."""
        cdef Guest guest
        cdef uint32_t epoch = self.relay.c.epoch[0]
        if self.troubled():
            return None
        for guest in self.guests:
            if guest.good and guest.rules == self.rules and guest.epoch == epoch and guest.tls == tls \
                    and len(guest.packet) == size and memcmp(<const char *> guest.packet, packet, <size_t> size) == 0:
                found = guest.addresses.get(place)
                return guest if found is not None and now_us() < <uint64_t> found[1] else None
        return None

    cdef void note(self, long waited) noexcept:
        """One client more; what he waited for this child (milliseconds, -1: not known)."""
        cdef Hot *hot = self.relay.c.hot
        cdef uint64_t *row
        cdef int bucket
        if hot == NULL:
            return
        hot.status = HOT_CONNECTING
        hot.clients += 1
        if waited < 0:
            return
        row = <uint64_t *> (<char *> hot + HOT_WAIT)
        bucket = bits_of(<uint64_t> waited * 1000 >> FIRST_BITS)
        row[0] += <uint64_t> waited * 1000
        row[1 + (bucket if bucket < BUCKETS else BUCKETS - 1)] += 1
