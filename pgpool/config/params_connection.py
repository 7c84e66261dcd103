"""Parameter rows: clustering mode, listening, PCP, backends, authentication, TLS, our own."""

from .forms import backend_flags
from .param import BACKEND, BACKEND_DEFAULT, BOOL, DOUBLE, ENUM, INIT, INT, INT64, LIST, RELOAD, SESSION, STRING, Param

CLUSTERING = "Clustering mode"
CONNECTIONS = "Connections"
PCP = "PCP connections"
BACKENDS = "Backends"
AUTHENTICATION = "Authentication"
TLS = "TLS"
OWN = "Own additions"

ROWS = (
    Param("backend_clustering_mode", ENUM, "streaming_replication", INIT, CLUSTERING,
          "Who keeps the backends equal: PostgreSQL's streaming or logical replication, pgpool itself (native "
          "replication, snapshot isolation), or nobody (raw). Slony is treated like logical replication.",
          choices={"streaming_replication": 1, "native_replication": 2, "logical_replication": 3, "raw": 4,
                   "snapshot_isolation": 5, "slony": 6},
          since="4.2"),
    Param("replication_mode", BOOL, False, INIT, CLUSTERING,
          "Old switch for native replication; use backend_clustering_mode."),

    Param("listen_addresses", LIST, ("localhost",), INIT, CONNECTIONS,
          "Host names or addresses to accept clients on; '*' means all of IPv4 and IPv6, an empty list means no TCP."),
    Param("port", INT, 9999, INIT, CONNECTIONS, "Port for clients, TCP and unix socket.", min=1024, max=65535),
    Param("unix_socket_directories", LIST, ("/tmp",), INIT, CONNECTIONS,
          "Directories in which a unix socket for clients is made.", old_names=("socket_dir",), since="4.4"),
    Param("unix_socket_group", STRING, "", INIT, CONNECTIONS,
          "Group that owns the unix sockets for clients; empty means the group of the server's user.", since="4.4"),
    Param("unix_socket_permissions", INT, 0o777, INIT, CONNECTIONS,
          "Permissions of the unix sockets for clients, in octal.", max=0o777, octal="show", since="4.4"),
    Param("reserved_connections", INT, 0, INIT, CONNECTIONS,
          "If more than 0, clients beyond num_init_children minus this number are refused at once instead of waiting.",
          since="4.1"),
    Param("listen_backlog_multiplier", INT, 2, INIT, CONNECTIONS,
          "The kernel queues up to num_init_children times this many waiting clients.",
          min=1, since="3.4", was="32 before 4.3"),
    Param("serialize_accept", BOOL, False, INIT, CONNECTIONS,
          "Let only one idle child wait in accept at a time; has no effect unless child_life_time is 0.", since="3.5"),

    Param("pcp_listen_addresses", LIST, ("localhost",), INIT, PCP,
          "Host names or addresses for the administration port; '*' means all, an empty list means no TCP.",
          since="3.4", was="'*' before 3.7"),
    Param("pcp_port", INT, 9898, INIT, PCP, "Port for administration commands (PCP).", min=1024, max=65535),
    Param("pcp_socket_dir", LIST, ("/tmp",), INIT, PCP,
          "Directories in which a unix socket for administration commands is made."),

    Param("backend_hostname", STRING, "", RELOAD, BACKENDS,
          "Host name or address of the backend; a name beginning with / is a unix socket directory, empty means /tmp.",
          indexing=BACKEND),
    Param("backend_port", INT, 0, RELOAD, BACKENDS,
          "Port of the backend; a backend without a port does not exist.", min=1024, max=65535, indexing=BACKEND),
    Param("backend_weight", DOUBLE, 0.0, RELOAD, BACKENDS,
          "Share of the reads for this backend, relative to the sum of all weights; 0 means no reads.",
          max=100000000.0, indexing=BACKEND),
    Param("backend_data_directory", STRING, "", RELOAD, BACKENDS,
          "Data directory of the backend; needed by online recovery and handed to the failover commands.",
          indexing=BACKEND),
    Param("backend_application_name", STRING, "", RELOAD, BACKENDS,
          "application_name with which this standby's WAL receiver connects to the primary. Empty: the standby is asked "
          "(ours; sr_check_user needs pg_monitor), and the name counts when no other standby has it.",
          indexing=BACKEND, since="4.1"),
    Param("backend_flag", STRING, "ALLOW_TO_FAILOVER", RELOAD, BACKENDS,
          "ALLOW_TO_FAILOVER or DISALLOW_TO_FAILOVER, and ALWAYS_PRIMARY, joined by |.",
          indexing=BACKEND, form=backend_flags, since="3.1"),

    Param("enable_pool_hba", BOOL, False, RELOAD, AUTHENTICATION,
          "Authenticate clients by the rules of pool_hba.conf."),
    Param("pool_passwd", STRING, "pool_passwd", INIT, AUTHENTICATION,
          "File with the users' passwords, relative to the directory of pgpool.conf; empty means none.", secret=True),
    Param("authentication_timeout", INT, 60, INIT, AUTHENTICATION,
          "Time a client has to finish its login; 0 means no limit.", unit="s", was="0 before 4.3"),
    Param("allow_clear_text_frontend_auth", BOOL, False, RELOAD, AUTHENTICATION,
          "Ask the client for its password in clear text when pool_passwd does not know the user; only when "
          "enable_pool_hba is off.", since="4.0"),
    Param("auth_query_user", STRING, "", RELOAD, AUTHENTICATION,
          "Role that asks the primary for the secrets of users whom pool_passwd does not know, and for the members of roles"
          " in pool_hba.conf; empty means that nobody is asked.", since="ours"),
    Param("auth_query_password", STRING, "", RELOAD, AUTHENTICATION,
          "Password of that role; empty means look into pool_passwd.", secret=True, since="ours"),
    Param("auth_query_database", STRING, "postgres", RELOAD, AUTHENTICATION,
          "Database in which auth_query is run.", since="ours"),
    Param("auth_query", STRING,
          "SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin"
          " AND (rolvaliduntil IS NULL OR rolvaliduntil > pg_catalog.now())", RELOAD, AUTHENTICATION,
          "Query for the secret of the user $1: his name and an md5 hash or SCRAM-SHA-256 verifier, or that alone. It runs"
          " with search_path = pg_catalog, and has to leave out who is no longer valid.", since="ours"),
    Param("max_logins_per_host", INT, 0, RELOAD, AUTHENTICATION,
          "So many connections from one address (of IPv6: one /64) may be logging in at a time; more are refused. 0 means"
          " no limit.", since="ours"),
    Param("protect_memory", BOOL, False, INIT, AUTHENTICATION,
          "No process writes a core file or lets others of its user look into its memory, where passwords are.",
          since="ours"),
    Param("allow_root", BOOL, False, INIT, AUTHENTICATION,
          "Let root start pgpool; off: it refuses. It needs no privileges, and its commands would have all of root's.",
          since="ours"),

    Param("ssl", BOOL, False, INIT, TLS, "Use TLS with clients and backends."),
    Param("ssl_key", STRING, "", RELOAD, TLS, "File with the private key."),
    Param("ssl_cert", STRING, "", RELOAD, TLS, "File with the certificate shown to clients."),
    Param("ssl_ca_cert", STRING, "", RELOAD, TLS,
          "File with the CA certificates that client and backend certificates are checked against."),
    Param("ssl_ca_cert_dir", STRING, "", RELOAD, TLS, "Directory with CA certificates."),
    Param("ssl_crl_file", STRING, "", RELOAD, TLS, "File with revoked certificates.", since="4.2"),
    Param("ssl_ciphers", STRING, "HIGH:MEDIUM:+3DES:!aNULL", RELOAD, TLS,
          "Ciphers allowed, in OpenSSL's notation.", since="4.0.4"),
    Param("ssl_prefer_server_ciphers", BOOL, False, RELOAD, TLS,
          "Choose the cipher by the server's order of preference, not by the client's.", since="4.0.4"),
    Param("ssl_ecdh_curve", STRING, "prime256v1", RELOAD, TLS,
          "Curve of the ECDH key exchange. Where this is not set, X25519 is offered as well: clients begin with it, and a"
          " login takes a round trip less.", since="4.1"),
    Param("ssl_dh_params_file", STRING, "", RELOAD, TLS,
          "File with Diffie-Hellman parameters; empty means built-in ones.", since="4.1"),
    Param("ssl_passphrase_command", STRING, "", RELOAD, TLS,
          "Command that prints the passphrase of the private key; %p is replaced by a prompt.", since="4.2"),

    Param("backend_sslmode", ENUM, "auto", RELOAD, TLS,
          "TLS with backends, as libpq's sslmode. auto: as ssl says, plain where the backend has none, its certificate"
          " checked when ssl_ca_cert or ssl_ca_cert_dir is set.", indexing=BACKEND_DEFAULT,
          choices={"auto": 0, "disable": 1, "prefer": 2, "require": 3, "verify-ca": 4, "verify-full": 5},
          since="ours"),
    Param("backend_sslrootcert", STRING, "", RELOAD, TLS,
          "File with the CA certificates that the backend's certificate is checked against; empty means ssl_ca_cert.",
          indexing=BACKEND_DEFAULT, since="ours"),
    Param("backend_sslcert", STRING, "", RELOAD, TLS, "File with the certificate shown to the backend.",
          indexing=BACKEND_DEFAULT, since="ours"),
    Param("backend_sslkey", STRING, "", RELOAD, TLS, "File with the private key of backend_sslcert.",
          indexing=BACKEND_DEFAULT, since="ours"),

    Param("metrics_port", INT, 0, RELOAD, OWN,
          "Port of the HTTP endpoint for monitoring (/metrics, /livez, /readyz); 0 means none.", max=65535, since="ours"),
    Param("metrics_listen_addresses", LIST, ("localhost",), RELOAD, OWN,
          "Host names or addresses of the HTTP endpoint for monitoring; '*' means all. It asks for no password.",
          since="ours"),
    Param("eager_backend_connections", BOOL, False, RELOAD, OWN,
          "Connect the load balance node at the start of a session, as Pgpool-II does, not at its first read.",
          since="ours"),
    Param("notice_routing_reason", BOOL, False, SESSION, OWN,
          "Send a NOTICE with every statement that says where it went and why.", since="ours"),
    Param("prepared_statement_memory", INT64, 67108864, RELOAD, OWN,
          "Memory in pgpool for the prepared statements of one session; one more is refused.", unit="B", min=65536,
          since="ours"),
    Param("read_only_transactions_on_standby", BOOL, False, SESSION, OWN,
          "Run READ ONLY transactions wholly on the load balance node, BEGIN and COMMIT included; off: only their reads.",
          since="ours"),
    Param("pcp_protocol_version", ENUM, "4.7", RELOAD, OWN,
          "The release whose replies PCP clients get: 4.3 for clients of 4.3 (node and process information differ).",
          choices={"4.3": 43, "4.7": 47}, since="ours"),
)
