"""What happens to nodes: every rule of behaviour.md 10.2 and 10.3 as a case."""

from dataclasses import replace

import pytest

from pgpool.model import ClusterMode, NodeState, NodeView, Role
from pgpool.policy.failover import (
    ALWAYS_PRIMARY,
    DISALLOW_TO_FAILOVER,
    Answer,
    Ask,
    Cause,
    Change,
    Command,
    Found,
    Health,
    Rules,
    Sessions,
    Step,
    check_first,
    choose_primary,
    decide,
    false_primaries,
    lost_primary,
    may_return,
    needs_look,
    primary_without_asking,
    rival_primaries,
    streams_from,
    why_not_fail_back,
)

UP, DOWN, WAITING, UNUSED = NodeState.UP, NodeState.DOWN, NodeState.WAITING, NodeState.UNUSED
STREAMING, LOGICAL, RAW = ClusterMode.STREAMING_REPLICATION, ClusterMode.LOGICAL_REPLICATION, ClusterMode.RAW


def nodes(*states: NodeState) -> tuple[NodeView, ...]:
    """Node 0 is the primary."""
    return tuple(
        NodeView(i, "h", 5432, 1.0, state, False, Role.STANDBY if i else Role.PRIMARY) for i, state in enumerate(states)
    )


def rules(mode=STREAMING, *, error="on", shutdown=False, **flags: str) -> Rules:
    return Rules(mode, error, shutdown, {int(name[1:]): frozenset({flag}) for name, flag in flags.items()})


def detach(node_id: int, cause: Cause = Cause.HEALTH_CHECK, seen: Health | None = None) -> Ask:
    return Ask(Change.DETACH, (node_id,), cause, {} if seen is None else {node_id: seen})


def test_a_standby_goes_and_only_its_users_end():
    plan = decide(detach(1), nodes(UP, UP), 0, rules())
    assert plan.states == ((1, DOWN),)
    assert plan.sessions is Sessions.END_USERS
    assert not plan.search_primary
    assert plan.save


def test_the_primary_goes_all_sessions_end_and_a_new_one_is_looked_for():
    plan = decide(detach(0), nodes(UP, UP), 0, rules())
    assert plan.states == ((0, DOWN),)
    assert plan.sessions is Sessions.END_ALL
    assert plan.search_primary


def test_a_health_check_that_timed_out_ends_all_sessions():
    assert decide(detach(1, Cause.HEALTH_TIMEOUT), nodes(UP, UP), 0, rules()).sessions is Sessions.END_ALL


def test_the_last_node_goes_all_sessions_end():
    assert decide(detach(1), nodes(DOWN, UP), -1, rules()).sessions is Sessions.END_ALL


@pytest.mark.parametrize("mode", [LOGICAL, RAW])
def test_other_modes_restart_all_and_look_for_nobody(mode):
    plan = decide(detach(1), nodes(UP, UP), 0, rules(mode))
    assert plan.sessions is Sessions.END_ALL
    assert not plan.search_primary


@pytest.mark.parametrize("cause", list(Cause))
def test_disallow_to_failover_holds_against_every_cause(cause):
    everything = rules(error="on", shutdown=True, n1=DISALLOW_TO_FAILOVER)
    plan = decide(detach(1, cause, Health.SILENT), nodes(UP, UP), 0, everything)
    assert plan.empty
    assert plan.refused == ((1, "its backend_flag is DISALLOW_TO_FAILOVER"),)


@pytest.mark.parametrize("state", [DOWN, UNUSED])
def test_what_is_down_is_not_detached_again(state):
    plan = decide(detach(1), nodes(UP, state), 0, rules())
    assert plan.empty
    assert "already" in plan.refused[0][1]


