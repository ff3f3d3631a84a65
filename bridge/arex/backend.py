"""What A-REX starts when its ``lrms`` is ``desktopgrid``: submit, cancel, scan.

    python3 -m bridge.arex.backend install --counter BRIDGE/routes/NAME/counter [--into DIR]

writes these commands where A-REX looks for them, /usr/share/arc, and makes their spool.

Theory of operation. A job's submission writes down what the bridge has to know and starts a carrier
(bridge/carrier.py) in the name of the job's user, which stands at the bridge's counter until the
job has ended. A-REX's name for the job is its name there, so handing it in again has no second
effect. Nobody has to remember a carrier: it holds a lock on a file of the job's, and the scan
starts it anew where nobody holds that and no end is told: after a crash of the carrier or of the
machine, or of the submission behind its first step.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pwd
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge.arex import jobs

HERE = Path(__file__).parent
PACKAGES = HERE.parents[1]
PLACE = Path("/usr/share/arc")
SPOOL = Path("/var/spool/glidebridge/arex")
KICK = Path("/usr/lib/arc/gm-kick")
SCAN_SECONDS = 5.0
ID = re.compile(r"[A-Za-z0-9]{1,128}")
WAITS = re.compile(r"INLRMS|CANCELING")

COMMAND = """\
#!/bin/sh
PYTHONPATH={packages} exec {python} -m bridge.arex.backend {verb} \\
    --counter {counter} --spool {spool} "$@"
