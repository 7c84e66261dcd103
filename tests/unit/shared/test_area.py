"""Nodes, children and slots as other processes see them."""

import os
import struct

import pytest

from pgpool.config.settings import Settings
from pgpool.model import ClusterMode, Counter, NodeState, Role
from pgpool.shared import ChildStatus, Shared
from pgpool.shared import layout as lay
from tests.unit.shared.support import fork, settings, shared, wait


def test_create_makes_room_for_backends_of_a_later_reload():
    assert shared(nodes=2).layout.nodes == 10
    assert shared(nodes=125, children=1, pools=1).layout.nodes == 128
    area = shared(nodes=2)
    assert area.has_room(settings(nodes=10))
    assert not area.has_room(settings(nodes=11))


def test_header_is_filled_in_and_seeds_differ():
    area, other = shared(), shared()
    magic, epoch = struct.unpack_from("@QI", area.buf, 0)
    assert (magic, epoch) == (lay.MAGIC, 1)
    entries, offset, hot, hot_size = struct.unpack_from("=IQQQ", area.buf, 52)
    assert (entries, offset) == (16, area.layout.verdict_at)
    assert (hot, hot_size) == (area.layout.hot_at, area.layout.hot_size)
    assert area.seeds != other.seeds
    assert len(area.verdicts) == 16 * 16 and not any(area.verdicts)
    assert area.parent_pid == os.getpid()


def test_default_verdict_table_has_32768_entries():
    assert len(Shared.create(settings()).verdicts) == 2**15 * 16


def test_nodes_begin_waiting_and_gaps_are_unused():
    conf = Settings({("backend_port", 0): 1, ("backend_port", 2): 1, ("num_init_children", None): 1})
    area = Shared.create(conf, verdict_bits=1)
    assert [v.state for v in area.node_views(conf)] == [NodeState.WAITING, NodeState.UNUSED, NodeState.WAITING]
    assert area.main_id == 0
    assert area.primary_id == -1


def test_the_mover_of_node_states():
    area, conf = shared(nodes=3), settings(nodes=3)
    epoch = area.epoch
    area.set_node_state(0, NodeState.DOWN, "health check", now=5.0)
    assert area.epoch == epoch + 1
    assert area.main_id == 1
    view = area.nodes[0].view()
    assert (view.state, view.reason, view.changed, view.quarantined) == (NodeState.DOWN, "health check", 5.0, False)
    area.set_node_state(1, NodeState.DOWN, "quorum", quarantined=True)
    assert area.main_id == 2
    assert [v.usable for v in area.node_views(conf)] == [False, False, True]
    area.set_node_state(2, NodeState.DOWN, "x")
    assert area.main_id == -1
    area.set_node_state(1, NodeState.UP, "back")
    assert area.main_id == 1
    assert not area.nodes[1].view().quarantined


def test_roles_follow_the_mode():
    area = shared(nodes=2)
    area.set_primary(1)
    streaming = [area.role(ClusterMode.STREAMING_REPLICATION, n) for n in (0, 1)]
    assert streaming == [Role.STANDBY, Role.PRIMARY]
    assert [area.role(ClusterMode.RAW, n) for n in (0, 1)] == [Role.MAIN, Role.REPLICA]
    epoch = area.epoch
    area.set_primary(1)
    assert area.epoch == epoch
    area.set_primary(-1)
    assert area.epoch == epoch + 1


def test_node_view_carries_the_delay():
    area = shared()
    area.nodes[1].set_delay(12345678901, "streaming", "async", 9.0)
    assert area.node_views(settings())[1].delay == 12345678901
    delay = area.nodes[1].delay()
    assert (delay.replication_state, delay.sync_state, delay.checked) == ("streaming", "async", 9.0)
    area.nodes[1].set_delay(-5, "", "", 9.0)
    assert area.nodes[1].delay().delay == 0


def test_health_statistics():
    node = shared().nodes[0]
    node.record_check(True, 4.0, 0, 10.0)
    node.record_check(False, 2001.0, 2, 20.0)
    node.record_check(True, 1.0, 1, 30.0)
    node.record_skip(40.0)
    h = node.health()
    assert (h.total, h.success, h.fail, h.skip, h.retry, h.max_retry) == (4, 2, 1, 1, 3, 2)
    assert (h.max_ms, h.min_ms, h.sum_ms) == (2001.0, 1.0, 2006.0)
    assert (h.last, h.last_success, h.last_fail, h.last_skip) == (40.0, 30.0, 20.0, 40.0)


