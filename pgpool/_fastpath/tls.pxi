# The record layer of one connection. OpenSSL reads and writes memory only: what it decrypts comes out of `inb`, what it
# encrypts goes into `out`; recv and send are ours, with our flags, and never hide in a call of OpenSSL's. Two things
# follow from that, and every wait must know them:
#   more    bytes are at hand here that poll() does not show: read before you wait
#   unsent  tls_send took what it was given, and some of its records are not out yet: push them before you wait

cdef enum:
    RECORD = 16384                   # most bytes of one record
    TLS_BURST = 262144               # so much is encrypted before it is sent

cdef extern from "errno.h" nogil:
    enum: EPROTO, EPIPE

cdef struct CTls:
    int fd
    void *ssl
    Buf inb                          # received, not yet decrypted
    Buf out                          # encrypted, not yet sent
    Py_ssize_t chunk
    int more
    int eof                          # the peer said it sends no more
    int broken                       # a fatal error: nothing goes in or out any more

cdef int tls_bio_read(void *bio, char *data, int n) noexcept nogil:
    cdef CTls *t = <CTls *> ossl.BIO_get_data(bio)
    cdef Py_ssize_t have = t.inb.end - t.inb.start
    ossl.BIO_clear_flags(bio, BIO_FLAGS_ALL)
    if have == 0 or n <= 0:
        ossl.BIO_set_flags(bio, BIO_FLAGS_READ_RETRY)
        return -1
    if n > have:
        n = <int> have
    memcpy(data, t.inb.data + t.inb.start, <size_t> n)
    t.inb.start += n
    if t.inb.start == t.inb.end:
        t.inb.start = t.inb.end = 0
    return n

cdef int tls_bio_write(void *bio, const char *data, int n) noexcept nogil:
    cdef CTls *t = <CTls *> ossl.BIO_get_data(bio)
    ossl.BIO_clear_flags(bio, BIO_FLAGS_ALL)
    if n <= 0 or buf_add(&t.out, data, n) < 0:
        return -1
    return n

cdef long tls_bio_ctrl(void *bio, int cmd, long number, void *pointer) noexcept nogil:
    return 1 if cmd == BIO_CTRL_FLUSH else 0

cdef inline int tls_unsent(CTls *t) noexcept nogil:
    return t != NULL and t.out.start < t.out.end

cdef inline int tls_more(CTls *t) noexcept nogil:
    return t != NULL and t.more

cdef int tls_push(CTls *t) noexcept nogil:
    """Send the records that wait, without waiting. 0: all are out; -1: errno says why not (EAGAIN)."""
    cdef ssize_t n
    while t.out.start < t.out.end:
        n = send(t.fd, t.out.data + t.out.start, <size_t> (t.out.end - t.out.start), MSG_DONTWAIT | MSG_NOSIGNAL)
        if n >= 0:
            t.out.start += n
        elif errno != EINTR:
            return -1
    t.out.start = t.out.end = 0
    if t.out.cap > KEEP_SIZE * 2:
        buf_free(&t.out)
    return 0

cdef ssize_t tls_pull(CTls *t, int flags) noexcept nogil:
    """Receive once into ``inb``; as recv."""
    cdef ssize_t n
    if buf_room(&t.inb, t.chunk) < 0:
        errno_set(EPROTO)
        return -1
    n = recv(t.fd, t.inb.data + t.inb.end, <size_t> (t.inb.cap - t.inb.end), flags)
    if n > 0:
        if n >= t.chunk and t.chunk < READ_MOST:
            t.chunk *= 2
        t.inb.end += n
    return n

cdef ssize_t tls_recv(CTls *t, char *data, Py_ssize_t n, int flags) noexcept nogil:
    """recv of what was decrypted. After -1 with EAGAIN nothing is at hand here: poll() may be trusted.

    OpenSSL's queue of errors is not emptied here (that costs a tenth of all instructions of a query): nothing is decided by what an
    earlier call may have left there but what an end is called."""
    cdef Py_ssize_t done = 0
    cdef size_t got = 0
    cdef ssize_t rc
    while done < n:
        if t.broken:
            if not done:
                errno_set(EPROTO)
            return done if done else -1
        if t.eof:
            return done
        if t.inb.start == t.inb.end and not t.more:
            if done:
                return done
            rc = tls_pull(t, flags)
            if rc <= 0:
                return rc
        if ossl.SSL_read_ex(t.ssl, data + done, <size_t> (n - done), &got) == 1:
            done += <Py_ssize_t> got
            t.more = ossl.SSL_pending(t.ssl) > 0
            continue
        t.more = 0
        if t.inb.start == t.inb.end and ossl.SSL_want(t.ssl) == SSL_READING:    # a record that is not all here, or one without data
            if t.out.start < t.out.end:
                tls_push(t)                                # the answer to a key update
            continue
        t.more = 1                                         # the reader shall come back for the end
        t.eof = ossl.SSL_get_error(t.ssl, 0) == SSL_ERROR_ZERO_RETURN
        t.broken = not t.eof
    t.more = t.more or t.inb.start < t.inb.end
    return done

