"""Jobs of a batch system that is reached by its commands, here or over SSH.

Each job has a directory at the site, for the account only, whose name is its stamp. What the batch
system forgets within minutes stays there for days, and any later process finds it:

    its program, the files that came with it and its own; they go when it ends
    out, err    what the job wrote
    .job.sh     what the batch system runs (jobscript.py)
    .outputs    the names of the files that stay, a line each
    .kept       these, by the numbers of their lines, once it has ended
    .job        what the batch system calls it
    .started    it has begun, and does not begin again
    .until      when it is over for certain, whatever became of it (seconds since 1970)
    .exit       its exit code, once it has ended
    .ended      how it ended, as the batch system said, where that is not its exit code
    .removed    it was taken back

Which batch system it is, slurm.py and pbs.py know: words to say, and how to read the answers.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

from desktopgrid.model.errors import BadRequest
from pilot.ce.base import (
    OUTPUT_LIMIT,
    STDERR,
    STDOUT,
    ComputingElementUnavailable,
    JobDescription,
    JobState,
    NothingToRetrieve,
    Reference,
    SubmissionRefused,
)
from pilot.ce.batch_system import (
    BatchSystem,
    Entry,
    Looked,
    Marks,
    Unanswered,
    portions,
    state_of,
)
from pilot.ce.finding import Finding, Verdict
from pilot.ce.jobscript import TIDY, job_script
from pilot.ce.landing import Landing, TooMuch, listed
from pilot.ce.shell import Answer, CannotWrite, Shell, ShellUnavailable, Upload, quoted

logger = logging.getLogger(__name__)

SUBMISSION_SECONDS = 2
"""More patience for each job of a submission."""

ENDED_JOBS_STAY = timedelta(days=10)
FORGOTTEN_STAY = timedelta(days=1)
"""Longer than any of them can run: those that the batch system lost without an end."""
LAST_BYTES = 4096
LEAST_FREE_KIB = 200 << 10
NAME = "gb-{stamp}"
"""What our jobs are called in the batch system; PBS wants a letter first."""

_STAMP = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_MARKS = re.compile(
    r"(?P<stamp>[A-Za-z0-9-]+) (?P<removed>[r-])(?P<started>[s-])(?P<code>\d*|-)\|(?P<ended>.*)"
)


class BatchCE:
    """One account of a batch system as a computing element."""

    def __init__(
        self,
        system: BatchSystem,
        shell: Shell,
        directory: str = "glidebridge-jobs",
        patience: timedelta = timedelta(seconds=30),
        bin_directory: str = "",
        name: str = "",
    ) -> None:
        """``directory`` is absolute or from the account's home; ``patience`` is for one answer;
        ``bin_directory`` is where the batch system's commands are; ``name`` is what errors call
        this door.
        """
        self.system, self.shell = system, shell
        self._directory, self._patience, self._bin = directory, patience, bin_directory
        self._name = name or repr(self)

    def __repr__(self) -> str:
        return f"<{self.system.kind} by {self.shell!r}>"

    def submit(self, jobs: Sequence[JobDescription]) -> list[Reference]:
        """Their files first, then a command for each; those that are in when one is refused are
        removed again.
        """
        for job in jobs:
            self._check(job)
        if not jobs:
            return []
        with self._asked():
            place, now = self._prepare([job.stamp for job in jobs])
            try:
                self.shell.put(*self._luggage(jobs, place, now))
            except CannotWrite as error:
                self._undo(jobs, [])
                raise SubmissionRefused(self._name, str(error)) from error
            return self._hand_in(jobs)

    def find(self, stamps: Sequence[str]) -> dict[str, Reference]:
        """Those that the batch system knows by name, or whose directory says its number."""
        with self._asked():
            wanted = [stamp for stamp in stamps if _STAMP.fullmatch(stamp)]
            if not wanted:
                return {}
            found = self._numbers(wanted)
            names = {NAME.format(stamp=stamp): stamp for stamp in wanted}
            for number, entry in self._entries(None).items():
                if entry.name in names:
                    found[names[entry.name]] = number
            return {
                stamp: self._reference(found[stamp], stamp) for stamp in stamps if stamp in found
            }

    def statuses(self, references: Sequence[Reference]) -> dict[Reference, JobState]:
        """As the batch system and the directories say; what ended is made to leave no secret."""
        with self._asked():
            looked = self._look(references)
        return {name: each.state for name, each in looked.items() if each.state is not None}

    def remove(self, references: Sequence[Reference]) -> None:
        """What is in the queue."""
        with self._asked():
            looked = self._look(references)
            mine = self._mine(references)
            going = [mine[name] for name, each in looked.items() if each.is_in_queue]
            open_ = [mine[name][1] for name, each in looked.items() if each.is_open]
            waiting = [mine[name][1] for name, each in looked.items() if each.is_waiting]
            if open_:
                self._in_directories(open_, ": > .removed")
            for portion in portions([number for number, _ in going]):
                words = " ".join(map(quoted, self.system.removal(portion)))
                answer = self._run(f"{words} < /dev/null")
                if not self.system.is_removed(answer):
                    raise ShellUnavailable(answer.complaint)
            if waiting:
                self._in_directories(waiting, TIDY)

    def last_words(self, reference: Reference) -> str:
        """The end of its file ``err``."""
        with self._asked():
            for _, stamp in self._mine([reference]).values():
                chunks = self.shell.read(f"{self._directory}/{stamp}/err", LAST_BYTES)
                return b"".join(chunks or ())[-LAST_BYTES:].decode(errors="replace")
        return ""

    def retrieve(
        self, reference: Reference, directory: Path, limit: int = OUTPUT_LIMIT
    ) -> list[str]:
        """From its directory."""
        state = self.statuses([reference]).get(reference)
        if state is None or not state.has_ended:
            reason = "there is no such job" if state is None else "it has not ended"
            raise NothingToRetrieve(self._name, reference, reason)
        ((_, stamp),) = self._mine([reference]).values()
        own = f"{self._directory}/{stamp}"
        with self._asked():
            chunks = self.shell.read(f"{own}/.outputs")
            if chunks is None:
                raise NothingToRetrieve(self._name, reference, "nothing of it is kept")
            try:
                wanted = {STDOUT: "out", STDERR: "err"}
                wanted |= {name: f".kept/{number}" for number, name in enumerate(listed(chunks))}
                with Landing(directory, limit) as landing:
                    for name, path in wanted.items():
                        self._take(landing, name, f"{own}/{path}")
            except (TooMuch, BadRequest) as refused:
                raise NothingToRetrieve(self._name, reference, str(refused)) from refused
            return landing.names

    def discard(self, references: Sequence[Reference]) -> None:
        """Remove their directories."""
        with self._asked():
            looked = self._look(references)
            mine = self._mine(references)
            # One that is held, or was requeued, has failed to us and may yet be looked for there.
            over = [
                mine[name][1]
                for name, each in looked.items()
                if each.has_ended and not each.is_waiting
            ]
            self._drop(over)

    def examine(self, job: JobDescription) -> Iterator[Finding]:
        """The machine, the directory, then the batch system's own questions."""
        try:
            yield Finding("machine", self.shell.describe())
            answer = self._run(_try_directory(self._directory))
            yield judge_directory(self._directory, answer)
            for probe in self.system.probes(job, NAME.format(stamp=job.stamp)):
                finding = probe.judge(self._run(probe.script))
                yield finding
                if finding.verdict is Verdict.WRONG and probe.is_needed:
                    return
        except ShellUnavailable as broken:
            advice = "look whether `ssh` names it, it runs, and the way there is open"
            yield Finding("machine", f"{broken}", Verdict.WRONG, advice)

    def _take(self, landing: Landing, name: str, path: str) -> None:
        chunks = self.shell.read(path)
        if chunks is not None:
            with closing(chunks):  # type: ignore[type-var]
                landing.receive(name, chunks)

    def _check(self, job: JobDescription) -> None:
        if not _STAMP.fullmatch(job.stamp):
            raise SubmissionRefused(self._name, f"{job.stamp!r} is no stamp")
        for file in (job.program, *job.files):
            if not os.access(file, os.R_OK):
                raise SubmissionRefused(self._name, f"{file} cannot be read")

    def _prepare(self, stamps: Sequence[str]) -> tuple[str, int]:
        """Where the jobs' directories are, absolute as the nodes see it, and what time it is;
        none of ``stamps`` has one yet.
        """
        days = ENDED_JOBS_STAY.days
        answer = self._run(
            f"umask 077; mkdir -p -- {quoted(self._directory)} && cd -- {quoted(self._directory)}"
            " || exit 1\n"
            f"find . -maxdepth 2 \\( -name .exit -o -name .ended \\) -mtime +{days}"
            ' | while read -r mark; do rm -rf -- "${mark%/*}"; done\n'
            "find . -maxdepth 1 -mindepth 1 -type d -empty -mtime +1 -exec rmdir {} +\n"
            "now=$(date +%s)\n"
            "find . -maxdepth 2 -type f -name .until -size -3 | while read -r mark; do\n"
            '    read -r until < "$mark" && [ "$until" -lt "$now" ] && rm -rf -- "${mark%/*}"\n'
            "done 2> /dev/null\n"
            'printf "place %s\ntime %s\n" "$PWD" "$now"\n'
            'taken() { [ ! -e "$1" ] || echo "taken $1"; }\n' + _each(stamps, "taken")
        )
        said = dict(line.split(" ", 1) for line in answer.output.splitlines() if " " in line)
        if answer.code:
            raise SubmissionRefused(self._name, answer.complaint)
        if not said.get("place", "").startswith("/") or not said.get("time", "").isdigit():
            raise ShellUnavailable(f"it did not say where {self._directory} is")
        if "taken" in said:
            raise SubmissionRefused(self._name, f"there is a job {said['taken']} already")
        return said["place"], int(said["time"])

    def _luggage(
        self, jobs: Sequence[JobDescription], place: str, now: int
    ) -> tuple[list[str], list[Upload]]:
        """The directories and files to be made; a program that several jobs share is sent once."""
        directories, files = [], []
        sent: set[Path] = set()
        for job in jobs:
            own = f"{self._directory}/{job.stamp}"
            directories.append(own)
            # First of all, so that no secret can come to stay where the connection breaks.
            until = now + int((job.queue_limit + job.wall_time + FORGOTTEN_STAY).total_seconds())
            files.append(Upload(f"{own}/.until", f"{until}\n".encode()))
            if job.program not in sent:
                files.append(Upload(f"{own}/{job.program.name}", job.program, 0o700))
                sent.add(job.program)
            files += [Upload(f"{own}/{f.name}", f, f.stat().st_mode & 0o777) for f in job.files]
            script = job_script(
                job,
                f"{place}/{job.stamp}",
                now + int(job.queue_limit.total_seconds()),
                self.system.redirects,
            )
            files.append(Upload(f"{own}/.job.sh", script.encode(), 0o700))
            outputs = "".join(f"{name}\n" for name in job.outputs)
            files.append(Upload(f"{own}/.outputs", outputs.encode()))
        return directories, files

    def _hand_in(self, jobs: Sequence[JobDescription]) -> list[Reference]:
        holders: dict[Path, str] = {}
        lines = [f"cd -- {quoted(self._directory)} || exit 71", _HAND_IN]
        for job in jobs:
            holder = holders.setdefault(job.program, job.stamp)
            name = quoted(job.program.name)
            if holder != job.stamp:
                lines.append(f"cp -p -- {holder}/{name} {job.stamp}/{name} || exit 73")
        for job in jobs:
            words = self.system.submission(job, NAME.format(stamp=job.stamp))
            lines.append(f"hand_in {job.stamp} {' '.join(map(quoted, words))} || exit 0")
        more = timedelta(seconds=SUBMISSION_SECONDS * len(jobs))
        answer = self._run("\n".join(lines), self._patience + more)
        taken, refused = self._taken(answer)
        numbers = {stamp: number for stamp, number in taken.items() if number is not None}
        if answer.code == 0 and refused is None and numbers.keys() == {job.stamp for job in jobs}:
            return [self._reference(numbers[job.stamp], job.stamp) for job in jobs]
        if None in taken.values() or (answer.code == 0 and refused is None):
            raise ShellUnavailable("it took jobs and did not say what it calls them")
        complaint = refused if refused is not None else answer.complaint
        self._undo(jobs, list(numbers.values()))
        if self.system.is_out_of_reach(complaint):
            raise ShellUnavailable(complaint)
        raise SubmissionRefused(self._name, complaint)

    def _taken(self, answer: Answer) -> tuple[dict[str, str | None], str | None]:
        """The numbers of the jobs that were taken, by stamp; and why one was not."""
        taken: dict[str, str | None] = {}
        for line in answer.output.splitlines():
            match = re.fullmatch(r"handed in ([A-Za-z0-9-]+) (\d+) ?(.*)", line)
            if match and match[2] == "0":
                taken[match[1]] = self.system.job_id(match[3])
            elif match:
                return taken, match[3].strip() or f"exit code {match[2]}"
        return taken, None

    def _undo(self, jobs: Sequence[JobDescription], numbers: Sequence[str]) -> None:
        """Nothing of a submission that was refused stays."""
        try:
            for portion in portions(numbers):
                self._run(" ".join(map(quoted, self.system.removal(portion))) + " < /dev/null")
            self._drop([job.stamp for job in jobs])
        except ShellUnavailable as broken:
            logger.warning("Left files of refused jobs at %s: %s", self._name, broken)

    def _look(self, references: Sequence[Reference]) -> dict[Reference, Looked]:
        """What is known of each job; those that have ended are tidied up."""
        mine = self._mine(references)
        if not mine:
            return {}
        # First the queue: a job that ends while we look has written .exit before it leaves.
        entries = self._entries([number for number, _ in mine.values()])
        marks = self._marks([stamp for _, stamp in mine.values()])
        looked: dict[Reference, Looked] = {}
        for reference, (number, stamp) in mine.items():
            entry = entries.get(number)
            if entry is not None and entry.name != NAME.format(stamp=stamp):
                entry = None  # numbers come again
            own = marks.get(stamp)
            looked[reference] = Looked(entry, own, state_of(entry, own))
        untold = {mine[name][1]: each.state for name, each in looked.items() if each.is_untold}
        self._tidy({stamp: state for stamp, state in untold.items() if state is not None})
        return looked

    def _entries(self, ids: Sequence[str] | None) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for script in self.system.questions(ids):
            try:
                found |= self.system.entries(self._run(script))
            except Unanswered as unanswered:
                raise ShellUnavailable(str(unanswered)) from unanswered
        return found

    def _marks(self, stamps: Sequence[str]) -> dict[str, Marks]:
        answer = self._run(
            f"cd -- {quoted(self._directory)} || exit 0\n{_LOOK}" + _each(stamps, "look")
        )
        if answer.code:
            raise ShellUnavailable(answer.complaint)
        found = {}
        for line in answer.output.splitlines():
            if match := _MARKS.fullmatch(line):
                code = int(match["code"]) if match["code"].isdigit() else None
                has_started = match["started"] == "s"
                is_removed = match["removed"] == "r"
                found[match["stamp"]] = Marks(code, match["ended"], is_removed, has_started)
        return found

    def _numbers(self, stamps: Sequence[str]) -> dict[str, str]:
        answer = self._run(
            f"cd -- {quoted(self._directory)} || exit 0\n"
            "strange=$(find . -maxdepth 2 -name .job \\( ! -type f -o -size +2 \\))\n"
            'number() { case $strange in *"./$1/.job"*) return 0 ;; esac\n'
            '[ -r "$1/.job" ] && read -r said < "$1/.job" && echo "$1 $said"; }\n'
            + _each(stamps, "number")
        )
        found = {}
        for line in answer.output.splitlines():
            stamp, _, said = line.partition(" ")
            number = self.system.job_id(said)
            if stamp in stamps and number is not None:
                found[stamp] = number
        return found

    def _tidy(self, ended: Mapping[str, JobState]) -> None:
        """Remove what jobs had that the site ended, and write down how; secrets first of all."""
        if not ended:
            return
        lines = [f"cd -- {quoted(self._directory)} || exit 0", _TIDY]
        for stamp, state in ended.items():
            said = quoted(f"{state.status.value} {' '.join(state.reason.split())}")
            lines.append(f"tidy {stamp} {said}")
        self._run("\n".join(lines))

    def _in_directories(self, stamps: Sequence[str], script: str) -> None:
        answer = self._run(
            f"cd -- {quoted(self._directory)} || exit 1\n"
            f'inside() {{ (cd -- "$1" && {{ {script}; }}); }}\n' + _each(stamps, "inside")
        )
        if answer.code:
            raise ShellUnavailable(answer.complaint)

    def _drop(self, stamps: Sequence[str]) -> None:
        if stamps:
            self._run(
                f"cd -- {quoted(self._directory)} || exit 0\n"
                'drop() { rm -rf -- "./$1"; }\n' + _each(stamps, "drop")
            )

    def _run(self, script: str, patience: timedelta | None = None) -> Answer:
        path = f"PATH={quoted(self._bin)}:$PATH; export PATH\n" if self._bin else ""
        prelude = f"LC_ALL=C; export LC_ALL\n{path}"
        return self.shell.run(f"{prelude}{script}\n", patience or self._patience)

    def _mine(self, references: Sequence[Reference]) -> dict[Reference, tuple[str, str]]:
        """Number and stamp of each reference that may be one of ours."""
        form = re.compile(rf"{self.system.kind}:([0-9][\w.\[\]-]*):({_STAMP.pattern})", re.ASCII)
        matches = {reference: form.fullmatch(reference) for reference in references}
        return {name: (match[1], match[2]) for name, match in matches.items() if match}

    def _reference(self, number: str, stamp: str) -> Reference:
        return Reference(f"{self.system.kind}:{number}:{stamp}")

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except ShellUnavailable as error:
            raise ComputingElementUnavailable(self._name, str(error)) from error


