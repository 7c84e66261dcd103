"""Parameter rows: health check, failover and failback, online recovery."""

from .param import BACKEND_DEFAULT, BOOL, ENUM, INIT, INT, RELOAD, SESSION, STRING, Param

HEALTH = "Health check"
FAILOVER = "Failover and failback"
RECOVERY = "Online recovery"

ESCAPES = ("%d %h %p %D: id, host, port, data directory of the node concerned; %m %H %r %R: of the new main node; "
           "%M: old main id; %P %N %S: id, host, port of the old primary; %%: percent.")

ROWS = (
    Param("health_check_period", INT, 0, RELOAD, HEALTH,
          "Time between two health checks; 0 means no checks.", unit="s", indexing=BACKEND_DEFAULT),
    Param("health_check_timeout", INT, 20, RELOAD, HEALTH,
          "Time a health check may take; 0 means no limit.", unit="s", indexing=BACKEND_DEFAULT),
    Param("health_check_user", STRING, "", RELOAD, HEALTH,
          "User of the health check.", indexing=BACKEND_DEFAULT, was="'nobody' before 4.6"),
    Param("health_check_password", STRING, "", RELOAD, HEALTH,
          "Password of that user; empty means look into pool_passwd.",
          secret=True, indexing=BACKEND_DEFAULT, since="3.1"),
    Param("health_check_database", STRING, "postgres", RELOAD, HEALTH,
          "Database of the health check; empty means postgres, then template1.", indexing=BACKEND_DEFAULT, since="3.5"),
    Param("health_check_max_retries", INT, 0, RELOAD, HEALTH,
          "A failed check is repeated this many times before the backend is given up.",
          indexing=BACKEND_DEFAULT, since="3.2"),
    Param("health_check_retry_delay", INT, 1, RELOAD, HEALTH,
          "Time between these repetitions.", unit="s", indexing=BACKEND_DEFAULT, since="3.2"),
    Param("connect_timeout", INT, 10000, RELOAD, HEALTH,
          "Time to make a connection to a backend, for sessions too; 0 means no limit.",
          unit="ms", indexing=BACKEND_DEFAULT, since="3.4"),
    Param("health_check_test", BOOL, False, INIT, HEALTH,
          "For tests: the health check fails for a backend that a line of the file backend_down_request in work_dir names, "
          "as in '1<TAB>down'; when the backend is detached, the line's last word becomes already_down.",
          since="4.3"),

    Param("failover_command", STRING, "", RELOAD, FAILOVER, "Shell command run when a backend is detached. " + ESCAPES),
    Param("failback_command", STRING, "", RELOAD, FAILOVER,
          "Shell command run when a backend is attached; same escapes as failover_command."),
    Param("follow_primary_command", STRING, "", RELOAD, FAILOVER,
          "Shell command run for every other backend after the primary has changed; same escapes as failover_command.",
          old_names=("follow_master_command",), since="4.2"),
    Param("failover_command_timeout", INT, 0, RELOAD, FAILOVER,
          "How long failover_command and failback_command may run for one backend; then they are ended, and the failover "
          "goes on. 0 waits as long as it takes, as Pgpool-II does.", unit="s", max=86400, since="ours"),
    Param("failover_on_backend_error", ENUM, "check", RELOAD, FAILOVER,
          "What happens when a session cannot connect to a backend, read from it or write to it. on: the backend is "
          "detached; off: nothing; check (ours): its health is checked at once, and only the check decides.",
          choices={"off": 0, "on": 1, "check": 2},
          aliases={"true": "on", "yes": "on", "1": "on", "t": "on", "y": "on",
                   "false": "off", "no": "off", "0": "off", "f": "off", "n": "off"},
          old_names=("fail_over_on_backend_error",), since="4.0", was="on in Pgpool-II"),
    Param("failover_on_backend_shutdown", BOOL, False, RELOAD, FAILOVER,
          "Detach a backend when it says that an administrator shuts it down.", since="4.3"),
    Param("detach_false_primary", BOOL, False, RELOAD, FAILOVER,
          "Detach a backend that believes it is the primary while the standbys follow another one.", since="4.0"),
    Param("search_primary_node_timeout", INT, 300, RELOAD, FAILOVER,
          "How long to look for a primary after a failover; 0 means for ever.", unit="s", since="3.3"),
    Param("auto_failback", BOOL, False, RELOAD, FAILOVER,
          "Attach a detached standby by itself once it streams from the primary again.", since="4.1"),
    Param("auto_failback_interval", INT, 60, RELOAD, FAILOVER,
          "Least time between two such attachments; 0 means no wait.", unit="s", since="4.1"),

    Param("failover_client_policy", ENUM, "restart", RELOAD, FAILOVER,
          "What a change of the primary means for clients. restart: all sessions end, as in Pgpool-II; wait: sessions "
          "that are idle outside a transaction go on with the new primary, statements that come meanwhile wait.",
          choices={"restart": 0, "wait": 1}, since="ours"),
    Param("failover_wait_timeout", INT, 30, RELOAD, FAILOVER,
          "With failover_client_policy = wait: how long a statement waits for the new primary.",
          unit="s", min=1, max=3600, since="ours"),
    Param("failover_owner", ENUM, "pgpool", RELOAD, FAILOVER,
          "Who moves the primary. pgpool: the commands above; external: somebody else (Patroni, an operator, a cloud "
          "service): pgpool runs no command and follows the roles of the servers.",
          choices={"pgpool": 0, "external": 1}, since="ours"),
    Param("backend_discovery", BOOL, False, RELOAD, FAILOVER,
          "With failover_owner = external: a standby that pg_stat_replication of the primary names and that is no backend "
          "yet becomes one, with weight 1. It is looked for at its client_addr and the primary's port; sr_check_user needs "
          "pg_monitor.",
          since="ours"),

    Param("recovery_user", STRING, "", RELOAD, RECOVERY,
          "Superuser that runs the recovery functions on the backends.", was="'nobody' from 4.1 to 4.5"),
    Param("recovery_password", STRING, "", RELOAD, RECOVERY,
          "Password of that user; empty means look into pool_passwd.", secret=True),
    Param("recovery_database", STRING, "postgres", RELOAD, RECOVERY,
          "Database in which the recovery functions are installed.", since="4.7"),
    Param("recovery_1st_stage_command", STRING, "", RELOAD, RECOVERY,
          "Script in the main node's data directory that copies it while clients go on working."),
    Param("recovery_2nd_stage_command", STRING, "", RELOAD, RECOVERY,
          "Script run after all clients have gone (native replication and snapshot isolation)."),
    Param("recovery_timeout", INT, 90, RELOAD, RECOVERY,
          "Time for clients to go and for the recovered backend to start.", unit="s"),
    Param("recovery_method", ENUM, "script", RELOAD, RECOVERY,
          "How a node is recovered: by the scripts above, which the extension pgpool_recovery runs, or by pgpool itself "
          "with pg_basebackup or pg_rewind where it can reach the node's data directory.",
          choices={"script": 0, "pg_basebackup": 1, "pg_rewind": 2}, since="ours"),
    Param("client_idle_limit_in_recovery", INT, 0, SESSION, RECOVERY,
          "In the second stage a client is disconnected after being idle this long; -1 means at once, 0 never.",
          unit="s", min=-1),
)
