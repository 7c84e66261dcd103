"""Settings: one immutable snapshot of the configuration, and what differs between two of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pgpool.errors import SettingError
from pgpool.model import ClusterMode

from . import param as p
from . import show as shows
from .params import BY_NAME, PARAMS, split_index
from .values import BadValue, Value, parse


@dataclass(frozen=True, slots=True)
class HealthConf:
    """How one backend's health is checked: seconds, but ``connect_timeout`` in milliseconds."""

    period: int
    timeout: int
    user: str
    password: str = field(repr=False)
    database: str
    max_retries: int
    retry_delay: int
    connect_timeout: int


@dataclass(frozen=True, slots=True)
class BackendConf:
    """One backend. ``hostname`` is as configured: '' or a name beginning with / means a unix socket."""

    id: int
    hostname: str
    port: int
    weight: float
    data_directory: str
    application_name: str
    flags: frozenset[str]
    health_check: HealthConf
    sslmode: str = "auto"
    sslrootcert: str = ""
    sslcert: str = ""
    sslkey: str = ""

    @property
    def used(self) -> bool:
        """False for a gap in the numbering (backend_portN is not set)."""
        return self.port != 0


@dataclass(frozen=True, slots=True)
class WatchdogConf:
    """One pgpool of the watchdog cluster."""

    id: int
    hostname: str
    pgpool_port: int
    wd_port: int


