# OpenSSL without its headers: the very libssl that Python's _ssl module is linked with, looked up by name at run time.
# Only public functions and documented constants of 1.1.1 and 3.x; no struct of OpenSSL is ever looked into.

cdef extern from "dlfcn.h" nogil:
    enum: RTLD_NOW
    void *dlopen(const char *file, int mode)
    void *dlsym(void *handle, const char *name)
    char *dlerror()

cdef enum:
    SSL_FILETYPE_PEM = 1
    SSL_ERROR_SSL = 1
    SSL_ERROR_WANT_READ = 2
    SSL_ERROR_ZERO_RETURN = 6
    SSL_READING = 3
    SSL_VERIFY_PEER = 1
    SSL_CTRL_SET_TMP_DH = 3
    SSL_CTRL_SET_SESS_CACHE_MODE = 44
    SSL_CTRL_SET_TLSEXT_HOSTNAME = 55
    SSL_CTRL_SET_GROUPS_LIST = 92
    SSL_CTRL_SET_DH_AUTO = 118
    SSL_CTRL_SET_MIN_PROTO_VERSION = 123
    TLS1_2_VERSION = 0x0303
    SSL_OP_NO_TICKET = 1 << 14
    SSL_OP_NO_COMPRESSION = 1 << 17
    SSL_OP_CIPHER_SERVER_PREFERENCE = 1 << 22
    SSL_OP_NO_RENEGOTIATION = 1 << 30
    SSL_TLSEXT_ERR_OK = 0
    SSL_TLSEXT_ERR_ALERT_FATAL = 2
    X509_V_FLAG_CRL_CHECK = 4
    X509_V_FLAG_CRL_CHECK_ALL = 8
    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS = 4
    BIO_FLAGS_READ_RETRY = 1 | 8
    BIO_FLAGS_ALL = 15
    BIO_CTRL_FLUSH = 11
    BIO_TYPE_SOURCE_SINK = 0x400

cdef struct OpenSsl:
    # In the order of _OPENSSL_NAMES.
    void *(*TLS_server_method)() noexcept nogil
    void *(*TLS_client_method)() noexcept nogil
    void *(*SSL_CTX_new)(void *) noexcept nogil
    void (*SSL_CTX_free)(void *) noexcept nogil
    long (*SSL_CTX_ctrl)(void *, int, long, void *) noexcept nogil
    uint64_t (*SSL_CTX_set_options)(void *, uint64_t) noexcept nogil
    int (*SSL_CTX_set_num_tickets)(void *, size_t) noexcept nogil
    int (*SSL_CTX_use_certificate_chain_file)(void *, const char *) noexcept nogil
    int (*SSL_CTX_use_PrivateKey_file)(void *, const char *, int) noexcept nogil
    int (*SSL_CTX_check_private_key)(void *) noexcept nogil
    void (*SSL_CTX_set_default_passwd_cb_userdata)(void *, void *) noexcept nogil
    int (*SSL_CTX_set_cipher_list)(void *, const char *) noexcept nogil
    int (*SSL_CTX_load_verify_locations)(void *, const char *, const char *) noexcept nogil
    void (*SSL_CTX_set_verify)(void *, int, void *) noexcept nogil
    void *(*SSL_load_client_CA_file)(const char *) noexcept nogil
    void (*SSL_CTX_set_client_CA_list)(void *, void *) noexcept nogil
    void *(*SSL_CTX_get_cert_store)(void *) noexcept nogil
    int (*X509_STORE_load_locations)(void *, const char *, const char *) noexcept nogil
    int (*X509_STORE_set_flags)(void *, unsigned long) noexcept nogil
    void (*SSL_CTX_set_alpn_select_cb)(void *, void *, void *) noexcept nogil
    int (*SSL_CTX_set_alpn_protos)(void *, const uint8_t *, unsigned int) noexcept nogil
    int (*SSL_select_next_proto)(uint8_t **, uint8_t *, const uint8_t *, unsigned int, const uint8_t *, unsigned int) \
        noexcept nogil
    void *(*SSL_new)(void *) noexcept nogil
    void (*SSL_free)(void *) noexcept nogil
    void (*SSL_set_bio)(void *, void *, void *) noexcept nogil
    void (*SSL_set_accept_state)(void *) noexcept nogil
    void (*SSL_set_connect_state)(void *) noexcept nogil
    int (*SSL_do_handshake)(void *) noexcept nogil
    int (*SSL_read_ex)(void *, void *, size_t, size_t *) noexcept nogil
    int (*SSL_write_ex)(void *, const void *, size_t, size_t *) noexcept nogil
    int (*SSL_pending)(const void *) noexcept nogil
    int (*SSL_want)(const void *) noexcept nogil
    int (*SSL_get_error)(const void *, int) noexcept nogil
    int (*SSL_shutdown)(void *) noexcept nogil
    long (*SSL_ctrl)(void *, int, long, void *) noexcept nogil
    void *(*SSL_get0_param)(void *) noexcept nogil
    int (*X509_VERIFY_PARAM_set1_host)(void *, const char *, size_t) noexcept nogil
    int (*X509_VERIFY_PARAM_set1_ip_asc)(void *, const char *) noexcept nogil
    void (*X509_VERIFY_PARAM_set_hostflags)(void *, unsigned int) noexcept nogil
    long (*SSL_get_verify_result)(const void *) noexcept nogil
    const char *(*X509_verify_cert_error_string)(long) noexcept nogil
    void (*SSL_get0_alpn_selected)(const void *, const uint8_t **, unsigned int *) noexcept nogil
    const char *(*SSL_get_version)(const void *) noexcept nogil
    const void *(*SSL_get_current_cipher)(const void *) noexcept nogil
    const char *(*SSL_CIPHER_get_name)(const void *) noexcept nogil
    void *(*SSL_get_certificate)(const void *) noexcept nogil
    int (*i2d_X509)(const void *, uint8_t **) noexcept nogil
    void (*X509_free)(void *) noexcept nogil
    void *(*BIO_meth_new)(int, const char *) noexcept nogil
    int (*BIO_meth_set_read)(void *, void *) noexcept nogil
    int (*BIO_meth_set_write)(void *, void *) noexcept nogil
    int (*BIO_meth_set_ctrl)(void *, void *) noexcept nogil
    int (*BIO_get_new_index)() noexcept nogil
    void *(*BIO_new)(void *) noexcept nogil
    void (*BIO_set_data)(void *, void *) noexcept nogil
    void *(*BIO_get_data)(void *) noexcept nogil
    void (*BIO_set_flags)(void *, int) noexcept nogil
    void (*BIO_clear_flags)(void *, int) noexcept nogil
    void *(*BIO_new_file)(const char *, const char *) noexcept nogil
    int (*BIO_free)(void *) noexcept nogil
    void *(*PEM_read_bio_DHparams)(void *, void *, void *, void *) noexcept nogil
    void (*DH_free)(void *) noexcept nogil
    unsigned long (*ERR_get_error)() noexcept nogil
    void (*ERR_clear_error)() noexcept nogil
    const char *(*ERR_reason_error_string)(unsigned long) noexcept nogil
    void (*ERR_error_string_n)(unsigned long, char *, size_t) noexcept nogil
    void *(*SSL_get1_peer_certificate)(const void *) noexcept nogil