cdef ssize_t tls_send(CTls *t, const char *data, Py_ssize_t n) noexcept nogil:
    """send that never waits. What it takes is encrypted for good, and may be still unsent when it returns."""
    cdef Py_ssize_t done = 0
    cdef size_t took = 0
    if t.broken:
        errno_set(EPIPE)
        return -1
    if t.out.start < t.out.end and tls_push(t) < 0:
        return -1
    while done < n and done < TLS_BURST:
        if ossl.SSL_write_ex(t.ssl, data + done, <size_t> (n - done if n - done < RECORD else RECORD), &took) != 1:
            t.broken = 1
            errno_set(EPIPE)
            return -1
        done += <Py_ssize_t> took
    if tls_push(t) < 0 and errno != EAGAIN:
        return -1
    return done

cdef int tls_shake(CTls *t) noexcept nogil:
    """Go on with the handshake, without waiting. 1: it is done; 0: wait for the fd; -1: it failed, OpenSSL's queue says why;
    -2: the peer hung up."""
    cdef int ok, rc, pushed
    cdef ssize_t n
    while True:
        ossl.ERR_clear_error()
        ok = ossl.SSL_do_handshake(t.ssl)
        rc = ossl.SSL_get_error(t.ssl, ok) if ok != 1 else 0
        pushed = tls_push(t) == 0 or errno == EAGAIN
        if ok != 1 and rc != SSL_ERROR_WANT_READ:
            t.broken = 1
            return -1
        if not pushed:
            return -2
        if ok == 1:
            t.more = ossl.SSL_pending(t.ssl) > 0 or t.inb.start < t.inb.end
            return not tls_unsent(t)
        if tls_unsent(t):
            return 0
        n = tls_pull(t, MSG_DONTWAIT)
        if n == 0 or (n < 0 and errno != EAGAIN and errno != EINTR):
            return -2
        if n < 0:
            return 0

cdef extern from *:
    """
    #include <errno.h>
    static inline void errno_set(int e) { errno = e; }
    """
    void errno_set(int e) noexcept nogil

cdef inline ssize_t any_recv(int fd, CTls *t, char *data, Py_ssize_t n, int flags) noexcept nogil:
    if t == NULL:
        return recv(fd, data, <size_t> n, flags)
    return tls_recv(t, data, n, flags)

cdef inline ssize_t any_send(int fd, CTls *t, const char *data, Py_ssize_t n) noexcept nogil:
    if t == NULL:
        return send(fd, data, <size_t> n, MSG_DONTWAIT | MSG_NOSIGNAL)
    return tls_send(t, data, n)

