"""What a row of pg_stat_wal_receiver says: where a standby streams from, and how it is called there."""

import pytest

from pgpool.roles.upstream import split_upstream


@pytest.mark.parametrize(
    ("status", "conninfo", "found"),
    [
        ("streaming", "host=a port=5433 application_name=one fallback_application_name=two", (("a", 5433), "one")),
        ("streaming", "hostaddr=10.0.0.1 fallback_application_name=walreceiver", (("10.0.0.1", 5432), "walreceiver")),
        ("streaming", "host=a application_name='my ''server'", (None, "")),
        ("streaming", "host=a application_name='my \\'server'", (("a", 5432), "my 'server")),
        ("streaming", "host=a", (("a", 5432), "")),
        ("streaming", "", (None, "")),
        ("waiting", "host=a application_name=one", (None, "")),
    ],
)
def test_split_upstream(status, conninfo, found):
    assert split_upstream(status, conninfo) == found
