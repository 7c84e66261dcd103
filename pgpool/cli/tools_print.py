"""What the PCP clients print: plain for scripts, verbose for people (commands.md section 6). Texts only, no action."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from ..model import NodeState
from ..pcp.client import Broken, Process
from ..wire.pcp import NodeInfo

HEALTH = (
    "Node Id", "Host Name", "Port", "Status", "Role", "Last Status Change", "Total Count", "Success Count",
    "Fail Count", "Skip Count", "Retry Count", "Average Retry Count", "Max Retry Count", "Max Health Check Duration",
    "Minimum Health Check Duration", "Average Health Check Duration", "Last Health Check",
    "Last Successful Health Check", "Last Skip Health Check", "Last Failed Health Check",
)  # fmt: skip
PROCESS = (
    ("database", "Database"), ("username", "Username"), ("start_time", "Start time"),
    ("client_connection_count", "Client connection count"), ("majorversion", "Major"), ("minorversion", "Minor"),
    ("backend_connection_time", "Backend connection time"), ("client_connection_time", "Client connection time"),
    ("client_idle_duration", "Client idle duration"), ("client_disconnection_time", "Client disconnection time"),
    ("pool_counter", "Pool Counter"), ("pool_backendpid", "Backend PID"), ("pool_connected", "Connected"),
    ("pool_pid", "PID"), ("backend_id", "Backend ID"), ("status", "Status"),
    ("load_balance_node", "Load balance node"), ("client_host", "client_host"), ("client_port", "client_port"),
    ("statement", "statement"),
)  # fmt: skip
"""(column of SHOW pool_pools, title) in the order in which they are printed."""
ROLES = ("main", "replica", "primary", "standby")
QUORUM = {1: "QUORUM EXIST", 0: "QUORUM IS ON THE EDGE", -1: "QUORUM ABSENT", -2: "NO LEADER NODE"}


def titled(rows: Sequence[tuple[str, str]]) -> str:
    """Lines ``Title : value``, titles padded to the longest, and an empty line."""
    width = max(len(title) for title, _ in rows)
    return "".join(f"{title:<{width}} : {value}\n" for title, value in rows) + "\n"


def node_count(count: int, verbose: bool) -> str:
    return f"Node Count\n____________\n {count}\n" if verbose else f"{count}\n"


def node_info(nodes: Sequence[NodeInfo], verbose: bool) -> str:
    if not nodes:
        return "No node information available\n\n"
    return "".join(_node(node, verbose) for node in nodes)


def _node(node: NodeInfo, verbose: bool) -> str:
    try:
        name, role = NodeState(node.status).name.lower(), ROLES[node.role]
    except (ValueError, IndexError):
        raise Broken("command failed. invalid response") from None
    if node.quarantined:
        name = "quarantine"
    delay = f"{node.delay / 1e6:.6f}" if node.by_time else str(node.delay)
    changed = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(node.changed))
    if verbose:
        unit = (" seconds" if node.delay >= 2_000_000 else " second") if node.by_time else ""
        return titled(
            [
                ("Hostname", node.hostname),
                ("Port", str(node.port)),
                ("Status", str(node.status)),
                ("Weight", f"{node.weight:.6f}"),
                ("Status Name", name),
                ("Backend Status Name", node.pg_status),
                ("Role", role),
                ("Backend Role", node.pg_role),
                ("Replication Delay", delay + unit),
                ("Replication State", node.replication_state or "none"),
                ("Replication Sync State", node.sync_state or "none"),
                ("Last Status Change", changed),
            ]
        )
    values = (
        node.hostname, node.port, node.status, f"{node.weight:.6f}", name, node.pg_status, role, node.pg_role, delay,
        node.replication_state or "none", node.sync_state or "none", changed,
    )  # fmt: skip
    return " ".join(map(str, values)) + "\n"


def health_check_stats(values: Sequence[str], verbose: bool) -> str:
    if len(values) != len(HEALTH):
        raise Broken("command failed. invalid response")
    return titled(list(zip(HEALTH, values, strict=True))) if verbose else " ".join(values) + "\n"


def pool_status(rows: Sequence[tuple[str, ...]], verbose: bool) -> str:
    out = []
    for index, row in enumerate(rows):
        name, value, description = (*row, "", "", "")[:3]
        name, value, description = name[:64], value[:512], description[:80]
        if verbose:
            out.append(f"Name [{index:3d}]:\t{name}\nValue:      \t{value}\nDescription:\t{description}\n\n")
        else:
            out.append(f"name : {name}\nvalue: {value}\ndesc : {description}\n\n")
    return "".join(out)


def process_count(pids: Sequence[int], verbose: bool) -> str:
    if not verbose:
        return "".join(f"{pid} " for pid in pids) + "\n"
    lines = "".join(f"{index} \t | \t {pid}\n" for index, pid in enumerate(pids))
    return f"No \t | \t PID\n_____________________\n{lines}\nTotal Processes:{len(pids)}\n"


def process_info(rows: Sequence[Process], verbose: bool, everything: bool) -> str:
    """Slots without a database only with ``everything``; columns that the server does not send are left out."""
    shown = [row for row in rows if everything or row.get("database")]
    if not shown:
        return "No process information available\n\n"
    out = []
    for row in shown:
        pairs = [(title, value) for column, title in PROCESS if (value := row.get(column)) is not None]
        out.append(_padded(pairs) if verbose else " ".join(value for _, value in pairs) + "\n")
    return "".join(out)


def _padded(pairs: Sequence[tuple[str, str]]) -> str:
    """As ``titled``, with the incumbent's fixed width."""
    return "".join(f"{title:<25} : {value}\n" for title, value in pairs) + "\n"


