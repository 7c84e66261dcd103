"""The journal of settings: what a node that joins later is told."""

from pgpool.session.journal import ALL, Journal, Mark


def test_session_settings_replay_in_order_and_once():
    journal = Journal()
    journal.set("datestyle", b"SET datestyle = 'ISO'")
    journal.set("timezone", b"SET timezone = 'UTC'")
    mark = Mark()
    assert journal.missing(mark) == [b"SET datestyle = 'ISO'", b"SET timezone = 'UTC'"]
    mark.settings = journal.version
    assert journal.missing(mark) == []
    journal.set("datestyle", b"SET datestyle = 'SQL'")
    assert journal.missing(mark) == [b"SET datestyle = 'SQL'"]
    assert journal.missing(Mark()) == [b"SET timezone = 'UTC'", b"SET datestyle = 'SQL'"]


def test_reset_all_comes_first_and_wipes():
    journal = Journal()
    journal.set("a", b"SET a = 1")
    journal.set(ALL, b"RESET ALL")
    journal.set("b", b"SET b = 2")
    assert journal.missing(Mark()) == [b"RESET ALL", b"SET b = 2"]


def test_a_transaction_counts_when_it_commits():
    journal = Journal()
    journal.set_in_transaction("a", b"SET a = 1", local=False)
    journal.set_in_transaction("b", b"SET LOCAL b = 2", local=True)
    assert journal.missing_in_transaction(Mark()) == [b"SET a = 1", b"SET LOCAL b = 2"]
    assert journal.missing_in_transaction(Mark(transaction=1)) == [b"SET LOCAL b = 2"]
    assert journal.end(committed=True)
    assert journal.missing(Mark()) == [b"SET a = 1"]
    journal.set_in_transaction("a", b"SET a = 3", local=False)
    assert not journal.end(committed=False)
    assert journal.missing(Mark()) == [b"SET a = 1"]


def test_savepoints():
    journal = Journal()
    journal.set_in_transaction("a", b"SET a = 1", local=False)
    journal.savepoint("s")
    journal.set_in_transaction("a", b"SET a = 2", local=False)
    journal.savepoint("t")
    journal.set_in_transaction("a", b"SET a = 3", local=False)
    assert journal.roll_back_to("t") == 2
    journal.release("s")
    assert journal.roll_back_to("s") == 2  # released: nothing to go back to
    assert journal.end(committed=True)
    assert journal.missing(Mark()) == [b"SET a = 2"]


def test_same_name_twice_means_the_last():
    journal = Journal()
    journal.savepoint("s")
    journal.set_in_transaction("a", b"SET a = 1", local=False)
    journal.savepoint("s")
    journal.set_in_transaction("a", b"SET a = 2", local=False)
    assert journal.roll_back_to("s") == 1


def test_discard_forgets_and_bytes_are_counted():
    journal = Journal()
    journal.set("a", b"x" * (1 << 20))
    assert not journal.too_big
    journal.set("b", b"y")
    assert journal.too_big
    journal.forget()
    assert not journal.too_big
    assert journal.missing(Mark()) == []