"""


@dataclass(frozen=True)
class Backend:
    """Where the bridge takes jobs, and where what must not be forgotten of them lies."""

    counter: Path
    spool: Path = SPOOL

    # What A-REX asks

    def submit(self, grami: Path) -> None:
        """Take over the job that ``grami`` describes; raises Unfit. As the job's user."""
        options = jobs.assignments(grami.read_text())
        job = options.setdefault("gridid", grami.name.split(".")[1])
        if not self._file(job, "spec").exists():
            account = pwd.getpwuid(os.getuid()).pw_name
            files = list(_files(Path(options["directory"])))
            state = str(self._file(job, "state"))
            spec = jobs.specification(options, files, account, state)
            _write(self._file(job, "spec"), json.dumps(spec))
        self._carry(job)
        with grami.open("a") as file:
            file.write(f"joboption_jobid={job}\n")

    def cancel(self, grami: Path) -> None:
        """Have the job taken back. As its user; the scan says so again until it has ended."""
        options = jobs.assignments(grami.read_text())
        self._call_off(options.get("jobid") or grami.name.split(".")[1])

    def scan(self, controls: Sequence[Path]) -> None:
        """Tell A-REX which of its jobs have ended, and see that each has a carrier, and nothing
        else has. As root, or as the one user that A-REX runs all jobs as.
        """
        processed = set()
        for control in controls:
            for path in sorted(control.glob("processing/job.*.status")):
                job = path.name.split(".")[1]
                processed.add(job)
                with contextlib.suppress(FileNotFoundError):
                    status = WAITS.search(path.read_text())
                    if status and not (control / f"job.{job}.lrms_done").exists():
                        self._look_after(control, job, status[0] == "CANCELING")
        for spec in self.spool.glob("*.spec"):
            if spec.stem not in processed:
                self._forget(spec.stem)

    def _look_after(self, control: Path, job: str, is_cancelled: bool) -> None:
        local = control / f"job.{job}.local"
        owner = local.stat()
        said = self._said(job, owner.st_uid)
        if said.get("do") == "end":
            session = _session(local)
            with contextlib.suppress(OSError):
                self._diagnose(Path(f"{session}.diag"), said, owner)
            _write(control / f"job.{job}.lrms_done", jobs.done(said))
            with contextlib.suppress(OSError):  # A-REX looks by itself, only later
                subprocess.run([KICK, "-j", job, local], check=False, capture_output=True)
            self._remove(job)
        elif self._file(job, "spec").exists():
            self._carry(job, owner)
            if is_cancelled:
                self._call_off(job)

    def _forget(self, job: str) -> None:
        """A-REX has given ``job`` up: its submission was killed, most likely."""
        self._call_off(job)
        with self._lock(job) as lock:
            if lock is not None:
                self._remove(job)

    def _remove(self, job: str) -> None:
        for path in self.spool.glob(f"{job}.*"):
            path.unlink()

    # Carriers

    def _carry(self, job: str, owner: os.stat_result | None = None) -> None:
        """Start a carrier for ``job`` unless there is one; as ``owner``, if we may choose."""
        with self._lock(job, owner) as lock:
            if lock is None:
                return
            identity: dict[str, Any] = {}
            if owner is not None and os.geteuid() == 0:
                identity = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
            module = [sys.executable, "-m", "bridge.carrier"]
            carrier = subprocess.Popen(
                [*module, self.counter, "spec", self._file(job, "spec")],
                cwd="/",
                env={"PYTHONPATH": str(PACKAGES), "PATH": os.defpath},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[lock],
                start_new_session=True,
                **identity,
            )
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{carrier.pid}\n".encode(), 0)

    def _call_off(self, job: str) -> None:
        with self._lock(job) as lock:
            if lock is not None:
                return  # nobody carries it now: the scan starts one, and calls it off then
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(self._file(job, "lock").read_text()), signal.SIGTERM)

    @contextlib.contextmanager
    def _lock(self, job: str, owner: os.stat_result | None = None) -> Iterator[int | None]:
        """The job's lock, or None if somebody carries it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        lock = os.open(self._file(job, "lock"), flags, 0o600)
        try:
            if owner is not None and os.geteuid() == 0:
                os.fchown(lock, owner.st_uid, owner.st_gid)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield lock
        finally:
            os.close(lock)

    # Files

    def _file(self, job: str, kind: str) -> Path:
        if not ID.fullmatch(job):
            raise jobs.Unfit(f"{job!r} is no name of a job")
        return self.spool / f"{job}.{kind}"

    def _said(self, job: str, owner: int) -> Mapping[str, Any]:
        """What the carrier of ``job`` said last, if it was its owner's; users share the spool."""
        try:
            file = os.open(self._file(job, "state"), os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return {}
        with open(file) as state:
            if os.fstat(file).st_uid != owner:
                return {}
            found = json.load(state)
            return found if isinstance(found, dict) else {}

    def _diagnose(self, path: Path, said: Mapping[str, Any], owner: os.stat_result) -> None:
        """Add to what accounting reads, which is the user's file."""
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        with open(file, "w") as diagnosis:
            found = os.fstat(file)
            if stat.S_ISREG(found.st_mode) and found.st_uid == owner.st_uid:
                diagnosis.write(jobs.diagnosis(said, datetime.now(UTC)))


def install(backend: Backend, into: Path, slots: int) -> None:
    """Write A-REX's commands to the directory ``into``, and make the spool."""
    backend.spool.mkdir(parents=True, exist_ok=True)
    backend.spool.chmod(0o1777)  # each job's user writes there what is his
    for verb in ("submit", "cancel", "scan"):
        words = {"packages": PACKAGES, "python": sys.executable, "verb": verb}
        text = COMMAND.format(**words, counter=backend.counter, spool=backend.spool)
        _write(into / f"{verb}-desktopgrid-job", text, 0o755)
    module = (HERE / "DESKTOPGRIDmod.pm").read_text()
    module = module.replace("@SPOOL@", str(backend.spool)).replace("@SLOTS@", str(slots))
    _write(into / "DESKTOPGRIDmod.pm", module, 0o644)


def _session(local: Path) -> str:
    for line in local.read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "sessiondir":
            return value
    return ""


def _files(directory: Path) -> Iterator[str]:
    """The plain files below ``directory``, by their names there."""
    for path in sorted(directory.rglob("*")):
        if stat.S_ISREG(path.lstat().st_mode):
            yield path.relative_to(directory).as_posix()


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write all of ``path`` or nothing."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 0: done; 1: the job cannot be run here, and why is on standard error."""
    parser = argparse.ArgumentParser(prog="bridge.arex.backend", description=__doc__)
    parser.add_argument("verb", choices=["install", "submit", "cancel", "scan"])
    parser.add_argument("--counter", type=Path, required=True, help="where the bridge takes jobs")
    parser.add_argument("--spool", type=Path, default=SPOOL)
    parser.add_argument("--into", type=Path, default=PLACE, help="where A-REX has its commands")
    parser.add_argument("--slots", type=int, default=100, help="how many cores to advertise")
    parser.add_argument("--config", help="A-REX's configuration, which is not needed")
    parser.add_argument("paths", nargs="*", type=Path, help="what A-REX adds")
    # A-REX puts its own words behind ours
    options = parser.parse_intermixed_args(words)
    # A-REX's children inherit that it blocks signals, and carriers are told to go by one.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    backend = Backend(options.counter.absolute(), options.spool.absolute())
    try:
        if options.verb == "install":
            install(backend, options.into, options.slots)
        elif options.verb == "scan":
            backend.scan(options.paths)
            time.sleep(SCAN_SECONDS)  # A-REX starts the next one as this one ends
        else:
            for grami in options.paths[:1]:
                getattr(backend, options.verb)(grami)
    except (jobs.Unfit, OSError, LookupError, ValueError) as error:
        print(f"{options.verb}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
