"""Fixtures: tables and connections."""

from __future__ import annotations

import itertools

import pytest

from .wire import RawClient

_numbers = itertools.count(1)


@pytest.fixture
def table(cluster):
    """table("id int, t text", rows): the name of a new table on all nodes, dropped after the test."""
    made = []

    def make(columns: str = "id int primary key, t text", rows: str = "") -> str:
        name = f"t{next(_numbers)}"
        made.append(name)
        cluster.execute(f"CREATE TABLE {name} ({columns})" + (f"; INSERT INTO {name} {rows}" if rows else ""))
        return name

    yield make
    for name in made:
        cluster.primary.execute(f"DROP TABLE IF EXISTS {name} CASCADE")


@pytest.fixture
def conn(pgpool):
    """A psycopg connection through the everyday pgpool, autocommit."""
    with pgpool.connect() as made:
        yield made


@pytest.fixture
def raw(pgpool):
    """A raw protocol client, logged in through the everyday pgpool."""
    with RawClient.login(pgpool) as client:
        yield client
