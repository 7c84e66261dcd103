"""Can a pooled link serve a client whose start-up options differ?"""

import pytest

from pgpool.backend.pool import bridge, quote
from pgpool.wire.startup import Startup


def startup(protocol=196608, replication="", **params):
    return Startup(protocol, {"user": "u", "database": "d", **params}, "u", "d", replication)


@pytest.mark.parametrize(
    ("old", "new", "sets"),
    [
        ({}, {}, []),
        ({"application_name": "a"}, {"application_name": "a"}, []),
        ({"application_name": "a"}, {"application_name": "it's"}, ["SET application_name TO 'it''s'"]),
        ({"application_name": "a"}, {}, ["SET application_name TO ''"]),
        ({}, {"client_encoding": "UTF8"}, ["SET client_encoding TO 'UTF8'"]),
        ({"client_encoding": "UTF8"}, {}, None),
        ({"options": "-c a=1"}, {"options": "-c a=2"}, None),
        ({}, {"a b": "c"}, None),
        ({}, {'x"; DROP TABLE t; --': "c"}, None),
    ],
)
def test_bridge(old, new, sets):
    assert bridge(startup(**old), startup(**new)) == sets


def test_replication_is_never_shared():
    assert bridge(startup(), startup(replication="database")) is None


@pytest.mark.parametrize(
    ("value", "text"), [("a", "'a'"), ("o'b", "'o''b'"), ("a\\b", " E'a\\\\b'"), ("'\\'", " E'''\\\\'''")]
)
def test_quote_means_the_same_whatever_standard_conforming_strings_says(value, text):
    assert quote(value) == text