def test_with_check_a_session_alone_never_detaches_a_node():
    """It only makes the health check look at once."""
    for seen in Health:
        assert decide(detach(1, Cause.SESSION_ERROR, seen), nodes(UP, UP), 0, rules(error="check")).empty
    assert check_first(detach(1, Cause.SESSION_ERROR), rules(error="check"))
    assert check_first(detach(1, Cause.SHUTDOWN), rules(error="check"))
    assert not check_first(detach(1, Cause.SHUTDOWN), rules(error="check", shutdown=True))
    assert not check_first(detach(1, Cause.HEALTH_CHECK), rules(error="check"))
    for word in ("on", "off"):
        assert not check_first(detach(1, Cause.SESSION_ERROR), rules(error=word))


def test_on_believes_the_session_as_pgpool_does():
    assert decide(detach(1, Cause.SESSION_ERROR), nodes(UP, UP), 0, rules(error="on")).states == ((1, DOWN),)
    assert needs_look(Cause.SHUTDOWN)  # pg_terminate_backend sends the same message
    assert not needs_look(Cause.HEALTH_CHECK)


def test_failover_on_backend_error_off():
    plan = decide(detach(1, Cause.SESSION_ERROR, Health.SILENT), nodes(UP, UP), 0, rules(error="off"))
    assert plan.refused == ((1, "failover_on_backend_error is off"),)


@pytest.mark.parametrize(
    ("mode", "on", "seen", "goes"),
    [
        (STREAMING, False, Health.SILENT, False),
        (STREAMING, True, Health.SILENT, True),
        (STREAMING, True, Health.REFUSES, True),
        (STREAMING, True, Health.ANSWERS, False),  # pg_terminate_backend sends the same message
        (ClusterMode.NATIVE_REPLICATION, False, Health.SILENT, True),
    ],
)
def test_failover_on_backend_shutdown(mode, on, seen, goes):
    plan = decide(detach(1, Cause.SHUTDOWN, seen), nodes(UP, UP), 0, rules(mode, shutdown=on))
    assert bool(plan.states) is goes


def test_quarantine_is_not_stored():
    plan = decide(Ask(Change.QUARANTINE, (1,), Cause.HEALTH_CHECK), nodes(UP, UP), 0, rules())
    assert plan.quarantine
    assert not plan.save


def test_several_nodes_at_once_each_judged():
    ask = Ask(Change.DETACH, (2, 1, 2, 9), Cause.OPERATOR)
    plan = decide(ask, nodes(UP, DOWN, UP), 0, rules())
    assert plan.states == ((2, DOWN),)
    assert dict(plan.refused) == {1: "the node is down already", 9: "there is no such node"}


def test_attach_a_standby():
    plan = decide(Ask(Change.ATTACH, (1,), Cause.OPERATOR), nodes(UP, DOWN), 0, rules())
    assert plan.states == ((1, WAITING),)
    assert plan.sessions is Sessions.RESTART_LATER
    assert not plan.search_primary
    assert plan.save


def test_attach_when_all_were_down():
    plan = decide(Ask(Change.ATTACH, (1,), Cause.OPERATOR), nodes(DOWN, DOWN), -1, rules())
    assert plan.sessions is Sessions.END_ALL
    assert plan.search_primary


def test_attach_what_is_attached():
    plan = decide(Ask(Change.ATTACH, (1,), Cause.OPERATOR), nodes(UP, UP), 0, rules())
    assert plan.empty
    assert plan.refused


def test_promote_changes_only_our_view():
    plan = decide(Ask(Change.PROMOTE, (1,), Cause.OPERATOR), nodes(UP, UP), 0, rules())
    assert plan.primary == 1
    assert plan.states == ()
    assert plan.sessions is Sessions.END_ALL


@pytest.mark.parametrize(
    ("node_id", "states", "mode"),
    [(0, (UP, UP), STREAMING), (1, (UP, DOWN), STREAMING), (1, (UP, UP), LOGICAL), (7, (UP, UP), STREAMING)],
)
def test_promote_refused(node_id, states, mode):
    plan = decide(Ask(Change.PROMOTE, (node_id,), Cause.OPERATOR), nodes(*states), 0, rules(mode))
    assert plan.empty
    assert plan.refused


def test_a_waiting_node_is_up_once_a_session_connected():
    ask = Ask(Change.CONNECTED, (0, 1), Cause.OPERATOR)
    plan = decide(ask, nodes(WAITING, UP), 0, rules())
    assert plan.states == ((0, UP),)
    assert plan.save
    assert plan.sessions is Sessions.GO_ON


