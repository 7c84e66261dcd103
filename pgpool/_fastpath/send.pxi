# ---- sending to backends, and waiting for one to answer -------------------------------------------------------------


cdef int relay_flush(CRelay *r) noexcept nogil:
    """Send what is settled to cur. While its socket is full its answers are taken, so that two full pipes cannot lock."""
    cdef CLink *ln = r.cur
    cdef ssize_t n
    cdef Buf *b
    cdef int rc
    cdef pollfd p[2]
    if ln == NULL:
        return MORE
    while ln.tx.start < ln.tx.end or r.rx.start < r.pos or tls_unsent(ln.tls):
        b = &ln.tx
        if tls_unsent(ln.tls):
            n = tls_push(ln.tls)
        elif ln.tx.start < ln.tx.end:
            n = any_send(ln.fd, ln.tls, b.data + b.start, b.end - b.start)
        else:
            b = &r.rx
            n = any_send(ln.fd, ln.tls, b.data + b.start, r.pos - b.start)
        if n >= 0:
            b.start += n
            r.segment_start = -1                           # some of it is out: it cannot move any more
            if ln.tx.start == ln.tx.end:
                ln.tx.start = ln.tx.end = 0
            continue
        if errno == EINTR:
            continue
        if errno != EAGAIN:
            return relay_hear_out(r, ln)
        p[0].fd = ln.fd
        p[0].events = POLLIN | POLLOUT
        p[1].fd = r.wakeup
        p[1].events = POLLIN
        p[0].revents = p[1].revents = 0
        if poll(p, 2, -1) < 0 or p[1].revents:
            return WAKE
        if p[0].revents & POLLIN or tls_more(ln.tls):
            rc = relay_pull(r, ln, MSG_DONTWAIT)
            if rc != MORE and rc != QUIET:
                return rc
    if r.rx.start == r.rx.end:
        r.rx.start = r.rx.end = r.pos = 0
        if r.rx.cap > KEEP_SIZE * 8 and not r.again_size:
            buf_free(&r.rx)
    return MORE

cdef int relay_reply(CRelay *r, const char *p, Py_ssize_t n) noexcept nogil:
    """Send bytes of our own to the client, to the last one. 0, or -1: it is gone."""
    cdef pollfd w
    cdef ssize_t got
    while n or tls_unsent(r.tls):
        got = any_send(r.fd, r.tls, p, n) if n else tls_push(r.tls)
        if got >= 0:
            p += got
            n -= got
        elif errno == EAGAIN:
            w.fd = r.fd
            w.events = POLLOUT
            w.revents = 0
            poll(&w, 1, 10000)
        elif errno != EINTR:
            return -1
    return 0

cdef int relay_hear_out(CRelay *r, CLink *ln) noexcept nogil:
    """A backend does not take bytes any more: its last words (57P01 ...) still go to the client."""
    cdef int rc = MORE
    while rc == MORE:
        rc = relay_pull(r, ln, MSG_DONTWAIT)
    if rc == QUIET or rc == WAKE:
        rc = relay_lost(r, ln, 1)
    return rc

cdef int relay_wait_link(CRelay *r, CLink *ln) noexcept nogil:
    """Wait until a backend says something, and pass it on. Blocks in recv for a moment, then in poll, which signals end,
    and a client that hangs up."""
    cdef pollfd p[3]
    cdef int unsent = ln.tx.start < ln.tx.end or tls_unsent(ln.tls)
    cdef int rc = relay_pull(r, ln, MSG_DONTWAIT if unsent else 0)
    if rc != QUIET:
        return rc
    p[0].fd = ln.fd
    p[1].fd = r.wakeup
    p[2].fd = -1 if r.eof else r.fd
    p[0].events = p[1].events = POLLIN
    p[2].events = POLLRDHUP
    if unsent:
        p[0].events = POLLIN | POLLOUT
    p[0].revents = p[1].revents = p[2].revents = 0
    if poll(p, 3, -1) < 0 or p[1].revents:
        return WAKE
    if p[0].revents:
        if unsent:
            relay_send_tx(ln)
        return relay_pull(r, ln, MSG_DONTWAIT)
    r.eof = 1
    return HANGUP

cdef int relay_settle(CRelay *r, CLink *ln, int all_) noexcept nogil:
    """Wait until a link has answered everything the client waits for (all_: our own requests too)."""
    cdef int rc
    cdef char flush_message[5]
    rc = relay_flush(r)
    if rc != MORE:
        return rc
    if (ln.pending or (all_ and ln.head != ln.tail)) and not ln.solicited:
        flush_message[0] = 72
        put_be32(flush_message + 1, 4)
        if buf_add(&ln.tx, flush_message, 5) < 0:
            return NO_MEMORY
        ln.solicited = 1
    while ln.tx.start < ln.tx.end or tls_unsent(ln.tls):
        relay_send_tx(ln)
        if ln.tx.start < ln.tx.end or tls_unsent(ln.tls):
            rc = relay_wait_link(r, ln)
            if rc != MORE and rc != QUIET:
                return rc
    if ln.rx.end > ln.rx.start:
        rc = relay_pass(r, ln)
        if rc != MORE:
            return rc
    while ln.pending or ln.rest or (all_ and ln.head != ln.tail):
        rc = relay_wait_link(r, ln)
        if rc != MORE and rc != QUIET:
            return rc
    return MORE

cdef int relay_select(CRelay *r, CLink *ln) noexcept nogil:
    """Make ln the link that client messages go to. Answers keep the client's order: the other link finishes first."""
    cdef int rc
    cdef CLink *was = r.cur
    if was == ln:
        return MORE
    if was != NULL:
        rc = relay_settle(r, was, 0)
        if rc != MORE:
            return rc
    elif r.rx.start < r.pos:
        return CLIENT_BAD
    r.cur = ln
    return MORE

cdef int relay_midway(CRelay *r) noexcept nogil:
    """The client has got a part of a message, and the rest was not sent (did not come) yet: nothing else may be said."""
    cdef int i
    for i in range(r.nlinks):
        if r.links[i] != NULL and (r.links[i].rx.start < r.links[i].seen
                                   or (r.links[i].rest and not r.links[i].rest_drop)):
            return 1
    return 0