def _try_directory(directory: str) -> str:
    return (
        f"umask 077; mkdir -p -- {quoted(directory)} && cd -- {quoted(directory)} || exit 1\n"
        'echo "place $PWD"; : > .try && rm .try || exit 1\n'
        'df -Pk . | tail -n 1 | (read -r _ _ _ free _; echo "free $free")'
    )


def judge_directory(directory: str, answer: Answer) -> Finding:
    """What the answer says of the directory of the jobs."""
    said = dict(line.split(" ", 1) for line in answer.output.splitlines() if " " in line)
    place, free = said.get("place", directory), said.get("free", "")
    if answer.code:
        advice = "name another one by `directory`, on a file system that the nodes see too"
        reason = f"{place} cannot be written: {answer.complaint}"
        return Finding("directory", reason, Verdict.WRONG, advice)
    if free.isdigit() and int(free) < LEAST_FREE_KIB:
        sentence = f"{place} has {int(free) // 1024} MiB free"
        return Finding("directory", sentence, Verdict.WORRYING, "make room there")
    return Finding("directory", f"jobs have their directories in {place}, where there is room")


def _each(stamps: Sequence[str], function: str) -> str:
    """Call ``function`` for every stamp; stamps need no quotes."""
    return "".join(f"{function} {stamp}\n" for stamp in stamps) + ":"