_OPENSSL_NAMES = (
    "TLS_server_method TLS_client_method SSL_CTX_new SSL_CTX_free SSL_CTX_ctrl SSL_CTX_set_options SSL_CTX_set_num_tickets"
    " SSL_CTX_use_certificate_chain_file SSL_CTX_use_PrivateKey_file SSL_CTX_check_private_key"
    " SSL_CTX_set_default_passwd_cb_userdata SSL_CTX_set_cipher_list SSL_CTX_load_verify_locations SSL_CTX_set_verify"
    " SSL_load_client_CA_file SSL_CTX_set_client_CA_list SSL_CTX_get_cert_store X509_STORE_load_locations"
    " X509_STORE_set_flags SSL_CTX_set_alpn_select_cb SSL_CTX_set_alpn_protos SSL_select_next_proto SSL_new SSL_free"
    " SSL_set_bio SSL_set_accept_state SSL_set_connect_state SSL_do_handshake SSL_read_ex SSL_write_ex SSL_pending"
    " SSL_want SSL_get_error SSL_shutdown SSL_ctrl SSL_get0_param X509_VERIFY_PARAM_set1_host X509_VERIFY_PARAM_set1_ip_asc"
    " X509_VERIFY_PARAM_set_hostflags SSL_get_verify_result X509_verify_cert_error_string SSL_get0_alpn_selected"
    " SSL_get_version SSL_get_current_cipher SSL_CIPHER_get_name SSL_get_certificate i2d_X509 X509_free BIO_meth_new"
    " BIO_meth_set_read BIO_meth_set_write BIO_meth_set_ctrl BIO_get_new_index BIO_new BIO_set_data BIO_get_data"
    " BIO_set_flags BIO_clear_flags BIO_new_file BIO_free PEM_read_bio_DHparams DH_free ERR_get_error ERR_clear_error"
    " ERR_reason_error_string ERR_error_string_n SSL_get1_peer_certificate"
).split()
_OLDER = {"SSL_get1_peer_certificate": "SSL_get_peer_certificate"}    # the name before 3.0
_NOT_NEEDED = {"PEM_read_bio_DHparams", "DH_free"}                    # left out of builds without deprecated functions

