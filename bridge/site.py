"""A site as a destination: works that may not run in a pilot become plain jobs there.

The door knows jobs by our stamps, and a stamp is made of the origin; so what was submitted is found
again, and is submitted once. A job is a script with what it needs beside it; what it leaves comes
home as one archive, and with it how it ended, which not every door tells.
"""

from __future__ import annotations

import io
import logging
import shlex
import shutil
import tarfile
import threading
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from pathlib import Path

from bridge.destination import Brought, Fetch, Follower, Taken
from bridge.faults import reached
from bridge.inbound import Inbound
from desktopgrid.model.errors import BadRequest, UnknownObject
from desktopgrid.model.lifecycle import PilotStatus, WorkStatus
from desktopgrid.model.objects import UID, Result
from desktopgrid.model.origins import Origin
from pilot.ce.base import ComputingElement, JobDescription, NothingToRetrieve, Reference
from pilot.factory.sites import Sites

logger = logging.getLogger(__name__)

PROGRAM, INPUTS, LEFT = "job.sh", "inputs.tar", "left.tar"
BROKEN = 125
"""The exit code of a script that could not even begin."""
STDIN = "stdin"
WENT_WRONG = (PilotStatus.FAILED, PilotStatus.DELETED, PilotStatus.ABORTED)

SCRIPT = """\
#!/bin/sh
# A work of a desktop grid: {origin}
top=$PWD
mkdir work && tar -xf {inputs} -C work && cd work || exit {broken}
touch "$top/begun"
{variables}
{command} < {stdin}
code=$?
cd "$top" || exit {broken}
echo $code > work/.exit-code
find work -type f -newer begun > names
echo work/.exit-code >> names
tar -cf {left} -T names
exit $code
"""


class SiteDestination:
    """The site ``name`` of ``sites`` as a destination; ``look_after`` asks how its jobs do."""

    def __init__(self, name: str, sites: Sites) -> None:
        self.name, self._sites = name, sites
        self._lock = threading.Lock()
        self._followed: dict[str, Follower] = {}
        self._references: dict[str, Reference] = {}

    def __repr__(self) -> str:
        return f"<SiteDestination {self.name}, {len(self._followed)} jobs>"

    @property
    def _door(self) -> ComputingElement:
        return self._sites.door(self.name)

    # A job's way

    def find(self, job: Inbound, place: str) -> Taken | Origin:
        """See Destination. A work has one run at a site."""
        origin = job.origin(place, 0)
        stamp = origin.uid(self.name)
        found = self._door.find([stamp])
        if stamp in found:
            with self._lock:
                self._references[stamp] = found[stamp]
            return Taken(origin, stamp, job.user, is_new=False)
        return origin

    def take(self, job: Inbound, origin: Origin, fetch: Fetch, directory: Path) -> Taken | None:
        """See Destination."""
        if origin.passed(self.name):
            raise BadRequest(f"it came from {self.name}, and is not sent back there")
        stamp = origin.uid(self.name)
        script = directory / PROGRAM
        script.write_text(_script(job, origin))
        script.chmod(0o755)
        archive = directory / INPUTS
        with tarfile.open(archive, "w") as inputs:
            for file in job.files:
                _add(inputs, file.name, file.mode, None if file.is_directory else fetch, directory)
            if job.has_stdin:
                _add(inputs, f".{STDIN}", 0o600, lambda _name, to: fetch("", to), directory)
        reached("staged")
        said, site = job.description, self._sites[self.name]
        description = JobDescription(
            stamp,
            script,
            files=(archive,),
            outputs=(LEFT,),
            cores=said.cores,
            memory_mib=said.memory_mib or site.memory_mib,
            disk_mib=said.disk_mib or site.disk_mib,
            wall_time=timedelta(seconds=said.wall_time) if said.wall_time else site.wall_time,
            queue_limit=site.queue_limit,
            # Whoever brings jobs in from there leaves it alone.
            attributes={"GlidebridgeSite": self.name},
        )
        (reference,) = self._door.submit([description])
        with self._lock:
            self._references[stamp] = reference
        return Taken(origin, stamp, job.user)

    def follow(self, taken: Taken, follower: Follower) -> None:
        """See Destination."""
        with self._lock:
            if taken.name not in self._references:
                raise UnknownObject(f"site {self.name} has no job {taken.name}")
            self._followed[taken.name] = follower

    def leave(self, taken: Taken, follower: Follower) -> None:
        """See Destination."""
        with self._lock:
            self._followed.pop(taken.name, None)

    def bring(self, taken: Taken, result: Result, directory: Path) -> Brought:
        """See Destination."""
        reference = self._references[taken.name]
        try:
            names = self._door.retrieve(reference, directory)
        except NothingToRetrieve as error:
            return Brought(None, result.reason or str(error))
        if LEFT not in names:
            words = self._door.last_words(reference).strip()
            return Brought(None, f"{result.reason or 'it left nothing'} {words}".strip())
        files = _unpacked(directory / LEFT, directory / "left")
        code = int(files.pop(".exit-code").read_text())
        streams = {name: directory / name for name in ("stdout", "stderr") if name in names}
        return Brought(
            code if code <= 128 else 128 - code,
            "",
            streams.get("stdout"),
            streams.get("stderr"),
            files,
        )

    def cancel(self, taken: Taken) -> None:
        """See Destination."""
        reference = self._references.get(taken.name)
        if reference is not None:
            self._door.remove([reference])

    def delivered(self, taken: Taken) -> None:
        """See Destination."""
        with self._lock:
            reference = self._references.pop(taken.name, None)
        if reference is not None:
            self._door.discard([reference])

    def look_after(self, place: str, attended: Collection[UID], now: datetime) -> int:
        """See Destination: ask once how all jobs do, and tell those who wait."""
        with self._lock:
            asked = {
                self._references[stamp]: (stamp, follower)
                for stamp, follower in self._followed.items()
            }
        if asked:
            states = self._door.statuses(list(asked))
            for reference, (stamp, follower) in asked.items():
                state = states.get(reference)
                if state is None:
                    follower.lost(UnknownObject(f"site {self.name} has forgotten job {reference}"))
                elif state.has_ended:
                    is_well = state.status not in WENT_WRONG
                    status = WorkStatus.COMPLETED if is_well else WorkStatus.ERROR
                    follower.ended(Result(stamp, None, status, reason=state.reason))
        return len(asked)