def begin(area: Shared, child: int, pool: int, key: bytes, nodes=(0, 1)) -> None:
    cell = area.children[child]
    cell.start(1000 + child, 1.0)
    cell.begin_session("192.0.2.7", 4242, 2.0)
    cell.slots[pool].fill("alice", "app", 3, 2, 2.5)
    for n in nodes:
        cell.slots[pool].set_backend(n, 5000 + 10 * child + n, key + bytes([n]), 2.5)
    cell.use_pool(pool, 3.0)


def test_a_session_from_begin_to_end():
    area = shared()
    child = area.children[2]
    begin(area, 2, 1, b"key")
    child.set_balance_node(1)
    view, slot = child.view(), child.slots[1].view()
    assert (view.pid, view.served, view.connected, view.pool, view.balance_node) == (1002, 1, True, 1, 1)
    assert (view.client_host, view.client_port, view.status) == ("192.0.2.7", "4242", ChildStatus.CONNECTING)
    assert (slot.username, slot.database, slot.major, slot.minor, slot.counter) == ("alice", "app", 3, 2, 1)
    assert [(b.node_id, b.pid) for b in slot.backends] == [(0, 5020), (1, 5021)]
    assert area.connected_clients() == 1
    assert area.child_of(1002) is child and area.child_of(9) is None and area.child_of(0) is None
    child.end_session(8.0)
    view, slot = child.view(), child.slots[1].view()
    assert (view.connected, view.session_end, view.client_host, view.balance_node) == (False, 8.0, "", -1)
    assert (slot.filled, slot.connected, slot.client_disconnected) == (True, False, 8.0)
    assert area.connected_clients() == 0
    child.begin_session("[local]", "", 9.0)
    child.use_pool(1, 9.5)
    assert child.slots[1].view().counter == 2
    assert child.view().served == 2


def test_cancel_keys_reach_all_backends_of_their_session_only():
    area = shared()
    begin(area, 0, 0, b"aaa")
    begin(area, 2, 1, b"bbbbb")
    assert area.find_cancel_key(5021, b"bbbbb\1") == [(2, 1, 0, 5020, b"bbbbb\0"), (2, 1, 1, 5021, b"bbbbb\1")]
    assert area.find_cancel_key(5000, b"aaa\0") == [(0, 0, 0, 5000, b"aaa\0"), (0, 0, 1, 5001, b"aaa\1")]
    for pid, key in [
        (5021, b"bbbbb"),
        (5021, b"bbbbb\0"),
        (5020, b"bbbbb\1"),
        (0, b""),
        (5021, b""),
        (5021, b"\0" * 6),
    ]:
        assert area.find_cancel_key(pid, key) == []


def test_a_pooled_connection_without_client_cannot_be_cancelled():
    area = shared()
    begin(area, 0, 0, b"key")
    area.children[0].end_session(5.0)
    assert area.find_cancel_key(5000, b"key\0") == []
    area.children[0].begin_session("h", 1, 6.0)
    assert area.find_cancel_key(5000, b"key\0") == [], "no pool slot is in use yet"
    area.children[0].use_pool(0, 7.0)
    assert len(area.find_cancel_key(5000, b"key\0")) == 2


def test_keys_are_at_most_256_bytes():
    area = shared()
    slot = area.children[0].slots[0]
    slot.set_backend(0, 1, b"k" * 256, 0.0)
    assert slot.backend_keys() == [(0, 1, b"k" * 256)]
    with pytest.raises(ValueError):
        slot.set_backend(0, 1, b"k" * 257, 0.0)
    slot.clear_backend(0)
    assert slot.backend_keys() == []


def test_a_new_owner_of_a_slot_inherits_no_key():
    area = shared()
    begin(area, 0, 0, b"old")
    slot = area.children[0].slots[0]
    slot.fill("bob", "other", 3, 0, 9.0)
    slot.set_backend(0, 5000, b"new", 9.0)
    area.children[0].use_pool(0, 9.0)
    assert area.find_cancel_key(5001, b"old\1") == []
    assert slot.view().counter == 1