cdef OpenSsl ossl
cdef void *bio_method = NULL

class TlsError(Exception):
    """TLS cannot be used, or a connection's TLS has failed; the text says why, in OpenSSL's words."""

def load_openssl(list files):
    """Find OpenSSL's functions through the first of ``files`` (names for dlopen; '' is this program) that has them all.

    Raises TlsError: what each file lacks. Done once; later calls do nothing.
    """
    global bio_method
    cdef void *handle
    cdef void **at = <void **> &ossl
    cdef void *found
    cdef Py_ssize_t i
    cdef bytes path
    if bio_method != NULL:
        return
    if len(_OPENSSL_NAMES) * sizeof(void *) != sizeof(OpenSsl):
        raise TlsError("the table of OpenSSL's functions is wrong")
    problems = []
    for file in files:
        path = file.encode()
        handle = dlopen(path, RTLD_NOW) if path else dlopen(NULL, RTLD_NOW)
        if handle == NULL:
            problems.append(dlerror().decode("utf-8", "replace"))
            continue
        missing = []
        for i, name in enumerate(_OPENSSL_NAMES):
            found = dlsym(handle, <bytes> name.encode())
            if found == NULL and name in _OLDER:
                found = dlsym(handle, <bytes> _OLDER[name].encode())
            at[i] = found
            if found == NULL and name not in _NOT_NEEDED:
                missing.append(name)
        if not missing:
            bio_method = ossl.BIO_meth_new(ossl.BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, b"pgpool")
            if bio_method == NULL:
                raise MemoryError
            ossl.BIO_meth_set_read(bio_method, <void *> tls_bio_read)
            ossl.BIO_meth_set_write(bio_method, <void *> tls_bio_write)
            ossl.BIO_meth_set_ctrl(bio_method, <void *> tls_bio_ctrl)
            return
        problems.append(f"{file or 'the program itself'} has no {' '.join(missing[:3])}")
    raise TlsError("TLS is not available: " + "; ".join(problems))

cdef str openssl_reason():
    """The oldest error in OpenSSL's queue, which is the cause; the queue is emptied."""
    cdef unsigned long code = ossl.ERR_get_error()
    cdef const char *text
    cdef char room[256]
    if code == 0:
        return "unknown error"
    text = ossl.ERR_reason_error_string(code)
    if text == NULL:
        ossl.ERR_error_string_n(code, room, sizeof(room))
        text = room
    ossl.ERR_clear_error()
    return text.decode("utf-8", "replace")

cdef int tls_alpn(void *ssl, const uint8_t **out, uint8_t *outlen, const uint8_t *given, unsigned int n, void *arg) \
        noexcept nogil:
    """A client that names protocols must name ours (PostgreSQL 17)."""
    if ossl.SSL_select_next_proto(<uint8_t **> out, outlen, b"\x0apostgresql", 11, given, n) == 1:
        return SSL_TLSEXT_ERR_OK
    return SSL_TLSEXT_ERR_ALERT_FATAL