_HAND_IN = """hand_in() {
    stamp=$1
    shift
    cd -- "$stamp" || exit 72
    said=$("$@" 2> .refused < /dev/null)
    code=$?
    if [ "$code" = 0 ]; then
        printf '%s\\n' "$said" > .job
    else
        said="$said $(head -c 400 .refused)"
    fi
    rm -f .refused
    cd ..
    printf 'handed in %s %s ' "$stamp" "$code"
    printf '%s' "$said" | tr '\\n' ' '
    echo
    return "$code"
}"""

# No process a job: thousands are asked for at a time.
# A job may write what it likes into its directory: what is no small file is not read.
_LOOK = """strange=$(find . -maxdepth 2 \\( -name .exit -o -name .ended \\) \\
    \\( ! -type f -o -size +2 \\))
look() {
    [ -d "$1" ] || return 0
    code=- ended= removed=- started=-
    if [ -e "$1/.exit" ]; then
        case $strange in *"./$1/.exit"*) ;; *) read -r code < "$1/.exit" ;; esac
    fi
    if [ -e "$1/.ended" ]; then
        case $strange in *"./$1/.ended"*) ;; *) read -r ended < "$1/.ended" ;; esac
    fi
    if [ -e "$1/.removed" ]; then removed=r; fi
    if [ -e "$1/.started" ]; then started=s; fi
    echo "$1 $removed$started$code|$ended"
}
"""

_TIDY = f"""tidy() {{
    (cd -- "$1" && {{ {TIDY}; printf '%s\\n' "$2" > .ended.new && mv .ended.new .ended; }})
}}"""
