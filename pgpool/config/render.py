"""Settings and the parameter table as text: pgpool.conf, its samples, and docs/configuration.md."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from . import param as p
from .params import PARAMS, REMOVED, split_index
from .params_old import GONE, GONE_IF_ON, LOCAL, MODE, OTHER, OldName
from .snapshot import Settings
from .values import file_text

COMMENT_COLUMN = 40
WIDTH = 100

MODES: dict[str, dict[str, str]] = {
    "stream": {"backend_clustering_mode": "'streaming_replication'"},
    "logical": {"backend_clustering_mode": "'logical_replication'", "sr_check_period": "0"},
    "raw": {"backend_clustering_mode": "'raw'", "load_balance_mode": "off", "sr_check_period": "0"},
    "replication": {"backend_clustering_mode": "'native_replication'", "sr_check_period": "0",
                    "failover_when_quorum_exists": "off", "failover_require_consensus": "off"},
    "snapshot": {"backend_clustering_mode": "'snapshot_isolation'", "sr_check_period": "0",
                 "failover_when_quorum_exists": "off", "failover_require_consensus": "off"},
    "slony": {"backend_clustering_mode": "'slony'", "sr_check_period": "0"},
}
"""What pgpool.conf.sample-<mode> sets."""

_EXAMPLES = {
    "backend_hostname": ("'host1'", "'host2'"), "backend_port": ("5432", "5433"), "backend_weight": ("1", "1"),
    "backend_data_directory": ("'/data'", "'/data1'"), "backend_application_name": ("'server0'", "'server1'"),
    "hostname": ("'host1'", "'host2'"), "wd_port": ("9000", "9000"), "pgpool_port": ("9999", "9999"),
    "heartbeat_hostname": ("'host1'", "'host2'"), "heartbeat_port": ("9694", "9694"),
}

_HEAD = """\
# pgpool.conf - made by python -m pgpool.config.samples from the parameter table
#
# A line is  name = value  ; the equals sign may be left out, and # begins a comment. Text goes in single quotes, and a
# quote in it is doubled. Times take the units us, ms, s, min, h, d and sizes B, kB, MB, GB, TB.
# A commented line shows the default, or an example where the default is empty.
#
# "restart": a change needs a restart of pgpool. Other changes need "pgpool reload".
# "session": can be set for one session, too: PGPOOL SET name TO value.
"""


def sample_params() -> list[p.Param]:
    """The rows that samples and documentation show: not the leftovers of old versions."""
    return [param for param in PARAMS if not param.hidden and (param.name not in REMOVED or param.indexed)]


def settings_text(settings: Settings) -> str:
    """What is set in ``settings``, a line each; reads back as equal Settings. Raises ValueError: cannot be written."""
    by_name = {param.name: param for param in PARAMS}
    order = {param.name: number for number, param in enumerate(PARAMS)}
    items = sorted(settings.items(), key=lambda item: (order[item[0][0]], -1 if item[0][1] is None else item[0][1]))
    lines = [f"{name}{'' if index is None else index} = {file_text(by_name[name], value)}\n"
             for (name, index), value in items if name != "replication_mode"]
    return "".join(lines)


def conf_text(active: Mapping[str, str]) -> str:
    """A whole pgpool.conf with every parameter explained, in which only ``active`` (name -> text of the value as it
    stands in the file) is not commented out. Raises KeyError for a name that is no parameter."""
    left = dict(active)
    blocks = [_HEAD]
    section = ""
    for param in sample_params():
        if param.section != section:
            section = param.section
            blocks.append(f"\n# {'-' * 78}\n# {section.upper()}\n# {'-' * 78}\n")
        blocks.append(_conf_block(param, left))
    if left:
        raise KeyError(", ".join(left))
    return "\n".join(blocks)


def _conf_block(param: p.Param, active: dict[str, str]) -> str:
    """The lines of one parameter; takes what it uses out of ``active``."""
    mine = [name for name in active if name == param.name or (param.indexed and split_index(name)[0] == param.name)]
    lines = [f"{name} = {active.pop(name)}" for name in mine]
    if not lines and param.indexed and not param.has_plain_value:
        default = file_text(param, param.default)
        lines = [f"#{param.name}{index} = {text}" for index, text in
                 enumerate(_EXAMPLES.get(param.name, (default, default)))]
    elif not lines:
        lines = [f"#{param.name} = {file_text(param, param.default)}"]
    pad = " " * COMMENT_COLUMN
    remarks = [f"{pad}# {text}" for text in textwrap.wrap(param.help, WIDTH - COMMENT_COLUMN)]
    remarks += [f"{pad}# {text}" for text in textwrap.wrap(_facts(param), WIDTH - COMMENT_COLUMN)]
    if len(lines[0]) < COMMENT_COLUMN:
        remarks[0] = lines[0].ljust(COMMENT_COLUMN) + remarks[0].lstrip()
        return "\n".join([remarks[0], *remarks[1:], *lines[1:]]) + "\n"
    return "\n".join([lines[0], *remarks, *lines[1:]]) + "\n"


def _facts(param: p.Param) -> str:
    """``1 .. 100; seconds; restart`` in brackets, as far as there is something to say."""
    facts = []
    if param.choices:
        facts.append(" ".join(param.choices))
    elif param.type in (p.INT, p.INT64, p.DOUBLE):
        facts.append(_range(param))
    elif param.type == p.LIST:
        facts.append("list, separated by " + ("semicolons" if param.separator == ";" else "commas"))
    if param.unit:
        facts.append(f"in {param.unit} without unit")
    if param.indexing == p.BACKEND_DEFAULT:
        facts.append(f"{param.name}0 etc. for single backends")
    if param.context == p.INIT:
        facts.append("restart")
    if param.context == p.SESSION:
        facts.append("session")
    return f"({'; '.join(facts)})" if facts else ""


def _range(param: p.Param) -> str:
    def number(value: int | float) -> str:
        return f"0{value:o}" if param.octal and value else f"{value:.12g}" if isinstance(value, float) else str(value)

    if param.max in (p.INT_MAX, p.INT64_MAX):
        return f"{number(param.min)} or more"
    return f"{number(param.min)} .. {number(param.max)}"


_DOC_HEAD = """\
# Configuration

