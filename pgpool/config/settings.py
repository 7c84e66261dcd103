"""The door to the configuration: everything other rooms need, by its public name."""

from .checks import Finding, check
from .loading import Loaded, load, load_text
from .oldnames import Message
from .sizing import NodeLimits, size_findings
from .snapshot import BackendConf, Change, HealthConf, HeartbeatConf, Settings, WatchdogConf, diff

__all__ = ["BackendConf", "Change", "Finding", "HealthConf", "HeartbeatConf", "Loaded", "Message", "NodeLimits",
           "Settings", "WatchdogConf", "check", "diff", "load", "load_text", "size_findings"]