def _script(job: Inbound, origin: Origin) -> str:
    program = f"./{job.program}" if job.is_carried else job.program
    command = " ".join(map(shlex.quote, (program, *job.arguments)))
    variables = "\n".join(
        f"{name}={shlex.quote(value)}; export {name}"
        for name, value in job.description.variables
        if name.isidentifier()
    )
    return SCRIPT.format(
        origin=origin,
        inputs=INPUTS,
        left=LEFT,
        broken=BROKEN,
        variables=variables,
        command=command,
        stdin=f".{STDIN}" if job.has_stdin else "/dev/null",
    )


def _add(
    archive: tarfile.TarFile,
    name: str,
    mode: int,
    fetch: Callable[[str, Path], Path] | None,
    directory: Path,
) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    if fetch is None:
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
        return
    content = fetch(name, directory / "part")
    entry.size = content.stat().st_size
    with content.open("rb") as file:
        archive.addfile(entry, file)
    content.unlink()


def _unpacked(archive: Path, directory: Path) -> dict[str, Path]:
    """The plain files of what a job left, by their names; a node may lie about anything."""
    found: dict[str, Path] = {}
    directory.mkdir()
    try:
        with tarfile.open(archive, "r:") as left:
            for number, entry in enumerate(left):
                name = entry.name.removeprefix("work/")
                if not entry.isreg() or ".." in name.split("/") or name.startswith("/"):
                    continue
                target = directory / str(number)
                content = left.extractfile(entry) or io.BytesIO()
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file)
                found[name] = target
    except tarfile.TarError as error:
        raise BadRequest(f"what the job left cannot be read: {error}") from None
    if ".exit-code" not in found:
        raise BadRequest("what the job left does not say how it ended")
    return found
