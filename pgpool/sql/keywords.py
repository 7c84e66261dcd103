"""Words with a meaning of their own in PostgreSQL's grammar, and functions that need the primary whatever the catalogs
say. Sources: kwlist.h of PostgreSQL 12 to 18, pg_proc."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


RESERVED = _words(
    """
    all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create
    current_catalog current_date current_role current_time current_timestamp current_user default deferrable desc
    distinct do else end except false fetch for foreign from grant group having in initially intersect into lateral
    leading limit localtime localtimestamp not null offset on only or order placing primary references returning select
    session_user some symmetric table then to trailing true union unique user using variadic when where window with
    """
)
"""Never a table, column or function name without quotes, in any version (so system_user, new in 16, is not here)."""

TYPES = _words(
    """
    bigint bit boolean char character dec decimal float int integer interval national nchar numeric precision real
    smallint time timestamp varchar varying setof none inout out
    """
)
"""May stand before a parenthesis without being a function: numeric(10,2), timestamp(3)."""

SYNTAX_CALLS = _words(
    """
    coalesce exists extract greatest grouping least nullif overlay position row substring treat trim values between
    xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
    """
)
"""Look like functions, but the grammar itself makes them: no user can put another function in their place."""

LATE_SYNTAX_CALLS = _words(
    """
    json json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize
    json_table json_value merge_action normalize
    """
)
"""The same, but only since PostgreSQL 13, 16 or 17: before that a user's function could have this name, so the
catalog is asked, and no such function means the grammar's own."""

QUERY_STARTS = frozenset(("select", "with", "values", "table"))
DML = frozenset(("insert", "update", "delete", "merge"))
SET_OPERATIONS = frozenset(("union", "intersect", "except"))
AFTER_FROM = frozenset(("where", "group", "having", "window", "order", "limit", "offset", "fetch", "for"))
JOIN_WORDS = frozenset(("cross", "natural", "left", "right", "full", "inner", "outer"))
VALUE_WORDS = _words(
    """
    current_catalog current_date current_role current_time current_timestamp current_user localtime localtimestamp
    session_user user current_schema system_user
    """
)
"""Functions called without parentheses; SQL lets them stand in FROM."""

SESSION_LOCKS = frozenset(
    ["pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared"]
)
"""Functions that take a lock which lasts as long as the session."""
ON_PRIMARY = _words(
    """
    currval lastval nextval setval
    set_config setseed
    txid_current txid_current_if_assigned pg_current_xact_id pg_current_xact_id_if_assigned
    pg_backend_pid pg_my_temp_schema pg_listening_channels pg_cursor pg_prepared_statement
    pg_notify pg_export_snapshot pg_is_in_recovery
    pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared
    pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared
    pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared
    """
)
"""PostgreSQL's own functions whose answer or effect is tied to the primary or to the session's one connection to it.
Some (txid_current, pg_backend_pid) are not volatile in pg_proc, so volatility alone would let them go."""

HARMLESS = _words(
    """
    abs age array_agg array_append array_length avg bool_and bool_or btrim cardinality ceil ceiling char_length
    clock_timestamp concat concat_ws count date_part date_trunc decode dense_rank encode first_value floor format
    gen_random_uuid generate_series generate_subscripts initcap json_agg json_build_object jsonb_agg
    jsonb_array_elements jsonb_build_array jsonb_build_object jsonb_each jsonb_set lag last_value lead left length
    lower lpad ltrim make_date make_interval max md5 min mod nextval now octet_length power quote_ident
    quote_literal random rank regexp_replace repeat replace reverse right round row_number row_to_json rpad rtrim
    setval sha256 sign split_part sqrt statement_timestamp string_agg string_to_array strpos substr sum to_char
    to_date to_json to_jsonb to_number to_timestamp to_tsquery to_tsvector transaction_timestamp translate trunc
    unnest upper width_bucket
    """
)
"""Common functions of pg_catalog: a data-modifying statement that calls only these makes no temporary table."""

POOL_SHOW = _words(
    """
    pool_status pool_nodes pool_pools pool_processes pool_version pool_cache pool_health_check_stats pool_backend_stats
    """
)
"""SHOW pool_*: answered by us (commands.md 4)."""
