# A guest who encrypts: the door itself answers his SSLRequest, shakes hands and reads his first packet. Where anything unusual comes
# up, or he takes his time, Python goes on with what has begun.

cdef int first_encrypted(First *f, CTls *t, int wakeup, uint64_t until) noexcept nogil:
    """As first_packet, under TLS; -1: the handshake failed, OpenSSL's queue says why."""
    cdef pollfd p[2]
    cdef ssize_t n
    cdef uint32_t size
    cdef int rc = 0
    f.have = 0
    while True:
        if rc != 1:
            rc = tls_shake(t)
            if rc < 0:
                return -1 if rc == -1 else 0
        if rc == 1:
            if f.have >= 8:
                size = be32(f.data)
                if size < 8 or size > FIRST_MOST or f.have >= <int> size:
                    return f.have == <int> size
            n = tls_recv(t, f.data + f.have, FIRST_MOST - f.have, MSG_DONTWAIT)
            if n > 0:
                f.have += <int> n
                continue
            if n == 0 or errno != EAGAIN:
                return 0
        if now_us() >= until:
            return 0
        p[0].fd = t.fd
        p[0].events = POLLOUT if tls_unsent(t) else POLLIN
        p[1].fd = wakeup
        p[1].events = POLLIN
        p[0].revents = p[1].revents = 0
        if poll(p, 2, <int> ((until - now_us()) // 1000) + 1) <= 0 or p[1].revents:
            return 0

cdef Tls begin_tls(TlsContext context, First *f, int fd, int wakeup, uint64_t until, int *whole):
    """Say yes to the SSLRequest in ``f`` and go on as far as it goes. None: he is not there any more. ``whole``: as of first_packet."""
    cdef Tls tls
    if send(fd, b"S", 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1:
        return None
    tls = Tls(context, fd)
    with nogil:
        whole[0] = first_encrypted(f, &tls.c, wakeup, until)
    if whole[0] < 0:
        tls.failed()
        whole[0] = 0
    return tls
