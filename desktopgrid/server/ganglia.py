"""What a Ganglia gmetad polls: the grid as a gmond tells of a cluster, in gmond's XML.

A machine is a host of the cluster, whatever number of workers it has; so is the server's, which has
the works by status. Ganglia makes directories of the hosts' names, so they are made plain here:
workers say what their machines are called.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

from desktopgrid.server.counting import HostLook, Look

CLUSTER = "XWHEP"
"""What gmetad files the grid under."""
VERSION = "3.7.2"
"""The gmond whose form this is."""
LONGEST_NAME = 100
HEAD = '<?xml version="1.0" encoding="ISO-8859-1" standalone="yes"?>\n'
COUNTER, GAUGE, CONSTANT = "positive", "both", "zero"
"""How a metric goes: up (gmetad keeps its rate), up and down, nowhere."""


class Metric(NamedTuple):
    """A metric as Ganglia has them."""

    name: str
    value: float | str
    type: str
    units: str = ""
    slope: str = GAUGE
    group: str = "grid"


class Machine(NamedTuple):
    """A host as Ganglia has them; ``silent`` is the number of seconds since it was heard."""

    name: str
    address: str
    silent: float
    metrics: list[Metric]


def document(
    server: str, look: Look | None, alive_period: float, started_at: datetime, now: datetime
) -> bytes:
    """The XML of the grid that the machine ``server`` serves. It is empty where there is no look:
    the grid cannot be seen.
    """
    machines = list(_machines(server, look)) if look is not None else []
    return "".join(_lines(machines, alive_period, started_at, now)).encode("ascii")


def _machines(server: str, look: Look) -> Iterator[Machine]:
    by_name: dict[str, list[HostLook]] = defaultdict(list)
    for host in look.hosts:
        by_name[plain(host.facts.name)].append(host)
    ours = plain(server)
    for name, hosts in sorted({ours: [], **by_name}.items()):
        metrics = list(_of_machine(hosts)) if hosts else []
        if name == ours:
            metrics += _of_grid(look)
        silent = 0.0 if name == ours else min(host.silent for host in hosts)
        yield Machine(name, next((h.facts.address for h in hosts), ""), silent, metrics)


def plain(name: str) -> str:
    """``name`` as the name of a directory."""
    return re.sub(r"[^a-z0-9._-]", "_", name.lower())[:LONGEST_NAME].lstrip(".") or "unnamed"


def _of_machine(hosts: Sequence[HostLook]) -> Iterator[Metric]:
    """The metrics of a machine, whose workers ``hosts`` are, by gmond's names where it has them."""
    facts = hosts[0].facts
    yield Metric("cpu_num", sum(h.facts.cores for h in hosts), "uint32", "CPUs", CONSTANT, "cpu")
    yield Metric("load_one", max(h.load for h in hosts), "float", " ", GAUGE, "load")
    yield Metric("mem_total", float(facts.memory_mib << 10), "float", "KB", CONSTANT, "memory")
    yield Metric("disk_total", facts.disk_mib / 1024, "double", "GB", CONSTANT, "disk")
    free = min(h.free_disk_mib for h in hosts) / 1024
    yield Metric("disk_free", free, "double", "GB", GAUGE, "disk")
    yield Metric("machine_type", facts.cpu, "string", "", CONSTANT, "system")
    yield Metric("os_name", facts.os, "string", "", CONSTANT, "system")
    yield Metric("cores_given", sum(h.cores_given for h in hosts), "uint32", "CPUs")
    yield Metric("tasks", sum(h.tasks for h in hosts), "uint32", "tasks")


def _of_grid(look: Look) -> Iterator[Metric]:
    for status, count in look.works.items():
        yield Metric(f"works_{status.lower()}", count, "uint32", "works")
    for outcome, count in look.ended.items():
        units = "tasks/s" if outcome == "lost" else "works/s"
        yield Metric(f"{units[:5]}_{outcome}", count, "uint32", units, COUNTER)
    yield Metric("hosts", len(look.connected), "uint32", "hosts")
    yield Metric("grid_cores", look.cores, "uint32", "CPUs")
    yield Metric("grid_cores_given", look.cores_given, "uint32", "CPUs")
    yield Metric("users", look.users, "uint32", "users")


def _lines(
    machines: Sequence[Machine], alive_period: float, started_at: datetime, now: datetime
) -> Iterator[str]:
    at, started = int(now.timestamp()), int(started_at.timestamp())
    yield HEAD
    yield f'<GANGLIA_XML VERSION="{VERSION}" SOURCE="gmond">\n'
    yield f'<CLUSTER NAME="{CLUSTER}" LOCALTIME="{at}" OWNER="" LATLONG="" URL="">\n'
    for machine in machines:
        reported = int((now - timedelta(seconds=machine.silent)).timestamp())
        silent, longest = int(machine.silent), max(1, int(alive_period))
        yield (
            f"<HOST NAME={_quoted(machine.name)} IP={_quoted(machine.address)}"
            f' TAGS="" REPORTED="{reported}" TN="{silent}" TMAX="{longest}" DMAX="0" LOCATION=""'
            f' GMOND_STARTED="{started}">\n'
        )
        for metric in machine.metrics:
            yield (
                f'<METRIC NAME="{metric.name}" VAL={_text(metric.value)}'
                f' TYPE="{metric.type}" UNITS="{metric.units}" TN="{silent}" TMAX="60"'
                f' DMAX="0" SLOPE="{metric.slope}" SOURCE="gmond"><EXTRA_DATA>'
                f'<EXTRA_ELEMENT NAME="GROUP" VAL="{metric.group}"/></EXTRA_DATA></METRIC>\n'
            )
        yield "</HOST>\n"
    yield "</CLUSTER>\n</GANGLIA_XML>\n"


def _text(value: float | str) -> str:
    if isinstance(value, str):
        return _quoted(value)
    return f'"{value:.3f}"' if isinstance(value, float) else f'"{value}"'


def _quoted(text: str) -> str:
    """``text`` as the value of an attribute, in ASCII."""
    return quoteattr("".join(c if " " <= c <= "~" else "?" for c in text))
