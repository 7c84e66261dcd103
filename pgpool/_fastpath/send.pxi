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
    while ln.tx.start < ln.tx.end or r.rx.start < r.pos:
        if ln.tx.start < ln.tx.end:
            b = &ln.tx
            n = send(ln.fd, b.data + b.start, <size_t> (b.end - b.start), MSG_DONTWAIT | MSG_NOSIGNAL)
        else:
            b = &r.rx
            n = send(ln.fd, b.data + b.start, <size_t> (r.pos - b.start), MSG_DONTWAIT | MSG_NOSIGNAL)
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
        if p[0].revents & POLLIN:
            rc = relay_pull(r, ln, MSG_DONTWAIT)
            if rc != MORE and rc != QUIET:
                return rc
    if r.rx.start == r.rx.end:
        r.rx.start = r.rx.end = r.pos = 0
        if r.rx.cap > KEEP_SIZE * 8:
            buf_free(&r.rx)
    return MORE

cdef int relay_hear_out(CRelay *r, CLink *ln) noexcept nogil:
    """A backend does not take bytes any more: its last words (57P01 ...) still go to the client."""
    cdef int rc = MORE
    while rc == MORE:
        rc = relay_pull(r, ln, MSG_DONTWAIT)
    if rc == QUIET or rc == WAKE:
        ln.dead = 1
        r.gone = ln.index
        rc = BACKEND_GONE
    return rc

cdef int relay_wait_link(CRelay *r, CLink *ln) noexcept nogil:
    """Wait until a backend says something, and pass it on. Blocks in recv for a moment, then in poll, which signals end,
    and a client that hangs up."""
    cdef pollfd p[3]
    cdef int rc = relay_pull(r, ln, 0)
    if rc != QUIET:
        return rc
    p[0].fd = ln.fd
    p[1].fd = r.wakeup
    p[2].fd = -1 if r.eof else r.fd
    p[0].events = p[1].events = POLLIN
    p[2].events = POLLRDHUP
    p[0].revents = p[1].revents = p[2].revents = 0
    if poll(p, 3, -1) < 0 or p[1].revents:
        return WAKE
    if p[0].revents:
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
    while ln.tx.start < ln.tx.end:                         # a link that is not cur
        relay_send_tx(ln)
        if ln.tx.start < ln.tx.end:
            rc = relay_wait_link(r, ln)
            if rc != MORE and rc != QUIET:
                return rc
    if (ln.pending or (all_ and ln.head != ln.tail)) and not ln.solicited:
        flush_message[0] = 72
        put_be32(flush_message + 1, 4)
        if send(ln.fd, flush_message, 5, MSG_NOSIGNAL) == 5:
            ln.solicited = 1
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
