"""Parameter rows: child processes, pooled connections, logging, files."""

from .forms import log_destinations
from .param import BOOL, ENUM, INIT, INT, LIST, RELOAD, SESSION, STRING, Param

PROCESSES = "Child processes"
POOLING = "Connection pool"
LOGGING = "Logging"
SYSLOG = "Logging to syslog"
COLLECTOR = "Logging to files"
FILES = "Files"

LEVELS = {"debug5": 10, "debug4": 11, "debug3": 12, "debug2": 13, "debug1": 14, "info": 17, "notice": 18, "warning": 19,
          "error": 20, "log": 15, "fatal": 21, "panic": 22}
LEVEL_ALIASES = {"debug": "debug2"}

ROWS = (
    Param("num_init_children", INT, 32, INIT, PROCESSES,
          "Number of child processes, which is the number of clients served at a time.", min=1),
    Param("max_pool", INT, 4, INIT, PROCESSES,
          "Connection pools a child keeps, one for each pair of user and database."),
    Param("process_management_mode", ENUM, "static", RELOAD, PROCESSES,
          "static: always num_init_children children. dynamic: children come and go between the spare limits.",
          choices={"static": 1, "dynamic": 2}, since="4.4"),
    Param("process_management_strategy", ENUM, "gentle", RELOAD, PROCESSES,
          "How soon spare children are ended in dynamic mode: after 50 s (aggressive), 2 min (gentle), 5 min (lazy).",
          choices={"aggressive": 1, "gentle": 2, "lazy": 3}, since="4.4"),
    Param("min_spare_children", INT, 5, RELOAD, PROCESSES,
          "Dynamic mode: children waiting for a client, at least.", min=1, since="4.4"),
    Param("max_spare_children", INT, 10, RELOAD, PROCESSES,
          "Dynamic mode: children waiting for a client, at most.", min=1, since="4.4"),
    Param("child_life_time", INT, 300, INIT, PROCESSES,
          "A child that has served a client ends after waiting this long for the next one; 0 means never.", unit="s"),
    Param("child_max_connections", INT, 0, INIT, PROCESSES,
          "A child ends after serving this many clients; 0 means no limit."),
    Param("connection_life_time", INT, 0, INIT, PROCESSES,
          "An idle pooled backend connection is closed after this time; 0 means never.", unit="s"),
    Param("client_idle_limit", INT, 0, SESSION, PROCESSES,
          "A client is disconnected after being idle this long, inside a transaction too; 0 means never.", unit="s"),

    Param("connection_cache", BOOL, True, INIT, POOLING, "Keep backend connections for later sessions."),
    Param("reset_query_list", LIST, ("ABORT", "DISCARD ALL"), RELOAD, POOLING,
          "Statements, separated by semicolons, that clean a backend connection at the end of a session.",
          separator=";"),

    Param("log_destination", STRING, "stderr", RELOAD, LOGGING,
          "stderr, syslog, or both separated by a comma.", form=log_destinations, since="3.1"),
    Param("log_line_prefix", STRING, "%m: %a pid %p: ", RELOAD, LOGGING,
          "Begins each log line: %a application, %p pid, %P process, %t time, %m time with milliseconds, %d database,"
          " %u user, %l line number, %c session id.", since="3.4", was="'%t: pid %p: ' before 4.3"),
    Param("log_format", ENUM, "text", RELOAD, LOGGING,
          "text: lines that begin with log_line_prefix. json: one object per line, with the same fields.",
          choices={"text": 0, "json": 1}, since="ours"),
    Param("log_min_messages", ENUM, "warning", SESSION, LOGGING,
          "Least severe level that goes to the log.", choices=LEVELS, aliases=LEVEL_ALIASES, since="3.4"),
    Param("client_min_messages", ENUM, "notice", SESSION, LOGGING,
          "Least severe level that goes to the client.", choices=LEVELS, aliases=LEVEL_ALIASES, since="3.4"),
    Param("log_error_verbosity", ENUM, "default", SESSION, LOGGING,
          "terse leaves out detail, hint and context; verbose adds the place in the code.",
          choices={"terse": 0, "default": 1, "verbose": 2}, since="3.4"),
    Param("log_connections", BOOL, False, RELOAD, LOGGING, "Log each client that connects."),
    Param("log_disconnections", BOOL, False, RELOAD, LOGGING,
          "Log the end of each session and how long it lasted.", since="4.2"),
    Param("log_pcp_processes", BOOL, False, RELOAD, LOGGING,
          "Log start and end of the PCP worker processes.", since="4.5"),
    Param("log_hostname", BOOL, False, RELOAD, LOGGING,
          "Show client host names instead of addresses in logs and process titles."),
    Param("log_statement", BOOL, False, SESSION, LOGGING, "Log every statement a client sends."),
    Param("log_per_node_statement", BOOL, False, SESSION, LOGGING,
          "Log every statement for each backend it is sent to, our own catalog queries included."),
    Param("notice_per_node_statement", BOOL, False, SESSION, LOGGING,
          "Tell the client by NOTICE to which backend each statement was sent.", since="4.5"),
    Param("log_client_messages", BOOL, False, SESSION, LOGGING,
          "Log every protocol message from clients.", since="4.0"),
    Param("log_backend_messages", ENUM, "none", SESSION, LOGGING,
          "Log every protocol message from backends; terse counts repeated ones.",
          choices={"none": 1, "terse": 2, "verbose": 3}, since="4.6"),
    Param("log_standby_delay", ENUM, "if_over_threshold", RELOAD, LOGGING,
          "When to log how far standbys are behind: always, only beyond the threshold, never.",
          choices={"always": 1, "if_over_threshold": 2, "none": 3}, was="none before 4.3"),
    Param("syslog_facility", ENUM, "LOCAL0", RELOAD, SYSLOG,
          "Facility given to syslog.", choices={f"LOCAL{n}": (16 + n) << 3 for n in range(8)}, since="3.1"),
    Param("syslog_ident", STRING, "pgpool", RELOAD, SYSLOG, "Program name given to syslog.", since="3.1"),
    Param("logging_collector", BOOL, False, INIT, COLLECTOR,
          "Collect what goes to stderr in files, by a process of its own.", since="4.2"),
    Param("log_directory", STRING, "/tmp/pgpool_logs", RELOAD, COLLECTOR, "Directory of the log files.", since="4.2"),
    Param("log_filename", STRING, "pgpool-%Y-%m-%d_%H%M%S.log", RELOAD, COLLECTOR,
          "Name of the log files, with the escapes of strftime.", since="4.2"),
    Param("log_file_mode", INT, 0o600, RELOAD, COLLECTOR,
          "Permissions of the log files, in octal.", octal="file", since="4.2"),
    Param("log_truncate_on_rotation", BOOL, False, RELOAD, COLLECTOR,
          "A rotation by time overwrites an existing file of the new name.", since="4.2"),
    Param("log_rotation_age", INT, 1440, RELOAD, COLLECTOR,
          "A new log file is begun after this time; 0 means never.", unit="min", since="4.2"),
    Param("log_rotation_size", INT, 10240, RELOAD, COLLECTOR,
          "A new log file is begun after this much output; 0 means never.", unit="kB", max=2097151, since="4.2"),

    Param("pid_file_name", STRING, "/var/run/pgpool/pgpool.pid", INIT, FILES,
          "File for the process id, relative to the directory of pgpool.conf."),
    Param("work_dir", STRING, "/tmp", INIT, FILES,
          "Directory for pgpool_status and other state.", old_names=("logdir",), since="4.7"),
)