def test_a_late_connected_message_does_not_bring_a_node_back():
    assert decide(Ask(Change.CONNECTED, (0,), Cause.OPERATOR), nodes(DOWN, UP), 1, rules()).empty


@pytest.mark.parametrize(
    ("answers", "current", "found"),
    [
        ([False, True], -1, Found(0)),
        ([True, False], 0, Found(1)),
        ([True, True], 0, Found(-1)),
        ([None, None], 0, Found(-1)),
        ([False, False], -1, Found(1, (0,))),  # the last one found
        ([False, False], 0, Found(0, (1,))),  # but the present one stays
        ([], 0, Found(-1)),
    ],
)
def test_who_is_the_primary(answers, current, found):
    said = tuple(Answer(i, answer) for i, answer in enumerate(answers))
    assert choose_primary(said, current, rules()) == found


def test_always_primary_is_believed_without_asking():
    said = (Answer(0, False), Answer(1, None))
    assert choose_primary(said, 0, rules(n1=ALWAYS_PRIMARY)) == Found(1)


@pytest.mark.parametrize(
    ("states", "flags", "primary"),
    [
        ((UP, UP), {}, 0),
        ((DOWN, WAITING), {}, 1),
        ((DOWN, DOWN), {}, -1),
        ((UP, UP), {"n1": ALWAYS_PRIMARY}, 1),
        ((UP, DOWN), {"n1": ALWAYS_PRIMARY}, 0),
    ],
)
def test_primary_when_nobody_can_be_asked(states, flags, primary):
    assert primary_without_asking(nodes(*states), rules(**flags)) == primary


def test_a_quarantined_node_is_no_primary():
    quarantined = (NodeView(0, "h", 1, 1.0, DOWN, True, Role.PRIMARY),)
    assert primary_without_asking(quarantined, rules()) == -1


@pytest.mark.parametrize(
    ("in_recovery", "primary", "mode", "may"),
    [
        (True, 0, STREAMING, True),
        (False, 0, STREAMING, False),  # a second primary stays out
        (False, -1, STREAMING, True),
        (None, 0, STREAMING, True),
        (False, 0, LOGICAL, True),
    ],
)
def test_return_of_a_node_that_was_unreachable_at_start(in_recovery, primary, mode, may):
    assert may_return(in_recovery, primary, mode) is may


# -- the steps -------------------------------------------------------------------------------------------------------


def test_a_switchover_detaches_the_primary_for_the_node_that_was_asked_for():
    plan = decide(Ask(Change.PROMOTE, (2,), Cause.OPERATOR, switchover=True), nodes(UP, UP, UP), 0, rules())
    assert plan.states == ((0, DOWN),)
    assert (plan.command, plan.new_main, plan.search_primary, plan.follow) == (Command.FAILOVER, 2, True, True)
    assert plan.sessions is Sessions.END_ALL


@pytest.mark.parametrize("ask", [detach(0), detach(1), Ask(Change.ATTACH, (2,), Cause.OPERATOR)])
def test_nobody_runs_commands_when_somebody_else_owns_the_failover(ask):
    external = replace(rules(), external=True)
    plan = decide(ask, nodes(UP, UP, DOWN), 0, external)
    assert plan.states
    assert Step.COMMANDS not in plan.steps
    assert not plan.follow
    switch = Ask(Change.PROMOTE, (1,), Cause.OPERATOR, switchover=True)
    assert "somebody else" in decide(switch, nodes(UP, UP), 0, external).refused[0][1]


REQUESTS = [
    detach(0),
    detach(1),
    detach(1, Cause.HEALTH_TIMEOUT),
    Ask(Change.ATTACH, (2,), Cause.OPERATOR),
    Ask(Change.PROMOTE, (1,), Cause.OPERATOR),
    Ask(Change.PROMOTE, (1,), Cause.OPERATOR, switchover=True),
    Ask(Change.QUARANTINE, (1,), Cause.HEALTH_CHECK),
]