cdef class TlsContext:
    """Certificates and rules for many connections, for the ``server`` side or the client side.

    Paths are for the C library. ``passphrase``: of the key. ``verify``: the peer's certificate must be good; a client
    may come without one. TlsError says what cannot be used.
    """

    cdef void *ctx
    cdef readonly bint server

    def __cinit__(self, bint server, *, str cert="", str key="", bytes passphrase=b"", str ca_file="", str ca_dir="",
                  str crl="", str ciphers="", str groups="", str dh="", bint prefer_server=False):
        if bio_method == NULL:
            raise TlsError("TLS is not available")
        self.server = server
        ossl.ERR_clear_error()
        self.ctx = ossl.SSL_CTX_new(ossl.TLS_server_method() if server else ossl.TLS_client_method())
        if self.ctx == NULL:
            raise TlsError("could not create SSL context: " + openssl_reason())
        ossl.SSL_CTX_ctrl(self.ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL)
        ossl.SSL_CTX_ctrl(self.ctx, SSL_CTRL_SET_SESS_CACHE_MODE, 0, NULL)
        ossl.SSL_CTX_set_options(self.ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION
                                 | (SSL_OP_CIPHER_SERVER_PREFERENCE if prefer_server else 0))
        ossl.SSL_CTX_set_num_tickets(self.ctx, 0)
        # without a passphrase OpenSSL would ask at the terminal: '' makes it fail instead
        ossl.SSL_CTX_set_default_passwd_cb_userdata(self.ctx, <void *> <char *> passphrase)
        self._identity(os_path(cert), os_path(key), cert, key)
        ossl.SSL_CTX_set_default_passwd_cb_userdata(self.ctx, <void *> <char *> b"")
        self._trust(ca_file, ca_dir, crl)
        self._rules(ciphers, groups, dh)
        if server:
            ossl.SSL_CTX_set_alpn_select_cb(self.ctx, <void *> tls_alpn, NULL)
        else:
            ossl.SSL_CTX_set_alpn_protos(self.ctx, b"\x0apostgresql", 11)

    def __dealloc__(self):
        if self.ctx != NULL:
            ossl.SSL_CTX_free(self.ctx)

    cdef _identity(self, bytes cert_path, bytes key_path, str cert, str key):
        if not cert:
            return
        if ossl.SSL_CTX_use_certificate_chain_file(self.ctx, cert_path) != 1:
            raise TlsError(f'could not load SSL certificate file "{cert}": {openssl_reason()}')
        if ossl.SSL_CTX_use_PrivateKey_file(self.ctx, key_path, SSL_FILETYPE_PEM) != 1:
            raise TlsError(f'could not load private key file "{key}": {openssl_reason()}')
        if ossl.SSL_CTX_check_private_key(self.ctx) != 1:
            raise TlsError(f'private key "{key}" does not belong to certificate "{cert}": {openssl_reason()}')

    cdef _trust(self, str ca_file, str ca_dir, str crl):
        cdef bytes file_path = os_path(ca_file), dir_path = os_path(ca_dir), crl_path = os_path(crl)
        cdef const char *file_at = NULL
        cdef const char *dir_at = NULL
        cdef void *names
        cdef void *store
        if ca_file:
            file_at = file_path
        if ca_dir:
            dir_at = dir_path
        if ca_file or ca_dir:
            if ossl.SSL_CTX_load_verify_locations(self.ctx, file_at, dir_at) != 1:
                raise TlsError(f'could not load CA certificates "{ca_file or ca_dir}": {openssl_reason()}')
            if self.server and ca_file:
                names = ossl.SSL_load_client_CA_file(file_path)
                if names == NULL:
                    raise TlsError(f'could not load CA certificates "{ca_file}": {openssl_reason()}')
                ossl.SSL_CTX_set_client_CA_list(self.ctx, names)
            ossl.SSL_CTX_set_verify(self.ctx, SSL_VERIFY_PEER, NULL)
        if crl:
            store = ossl.SSL_CTX_get_cert_store(self.ctx)
            if ossl.X509_STORE_load_locations(store, crl_path, NULL) != 1:
                raise TlsError(f'could not load certificate revocation list file "{crl}": {openssl_reason()}')
            ossl.X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL)

    cdef _rules(self, str ciphers, str groups, str dh):
        cdef bytes cipher_text = ciphers.encode(), group_text = groups.encode(), dh_path = os_path(dh)
        cdef void *bio
        cdef void *params = NULL
        if ciphers and ossl.SSL_CTX_set_cipher_list(self.ctx, cipher_text) != 1:
            raise TlsError(f'could not set the cipher list "{ciphers}": {openssl_reason()}')
        if groups and ossl.SSL_CTX_ctrl(self.ctx, SSL_CTRL_SET_GROUPS_LIST, 0, <void *> <char *> group_text) != 1:
            raise TlsError(f'unrecognized ECDH curve "{groups}": {openssl_reason()}')
        if not self.server:
            return
        if not dh:
            ossl.SSL_CTX_ctrl(self.ctx, SSL_CTRL_SET_DH_AUTO, 1, NULL)
            return
        if ossl.PEM_read_bio_DHparams == NULL or ossl.DH_free == NULL:
            raise TlsError("this OpenSSL cannot read a file of DH parameters")
        bio = ossl.BIO_new_file(dh_path, b"r")
        if bio != NULL:
            params = ossl.PEM_read_bio_DHparams(bio, NULL, NULL, NULL)
            ossl.BIO_free(bio)
        if params == NULL:
            raise TlsError(f'could not load DH parameters file "{dh}": {openssl_reason()}')
        try:
            if ossl.SSL_CTX_ctrl(self.ctx, SSL_CTRL_SET_TMP_DH, 0, params) != 1:
                raise TlsError(f'DH parameters of "{dh}" cannot be used: {openssl_reason()}')
        finally:
            ossl.DH_free(params)

cdef bytes os_path(str path):
    if "\0" in path:
        raise TlsError("a file name contains a NUL byte")
    return path.encode("utf-8", "surrogateescape")