cdef class Tls:
    """TLS on one connected socket. ``pending``: bytes of the handshake that were read already. ``host``: the name
    the server's certificate must be for, '' for any; ``sni``: the name it is told. The fd stays the caller's."""

    cdef CTls c
    cdef TlsContext context
    cdef str failure                 # why the handshake failed

    def __cinit__(self, TlsContext context not None, int fd, bytes pending=b"", *, str host="", str sni=""):
        cdef void *bio
        cdef void *param
        cdef bytes name
        memset(&self.c, 0, sizeof(CTls))
        self.c.fd = fd
        self.c.chunk = RECORD + 256
        self.context = context
        self.failure = ""
        self.c.ssl = ossl.SSL_new(context.ctx)
        bio = ossl.BIO_new(bio_method) if self.c.ssl != NULL else NULL
        if bio == NULL:
            raise MemoryError
        ossl.BIO_set_data(bio, &self.c)
        ossl.SSL_set_bio(self.c.ssl, bio, bio)
        if context.server:
            ossl.SSL_set_accept_state(self.c.ssl)
        else:
            ossl.SSL_set_connect_state(self.c.ssl)
        if sni:
            name = sni.encode("idna") if not sni.isascii() else sni.encode()
            ossl.SSL_ctrl(self.c.ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, 0, <void *> <char *> name)
        if host:
            param = ossl.SSL_get0_param(self.c.ssl)
            name = host.encode("idna") if not host.isascii() else host.encode()
            ossl.X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)
            if ossl.X509_VERIFY_PARAM_set1_ip_asc(param, name) != 1 \
                    and ossl.X509_VERIFY_PARAM_set1_host(param, name, <size_t> len(name)) != 1:
                raise TlsError(f'"{host}" cannot be a host name')
        if pending and buf_add(&self.c.inb, pending, len(pending)) < 0:
            raise MemoryError

    def __dealloc__(self):
        if self.c.ssl != NULL:
            ossl.SSL_free(self.c.ssl)                      # and its BIO
        buf_free(&self.c.inb)
        buf_free(&self.c.out)

    def handshake(self):
        """Go on with the handshake, without waiting; True when it is done. Else wait for the fd to be writable, when
        ``unsent``, or readable. TlsError: it failed; EOFError: the peer hung up."""
        cdef int rc
        if self.failure:
            raise TlsError(self.failure)                   # the door has heard it before us
        with nogil:
            rc = tls_shake(&self.c)
        if rc == -1:
            raise TlsError(self.failed())
        if rc < 0:
            raise EOFError("connection closed in the handshake")
        return rc == 1

    cdef str failed(self):
        """Why the handshake has failed just now, also for whoever asks later."""
        cdef long code
        self.failure = openssl_reason()
        code = ossl.SSL_get_verify_result(self.c.ssl)
        if code:
            self.failure += ": " + ossl.X509_verify_cert_error_string(code).decode("utf-8", "replace")
        return self.failure

    def recv(self, int n):
        """At most ``n`` bytes without waiting; b'' at the end, None when nothing is there. TlsError: it is broken."""
        cdef bytes room = PyBytes_FromStringAndSize(NULL, n)
        cdef char *at = room
        cdef ssize_t got
        ossl.ERR_clear_error()
        with nogil:
            got = tls_recv(&self.c, at, n, MSG_DONTWAIT)
        if got >= 0:
            return room[:got]
        if errno == EAGAIN or errno == EINTR:
            return None
        raise TlsError(openssl_reason() if self.c.broken else "connection broken")

    def send(self, data):
        """Encrypt bytes, and send what goes without waiting; how many were taken, 0 when it is full. TlsError: broken."""
        cdef const uint8_t[::1] view = data
        cdef ssize_t took
        if view.shape[0] == 0:
            return 0
        ossl.ERR_clear_error()
        took = tls_send(&self.c, <const char *> &view[0], view.shape[0])
        if took < 0 and errno != EAGAIN:
            raise TlsError("connection broken")
        return took if took > 0 else 0

    def push(self):
        """Send the records that wait, as far as they go. TlsError: broken."""
        if tls_push(&self.c) < 0 and errno != EAGAIN:
            raise TlsError("connection broken")

    @property
    def unsent(self):
        """Records wait to be sent: ``push`` when the fd is writable."""
        return bool(tls_unsent(&self.c))

    @property
    def more(self):
        """Something can be read that poll() does not show."""
        return bool(self.c.more)

    def goodbye(self):
        """Tell the peer that nothing follows, as far as the socket takes it at once."""
        if not self.c.broken:
            ossl.ERR_clear_error()
            ossl.SSL_shutdown(self.c.ssl)
            tls_push(&self.c)

    @property
    def protocol(self):
        """The protocol agreed by ALPN, '' for none."""
        cdef const uint8_t *name = NULL
        cdef unsigned int n = 0
        ossl.SSL_get0_alpn_selected(self.c.ssl, &name, &n)
        return PyBytes_FromStringAndSize(<const char *> name, n).decode("ascii", "replace") if n else ""

    @property
    def version(self):
        """TLSv1.2, TLSv1.3 ..."""
        return ossl.SSL_get_version(self.c.ssl).decode("ascii", "replace")

    @property
    def cipher(self):
        cdef const void *now = ossl.SSL_get_current_cipher(self.c.ssl)
        return ossl.SSL_CIPHER_get_name(now).decode("ascii", "replace") if now != NULL else ""

    def peer_certificate(self):
        """The peer's certificate in DER, b'' when it showed none. Its chain was checked when the context has a CA."""
        cdef void *cert = ossl.SSL_get1_peer_certificate(self.c.ssl)
        if cert == NULL:
            return b""
        try:
            return der_of(cert)
        finally:
            ossl.X509_free(cert)

    def own_certificate(self):
        """The certificate shown to the peer in DER, b'' for none."""
        cdef void *cert = ossl.SSL_get_certificate(self.c.ssl)
        return der_of(cert) if cert != NULL else b""

cdef bytes der_of(void *cert):
    cdef int n = ossl.i2d_X509(cert, NULL)
    cdef bytes room
    cdef uint8_t *at
    if n <= 0:
        return b""
    room = PyBytes_FromStringAndSize(NULL, n)
    at = <uint8_t *> <char *> room
    ossl.i2d_X509(cert, &at)
    return room
