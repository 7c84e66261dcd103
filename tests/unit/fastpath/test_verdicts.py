"""The verdict table as sessions use it: what makes two statements one entry, and what makes an entry die."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool._fastpath import Relay
from pgpool.model import Counter, Dest, Effect, Reason, Route, State

CODE = Route(Dest.BALANCE, Reason.BALANCED, counter=Counter.SELECT).code
OTHER = Route(Dest.PRIMARY, Reason.LOCKING, Effect.WRITE, Counter.SELECT).code


class Table:
    """The pieces of shared memory a relay needs, and relays that share them."""

    def __init__(self, entries=1 << 10):
        self.header = bytearray(64)
        self.verdicts = bytearray(entries * 16)
        self.seeds = (int.from_bytes(os.urandom(8), "big"), int.from_bytes(os.urandom(8), "big"))
        self.wakeup = os.open(os.devnull, os.O_RDONLY)

    def relay(self, context=1):
        hot = bytearray(8192)
        relay = Relay(memoryview(hot), memoryview(self.header), memoryview(self.verdicts), self.seeds, self.wakeup)
        relay.begin(self.wakeup, context)
        return relay


@pytest.fixture
def table():
    made = Table()
    yield made
    os.close(made.wakeup)


def test_constants_do_not_count_and_all_processes_share(table):
    relay = table.relay()
    assert relay.look_up(b"SELECT a FROM t WHERE b = 1") == 0
    relay.settle(CODE)
    assert table.relay().look_up(b"select a  from T where b = 'x'") == CODE
    assert table.relay().look_up(b"select a from t2 where b = 1") == 0


def test_an_entry_holds_for_its_context_state_and_epoch(table):
    relay = table.relay()
    relay.look_up(b"select 1")
    relay.settle(CODE)
    assert table.relay(context=2).look_up(b"select 1") == 0
    relay.state = State.IN_TRANSACTION
    assert relay.look_up(b"select 1") == 0
    relay.settle(OTHER)
    assert relay.look_up(b"select 2") == OTHER
    relay.state = 0
    assert relay.look_up(b"select 2") == CODE
    table.header[8] += 1
    assert relay.look_up(b"select 2") == 0


def test_utility_statements_to_the_letter(table):
    relay = table.relay()
    relay.look_up(b"BEGIN")
    relay.settle(OTHER)
    assert relay.look_up(b"BEGIN") == OTHER
    assert relay.look_up(b"begin") == 0
    assert relay.look_up(b"BEGIN READ ONLY") == 0


def test_exact_mode_counts_constants(table):
    relay = table.relay()
    relay.watch(exact=True)
    relay.look_up(b"select 1")
    relay.settle(CODE)
    assert relay.look_up(b"select 1") == CODE
    assert relay.look_up(b"select 2") == 0


@given(st.binary(min_size=8, max_size=8))
def test_half_written_entries_are_misses(noise):
    table = Table()
    relay = table.relay()
    relay.look_up(b"select 1")
    relay.settle(CODE)
    for at in range(8, len(table.verdicts), 16):  # every second word: as if another writer had been stopped midway
        table.verdicts[at : at + 8] = noise if any(table.verdicts[at : at + 8]) else bytes(8)
    assert relay.look_up(b"select 1") in (0, CODE)
    os.close(table.wakeup)


def test_a_full_table_forgets_and_goes_on(table):
    small = Table(entries=16)
    relay = small.relay()
    for n in range(500):
        relay.look_up(b"select c%d" % n)
        relay.settle(CODE)
        assert relay.look_up(b"select c%d" % n) == CODE
    assert sum(relay.look_up(b"select c%d" % n) == CODE for n in range(500)) <= 16
    os.close(small.wakeup)


def test_an_unsure_statement_says_so(table):
    relay = table.relay()
    relay.look_up(b"select 'open")
    assert relay.unsure
    relay.look_up(b"select 'closed'")
    assert not relay.unsure


def test_bytes_above_127_under_an_unsafe_encoding_are_unsure(table):
    relay = table.relay()
    relay.read_as(backslash=False, client_encoding=b"SJIS")
    relay.look_up(b"select \x83\x5c from t")
    assert relay.unsure
    relay.read_as(backslash=False, client_encoding=b"UTF8")
    relay.look_up("select é from t".encode())
    assert not relay.unsure