def test_a_dead_child_is_cleared_but_its_counters_stay():
    area = shared()
    begin(area, 1, 0, b"key")
    child = area.children[1]
    child.order_restart()
    struct.pack_into("@9Q", child.hot, lay.HOT_COUNTERS + lay.HOT_NODE_SIZE, *range(1, 10))
    struct.pack_into("@IIQQQQ", child.hot, 0, 4, 8, 123, 7, 5, 2)
    child.hot[64:72] = b"SELECT 1"
    assert child.view().statement == "SELECT 1"
    child.clear()
    view = child.view()
    assert (view.pid, view.connected, view.status, view.statement) == (0, False, ChildStatus.WAIT, "")
    assert (view.pool, view.balance_node, view.last_activity) == (-1, -1, 0.0)
    assert not child.restart_ordered
    assert not any(slot.filled for slot in child.slots)
    assert area.find_cancel_key(5010, b"key\0") == []
    assert child.counters(1) == tuple(range(1, 10))
    counts = child.relay_counts()
    assert (counts.queries, counts.verdict_hits, counts.verdict_misses) == (7, 5, 2)


def test_counters_are_summed_over_children_and_other_processes_are_seen():
    area = shared(children=3)

    def count(child: int):
        def work() -> None:
            hot = area.children[child].hot
            struct.pack_into("@Q", hot, lay.HOT_COUNTERS + 8 * Counter.SELECT, 10 + child)
            struct.pack_into("@Q", hot, lay.HOT_COUNTERS + 8 * Counter.ERROR, 1)
            struct.pack_into("@3Q", hot, lay.HOT_QUERIES, 3, 2, 1)

        return work

    assert [wait(fork(count(c))) for c in range(3)] == [0, 0, 0]
    assert area.counters(0)[Counter.SELECT] == 33
    assert area.counters(0)[Counter.ERROR] == 3
    assert area.counters(1) == (0,) * 9
    assert area.relay_counts().queries == 9


def test_statement_text_is_never_longer_than_its_cell_and_never_half_a_character():
    child = shared().children[0]
    struct.pack_into("@I", child.hot, lay.HOT_STATEMENT_LEN, 0xFFFFFFFF)
    child.hot[64 : 64 + 1024] = b"x" * 1023 + "é".encode()[:1]
    assert child.view().statement == "x" * 1023


def test_names_are_bounded():
    area = shared()
    child = area.children[0]
    child.start(1, 1.0)
    child.begin_session("h" * 500, 99, 2.0)
    child.slots[0].fill("ü" * 60, b"d\xff" * 60, 3, 0, 2.0)
    assert child.view().client_host == "h" * 127
    assert child.view().client_port == "99"
    assert child.slots[0].view().username == "ü" * 31
    assert child.slots[0].view().database.startswith("d\ufffdd")


def test_conditions_and_recovery():
    area = shared()
    area.set_condition(switching=True)
    area.set_condition(stopping=True, following=True)
    assert (area.switching, area.stopping, area.following) == (True, True, True)
    area.set_condition(switching=False)
    assert (area.switching, area.stopping) == (False, True)
    epoch = area.epoch
    area.count_reload()
    assert (area.reload_count, area.epoch) == (1, epoch + 1)
    assert area.begin_recovery(100, 1)
    assert not area.begin_recovery(200, 0)
    assert area.begin_recovery(100, 1, stage=2)
    assert area.recovery == (100, 1, 2)
    area.end_recovery(200)
    assert area.recovery == (100, 1, 2)
    area.end_recovery(100)
    assert area.recovery == (0, 0, 0)


@pytest.mark.parametrize(
    ("host", "count"),
    [("10.0.0.7", 2), ("10.0.0.8", 0), ("2001:db8::ffff:1", 1), ("2001:db8:0:1::1", 0), ("fe80::2%eth0", 0), ("a.name", 0)],
)
def test_logins_of_one_source(host, count):
    """A v6 network of 64 bits is one source; who is logged in does not count."""
    area = shared(children=5)
    for index, client in enumerate(("10.0.0.7", "10.0.0.7", "2001:db8::1", "10.0.0.7")):
        area.children[index].start(100 + index, 1.0)
        area.children[index].begin_session(client, 4711, 2.0)
    area.children[3].set_status(ChildStatus.IDLE)
    assert area.logins_from(host) == count
