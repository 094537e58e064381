"""The results of scripts/compare as they lie in target/compare, and the figures that each scenario is judged by.

A run that failed is a result: its figures are shown where there are any, with the reason. Standard library only.
"""

import json
import pathlib
from dataclasses import dataclass, field

LIMIT = "limit"
OURS = "tidegate"
# Share of a core above which the generator itself may be what was measured.
GENERATOR_BUSY = 0.9
# Two figures that differ by less than this, in a single comparison on an ordinary machine, are equal.
NOISE = 0.05


@dataclass
class Column:
    """One figure. `better` is -1 if less is better, 1 if more is, 0 if it is not a matter of rank."""

    key: str
    heading: str
    decimals: int
    value: object
    better: int = 0


@dataclass
class Peer:
    """A server, and whether it could be started."""

    name: str
    title: str
    state: str
    version: str


@dataclass
class Run:
    """One peer in one scenario."""

    peer: str
    scenario: str
    exit: int
    quick: bool
    date: str
    command: str
    data: dict | None
    output: str
    notes: list = field(default_factory=list)

    def series(self, *names):
        """The first series that has one of these names, or nothing."""
        for name in names:
            for series in (self.data or {}).get("series", []):
                if series["name"] == name and series["rounds"]:
                    return series
        return {}

    def main(self):
        """The server's own series; the limit's if that is the peer."""
        return self.series(LIMIT) if self.peer == LIMIT else self.series("server")

    def fact(self, *keys):
        """The first of these facts that is there. The limit alone has its facts under its own name."""
        facts = (self.data or {}).get("facts", {})
        prefixes = [LIMIT, "server"] if self.peer == LIMIT else ["server"]
        return next((facts[name] for key in keys for p in prefixes if (name := f"{p}_{key}") in facts), None)

    def ratio(self, kind, pair="server/limit"):
        return (self.data or {}).get("ratios", {}).get(pair, {}).get(kind)

    def reason(self):
        """Why it is not a clean result, in one line; empty if it is."""
        if self.data is not None:
            reasons, beside = self.faults()
            if self.data.get("interrupted"):
                reasons.append("ended early")
            if reasons or beside or self.exit == 0:
                return printable("; ".join(reasons))
        if self.exit == 124:
            return "took too long"
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        told = [line for line in lines if line.lower().startswith(("error", "failed"))]
        return printable((told or lines or ["no output"])[-1]) + f" (exit code {self.exit})"

    def limit_reasons(self):
        """What went wrong with the limit beside this peer."""
        return [printable(reason) for reason in self.faults()[1]]

    def faults(self):
        """What the generator found wrong: with this peer, and with the limit beside it, which is not the peer's fault."""
        own, beside = [], []
        for fault in (self.data or {}).get("failed", []):
            if self.peer == LIMIT or not (fault.startswith("limit:") or self.is_missing_beside(fault)):
                own.append(fault)
            else:
                beside.append(fault if fault.startswith("limit:") else f"limit: {fault}")
        return own, beside

    def is_missing_beside(self, fault):
        """Whether this counts missing deliveries, and all of them were the limit's."""
        if not fault.endswith("deliveries did not come in time") or self.data.get("missing"):
            return False
        missing = {series["name"]: sum(r["missing"] for r in series["rounds"]) for series in self.data.get("series", [])}
        return missing.pop(LIMIT, 0) > 0 and not any(missing.values())

    def is_generator_busy(self):
        return any(series.get("generator_cores", 0) > GENERATOR_BUSY for series in (self.data or {}).get("series", []))


def recovery_ratio(run):
    facts = (run.data or {}).get("facts", {})
    server, limit = facts.get("server_recovery_seconds_median"), facts.get("limit_recovery_seconds_median")
    return server / limit if server and limit and run.peer != LIMIT else None


def common_columns(unit, rate):
    return [
        Column("cpu_us", f"CPU per {unit}, us", 2, lambda run: run.main().get("cpu_us_per_unit_median"), -1),
        Column("ratio", "ratio to limit", 2, lambda run: run.ratio("cpu"), -1),
        Column("user_us", "of it user, us", 2, lambda run: run.main().get("user_us_per_unit")),
        Column("rate", rate, 0, lambda run: run.main().get("units_per_second_median"), 1),
        Column("p50_ms", "p50, ms", 2, lambda run: run.main().get("latency_ms", {}).get("p50"), -1),
        Column("p99_ms", "p99, ms", 2, lambda run: run.main().get("latency_ms", {}).get("p99"), -1),
    ]


MEMORY = Column("memory", "memory per connection, bytes", 0, lambda run: run.fact("rss_per_connection"), -1)
DELIVERY = common_columns("delivery", "deliveries/s") + [MEMORY]
CONNECTION = common_columns("connection", "connections/s")
WITH, WITHOUT = "with stalled", "without"
SLOW = [
    Column("cpu_us", "CPU per delivery, us", 2, lambda run: run.series(WITH).get("cpu_us_per_unit_median"), -1),
    Column("cpu_us_without", "without them, us", 2, lambda run: run.series(WITHOUT).get("cpu_us_per_unit_median")),
    Column("slow_ratio", "ratio with/without", 2, lambda run: run.ratio("cpu", f"{WITH}/{WITHOUT}"), -1),
    Column("p50_ms", "p50, ms", 2, lambda run: run.series(WITH).get("latency_ms", {}).get("p50"), -1),
    Column("p99_ms", "p99, ms", 2, lambda run: run.series(WITH).get("latency_ms", {}).get("p99"), -1),
    Column("p99_ms_without", "p99 without, ms", 2, lambda run: run.series(WITHOUT).get("latency_ms", {}).get("p99")),
    Column(
        "backlog_kib",
        "memory for the stalled, KiB",
        0,
        lambda run: None if (value := run.fact("backlog_rss_bytes")) is None else value / 1024,
        -1,
    ),
]
STORM = [
    Column("recovery_s", "time to recovery, s", 2, lambda run: run.fact("recovery_seconds_median"), -1),
    Column("recovery_ratio", "ratio to limit", 2, recovery_ratio, -1),
    Column("recovery_max_s", "the longest, s", 2, lambda run: run.fact("recovery_seconds_max"), -1),
    Column("cpu_us", "CPU per reconnection, us", 1, lambda run: run.main().get("cpu_us_per_unit_median"), -1),
    Column("ratio", "CPU ratio to limit", 2, lambda run: run.ratio("cpu"), -1),
    Column("p99_ms", "p99 of handshakes, ms", 1, lambda run: run.main().get("latency_ms", {}).get("p99"), -1),
]