@pytest.mark.parametrize("ask", REQUESTS, ids=lambda ask: f"{ask.change.value}-{ask.node_ids[0]}-{ask.switchover}")
def test_interrupted_after_any_step_what_remains_is_consistent(ask):
    """What is shared and what is stored, when everything stops after each of the steps."""
    before = nodes(UP, UP, DOWN)
    plan = decide(ask, before, 0, rules())
    assert plan.steps == tuple(sorted(plan.steps, key=list(Step).index))
    wanted = dict(plan.states)
    for count in range(len(plan.steps) + 1):
        done = plan.steps[:count]
        now = {node.id: wanted.get(node.id, node.state) if Step.STATES in done else node.state for node in before}
        stored = {i: wanted.get(i, before[i].state) if Step.SAVE in done else before[i].state for i in now}
        if Step.SAVE in done:
            assert stored == now, "the file never knows more than the processes"
        if Step.SESSIONS in done and plan.states:
            assert Step.STATES in done, "nobody is sent away to find the old states again"
        if Step.COMMANDS in done:
            assert Step.SESSIONS in done, "a promotion begins when nobody writes to the old primary any more"
            assert Step.STATES in done
        if Step.PRIMARY in done and plan.primary is not None:
            assert now[plan.primary].usable, "the primary is a node in use"
        if Step.FOLLOW in done:
            assert Step.PRIMARY in done, "followers are told whom to follow"


OURS, THEIRS = "7400000000000000001", "7400000000000000002"


@pytest.mark.parametrize(
    ("answers", "current", "last", "found"),
    [
        ([(False, 2, OURS), (False, 1, OURS)], -1, None, Found(0, (1,))),  # the higher timeline, not the last
        ([(False, 2, OURS), (False, 1, OURS)], 1, None, Found(1, (0,))),  # the present one stays
        ([(True, 0, ""), (False, 1, OURS)], -1, (2, OURS), Found(-1, (), (1,))),
        ([(True, 0, ""), (False, 1, THEIRS)], -1, (1, OURS), Found(-1, (), (1,))),
        ([(True, 0, ""), (False, 3, OURS)], -1, (2, OURS), Found(1)),
        ([(True, 0, ""), (False, 0, "")], -1, (2, OURS), Found(1)),  # a server that does not say
        ([(False, 1, OURS), (False, 1, OURS)], -1, None, Found(1, (0,))),
    ],
)
def test_histories_of_primaries(answers, current, last, found):
    said = tuple(Answer(i, *answer) for i, answer in enumerate(answers))
    known = Answer(9, False, *last) if last else None
    assert choose_primary(said, current, rules(), known) == found


def primary(node_id: int, timeline: int, system: str = "s") -> Answer:
    return Answer(node_id, False, timeline, system)


def standby(node_id: int, timeline: int, system: str = "s", *, streams: bool = True) -> Answer:
    return Answer(node_id, True, timeline, system, streams)


PLACES = {0: ("a", 1), 1: ("b", 2), 2: ("/tmp", 3)}


@pytest.mark.parametrize(
    ("claims", "upstreams", "false", "told"),
    [
        ((0,), {1: ("x", 9)}, (), 0),  # one primary: nothing to choose
        ((0, 1), {2: ("a", 1)}, (1,), 0),
        ((0, 1), {2: ("b", 2)}, (0,), 0),
        ((0, 1), {2: ("a", 2)}, (), 2),
        ((0, 1), {2: None}, (), 2),
        ((1, 0), {}, (1,), 0),  # no standby: the lowest id stays
        ((0, 2), {1: ("localhost", 3)}, (0,), 0),  # by a local socket
        ((0, 2), {1: ("", 3)}, (0,), 0),
        ((0, 2), {1: ("other", 3)}, (), 2),
    ],
)
def test_false_primaries(claims, upstreams, false, told):
    assert false_primaries(claims, upstreams, PLACES)[0] == false
    assert len(false_primaries(claims, upstreams, PLACES)[1]) == told