@dataclass(frozen=True, slots=True)
class HeartbeatConf:
    """Where the heartbeats of one pgpool are sent to."""

    id: int
    hostname: str
    port: int
    device: str


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two Settings; ``name`` has the index, ``context`` is INIT, RELOAD or SESSION."""

    name: str
    old: Value
    new: Value
    context: str


Key = tuple[str, int | None]
_SCALARS = tuple(param for param in PARAMS if param.has_plain_value)
_DEFAULTS: Mapping[str, Value] = MappingProxyType({param.name: param.default for param in _SCALARS})


class Settings:
    """Every parameter without index is an attribute (int in its own unit, bool, str, tuple for lists, enums by name).

    Precomputed: ``backends`` (position = id; gaps are there with port 0), ``mode``, ``watchdog_nodes``, ``heartbeats``.
    ``config_file`` and ``confdir`` say where it came from; ``node_id`` is this pgpool's watchdog number or -1.
    ``origins`` maps (name, index) to (file, line) of what was set.
    """

    def __init__(self, values: Mapping[Key, Value] = MappingProxyType({}), *, config_file: str = "",
                 origins: Mapping[Key, tuple[str, int]] = MappingProxyType({}), node_id: int = -1):
        state = self.__dict__
        state.update(_DEFAULTS)
        indexed: dict[str, dict[int, Value]] = {}
        for (name, index), value in values.items():
            if index is None:
                state[name] = value
            else:
                indexed.setdefault(name, {})[index] = value
        state["_values"] = MappingProxyType(dict(values))
        state["_indexed"] = indexed
        state["origins"] = origins
        state["config_file"] = config_file
        state["confdir"] = os.path.dirname(config_file)
        state["node_id"] = node_id
        state["mode"] = ClusterMode(BY_NAME["backend_clustering_mode"].choices[state["backend_clustering_mode"]])
        state["backends"] = tuple(map(self._backend, range(self._count("backend_port"))))
        state["watchdog_nodes"] = tuple(map(self._watchdog_node, self._ids("wd_port")))
        state["heartbeats"] = tuple(map(self._heartbeat, self._ids("heartbeat_port")))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Settings cannot be changed: make new ones with replace() or with_text()")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("Settings cannot be changed")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f'"{name}" is no parameter without index')

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and not diff(self, other)

    __hash__ = None  # type: ignore[assignment]

    def value(self, name: str, index: int | None = None) -> Value:
        """The value in force. A backend without its own value of a health check parameter has the index-free one."""
        param = BY_NAME[name]
        if index is None and param.has_plain_value:
            return self.__dict__[name]
        own = self._indexed.get(name, {})
        if index in own:
            return own[index]
        return self.__dict__[name] if param.indexing == p.BACKEND_DEFAULT else param.default

    def path(self, name: str) -> str:
        """The file a parameter names, relative to the directory of pgpool.conf; '' stays ''."""
        return self.resolve(self.__dict__[name])

    def resolve(self, file: str) -> str:
        """``file`` relative to the directory of pgpool.conf; '' stays ''."""
        return os.path.join(self.confdir, file) if file else ""

    def items(self) -> Iterator[tuple[Key, Value]]:
        """What was set (not the defaults), as ((name, index), value)."""
        return iter(self._values.items())

    def _ids(self, name: str) -> list[int]:
        return sorted(index for index, value in self._indexed.get(name, {}).items() if value)

    def _count(self, name: str) -> int:
        return max(self._ids(name), default=-1) + 1

    def _backend(self, index: int) -> BackendConf:
        def get(name: str) -> Any:
            return self.value(name, index)

        return BackendConf(
            index, get("backend_hostname"), get("backend_port"), get("backend_weight"), get("backend_data_directory"),
            get("backend_application_name"), frozenset(filter(None, get("backend_flag").split("|"))),
            HealthConf(get("health_check_period"), get("health_check_timeout"), get("health_check_user"),
                       get("health_check_password"), get("health_check_database"), get("health_check_max_retries"),
                       get("health_check_retry_delay"), get("connect_timeout")),
            get("backend_sslmode"), get("backend_sslrootcert"), get("backend_sslcert"), get("backend_sslkey"))

    def _watchdog_node(self, index: int) -> WatchdogConf:
        return WatchdogConf(index, self.value("hostname", index), self.value("pgpool_port", index),
                            self.value("wd_port", index))

    def _heartbeat(self, index: int) -> HeartbeatConf:
        return HeartbeatConf(index, self.value("heartbeat_hostname", index), self.value("heartbeat_port", index),
                             self.value("heartbeat_device", index))

    def replace(self, **values: Value) -> Settings:
        """New Settings with some values changed; indexed ones by full name (``backend_weight0=2.0``).

        Values must be of the parameter's type; for text from outside use with_text. Raises KeyError: no such parameter.
        """
        new = dict(self._values)
        for name, value in values.items():
            stem, index = split_index(name)
            param = BY_NAME[stem]
            if (index is None) != param.has_plain_value and not (param.indexing == p.BACKEND_DEFAULT):
                raise KeyError(name)
            new[stem, index] = value
        return self._with(new)

    def _with(self, values: dict[Key, Value]) -> Settings:
        return Settings(values, config_file=self.config_file, origins=self.origins, node_id=self.node_id)

    def with_text(self, name: str, text: str) -> Settings:
        """PGPOOL SET name TO text. Raises errors.SettingError with the texts of commands.md section 4."""
        param = _session_param(name)
        try:
            return self.replace(**{param.name: parse(param, text)})
        except BadValue as error:
            raise SettingError(error.message, hint=error.hint) from None

    def show(self, name: str) -> str:
        """The value for PGPOOL SHOW of one parameter. Raises errors.SettingError: not found."""
        return shows.show(self, name)

    def show_many(self, name: str) -> list[tuple[str, str, str]] | None:
        """(item, value, description) rows for PGPOOL SHOW of 'all', a group, or an array name without index; None when
        ``name`` is a single parameter. Raises errors.SettingError: not found."""
        return shows.show_many(self, name)

    def show_status(self, state: shows.StateHook | None = None) -> list[tuple[str, str, str]]:
        """(item, value, description) rows of SHOW pool_status. ``state(item, index)`` gives what is no configuration:
        backend_status, standby_delay (index = backend) and the memqcache_ counters (index None); else they are ''."""
        return shows.show_status(self, state)

    def reset(self, name: str, configured: Settings) -> Settings:
        """PGPOOL RESET name, SET name TO DEFAULT: back to the value of ``configured``. Raises errors.SettingError."""
        param = _session_param(name)
        return self.replace(**{param.name: configured.value(param.name)})


def _session_param(name: str) -> p.Param:
    stem, index = split_index(name.lower())
    param = BY_NAME.get(stem)
    if param is None:
        raise SettingError(f'unrecognized configuration parameter "{name}"')
    if index is None and not param.has_plain_value:
        raise SettingError(f'parameter "{name}" expects the index value')
    if param.context != p.SESSION:
        raise SettingError(f'invalid Context, value for parameter "{name}" cannot be changed')
    return param


def diff(old: Settings, new: Settings) -> list[Change]:
    """What differs, in table order, indexed parameters by index."""
    changes = []
    for param in PARAMS:
        if param.has_plain_value:
            before, after = old.value(param.name), new.value(param.name)
            if before != after:
                changes.append(Change(param.name, before, after, param.context))
        if param.indexed:
            ids = old._indexed.get(param.name, {}).keys() | new._indexed.get(param.name, {}).keys()
            for index in sorted(ids):
                before, after = old.value(param.name, index), new.value(param.name, index)
                if before != after:
                    changes.append(Change(f"{param.name}{index}", before, after, param.context))
    return changes