<!-- Made by python -m pgpool.config.samples from the parameter table. -->

`pgpool.conf` of Pgpool-II 3.x to 4.8 is understood as it stands. `pgpool -n --check` reads the file, names everything
that is wrong with it at once, and starts nothing.

## The file

* One `name = value` a line; the equals sign may be left out; `#` begins a comment. Names are case-sensitive.
* A value is `'quoted'`, a bare word of letters, digits and `- . _ : /`, or a number. In quotes, `''` is a quote. A
  backslash stays in the value and keeps a quote after it from ending the string, so regular expressions and shell
  commands can be written as they are.
* Booleans: `on`/`off`, `true`/`false`, `yes`/`no`, `1`/`0`, or any beginning that can only be one of them.
* Integers: decimal, `0x` hexadecimal, octal with a leading `0`, or a real number, which is rounded.
* Units: `us ms s min h d` for times, `B kB MB GB TB` (1024 each) for sizes; only for parameters that have a unit. A
  number without one is in the unit named below.
* Lists are separated by commas, two of them by semicolons; blanks around items do not count; `\\,` is a comma in
  an item.
* `include 'file'` is relative to the file it stands in; ten levels at most.
* The last line for a name counts. An unknown name is reported at level INFO and ignored.
* `nameN` is the value for backend or pgpool node number N. A health check parameter without N is for all backends that
  have none of their own.

**Changes.** *restart*: takes effect at the next start; a reload says so and keeps the old value. *reload*: takes effect
with `pgpool reload`. *session*: also for one session with `PGPOOL SET`. A file with a mistake in it is not used at all:
the start fails, a reload changes nothing, and every mistake is named with its line. A reload may add backends; host,
port and data directory of a backend change only while it is down.
"""


def docs_text() -> str:
    """docs/configuration.md."""
    blocks = [_DOC_HEAD]
    section = ""
    for param in sample_params():
        if param.section != section:
            section = param.section
            blocks.append(f"## {section}\n")
        blocks.append(_doc_block(param))
    blocks.append(_doc_old())
    return "\n".join(blocks)


def _doc_block(param: p.Param) -> str:
    suffix = "N" if param.indexed and not param.has_plain_value else ""
    title = f"`{param.name}{suffix}`" + (f", `{param.name}N`" if param.indexed and not suffix else "")
    facts = [_TYPES[param.type]]
    if param.choices:
        facts.append(", ".join(f"`{choice}`" for choice in param.choices))
    elif param.type in (p.INT, p.INT64, p.DOUBLE):
        facts.append(_range(param))
    if param.unit:
        facts.append(f"unit `{param.unit}`")
    facts.append(f"default `{file_text(param, param.default)}`")
    facts.append({p.INIT: "restart", p.RELOAD: "reload", p.SESSION: "session"}[param.context])
    if param.since:
        facts.append("not in Pgpool-II" if param.since == "ours" else f"since {param.since}")
    if param.was:
        facts.append(f"default {param.was}")
    if param.old_names:
        facts.append("once " + ", ".join(f"`{name}`" for name in param.old_names))
    if param.secret:
        facts.append("never shown")
    return f"### {title}\n\n{_markdown(param.help)}\n\n*{'; '.join(facts)}*\n"


_TYPES = {p.BOOL: "boolean", p.INT: "integer", p.INT64: "integer", p.DOUBLE: "real", p.ENUM: "one of", p.STRING: "text",
          p.LIST: "list"}


def _markdown(text: str) -> str:
    return text.replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;")


def _doc_old() -> str:
    """The table of names that only older versions knew."""
    rows = [f"| `{old}` | `{param.name}` |" for param in PARAMS for old in param.old_names]
    rows += [f"| `{old.name}{'N' if old.indexed else ''}` | {_successor(old)} |" for old in REMOVED.values()]
    return "\n".join([
        "## Names of older versions\n",
        "They take effect, and a warning names what to write today. When both names are set, today's wins.\n",
        "| old | today |", "|---|---|", *rows]) + "\n"


def _successor(old: OldName) -> str:
    if old.kind == MODE:
        return ("`backend_clustering_mode`: `replication_mode = on` is native_replication, `master_slave_mode = on` is "
                "streaming_replication, logical_replication or slony by `master_slave_sub_mode`, both off is raw")
    if old.kind == LOCAL:
        return f"`{old.target}` with this pgpool's own number (file `pgpool_node_id`; 0 when there is none)"
    if old.kind == OTHER:
        return f"`{old.target}` of the N-th node that is not this pgpool"
    assert old.kind in (GONE, GONE_IF_ON)
    return f"no longer used{'; ' if old.note else ''}{old.note}"
