"""Which node answered? Asked with functions that are neither volatile nor in a catalog table."""

from __future__ import annotations

import psycopg


def where(conn: psycopg.Connection, cluster, sql: str = "SELECT inet_server_port()") -> str:
    """'primary' or 'standby': the node which ran this read (`sql` returns the server's port in the first column)."""
    port = int(conn.execute(sql).fetchone()[0])
    return {node.port: name for node, name in zip(cluster.nodes, ("primary", "standby", "standby 2"), strict=False)}[port]


def counts(pgpool, column: str = "select_cnt") -> list[int]:
    """select_cnt (or another column of SHOW pool_backend_stats) of each node."""
    return [int(row[column]) for row in pgpool.show("pool_backend_stats")]
