# ---- waiting: for the client, for both sides, and the loop that run() is --------------------------------------------


cdef int relay_room(CRelay *r) noexcept nogil:
    """Room for the next receive: enough for the message at hand, when that is going to be read whole."""
    cdef Py_ssize_t was = r.rx.start, want = r.chunk, missing = r.total - (r.rx.end - r.pos)
    if r.rx.start == r.rx.end:
        r.rx.start = r.rx.end = r.pos = was = 0
        if r.segment_start >= 0:
            r.segment_start = -1
    elif missing > want and r.total <= MAX_SQL and not r.rest:
        want = missing
    if buf_room(&r.rx, want) < 0:
        return -1
    r.pos -= was - r.rx.start
    if r.segment_start >= 0:
        r.segment_start -= was - r.rx.start
    return 0

cdef int relay_hear(CRelay *r, int flags) noexcept nogil:
    """Receive once from the client."""
    cdef ssize_t n
    r.again_size = 0
    if relay_room(r) < 0:
        return NO_MEMORY
    n = any_recv(r.fd, r.tls, r.rx.data + r.rx.end, r.rx.cap - r.rx.end, flags)
    if n > 0:
        if n >= r.chunk and r.chunk < READ_MOST:
            r.chunk *= 2
        r.rx.end += n
        return MORE
    if n == 0:
        r.eof = 1
        return MORE
    if errno == EAGAIN:
        return QUIET
    return WAKE if errno == EINTR else CLIENT_GONE

cdef int relay_wait_client(CRelay *r, int timeout) noexcept nogil:
    """Nothing is under way: wait for the client, a signal, or a backend that speaks up by itself."""
    cdef pollfd p[66]
    cdef CLink *of[66]
    cdef int i, n = 2, got, rc, heard
    if timeout == 0:
        return IDLE                                        # asked for the first moment between two requests
    p[1].fd = r.wakeup
    r.unlooked += 1
    if r.unlooked >= 64:                                   # a busy client would let us see no signal that missed a recv
        r.unlooked = 0
        p[1].events = POLLIN
        p[1].revents = 0
        if poll(&p[1], 1, 0) > 0:
            return WAKE
    rc = QUIET if r.woken else relay_hear(r, 0)
    r.woken = 0
    heard = rc == MORE and r.hold                          # is the primary still there? Then only it may have it
    if rc != QUIET and not heard:
        r.woken = rc == WAKE
        return rc
    p[0].fd = -1 if heard else r.fd
    for i in range(r.nlinks):
        if r.links[i] != NULL and not r.links[i].dead:
            if tls_more(r.links[i].tls):
                return relay_pull(r, r.links[i], MSG_DONTWAIT)
            p[n].fd = r.links[i].fd
            of[n] = r.links[i]
            n += 1
    for i in range(n):
        p[i].events = POLLIN
        p[i].revents = 0
    got = poll(p, <unsigned long> n, 0 if heard else timeout)
    if got == 0:
        return MORE if heard else IDLE
    if got < 0:
        return WAKE
    for i in range(2, n):
        if p[i].revents:
            rc = relay_pull(r, of[i], MSG_DONTWAIT)
            if rc != MORE and rc != QUIET:
                return rc
    if p[1].revents:
        r.woken = 1                                        # what the signal is about may have hit a backend: look there first
        return WAKE
    if p[0].revents:
        return relay_hear(r, MSG_DONTWAIT)
    return QUIET

cdef int relay_wait_both(CRelay *r, CLink *ln) noexcept nogil:
    """Answers are due, but the client may go on too (a pipeline, COPY IN, a batch without Sync)."""
    cdef pollfd p[3]
    cdef int rc = QUIET
    p[0].fd = ln.fd
    p[1].fd = r.wakeup
    p[2].fd = -1 if r.eof else r.fd
    p[0].events = p[1].events = p[2].events = POLLIN
    p[0].revents = p[1].revents = p[2].revents = 0
    if poll(p, 3, 0 if tls_more(ln.tls) or (tls_more(r.tls) and not r.eof) else -1) < 0 or p[1].revents:
        return WAKE
    if p[0].revents or tls_more(ln.tls):
        rc = relay_pull(r, ln, MSG_DONTWAIT)
        if rc != MORE and rc != QUIET:
            return rc
    if p[2].revents or (tls_more(r.tls) and not r.eof):
        rc = relay_hear(r, MSG_DONTWAIT)
        if not ln.copy_in and ln.pending:
            r.pipelining = 1
    return rc

cdef int relay_loop(CRelay *r, int timeout) noexcept nogil:
    cdef int rc
    cdef CLink *ln
    while True:
        if r.dones or r.done_failed:
            return DONE
        if r.diverged:
            return DIVERGED
        if r.ended:
            return ENDED
        if r.nheard:
            return HEARD
        if r.due:
            return AGAIN if r.due & DUE_AGAIN else DOUBT
        if tls_unsent(r.tls):
            rc = relay_drain(r)
            if rc != MORE:
                return rc
        ln = r.cur
        if ln != NULL and ln.rx.end > ln.rx.start:
            rc = relay_pass(r, ln)
            if rc != MORE:
                return rc
        rc = relay_scan(r)
        if rc != MORE:
            return rc
        rc = relay_flush(r)
        if rc != MORE:
            return rc
        if r.eof and r.rest:
            return CLIENT_GONE                             # the rest of a message will never come
        ln = r.cur
        if ln != NULL and (ln.pending or ln.copy_in or (r.segment == ln and not ln.solicited)):
            if ln.pending and ln.solicited and not ln.copy_in and not r.pipelining and not r.rest:
                rc = relay_wait_link(r, ln)
            elif r.eof and (ln.copy_in or not (ln.pending and ln.solicited)):
                return CLIENT_GONE
            else:
                rc = relay_wait_both(r, ln)
        elif r.eof:
            return CLIENT_GONE
        else:
            rc = relay_wait_client(r, timeout)
        if rc != MORE and rc != QUIET:
            return rc

# ---- before the relay takes over: start-up and login (system/channel) ----------------------------------------------

def hear(int fd):
    """What has arrived on a socket, at most 8192 bytes, without waiting: None when nothing has, b"" at its end. OSError."""
    cdef char data[8192]
    cdef ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT)
    if n < 0:
        if errno == EAGAIN or errno == EINTR:
            return None
        PyErr_SetFromErrno(OSError)
    return PyBytes_FromStringAndSize(data, n)

def await_fd(int fd, bint write, int wakeup, int timeout):
    """Wait for one fd, and for ``wakeup`` (-1: none), at most ``timeout`` milliseconds (-1: no limit).

    1: the fd is ready or broken; 2: ``wakeup`` is readable; 3: both; 0: neither (time is over, or a signal came).
    """
    cdef pollfd p[2]
    p[0].fd = fd
    p[0].events = POLLOUT if write else POLLIN
    p[1].fd = wakeup
    p[1].events = POLLIN
    p[0].revents = p[1].revents = 0
    with nogil:
        poll(p, 2, timeout)
    return (1 if p[0].revents else 0) | (2 if p[1].revents else 0)