# Columns of each scenario, the figure that its bars show, and what it is in words.
SCENARIOS = {
    "connect": (CONNECTION, "ratio", "Connecting: all connections are opened and upgraded as fast as it goes."),
    "fanout-1": (DELIVERY, "ratio", "Fan-out, one message outstanding: the next when all subscribers have the last."),
    "fanout-32": (DELIVERY, "ratio", "Fan-out, 32 messages outstanding: what batching is worth."),
    "latency": (DELIVERY, "p99_ms", "Latency at a fixed rate, from when each message was due, over all subscribers."),
    "slow": (SLOW, "slow_ratio", "Slow readers: one connection in ten never reads; what the others notice."),
    "storm": (STORM, "recovery_s", "Storm: all connections break at once and all come back."),
}


def printable(text):
    """One line of moderate length: servers' answers may hold anything."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= 200 else text[:199] + "…"


def read_fields(path):
    """The fields of a file of lines KEY=VALUE."""
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)


class Results:
    """All that lies in the folder."""

    def __init__(self, folder, peer_order=(), scenario_order=()):
        folder = pathlib.Path(folder)
        self.peers, self.runs = {}, {}
        for path in folder.glob("*.peer"):
            fields = read_fields(path)
            self.peers[path.stem] = Peer(path.stem, fields["title"], fields["state"], fields["version"])
        for path in folder.glob("*.run"):
            run = read_run(path)
            self.runs[run.peer, run.scenario] = run
        rank = {name: index for index, name in enumerate(peer_order)}
        self.peer_names = sorted(self.peers, key=lambda name: (rank.get(name, len(rank)), name))
        ran = {scenario for _, scenario in self.runs}
        self.scenarios = [name for name in scenario_order or SCENARIOS if name in ran]
        self.is_complete = bool(peer_order) and all(
            name in self.peers
            and (self.peers[name].state != "installed" or (name, scenario) in self.runs)
            for name in peer_order
            for scenario in scenario_order
        )
        self.is_quick = any(run.quick for run in self.runs.values())

    def row(self, peer, scenario):
        """Figures in the order of the columns, and a remark."""
        columns = SCENARIOS[scenario][0]
        if self.peers[peer].state != "installed":
            return [None] * len(columns), self.peers[peer].state
        run = self.runs.get((peer, scenario))
        if run is None:
            return [None] * len(columns), "not run"
        return [column.value(run) for column in columns], run.reason()

    def ahead(self, scenario):
        """For each figure that has a rank: the peers that do better than tidegate by more than noise, best first."""
        found = []
        ours, _ = self.row(OURS, scenario) if OURS in self.peers else ([], "")
        for index, column in enumerate(SCENARIOS[scenario][0]):
            if not column.better or index >= len(ours) or ours[index] is None:
                continue
            # Rates and CPU times of different minutes are compared through the limit where that is there.
            if column.key == "cpu_us" and scenario != "slow":
                continue
            better = []
            for peer in self.peer_names:
                value = None if peer in (OURS, LIMIT) else self.row(peer, scenario)[0][index]
                if value is None:
                    continue
                gain = (value - ours[index]) * column.better
                if gain > abs(ours[index]) * NOISE:
                    better.append((gain, self.peers[peer].title, value))
            if better:
                found.append((column, ours[index], [(title, value) for _, title, value in sorted(better, reverse=True)]))
        return found

    def remarks(self, scenario):
        """What went wrong, one line a peer."""
        lines = []
        for peer in self.peer_names:
            _, reason = self.row(peer, scenario)
            if reason:
                lines.append(f"{self.peers[peer].title}: {reason}")
            run = self.runs.get((peer, scenario))
            lines += [f"beside {self.peers[peer].title}, {reason}" for reason in run.limit_reasons()] if run else []
        return lines

    def warnings(self, scenario):
        """What the figures may be mistaken for."""
        busy = [
            self.peers[peer].title
            for peer in self.peer_names
            if (run := self.runs.get((peer, scenario))) and run.is_generator_busy()
        ]
        if not busy:
            return []
        return [f"The generator kept its core busy, so that rates and latencies may be its own, beside: {', '.join(busy)}."]


def read_run(path):
    fields = read_fields(path)
    stem = path.with_suffix("")
    data = None
    try:
        data = json.loads(stem.with_name(stem.name + ".json").read_text())
    except (OSError, ValueError):
        pass  # No figures: the reason is in the output.
    output = stem.with_name(stem.name + ".txt")
    return Run(
        peer=fields["peer"],
        scenario=fields["scenario"],
        exit=int(fields["exit"]),
        quick=fields["quick"] == "1",
        date=fields["date"],
        command=fields["command"],
        data=data,
        output=output.read_text(errors="replace") if output.exists() else "",
    )


def shown(value, decimals):
    """A figure for people."""
    return "–" if value is None else f"{value:,.{decimals}f}"
