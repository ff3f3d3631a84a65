"""A job as one file that a shell runs: a script, and the job's files behind it.

GRAM sends one program, and its job managers write its arguments into scripts of their own, each by
its own rules of quoting. So the command stands in the parcel, and arguments are none.
"""

from __future__ import annotations

import io
import shlex
import tarfile
from datetime import timedelta
from pathlib import Path

from pilot.ce.base import JobDescription

SCRIPT = Path(__file__).with_name("parcel.sh")
COLLECT = Path(__file__).with_name("collect.sh")
OUTPUTS = ".outputs"
WALL_TIME_SLACK = timedelta(minutes=10)
"""A fork service holds nobody to a wall time; other batch systems come first."""


def pack(job: JobDescription) -> bytes:
    """The parcel of ``job``; raises OSError where a file of it cannot be read."""
    program = job.python or f"./{job.program.name}"
    arguments = (job.program.name, *job.arguments) if job.python else job.arguments
    words = (str(len(job.outputs)), *job.outputs, program, *arguments)
    seconds = int((job.wall_time + WALL_TIME_SLACK).total_seconds())
    script = SCRIPT.read_text().replace("@STAMP@", job.stamp).replace("@SECONDS@", str(seconds))
    command = shlex.join(words)
    lines = script.count("\n") + command.count("\n")
    # The command last of all: what it says is its own business.
    script = script.replace("@LINE@", str(lines + 1)).replace("@COMMAND@", command)
    return script.encode() + _archive(job)


def _archive(job: JobDescription) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for file in (job.program, *job.files, COLLECT):
            facts = archive.gettarinfo(str(file.resolve()), arcname=file.name)
            facts.uid = facts.gid = 0
            facts.uname = facts.gname = ""
            with file.open("rb") as content:
                archive.addfile(facts, content)
        names = "".join(f"{name}\n" for name in job.outputs).encode()
        facts = tarfile.TarInfo(OUTPUTS)
        facts.size = len(names)
        archive.addfile(facts, io.BytesIO(names))
    return target.getvalue()
