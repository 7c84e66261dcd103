"""Parameter rows: native replication, load balancing, streaming replication checks, table mutation tracking."""

from .forms import redirects, relations
from .param import BOOL, DOUBLE, ENUM, INIT, INT, INT64, LIST, RELOAD, SESSION, STRING, Param

REPLICATION = "Native replication"
BALANCE = "Load balancing"
STREAMING = "Streaming replication check"
MUTATION = "Recently written tables"

ROWS = (
    Param("replicate_select", BOOL, False, RELOAD, REPLICATION, "Send SELECT to all backends and compare the answers."),
    Param("insert_lock", BOOL, True, RELOAD, REPLICATION,
          "Take a lock before INSERT into a table with a sequence, so that all backends draw the same numbers.",
          was="off before 4.3"),
    Param("lobj_lock_table", STRING, "", RELOAD, REPLICATION,
          "Table that is locked while a large object is made; empty means large objects are not replicated."),
    Param("replication_stop_on_mismatch", BOOL, False, RELOAD, REPLICATION,
          "Detach the minority when backends answer with different kinds of messages; off ends the session instead."),
    Param("failover_if_affected_tuples_mismatch", BOOL, False, RELOAD, REPLICATION,
          "Detach the minority when backends change different numbers of rows; off aborts the transaction instead."),

    Param("load_balance_mode", BOOL, True, INIT, BALANCE, "Spread reads over the backends.", was="off before 4.3"),
    Param("ignore_leading_white_space", BOOL, True, RELOAD, BALANCE,
          "A statement may begin with white space and still be load balanced."),
    Param("read_only_function_list", LIST, (), RELOAD, BALANCE,
          "Regular expressions for functions that only read; any other function writes. Empty, and "
          "write_function_list empty too: the catalogs are asked.", old_names=("white_function_list",), since="4.2"),
    Param("write_function_list", LIST, (), RELOAD, BALANCE,
          "Regular expressions for functions that write; any other function only reads.",
          old_names=("black_function_list",), since="4.2", was="'nextval,setval' before 4.2"),
    Param("primary_routing_query_pattern_list", LIST, (), RELOAD, BALANCE,
          "Regular expressions, separated by semicolons, for statements that go to the primary.",
          separator=";", old_names=("black_query_pattern_list",), since="4.2"),
    Param("user_redirect_preference_list", STRING, "", RELOAD, BALANCE,
          "Preferred backend for the reads of some users: 'user:node(ratio),...'; node is primary, standby or a "
          "number.", form=redirects, since="4.5"),
    Param("database_redirect_preference_list", STRING, "", RELOAD, BALANCE,
          "Preferred backend for the reads of some databases: 'database:node(ratio),...'.",
          form=redirects, since="3.4"),
    Param("app_name_redirect_preference_list", STRING, "", RELOAD, BALANCE,
          "Preferred backend for the reads of some applications: 'application_name:node(ratio),...'.",
          form=redirects, since="3.4"),
    Param("allow_sql_comments", BOOL, False, SESSION, BALANCE,
          "A comment at the beginning of a SELECT does not keep it from being load balanced or cached.", since="3.4"),
    Param("disable_load_balance_on_write", ENUM, "transaction", RELOAD, BALANCE,
          "After a write, reads go to the primary: never (off), until the transaction ends, in all later transactions"
          " too (trans_transaction), until the session ends (always), only for the tables written by the transaction "
          "(dml_adaptive) or lately by any session (dml_adaptive_global), or until the standby has replayed the session's "
          "last write (lsn, ours).",
          choices={"off": 1, "transaction": 2, "trans_transaction": 3, "always": 4, "dml_adaptive": 5,
                   "dml_adaptive_global": 6, "lsn": 7},
          since="4.0"),
    Param("dml_adaptive_object_relationship_list", STRING, "", RELOAD, BALANCE,
          "For dml_adaptive: a write to the first object of a pair is a write to the second: "
          "'table:view,func():table'.", form=relations, since="4.2"),
    Param("statement_level_load_balance", BOOL, False, RELOAD, BALANCE,
          "Choose the load balance node for each statement, not once for each session.", since="4.1"),

    Param("sr_check_period", INT, 10, RELOAD, STREAMING,
          "Time between two checks of primary and standbys; 0 means no checks.",
          unit="s", since="3.1", was="0 before 4.3"),
    Param("sr_check_user", STRING, "", RELOAD, STREAMING,
          "User of the checks.", since="3.1", was="'nobody' before 4.6"),
    Param("sr_check_password", STRING, "", RELOAD, STREAMING,
          "Password of that user; empty means look into pool_passwd.", secret=True, since="3.1"),
    Param("sr_check_database", STRING, "postgres", RELOAD, STREAMING, "Database of the checks.", since="3.5"),
    Param("delay_threshold", INT64, 0, RELOAD, STREAMING,
          "A standby that is more than this behind gets no reads; 0 means no limit.", unit="B"),
    Param("delay_threshold_by_time", INT, 0, RELOAD, STREAMING,
          "A standby that is later than this gets no reads; takes the place of delay_threshold; 0 means not used.",
          unit="ms", since="4.4"),
    Param("prefer_lower_delay_standby", BOOL, False, RELOAD, STREAMING,
          "When the load balance node is too far behind, take the least delayed standby, not the primary.",
          since="4.3"),
    Param("replication_delay_source_cmd", STRING, "", RELOAD, STREAMING,
          "Command that prints the delay of each standby in milliseconds; empty means ask the backends.", since="4.8"),
    Param("replication_delay_source_timeout", INT, 10, RELOAD, STREAMING,
          "Seconds that command may take.", min=1, max=3600, since="4.8"),

    Param("track_table_mutation_table_size", INT, 2048, INIT, MUTATION,
          "For dml_adaptive_global: number of written tables remembered.", min=128, max=131072, since="4.8"),
    Param("track_table_mutation_table_buckets", INT, 1024, INIT, MUTATION,
          "For dml_adaptive_global: hash buckets of that memory. Without effect here.", min=64, max=65536, since="4.8"),
    Param("track_table_mutation_ttl_factor", DOUBLE, 5.0, RELOAD, MUTATION,
          "For dml_adaptive_global: a table stays on the primary for the worst delay of a standby times this, at least "
          "0.1 s after its last write. While no delay is known: for track_table_mutation_max_staleness.",
          min=1.0, max=100.0, since="4.8"),
    Param("track_table_mutation_max_staleness", INT, 60000, RELOAD, MUTATION,
          "For dml_adaptive_global: a table stays on the primary no longer than this after the first of a row of writes.",
          unit="ms", max=3600000, since="4.8"),
    Param("track_table_mutation_cold_start_duration", INT, 2000, RELOAD, MUTATION,
          "For dml_adaptive_global: all reads of tables go to the primary for this time after pgpool starts.",
          unit="ms", max=60000, since="4.8"),
)
