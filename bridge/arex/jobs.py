"""A job of A-REX as the bridge's carrier takes it, and its end as A-REX wants to read it. Pure, and
like all of this package standard library only: it runs where the computing element runs.

A-REX describes a job in a file of shell assignments (``job.ID.grami``), as its other back ends read
it: ARC 6, "batch system back-ends", and what version 6.17 writes.
"""

from __future__ import annotations

import glob
import posixpath
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

EVERYTHING = "*"
KILLED = 256
"""What A-REX adds to the number of a signal that ended a job."""


class Unfit(Exception):
    """A job that a desktop grid cannot run; the text says why."""


def assignments(text: str) -> dict[str, str]:
    """What a grami file assigns, by the name without ``joboption_``; a later one counts."""
    found = {}
    for word in shlex.split(text):
        name, _, value = word.partition("=")
        if name.startswith("joboption_"):
            found[name[len("joboption_") :]] = value
    return found


def specification(
    options: Mapping[str, str], files: Sequence[str], account: str, state: str
) -> dict[str, Any]:
    """What the carrier takes: the job with these ``options``, and ``files`` in its directory,
    which the computing element runs as ``account``; ``state`` is where the carrier says how it
    does. Raises Unfit.
    """
    directory = options["directory"]
    if wanted := list(_listed(options, "runtime")):
        raise Unfit(f"no runtime environment is to be had on a desktop grid: {', '.join(wanted)}")
    command = [_inside(options["arg_0"], files), *_listed(options, "arg", 1)]
    streams = {
        stream: posixpath.relpath(options[stream], directory)
        for stream in ("stdout", "stderr")
        if options.get(stream, "/dev/null") != "/dev/null"
    }
    stdin = options.get("stdin", "")
    inputs = [name for name in files if name not in streams.values()]
    cores = max(1, _whole(options, "count"))
    return {
        "directory": directory,
        "job": {
            "job": options["gridid"],
            "user": account,
            "label": options.get("jobname", ""),
            "command": command,
            "variables": [
                (name, value)
                for name, _, value in (word.partition("=") for word in _listed(options, "env"))
            ],
            "outputs": list(_patterns(options, set(streams.values()))),
            "cores": cores,
            # A-REX counts it by the process.
            "memory_mib": cores * _whole(options, "memory"),
            "wall_time": _whole(options, "walltime") or _whole(options, "cputime"),
            "has_stdin": stdin not in ("", "/dev/null"),
        },
        "inputs": {name: name for name in inputs},
        "outputs": {},
        "stdin": "" if stdin == "/dev/null" else stdin,
        "streams": streams,
        "state": state,
    }


def _listed(options: Mapping[str, str], name: str, first: int = 0) -> Iterator[str]:
    while (value := options.get(f"{name}_{first}")) is not None:
        yield value
        first += 1


def _whole(options: Mapping[str, str], name: str) -> int:
    value = options.get(name, "")
    return int(value) if value.isdigit() else 0


def _inside(program: str, files: Sequence[str]) -> str:
    """The program, by its name in the job's directory if it is there."""
    name = posixpath.normpath(program)
    return name if name in files else program


def _patterns(options: Mapping[str, str], streams: set[str]) -> Iterator[str]:
    """What comes back beside the streams: what the element will keep."""
    for word in _listed(options, "outputfile"):
        name = word.lstrip("/")
        if not name or name.startswith("@"):  # all, or what a list says that the job makes
            yield EVERYTHING
        elif name.endswith("/"):
            yield f"{glob.escape(name)}*"
        elif name not in streams:
            yield glob.escape(name)


def done(said: Mapping[str, Any]) -> str:
    """The text of ``job.ID.lrms_done`` for a job whose carrier said that it has ended so."""
    if hold := str(said.get("hold") or ""):
        return f"-1 {' '.join(hold.split())}\n"
    code = exit_code(said)
    return f"{code} The job ended with {code}\n" if code else "0\n"


def exit_code(said: Mapping[str, Any]) -> int:
    """How the job ended."""
    number = int(said.get("signal") or 0)
    return KILLED + number if number else int(said.get("code") or 0)


def diagnosis(said: Mapping[str, Any], ended_at: datetime) -> str:
    """What A-REX's accounting reads in the job's ``.diag``: what the work used, and where."""
    used = {
        str(name).replace("ChirpGlidebridge", ""): str(value).strip('"')
        for name, value in dict(said.get("attributes") or {}).items()
    }
    seconds = {
        name: float(used[of])
        for name, of in (
            ("WallTime", "WallTime"),
            ("UserTime", "UserCpu"),
            ("KernelTime", "SystemCpu"),
        )
        if of in used
    }
    lines = [f"{name}={value:.0f}s" for name, value in seconds.items()]
    if "Host" in used:
        lines.append(f"nodename={used['Host']}")
    if "MemoryKib" in used:
        lines.append(f"AverageTotalMemory={used['MemoryKib']}kB")
        lines.append(f"AverageResidentMemory={used['MemoryKib']}kB")
    if "WallTime" in seconds:
        began = datetime.fromtimestamp(ended_at.timestamp() - seconds["WallTime"], ended_at.tzinfo)
        lines += [f"LRMSStartTime={began:%Y%m%d%H%M%SZ}", f"LRMSEndTime={ended_at:%Y%m%d%H%M%SZ}"]
    return "".join(f"{line}\n" for line in [*lines, f"exitcode={exit_code(said)}"])
