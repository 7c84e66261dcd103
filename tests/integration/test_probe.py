"""backend/probe.py against real servers: up, down, silent, primary, standby, refusing."""

import time

import pytest

from pgpool.auth.passwd import PasswordFile
from pgpool.backend.probe import Prober
from pgpool.config.settings import Settings


def settings(server, **more) -> Settings:
    values: dict = {
        ("backend_hostname", 0): server.host,
        ("backend_port", 0): server.port,
        ("sr_check_user", None): "sr",
        ("health_check_user", None): "sr",
        ("connect_timeout", None): 3000,
    }
    values.update({(name, None): value for name, value in more.items()})
    return Settings(values)


def ask(server, **more) -> tuple[str, str]:
    conf = settings(server, **more)
    probe = Prober(conf, PasswordFile())
    return probe.status(conf.backends[0]), probe.role(conf.backends[0])


def test_primary_and_standby(cluster):
    assert ask(cluster.primary) == ("up", "primary")
    assert ask(cluster.standby) == ("up", "standby")


def test_over_the_unix_socket(cluster):
    conf = settings(cluster.primary).replace(backend_hostname0=str(cluster.primary.place))
    probe = Prober(conf, PasswordFile())
    assert (probe.status(conf.backends[0]), probe.role(conf.backends[0])) == ("up", "primary")


def test_the_role_is_unknown_when_the_server_lets_us_not_in(cluster):
    assert ask(cluster.primary, sr_check_user="nosuch") == ("up", "unknown")
    assert ask(cluster.primary, sr_check_database="nosuch") == ("up", "unknown")


def test_stopped_and_silent_servers(own_cluster):
    server = own_cluster.standby
    server.freeze()
    try:
        start = time.monotonic()
        assert ask(server) == ("down", "unknown")
        assert time.monotonic() - start < 15
        conf = settings(server, connect_timeout=60000)
        assert Prober(conf, PasswordFile()).status(conf.backends[0], out=True) == "down"
        assert time.monotonic() - start < 30
    finally:
        server.thaw()
    server.stop()
    assert ask(server) == ("down", "unknown")
    server.start()
    assert ask(server) == ("up", "standby")
    server.promote()
    assert ask(server) == ("up", "primary")


@pytest.mark.parametrize("hostname", ["", "no such host", "/no/such/directory", "host with = and '"])
def test_hostnames_that_lead_nowhere(hostname):
    conf = Settings({("backend_hostname", 0): hostname, ("backend_port", 0): 1, ("connect_timeout", None): 1000})
    probe = Prober(conf, PasswordFile())
    assert (probe.status(conf.backends[0]), probe.role(conf.backends[0])) == ("down", "unknown")


def test_a_report_never_waits_for_ever(own_cluster):
    server = own_cluster.standby
    conf = settings(server, connect_timeout=0)
    server.freeze()
    try:
        start = time.monotonic()
        assert Prober(conf, PasswordFile()).role(conf.backends[0]) == "unknown"
        assert 9 < time.monotonic() - start < 20
    finally:
        server.thaw()
