"""The parent: opens the doors, makes the shared memory, forks everything, keeps it running, ends it.

It never touches client traffic. Each turn of its loop goes through the same list of duties; signals only wake it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial

from .. import version_text
from ..auth.hba import Hba
from ..auth.passwd import PasswordFile
from ..backend.probe import Prober
from ..config.settings import Settings
from ..errors import ConfigFaults, ProcessExit
from ..model import ClusterMode, NodeState
from ..pcp.server import Office, pcp_main
from ..policy.commands import Happening
from ..policy.failover import Sessions
from ..policy.route import RoutingSettings
from ..shared import Shared
from ..sql import hard
from ..sql.analyze import analyze
from ..system import process, signals, sockets
from ..system.logs import LOG, log
from ..system.notify import Notifier
from ..system.sockets import Listener
from . import child, commands, files, health, metrics, srcheck
from .collector import Collector
from .exposed import tell_exposed
from .failover import Failover
from .late import Latecomers
from .nursery import Nursery, Place
from .options import Options
from .reload import read_again, read_passwords, read_rules
from .search import ADDED, STORED_DOWN, settle_without_asking, state_number
from .sparing import Sparing

_HANDLED = (
    signals.SIGTERM, signals.SIGINT, signals.SIGQUIT, signals.SIGHUP,
    signals.SIGUSR1, signals.SIGUSR2, signals.SIGCHLD,
)  # fmt: skip
_STOP = (signals.SIGQUIT, signals.SIGINT, signals.SIGTERM)

PATIENCE = {signals.SIGINT: 10.0, signals.SIGQUIT: 5.0}
"""Seconds until a process that was told to end at once is killed."""


def warm_up() -> None:
    """Do once, before the children are forked, what each would do for itself: they share the memory it takes."""
    analyze("SELECT f(a), count(*) FROM s.t JOIN u USING (id) WHERE b = 1 ORDER BY 2")
    hard.read_only_names("SELECT a FROM t", [])
    process.title_area()


class Parent:
    """``run`` is the whole life of a pgpool, from open sockets to the exit code."""

    newborn: child.Child
    """What is forked for each child: made anew when the settings or other files have been read again."""

    def __init__(
        self,
        settings: Settings,
        options: Options,
        listeners: Sequence[Listener],
        pid_file: str,
        rules: Hba | None = None,
        pcp_listeners: Sequence[Listener] = (),
    ) -> None:
        self.settings = settings
        self.options = options
        self.listeners = list(listeners)
        self.pcp_listeners = list(pcp_listeners)
        self.pid_file = pid_file
        self.rules = rules
        """pool_hba.conf as it was last read without a fault; every child starts with it."""
        self.routing = RoutingSettings.of(settings)
        self.clock = time.monotonic
        self.signals = signals.install(_HANDLED)
        self._arrived: set[int] = set()
        self.shared = Shared.create(settings)
        self.prober = Prober(settings, read_passwords(settings, options), self.signals.wakeup_fd, self.on_wake)
        self.failover = Failover(self)
        self.collector = Collector(settings, options)
        self.manager = Notifier()
        self.nursery = Nursery(self.clock, self._served, self._after_death, self.collector.buried)
        self.sparing = Sparing(self)
        self.late = Latecomers(self)
        self.stopping = 0
        """The signal that began the shutdown; 0 while there is none."""
        self.exit_code = 0

    # -- the life ---------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until told to stop; returns the exit code of pgpool."""
        try:
            self.begin()
            while not self.finished():
                self.wait()
                self.tick()
        except ProcessExit as stop:
            log.debug1(f"stopped before the start was complete: {stop.reason}")
        finally:
            self.end()
        return self.exit_code

    def begin(self) -> None:
        """From open sockets to running processes."""
        self.collector.begin(self.settings)
        self.restore_states()
        self.late.find()
        settle_without_asking(self, self.failover.rules())
        warm_up()
        self._newborn([]).rehearse(self.signals.wakeup_fd)
        self.newborn = self._newborn(self.listeners)
        process.freeze()
        if self.settings.mode is ClusterMode.STREAMING_REPLICATION:
            self.failover.start_search()
            self.failover.work()
        self.populate()
        self.nursery.fill()
        self.nursery.started = True
        log.log(LOG, f"pgpool-II successfully started. version {version_text()}")
        for node in self.shared.node_views(self.settings):
            number = state_number(node.state, node.id == self.shared.primary_id)
            log.log(LOG, f"node status[{node.id}]: {number}")
        self.manager.ready()

    def tick(self) -> None:
        """The duties of one turn."""
        try:
            self.take_signals()
            self.bury()
            self.collector.tick(self.settings)
            self.begin_stop()
            if self.stopping:
                self.go_on_stopping()
                return
            self.reload_if_asked()
            self.take_requests()
            self.late.look()
            self.sparing.work()
            self.nursery.fill()
            self.nursery.kill_late()
        except ProcessExit:
            self.begin_stop()

    def end(self) -> None:
        """Leave nothing behind."""
        for place in list(self.nursery.alive()):
            process.kill(place.pid, signals.SIGKILL)
        for listener in (*self.listeners, *self.pcp_listeners):
            listener.stop()
        self.save_status()
        files.remove(self.pid_file)
        log.log(LOG, "Pgpool-II system is shutdown")
        self.collector.end()

    # -- waiting and signals ----------------------------------------------------------------------------------------

    def wait(self) -> None:
        """Until a signal comes or a duty is due."""
        due = [self.nursery.next_due(), self.failover.next_due(), self.collector.next_due()]
        due += [self.sparing.next_due(), self.late.next_due()]
        times = [at for at in due if at is not None]
        timeout = max(0.0, min(times) - self.clock()) if times else None
        sockets.wait([self.signals.wakeup_fd], timeout)

    def take_signals(self) -> None:
        self._arrived |= self.signals.drain()

    def on_wake(self) -> None:
        """A signal came while a backend was asked: a shutdown does not wait for the answer.

        Nobody is forked here: a child would inherit the connection to that backend.
        """
        self.take_signals()
        if any(signum in self._arrived for signum in _STOP):
            raise ProcessExit(process.EXIT_QUIT, "a shutdown was asked for")

    def _arrived_and_forget(self, signum: int) -> bool:
        if signum not in self._arrived:
            return False
        self._arrived.discard(signum)
        return True

    # -- start ------------------------------------------------------------------------------------------------------

    @property
    def status_file(self) -> str:
        return self.settings.resolve(os.path.join(self.settings.work_dir, files.STATUS_FILE))

    def restore_states(self) -> None:
        """What pgpool_status remembers of the nodes; -D throws it away."""
        path = self.status_file
        if self.options.discard_status:
            if files.remove(path):
                log.log(LOG, f"Backend status file {path} discarded")
            return
        try:
            stored = files.read_status(path)
        except OSError as err:
            log.warning(f'could not read status file "{path}"', detail=err.strerror)
            return
        if stored is None:
            log.log(LOG, f"Backend status file {path} does not exist")
            return
        for problem in stored.problems:
            log.warning("invalid data in status file, ignoring...", detail=problem)
        used = [backend.id for backend in self.settings.backends if backend.used]
        if not any(stored.states.get(node_id) is NodeState.UP for node_id in used):
            if stored.states:
                log.log(LOG, f"no backend is up in status file {path}, it is not believed: all begin as waiting")
            return
        for node_id in used:
            if stored.states.get(node_id) is NodeState.DOWN:
                log.log(LOG, f"reading status file: {node_id} th backend is set to down status")
                self.shared.set_node_state(node_id, NodeState.DOWN, STORED_DOWN)

    def populate(self) -> None:
        """A place for every process."""
        for index in range(self.settings.num_init_children):
            self.nursery.add_child(index, partial(self._run_child, index))
        self.sparing.begin()
        self.nursery.add_worker("PCP child", self._run_pcp)
        self.nursery.add_worker(srcheck.WHAT, self._run_srcheck)
        for backend in self.settings.backends:
            if backend.used:
                self._add_health(backend.id)

        self._want_metrics()

    def _want_metrics(self) -> None:
        """The monitoring endpoint has a process while it has a port; without one the process ends by itself."""
        if not self.settings.metrics_port:
            return
        for place in self.nursery.places:
            if place.what == metrics.WHAT:
                place.wanted = True
                return
        self.nursery.add_worker(metrics.WHAT, self._run_metrics)

    def _run_metrics(self) -> int:
        for listener in self.pcp_listeners:
            listener.close()
        return metrics.metrics_main(self.settings, self.shared, self.options, self.listeners)

    def _add_health(self, node_id: int) -> None:
        self.nursery.add_worker("health check process", partial(self._run_health, node_id), node_id)

    def _newborn(self, listeners: list[Listener]) -> child.Child:
        """What every child begins as."""
        passwords = self.prober.passwords
        return child.Child(self.settings, self.shared, listeners, self.options, self.rules, passwords, self.routing)

    def _run_child(self, index: int) -> int:
        self._close_pcp_doors()
        return self.newborn.live(index)

    def _run_pcp(self) -> int:
        for listener in self.listeners:
            listener.close()
        passwords = read_passwords(self.settings, self.options, quiet=True)
        office = Office(
            self.settings, self.shared, passwords, self.options.pcp_file, self.pcp_listeners, self._settings_for_pcp
        )
        return pcp_main(office)

    def _settings_for_pcp(self, old: Settings) -> tuple[Settings, PasswordFile]:
        new = read_again(self.options, old, self.shared, quiet=True)
        return new, read_passwords(new, self.options, quiet=True)

    def _run_srcheck(self) -> int:
        self._close_doors()
        return srcheck.srcheck_main(self.settings, self.shared, self.options)

    def _run_health(self, node_id: int) -> int:
        self._close_doors()
        return health.health_main(node_id, self.settings, self.shared, self.options)

    def _close_doors(self) -> None:
        for listener in self.listeners:
            listener.close()
        self._close_pcp_doors()

    def _close_pcp_doors(self) -> None:
        for listener in self.pcp_listeners:
            listener.close()

    # -- processes --------------------------------------------------------------------------------------------------

    def _served(self, place: Place) -> bool:
        return place.is_child and self.shared.children[place.index].view().served > 0

    def _after_death(self, place: Place, pid: int) -> None:
        if place.is_child:
            self.shared.children[place.index].clear()
        else:
            self.shared.end_recovery(pid)

    def bury(self) -> None:
        """Take note of processes that have ended; a fatal one takes everything with it."""
        self._arrived.discard(signals.SIGCHLD)
        if self.nursery.bury(bool(self.stopping)) == process.EXIT_FATAL and not self.stopping:
            log.fatal("a process asked to stop everything, shutting down")
            self.exit_code = process.EXIT_FATAL
            self._arrived.add(signals.SIGINT)
        if self.nursery.command_ended:
            self.nursery.command_ended = False
            self.failover.poke()

    def tell_sessions(self, what: Sessions, node_ids: tuple[int, ...]) -> None:
        """Carry out the part of a failover plan that concerns the children."""
        if what is Sessions.GO_ON:
            return
        waiting = self.settings.failover_client_policy == "wait"
        for place in list(self.nursery.children()):
            cell = self.shared.children[place.index]
            if what is Sessions.END_USERS or (what is Sessions.END_ALL and waiting):
                process.kill(place.pid, signals.SIGUSR2)  # it looks for itself whether it has to end
            elif what is Sessions.END_ALL:
                log.debug1(f"kill process with PID:{place.pid}")
                place.reborn = True
                self.nursery.end(place, signals.SIGQUIT, PATIENCE[signals.SIGQUIT])
            else:
                cell.order_restart()

    def check_now(self, node_id: int) -> None:
        """The health check of a node looks at once (failover_on_backend_error = check)."""
        for place in self.nursery.alive():
            if place.node_id == node_id:
                process.kill(place.pid, signals.SIGUSR2)

    def check_roles_now(self) -> None:
        """The streaming check looks at once: a session has seen that a server has another role."""
        for place in self.nursery.alive():
            if place.what == srcheck.WHAT:
                process.kill(place.pid, signals.SIGUSR2)

    def run_command(self, name: str, happenings: list[Happening]) -> Callable[[], bool]:
        """Start failover_command and the like for each of ``happenings``; the function says whether all have ended."""
        template = getattr(self.settings, name)
        if not template or not happenings:
            return lambda: True
        limit = self.settings.failover_command_timeout
        pid = process.fork(commands.commands_main, name, template, happenings, limit, self.shared, self._close_doors)
        self.nursery.commands.add(pid)
        return lambda: pid not in self.nursery.commands

    def close_idle_links(self) -> None:
        """All children close their idle backend connections (before DROP DATABASE)."""
        self.nursery.send(signals.SIGUSR1, children=True)

    def rotate_log(self) -> None:
        """The logger begins a new file (pcp_log_rotate)."""
        self.collector.send(signals.SIGUSR1)

    def wake_workers(self) -> None:
        """The checks look again at once."""
        self.nursery.send(signals.SIGUSR1, children=False)

    # -- nodes ------------------------------------------------------------------------------------------------------

    def take_requests(self) -> None:
        if self._arrived_and_forget(signals.SIGUSR1):
            log.debug1("Pgpool-II parent process received SIGUSR1")
        self._arrived.discard(signals.SIGUSR2)
        self.failover.take()
        self.failover.work()

    def save_status(self) -> None:
        """Rewrite pgpool_status. A node that was merely unreachable at start is not stored as down."""
        states = {}
        for node in self.shared.node_views(self.settings):
            keep = node.quarantined or node.id in self.late.nodes
            states[node.id] = NodeState.UP if keep and node.state is NodeState.DOWN else node.state
        if states and not any(state.usable for state in states.values()):
            log.warning("All the DB nodes are in down status and skip writing status file.")
            return
        try:
            files.write_status(self.status_file, states)
        except OSError as err:
            log.warning(f'could not write status file "{self.status_file}"', detail=err.strerror)

    # -- reload -----------------------------------------------------------------------------------------------------

    def reload_if_asked(self) -> None:
        """New settings for everybody, or, when the file has faults, for nobody."""
        if self._arrived_and_forget(signals.SIGHUP):
            self.manager.reloading()
            self._reload()
            self.manager.ready()

    def _reload(self) -> None:
        log.log(LOG, "reload config files.")
        new = read_again(self.options, self.settings, self.shared)
        if new is not self.settings:
            if not self.shared.has_room(new):
                log.warning("the new backends need a restart of pgpool, the configuration was not reloaded")
                return
            self._adopt(new)
        self.prober.passwords = read_passwords(self.settings, self.options)
        self._reload_rules()
        self.newborn = self._newborn(self.listeners)
        tell_exposed(self.settings, self.options, self.rules)
        self.nursery.send(signals.SIGHUP)
        self.collector.send(signals.SIGHUP)

    def _reload_rules(self) -> None:
        try:
            self.rules = read_rules(self.settings, self.options, self.rules)
        except ConfigFaults as err:
            for fault in err.faults:
                log.warning(str(fault))
            log.warning("pool_hba.conf cannot be used, all clients are refused")
            self.rules = None

    def _adopt(self, new: Settings) -> None:
        known = {place.node_id for place in self.nursery.places}
        self.settings = self.prober.settings = new
        was, self.routing = self.routing, RoutingSettings.of(new)
        if self.routing.everywhere and not was.everywhere:
            self.shared.written.begin(time.monotonic())
        for backend in new.backends:
            if backend.used and backend.id not in known:
                log.log(LOG, f"backend {backend.id} was added, it is down until it is attached")
                self.shared.set_node_state(backend.id, NodeState.DOWN, ADDED)
                self._add_health(backend.id)
        self._want_metrics()
        self.shared.count_reload()
        self.sparing.reloaded()
        settle_without_asking(self, self.failover.rules())
        self.failover.reloaded()

    # -- the end ----------------------------------------------------------------------------------------------------

    def begin_stop(self) -> None:
        """A shutdown begins, or a smart one becomes a fast one. The same or a gentler signal again changes nothing."""
        asked = next((signum for signum in _STOP if self._arrived_and_forget(signum)), 0)
        if not asked or asked == self.stopping or self.stopping in PATIENCE:
            return
        first = not self.stopping
        self.stopping = asked
        log.log(LOG, f"shutting down by signal {int(asked)}")
        if first:
            self.manager.stopping()
            log.log(LOG, "terminating all child processes")
            self.shared.set_condition(stopping=True)
            for place in self.nursery.places:
                place.wanted = False
            for listener in self.listeners:
                listener.stop()
        for place in list(self.nursery.alive()):
            if asked in PATIENCE:
                self.nursery.end(place, asked, PATIENCE[asked])
            elif place.is_child:
                process.kill(place.pid, asked)

    def go_on_stopping(self) -> None:
        """In a smart shutdown the workers end when the last session has ended."""
        self.nursery.kill_late()
        if self.stopping == signals.SIGTERM and not any(self.nursery.children()):
            for place in list(self.nursery.alive()):
                if not place.kill_at:
                    self.nursery.end(place, signals.SIGTERM, PATIENCE[signals.SIGINT])

    def finished(self) -> bool:
        return bool(self.stopping) and not any(self.nursery.alive())
