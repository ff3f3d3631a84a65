"""What a worker tells of its host: hardware and system, and nothing personal (manual, 3.4)."""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from desktopgrid.model.objects import Facts, HostKind

CPUS = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "i386": "i686", "i586": "i686"}
NO_END = 2**31 - 1
CGROUP_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


@dataclass(frozen=True)
class Share:
    """How much of its host a worker may use."""

    cores: int
    memory_mib: int
    disk_mib: int


def share_of_host(directory: Path) -> Share:
    """All that this process may use of the host, ``directory``'s disk included."""
    return Share(len(os.sched_getaffinity(0)), _memory_mib(), _free_mib(directory))


def share_of_slot(ad: Mapping[str, Any], host: Share) -> Share:
    """What the machine ad of an HTCondor slot gives its job: Cpus, Memory in MiB, Disk in KiB."""

    def number(name: str, other: int) -> int:
        value = ad.get(name)
        return int(value) if isinstance(value, (int, float)) and value > 0 else other

    disk = number("Disk", host.disk_mib << 10) >> 10
    return Share(
        number("Cpus", host.cores),
        number("Memory", host.memory_mib),
        min(disk, host.disk_mib),
    )


def lifetime_of_slot(ad: Mapping[str, Any], told: float | None) -> float | None:
    """Seconds that the job has: as it was ``told``, or less where the slot itself goes before.

    TimeToLive is what HTCondor was told of the machine's own end; 2147483647 where it was not.
    """
    value = ad.get("TimeToLive")
    if not isinstance(value, (int, float)) or not 0 < value < NO_END:
        return told
    return float(value) if told is None else min(told, float(value))


def machine_ad(environment: Mapping[str, str]) -> dict[str, Any]:
    """The ad of the HTCondor slot that this process runs in; empty outside of one.

    HTCondor writes one attribute a line, ``Cpus = 2`` (seen with 23.9.6 and 25.14.1); an expression
    stays a text.
    """
    path = environment.get("_CONDOR_MACHINE_AD")
    if not path:
        return {}
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = (line.partition(" = ") for line in text.splitlines())
    return {name.strip(): value_of(value.strip()) for name, _, value in lines if value}


def kind_of_host(environment: Mapping[str, str], is_pilot: bool) -> str:
    """How a worker came to its host, by what the batch system left in its environment."""
    if not is_pilot:
        return HostKind.DESKTOP.value
    # Behind these two there is another batch system: they come first.
    if "GRID_GLOBAL_JOBID" in environment:
        return HostKind.ARC.value
    if "GLOBUS_GRAM_JOB_CONTACT" in environment:
        return HostKind.GRAM.value
    if "_CONDOR_MACHINE_AD" in environment or "_CONDOR_SCRATCH_DIR" in environment:
        return HostKind.HTCONDOR.value
    if "SLURM_JOB_ID" in environment:
        return HostKind.SLURM.value
    return HostKind.LOCAL.value


def facts_of_host(
    share: Share, kind: str, version: str, attributes: Mapping[str, Any], name: str = ""
) -> dict[str, Any]:
    """The fields of model.objects.Facts for this host."""
    facts = Facts(
        name=name or socket.gethostname(),
        cpu=_cpu(),
        os=_system(),
        cores=share.cores,
        memory_mib=share.memory_mib,
        disk_mib=share.disk_mib,
        kind=kind,
        address=_address(),
        version=version,
        attributes={**_more(), **attributes},
    )
    return asdict(facts)


def _cpu() -> str:
    machine = platform.machine().lower()
    return CPUS.get(machine, machine)


def _system() -> str:
    return "linux" if sys.platform.startswith("linux") else sys.platform


def _memory_mib() -> int:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in CGROUP_LIMITS:
        # "max" where there is no limit
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int(Path(path).read_text()))
    return total >> 20


def _free_mib(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize >> 20


def _address() -> str:
    """The address that this host is seen with from outside; nothing is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect(("192.0.2.1", 9))
        return str(udp.getsockname()[0])
    return ""


def _more() -> dict[str, Any]:
    more: dict[str, Any] = {"KernelVersion": platform.release()}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                more["CpuModel"] = line.partition(":")[2].strip()
                break
    with contextlib.suppress(OSError):
        for line in Path("/etc/os-release").read_text().splitlines():
            if line.startswith("PRETTY_NAME="):
                more["OpSysLongName"] = line.partition("=")[2].strip('"')
    return more


def value_of(text: str) -> Any:
    """The ClassAd literal that ``text`` is: a quoted text, a number, true or false."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1].replace('\\"', '"')
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
