"""Where a standby streams from, as it says itself."""

from __future__ import annotations


def split_upstream(status: str, conninfo: str) -> tuple[tuple[str, int] | None, str]:
    """(host, port) that a standby streams from, and the application_name by which it does, out of a row of
    pg_stat_wal_receiver; None and '' when it does not stream, or does not say."""
    if status != "streaming" or not conninfo:
        return None, ""
    import psycopg  # here: only the streaming check needs it, and all processes would carry it
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(conninfo)
        place = str(parts.get("host") or parts.get("hostaddr") or ""), int(parts.get("port") or 5432)
    except (psycopg.Error, ValueError):
        return None, ""
    return place, str(parts.get("application_name") or parts.get("fallback_application_name") or "")
