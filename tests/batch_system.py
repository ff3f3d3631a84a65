"""A batch system that is none: sbatch and qsub with all that belongs to them, as one program.

Installed under their names it stands on PATH and really runs what is submitted, a few jobs at a
time, as processes of this machine. What it says has the form of Slurm 22.05 and of OpenPBS 20.0,
written from their manuals; no line is theirs. A fault can be put in front of any command.

    python batch_system.py STATE COMMAND [WORD...]
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SLOTS = 4
KILL_WAIT = 2
SLURM = ("sbatch", "squeue", "scancel", "sinfo", "scontrol")
PBS = ("qsub", "qstat", "qdel")
SLURM_STATE = {"Q": "PENDING", "H": "PENDING", "R": "RUNNING", "D": "CANCELLED"}


def install(directory: Path, state: Path) -> None:
    """Put the commands into ``directory``; ``state`` is theirs."""
    directory.mkdir()
    (state / "jobs").mkdir(parents=True)
    for name in (*SLURM, *PBS):
        command = directory / name
        program = f'exec {sys.executable} -S {Path(__file__).resolve()} {state} {name} "$@"'
        command.write_text(f"#!/bin/sh\n{program}\n")
        command.chmod(0o755)


def set_fault(state: Path, command: str, fault: dict[str, object] | None) -> None:
    """From now on ``command`` does this: "seconds" it hangs, what it says, its "code".

    Without a code it does what it is for; with "silent" it then says nothing, and hangs.
    """
    place = state / f"{command}.fault"
    if fault is None:
        place.unlink()
    else:
        place.write_text(json.dumps(fault))


def change(directory: Path, number: int, **facts: object) -> None:
    """Make this of a job, behind its owner's back; without facts it is forgotten."""
    place = directory / f"jobs/{number}.json"
    if facts:
        place.write_text(json.dumps(json.loads(place.read_text()) | facts))
    else:
        place.unlink()


def end_all(state: Path) -> None:
    """End what runs here, however the test went."""
    for place in state.glob("jobs/*.json"):
        job = json.loads(place.read_text())
        if "pid" in job and not place.with_suffix(".code").exists():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job["pid"], signal.SIGKILL)