@pytest.mark.parametrize(
    ("state", "quarantined", "replication", "age", "following", "may"),
    [
        (DOWN, False, "streaming", 1.0, False, True),
        (UP, False, "streaming", 1.0, False, False),
        (DOWN, True, "streaming", 1.0, False, False),
        (DOWN, False, "catchup", 1.0, False, False),
        (DOWN, False, "", 1.0, False, False),
        (DOWN, False, "streaming", 60.0, False, False),  # seen long ago
        (DOWN, False, "streaming", 1.0, True, False),
    ],
)
def test_auto_failback(state, quarantined, replication, age, following, may):
    assert (why_not_fail_back(state, quarantined, replication, age, 10, following) == "") == may


@pytest.mark.parametrize(
    "kept_out, used, found",
    [
        ([primary(0, 3)], [standby(1, 3), standby(2, 2)], 0),
        ([primary(0, 3)], [standby(1, 3, streams=False)], -1),  # it may be on its way to be promoted
        ([primary(0, 3)], [standby(1, 4)], -1),  # an old primary: the others have gone on
        ([primary(0, 3, "t")], [standby(1, 3)], -1),  # another database system
        ([primary(0, 3)], [Answer(1, None)], -1),  # who knows what that one is
        ([primary(0, 3)], [primary(1, 3)], -1),
        ([primary(0, 0, "")], [standby(1, 0, "")], -1),  # it does not say what it is
        ([primary(0, 3), primary(2, 3)], [standby(1, 3)], -1),
        ([primary(0, 3), Answer(2, None)], [standby(1, 3)], 0),
        ([standby(0, 3)], [standby(1, 3)], -1),
        ([primary(0, 3)], [], -1),
        ([primary(1, 3)], [primary(0, 2), standby(2, 3)], 1),  # the standby has left the one in use
        ([primary(1, 3)], [primary(0, 2), standby(2, 2)], -1),  # the one outside is a stray
        ([primary(1, 3)], [primary(0, 2)], -1),  # who is right?
        ([primary(1, 2)], [primary(0, 3), standby(2, 2)], -1),
    ],
)
def test_a_primary_that_is_kept_out(kept_out, used, found):
    assert lost_primary(tuple(kept_out), tuple(used)) == found


def test_a_node_of_another_history_goes_without_a_command():
    plan = decide(detach(1, Cause.HISTORY), nodes(UP, UP), 0, rules())
    assert (plan.states, plan.command, plan.sessions) == (((1, DOWN),), Command.NONE, Sessions.END_USERS)


def test_a_primary_that_is_alone_and_kept_out():
    assert lost_primary((primary(1, 3),), (), alone=True) == 1
    assert lost_primary((primary(1, 3),), (), primary(0, 4), alone=True) == -1
    assert lost_primary((primary(1, 3),), (standby(0, 3),), primary(0, 4)) == -1


@pytest.mark.parametrize(
    ("kept_out", "used", "rivals"),
    [
        ([primary(1, 3)], [primary(0, 2)], [1]),
        ([primary(1, 2)], [primary(0, 2)], []),
        ([primary(1, 3, "t")], [primary(0, 2)], []),
        ([standby(1, 3)], [primary(0, 2)], []),
        ([primary(1, 3)], [standby(0, 2)], []),
    ],
)
def test_rivals_of_the_primary_in_use(kept_out, used, rivals):
    assert [answer.node_id for answer in rival_primaries(tuple(kept_out), tuple(used))] == rivals


@pytest.mark.parametrize(
    ("node", "of", "streams"),
    [
        (standby(1, 3), primary(0, 3), True),
        (standby(1, 3, streams=False), primary(0, 3), False),
        (standby(1, 2), primary(0, 3), False),
        (standby(1, 3, "t"), primary(0, 3), False),
        (primary(1, 3), primary(0, 3), False),
        (Answer(1, None), primary(0, 3), False),
        (standby(1, 0, ""), primary(0, 0, ""), False),
        (standby(1, 3), standby(0, 3), False),
    ],
)
def test_a_standby_speaks_for_itself(node, of, streams):
    assert streams_from(node, of) is streams