def watchdog_info(document: str, verbose: bool) -> str:
    """The JSON of pcp_protocol.md 3.6. Raises Broken when mandatory keys are missing."""
    try:
        cluster = json.loads(document)
        nodes = [_WdNode(node) for node in cluster["WatchdogNodes"]]
        head = _cluster_lines(cluster) if verbose else _cluster_line(cluster)
        return head + "".join(node.verbose() if verbose else node.plain() for node in nodes)
    except (ValueError, KeyError, TypeError):
        raise Broken("command failed. invalid response") from None


def _yes(value: object) -> str:
    return "YES" if value else "NO"


def _cluster_line(c: dict) -> str:
    total, members = int(c["RemoteNodeCount"]) + 1, int(c.get("MemberRemoteNodeCount", c["RemoteNodeCount"])) + 1
    return f"{total} {members} {_yes(c['Escalated'])} {c['LeaderNodeName']} {c['LeaderHostName']}\n\n"


def _cluster_lines(c: dict) -> str:
    remote = int(c["RemoteNodeCount"])
    rows = [
        ("Total Nodes", str(remote + 1)),
        ("Remote Nodes", str(remote)),
        ("Member Remote Nodes", str(c.get("MemberRemoteNodeCount", remote))),
        ("Alive Remote Nodes", str(c["AliveNodeCount"])),
        ("Nodes required for quorum", str(c.get("NodesRequireForQuorum", ""))),
        ("Quorum state", QUORUM.get(c["QuorumStatus"], "UNKNOWN")),
        ("Local node escalation", _yes(c["Escalated"])),
        ("Leader Node Name", c["LeaderNodeName"]),
        ("Leader Host Name", c["LeaderHostName"]),
    ]
    return "Watchdog Cluster Information \n" + titled(rows) + "Watchdog Node Information \n"


class _WdNode:
    def __init__(self, node: dict):
        self.rows = [
            ("Node Name", str(node["NodeName"])),
            ("Host Name", str(node["HostName"])),
            ("Delegate IP", str(node["DelegateIP"])),
            ("Pgpool port", str(node["PgpoolPort"])),
            ("Watchdog port", str(node["WdPort"])),
            ("Node priority", str(node["Priority"])),
            ("Status", str(node["State"])),
            ("Status Name", str(node["StateName"])),
            ("Membership Status", str(node.get("MembershipString", ""))),
        ]
        self.lifecheck = node.get("LifecheckStarted")
        self.membership = str(node.get("Membership", 0))

    def verbose(self) -> str:
        extra = [("Lifecheck Started", _yes(self.lifecheck))] if self.lifecheck is not None else []
        return titled([*self.rows, *extra])

    def plain(self) -> str:
        v = dict(self.rows)
        words = [v["Node Name"], v["Host Name"], v["Pgpool port"], v["Watchdog port"], v["Status"], v["Status Name"]]
        words += [self.membership, v["Membership Status"]]
        if self.lifecheck is not None:
            words.append(_yes(self.lifecheck))
        return " ".join(words) + "\n"
