"""Parameter rows: relation cache and query cache."""

from .param import BOOL, ENUM, INIT, INT, INT64, LIST, RELOAD, SESSION, STRING, Param

RELCACHE = "Relation cache"
QUERY_CACHE = "Query cache"

ROWS = (
    Param("relcache_expire", INT64, 0, INIT, RELCACHE,
          "What the catalogs said is forgotten after this time; 0 means never.", unit="s", since="3.1"),
    Param("relcache_size", INT, 256, INIT, RELCACHE,
          "Entries of the relation cache for each kind of question.", since="3.2"),
    Param("check_temp_table", ENUM, "catalog", RELOAD, RELCACHE,
          "How temporary tables are found: ask the catalogs, trace CREATE and DROP, or not at all.",
          choices={"catalog": 1, "trace": 2, "none": 3},
          aliases={"on": "catalog", "true": "catalog", "yes": "catalog", "1": "catalog",
                   "off": "none", "false": "none", "no": "none", "0": "none"},
          since="3.2"),
    Param("check_unlogged_table", BOOL, True, SESSION, RELCACHE,
          "Ask the catalogs whether a table is unlogged; such tables are read on the primary.", since="3.4"),
    Param("enable_shared_relcache", BOOL, True, INIT, RELCACHE,
          "Children share what they learned from the catalogs.", since="4.1"),
    Param("relcache_query_target", ENUM, "primary", RELOAD, RELCACHE,
          "Which backend is asked about the catalogs. A load balance node may not have the last DDL yet; what only the "
          "primary knows of a session is asked there.",
          choices={"primary": 1, "load_balance_node": 2}, aliases={"master": "primary"}, since="4.1"),

    Param("memory_cache_enabled", BOOL, False, INIT, QUERY_CACHE, "Keep results of SELECT in memory.", since="3.2"),
    Param("memqcache_method", ENUM, "shmem", INIT, QUERY_CACHE,
          "Where: in shared memory or in memcached.", choices={"shmem": 1, "memcached": 2}, since="3.2"),
    Param("memqcache_memcached_host", STRING, "localhost", INIT, QUERY_CACHE, "Host of memcached.", since="3.2"),
    Param("memqcache_memcached_port", INT, 11211, INIT, QUERY_CACHE, "Port of memcached.", since="3.2"),
    Param("memqcache_total_size", INT64, 67108864, INIT, QUERY_CACHE,
          "Shared memory for results.", unit="B", since="3.2"),
    Param("memqcache_max_num_cache", INT, 1000000, INIT, QUERY_CACHE,
          "Number of results in shared memory, at most.", since="3.2"),
    Param("memqcache_expire", INT, 0, INIT, QUERY_CACHE,
          "A result is forgotten after this time; 0 means never.", unit="s", since="3.2"),
    Param("memqcache_auto_cache_invalidation", BOOL, True, RELOAD, QUERY_CACHE,
          "A write to a table throws its results away.", since="3.2"),
    Param("memqcache_maxcache", INT, 409600, INIT, QUERY_CACHE, "A larger result is not kept.", unit="B", since="3.2"),
    Param("memqcache_cache_block_size", INT, 1048576, INIT, QUERY_CACHE,
          "Size of the blocks into which the shared memory is divided; a result must fit in one.",
          unit="B", min=512, since="3.2"),
    Param("memqcache_oiddir", STRING, "/var/log/pgpool/oiddir", INIT, QUERY_CACHE,
          "Directory in which it is noted which tables a result was read from.", since="3.2"),
    Param("cache_safe_memqcache_table_list", LIST, (), RELOAD, QUERY_CACHE,
          "Regular expressions for views and unlogged tables whose results may be kept.",
          old_names=("white_memqcache_table_list",), since="4.2"),
    Param("cache_unsafe_memqcache_table_list", LIST, (), RELOAD, QUERY_CACHE,
          "Regular expressions for tables whose results are never kept.",
          old_names=("black_memqcache_table_list",), since="4.2"),
)