class System:
    """The jobs, each a file; who holds the lock may change them."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.jobs = {int(p.stem): json.loads(p.read_text()) for p in state.glob("jobs/*.json")}

    def save(self, number: int) -> None:
        new = self.state / f"jobs/{number}.new"
        new.write_text(json.dumps(self.jobs[number]))
        new.rename(self.state / f"jobs/{number}.json")

    def advance(self) -> None:
        """Those that ended have ended, and the free slots are given away."""
        for number, job in self.jobs.items():
            code = self.state / f"jobs/{number}.code"
            if job["state"] == "R" and code.exists():
                job["state"], job["code"] = "C", int(code.read_text())
                self.save(number)
        if (self.state / "closed").exists():
            return
        running = [job for job in self.jobs.values() if job["state"] == "R"]
        waiting = sorted(number for number, job in self.jobs.items() if job["state"] == "Q")
        for number in waiting[: max(SLOTS - len(running), 0)]:
            self.start(number)

    def start(self, number: int) -> None:
        job, code = self.jobs[number], self.state / f"jobs/{number}.code"
        streams = f"> {job['out']} 2> {job['err']}"
        # The shell that waits ignores what the job gets, as a batch system's own would.
        wait = f"trap : TERM; ./.job.sh {streams}; echo $? > {code}.new; mv {code}.new {code}"
        process = subprocess.Popen(
            ["/bin/sh", "-c", wait],
            cwd=job["directory"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        job["state"], job["pid"] = "R", process.pid
        self.save(number)

    def add(self, name: str, out: str, err: str) -> int:
        number = max(self.jobs, default=0) + 1
        job = {"name": name, "out": out, "err": err, "directory": os.getcwd(), "state": "Q"}
        self.jobs[number] = job
        self.save(number)
        return number

    def end(self, number: int) -> None:
        job = self.jobs[number]
        if job["state"] in "QH":
            job["state"] = "D"
        elif job["state"] == "R":
            job["state"], group = "D", job["pid"]
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGTERM)
            later = f"sleep {KILL_WAIT}; env kill -KILL -- -{group}"
            subprocess.Popen(
                ["/bin/sh", "-c", later],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.save(number)


def sbatch(system: System, words: list[str]) -> int:
    if "--version" in words:
        return sinfo(system, words)
    options = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
    if options.get("partition", "main") != "main":
        print(
            "sbatch: error: Batch job submission failed: Invalid partition name specified",
            file=sys.stderr,
        )
        return 1
    if "test-only" in options:
        print("sbatch: Job 0 to start at now", file=sys.stderr)
        return 0
    print(system.add(options["job-name"], options["output"], options["error"]))
    system.advance()
    return 0


def squeue(system: System, words: list[str]) -> int:
    system.advance()
    for number, job in sorted(system.jobs.items()):
        state = SLURM_STATE.get(job["state"]) or ("FAILED" if job["code"] else "COMPLETED")
        reason = {"H": "JobHeldUser", "Q": "Resources"}.get(job["state"], "None")
        reason = "NonZeroExitCode" if state == "FAILED" else reason
        print(f"{number}|{state}|{reason}|{job['name']}")
    return 0


def scancel(system: System, words: list[str]) -> int:
    for word in words:
        if int(word) not in system.jobs:
            print("scancel: error: Invalid job id specified", file=sys.stderr)
            return 1
        system.end(int(word))
    system.advance()
    return 0


def sinfo(system: System, words: list[str]) -> int:
    print("slurm 22.05.8" if "--version" in words else "main*|up|1:00:00")
    return 0


def scontrol(system: System, words: list[str]) -> int:
    print("Slurmctld(primary) at here is UP")
    return 0


def qsub(system: System, words: list[str]) -> int:
    if "-q" in words and words[words.index("-q") + 1] != "main":
        print("qsub: Unknown queue", file=sys.stderr)
        return 170
    print(f"{system.add(words[words.index('-N') + 1], '/dev/null', '/dev/null')}.fake")
    system.advance()
    return 0


def qstat(system: System, words: list[str]) -> int:
    if "--version" in words:
        print("pbs_version = 20.0.1")
        return 0
    if "-Q" in words:
        print("Queue: main\n    queue_type = Execution\n    enabled = True\n    started = True")
        return 0
    system.advance()
    asked = [word for word in words if not word.startswith("-")]
    code = 0
    for name in asked or [f"{number}.fake" for number in system.jobs]:
        job = system.jobs.get(int(name.split(".")[0]))
        if job is None:
            print(f"qstat: Unknown Job Id {name}", file=sys.stderr)
            code = 153
            continue
        print(f"Job Id: {name}\n    Job_Name = {job['name'][:20]}\n\t{job['name'][20:]}")
        print(f"    job_state = {'F' if job['state'] in 'CD' else job['state']}")
        if job["state"] == "H":
            print("    Hold_Types = u")
        if "code" in job or job["state"] == "D":
            print(f"    Exit_status = {job.get('code', 271)}")
        print(
            "    Variable_List = PBS_O_HOME=/home/pilots,PBS_O_WORKDIR=/home/pilots/jobs,PBS_\n"
            "\tO_QUEUE=main\n"
        )
    return code


def qdel(system: System, words: list[str]) -> int:
    for name in words:
        number = int(name.split(".")[0])
        if number not in system.jobs:
            print(f"qdel: Unknown Job Id {name}", file=sys.stderr)
            return 153
        system.end(number)
    system.advance()
    return 0


def main() -> int:
    state, command, words = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    fault = state / f"{command}.fault"
    if fault.exists():
        said = json.loads(fault.read_text())
        time.sleep(said.get("seconds", 0))
        sys.stdout.write(said.get("output", ""))
        sys.stderr.write(said.get("errors", ""))
        if "code" in said:
            return int(said["code"])
        if "silent" in said:
            sys.stdout = io.StringIO()
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code = int(globals()[command](System(state), words))
    if isinstance(sys.stdout, io.StringIO):
        time.sleep(60)
    return code


if __name__ == "__main__":
    sys.exit(main())
