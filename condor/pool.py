"""The schedd of a real pool: submits jobs, asks for them, removes them. What fake.py imitates.

htcondor2 keeps its configuration and its security sessions for the whole process, and a session
opened with one token is used again for the next request to that schedd, whatever token is
configured by then (measured, 23.9 and 25.14). So calls take turns, each puts its own identity in
force first, and ``ping``, which always opens a new session, makes the change stick.

A schedd that hangs is given up after 20 s (a query) or 60 s (anything else), by HTCondor's own
timeouts; one that is not there, at once. The bindings keep Python's global lock while they wait
(measured, 25.14): until then every thread of the process stands still.

``_CONDOR_*`` variables count only until htcondor2 is imported; after that, ``htcondor2.param``.
"""

import atexit
import logging
import os
import stat
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import classad2
import htcondor2

from condor import ads
from condor.errors import (
    AdError,
    CredentialRefused,
    PoolUnavailable,
    ScheddRefused,
)
from condor.jobs import (
    HELD_FOR_SPOOLING,
    STATUS_OF_CODE,
    Job,
    JobId,
    JobStatus,
    ScheddFacts,
    Spooled,
)
from condor.submit import JobDescription, as_cluster, require_files

logger = logging.getLogger(__name__)

ATTRIBUTES = [
    "ClusterId",
    "ProcId",
    "JobStatus",
    "LastJobStatus",
    "NumJobStarts",
    "EnteredCurrentStatus",
    "HoldReason",
    "HoldReasonCode",
    "RemoveReason",
    "ExitCode",
    "ExitBySignal",
    "ExitSignal",
    "RemoteHost",
    "LastRemoteHost",
]

ACTION_SUBCODE = 0
"""Our reasons have no subcode; but a reason given without one is lost on its way (bindings)."""

# One at a time: see the module's docstring.
_bindings = threading.RLock()
_identity_at: dict[str, "Path | None"] = {}


@dataclass(frozen=True)
class ScheddLocation:
    """Where a schedd is, and who we are there.

    With nothing given, the schedd of this machine, by HTCondor's own configuration
    (``CONDOR_CONFIG``); with ``name`` and ``pool``, as its collector says; or at ``address``.
    """

    name: str | None = None
    pool: str | None = None
    """The collector, ``host`` or ``host:port``; None is the configured one."""
    address: str | None = None
    token: Path | None = None
    """A file with an IDTOKEN, or a directory of such files. None: HTCondor's own methods."""

    def __str__(self) -> str:
        if self.address is not None:
            return f"schedd at {self.address}"
        schedd = f"schedd {self.name}" if self.name else "local schedd"
        return f"{schedd} of pool {self.pool}" if self.pool else schedd


class Schedd:
    """The job queue of one schedd. A JobQueue; safe to share between threads."""

    def __init__(self, location: ScheddLocation | None = None) -> None:
        """Looks at the token; asks nobody before the first question."""
        self.location = location or ScheddLocation()
        self._tokens = _token_directory(self.location.token)
        self._found: tuple[str, htcondor2.Schedd] | None = None

    def __repr__(self) -> str:
        return f"<{self.location}>"

    @property
    def name(self) -> str:
        """The name the schedd goes by, which is part of its jobs' names."""
        with self._asked("say its name") as (name, _):
            return name

    def facts(self) -> ScheddFacts:
        """Ask it who it is, and whom it would let submit."""
        with self._asked("say who we are") as (name, schedd):
            ad = classad2.ClassAd({"MyAddress": schedd._addr, "CondorVersion": htcondor2.version()})
            answer = htcondor2.ping(ad, "WRITE")
            version = " ".join(str(answer.get("RemoteVersion", "")).split()[1:2])
            return ScheddFacts(name, version, str(answer.get("MyRemoteUserName", "")))

    def submit(self, jobs: Sequence[JobDescription], spool: bool = False) -> list[JobId]:
        """Submit all of ``jobs`` or none; their names, in the same order.

        With ``spool`` their files go to the schedd now, and the schedd needs to see none of ours;
        without, it reads them when the jobs start. After PoolUnavailable the jobs may be there.
        """
        if not jobs:
            return []
        require_files(jobs)
        description, items = as_cluster(jobs)
        with self._asked("take jobs") as (name, schedd):
            with warnings.catch_warnings(record=True) as remarks:
                # The bindings pass on what condor_submit would print beside its result.
                warnings.simplefilter("always")
                if any(items):
                    cluster = schedd.submit(description, itemdata=iter(items), spool=spool)
                else:
                    cluster = schedd.submit(description, count=len(jobs), spool=spool)
            first = cluster.first_proc()
            taken = [JobId(name, cluster.cluster(), first + i) for i in range(len(jobs))]
            for remark in remarks:
                logger.warning("Schedd %s took %s but said: %s", name, taken[0], remark.message)
            if spool:
                self._spool(schedd, cluster)
            return taken

    def jobs(self, ids: Sequence[JobId]) -> dict[JobId, Job]:
        """Those of ``ids`` that are in the queue, by one question for all of them."""
        with self._asked("list jobs") as (name, schedd):
            ours = {job for job in ids if job.schedd == name}
            if not ours:
                return {}
            found = schedd.query(_constraint(ours), ATTRIBUTES)
            return _wanted(ours, (_job(name, ad, is_in_queue=True) for ad in found))

    def having(self, attribute: str, values: Sequence[str]) -> dict[str, JobId]:
        """The jobs in the queue whose ``attribute`` is one of ``values``, by that value."""
        with self._asked("list jobs") as (name, schedd):
            if not values:
                return {}
            found = schedd.query(
                ads.is_among(attribute, values), ["ClusterId", "ProcId", attribute]
            )
            return {
                ads.string(ad, attribute): JobId(
                    name, ads.integer(ad, "ClusterId"), ads.integer(ad, "ProcId")
                )
                for ad in found
            }

    def history(
        self, ids: Sequence[JobId], ended_after: datetime | None = None
    ) -> dict[JobId, Job]:
        """Those of ``ids`` that have left the queue, as far as HTCondor remembers.

        A job may be missing for some seconds after it left. The history is read from its end, so
        looking for a job that is not there reads all of it, or as far back as ``ended_after``.
        """
        with self._asked("show its history") as (name, schedd):
            ours = {job for job in ids if job.schedd == name}
            if not ours:
                return {}
            since = None
            if ended_after is not None:
                since = f"EnteredCurrentStatus < {int(ended_after.timestamp())}"
            found = schedd.history(_constraint(ours), ATTRIBUTES, match=-1, since=since)
            return _wanted(ours, (_job(name, ad, is_in_queue=False) for ad in found))

    def retrieve(self, job: JobId, directory: Path) -> Spooled | None:
        """Bring what a spooled job that has ended left into ``directory``; None where it is not
        kept. What is in ``directory`` then has the names that the job's machine gave it.
        """
        with self._asked("give back output") as (name, schedd):
            constraint = _only(job)
            found = schedd.query(constraint) if job.schedd == name else []
            if not found or not ads.has(found[0], "StageInFinish"):
                return None
            ad = found[0]
            if STATUS_OF_CODE[ads.integer(ad, "JobStatus")] != JobStatus.COMPLETED:
                return None
            try:
                # The bindings write to where the job was submitted, which may be elsewhere.
                schedd.edit(job.in_schedd, "SUBMIT_Iwd", ads.literal(str(directory)))
                schedd.retrieve([job.in_schedd])
            except htcondor2.HTCondorException:
                if schedd.query(constraint):
                    raise
                return None  # it has left the queue meanwhile
            texts = {key: text for key in ad if isinstance(text := ad.get(key), str)}
            output, error = (Path(texts.get(key, "")).name for key in ("Out", "Err"))
            return Spooled(output, error, texts)

    def let_go(self, ids: Sequence[JobId]) -> None:
        """Jobs that have ended and were to stay in the queue need not any more. Idempotent."""
        ended = [job for job, found in self.jobs(ids).items() if found.status in _OVER]
        with self._asked("let jobs go") as (_, schedd):
            for job in ended:
                try:
                    schedd.edit(job.in_schedd, "LeaveJobInQueue", "False")
                except htcondor2.HTCondorException:
                    if schedd.query(_only(job)):
                        raise

    def remove(self, ids: Sequence[JobId], reason: str) -> None:
        """Take the jobs out of the queue. Idempotent: a job that is gone is no error."""
        self._act(htcondor2.JobAction.Remove, ids, reason)

    def hold(self, ids: Sequence[JobId], reason: str) -> None:
        """Stop the jobs where they are and keep them in the queue until they are released."""
        self._act(htcondor2.JobAction.Hold, ids, reason)

    def release(self, ids: Sequence[JobId], reason: str) -> None:
        """Let held jobs run again."""
        self._act(htcondor2.JobAction.Release, ids, reason)

    def _act(self, action: htcondor2.JobAction, ids: Sequence[JobId], reason: str) -> None:
        verb = action.name.lower()
        with self._asked(f"{verb} jobs") as (name, schedd):
            ours = [job.in_schedd for job in ids if job.schedd == name]
            if not ours:
                return
            done = schedd.act(action, ours, reason=(reason, ACTION_SUBCODE))
            denied, failed = done["TotalPermissionDenied"], done["TotalError"]
            if denied or failed:
                why = f"{denied} of {len(ours)} are not ours, {failed} failed"
                raise ScheddRefused(name, f"{verb} jobs", why)

    def _spool(self, schedd: htcondor2.Schedd, cluster: htcondor2.SubmitResult) -> None:
        try:
            schedd.spool(cluster)
        except Exception:
            # All or nothing: without their files they would wait on hold.
            schedd.act(
                htcondor2.JobAction.Remove,
                f"ClusterId == {cluster.cluster()}",
                reason=("their files did not arrive", ACTION_SUBCODE),
            )
            raise

    @contextmanager
    def _asked(self, request: str) -> Iterator[tuple[str, htcondor2.Schedd]]:
        """The schedd's name and its client with our identity in force; translates errors."""
        with _bindings:
            try:
                _use_tokens(self._tokens)
                if self._found is None:
                    self._found = self._locate()
                name, schedd = self._found
                self._authenticate(schedd)
                yield name, schedd
            except (htcondor2.HTCondorException, classad2.ClassAdException) as failure:
                # A schedd that was restarted has another address.
                self._found = None
                reason = " ".join(str(failure).split())
                if _REFUSAL in reason:
                    raise ScheddRefused(str(self.location), request, reason) from failure
                raise PoolUnavailable(str(self.location), reason) from failure
            except (ValueError, AdError) as failure:
                raise PoolUnavailable(str(self.location), f"{failure}") from failure

    def _locate(self) -> tuple[str, htcondor2.Schedd]:
        where = self.location
        if where.address is not None:
            # A schedd answers for itself what a collector answers for many.
            found = htcondor2.Collector(where.address).query(htcondor2.AdType.Schedd)
            ad = found[0] if found else None
        else:
            collector = htcondor2.Collector(where.pool)
            ad = collector.locate(htcondor2.DaemonType.Schedd, where.name)
        if ad is None:
            raise PoolUnavailable(str(where), "the pool's collector does not know it")
        return ads.string(ad, "Name"), htcondor2.Schedd(ad)

    def _authenticate(self, schedd: htcondor2.Schedd) -> None:
        address = schedd._addr
        if _identity_at.get(address, _NOBODY_YET) != self._tokens:
            ad = classad2.ClassAd({"MyAddress": address, "CondorVersion": htcondor2.version()})
            identity = htcondor2.ping(ad, "WRITE")
            _identity_at[address] = self._tokens
            logger.debug("%s knows us as %s", self.location, identity.get("MyRemoteUserName"))


_OVER = (JobStatus.COMPLETED, JobStatus.REMOVED)
_REFUSAL = "Failed to create job ad"
_POLICY = "The job attribute PeriodicRemove expression"
_NOBODY_YET = Path()


def _use_tokens(tokens: Path | None) -> None:
    """Put an identity in force; with None, the one that HTCondor's configuration gives us."""
    for name in ("SEC_TOKEN_DIRECTORY", "SEC_CLIENT_AUTHENTICATION_METHODS"):
        _original_settings.setdefault(name, htcondor2.param.get(name))
    wanted = dict(_original_settings)
    if tokens is not None:
        wanted = {
            "SEC_TOKEN_DIRECTORY": str(tokens),
            "SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
        }
    for name, value in wanted.items():
        if value is None:
            htcondor2.param.pop(name, None)
        else:
            htcondor2.param[name] = value
    # A 25.x client refuses a 23.x pool's authentication by file system without this.
    htcondor2.param["SEC_FS_ENFORCE_CHANNEL_BINDING"] = "False"


_original_settings: dict[str, str | None] = {}


def _token_directory(token: Path | None) -> Path | None:
    """The directory to give to HTCondor, which takes no single file; raises CredentialRefused."""
    if token is None:
        return None
    token = token.absolute()
    files = [token] if token.is_file() else list(token.glob("*")) if token.is_dir() else []
    if not files:
        raise CredentialRefused(str(token), "there is no such file, or no file in it")
    for file in files:
        found = file.stat()
        # HTCondor passes over such files in silence, and then "cannot connect".
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise CredentialRefused(str(file), "its mode must be 0600: others can read it")
        if found.st_uid != os.geteuid():
            raise CredentialRefused(str(file), "it belongs to another account")
    if token.is_dir():
        return token
    with _bindings:
        if token not in _directory_of_file:
            directory = tempfile.TemporaryDirectory(prefix="glidebridge-token-")
            atexit.register(directory.cleanup)
            (Path(directory.name) / token.name).symlink_to(token)
            _directory_of_file[token] = directory
        return Path(_directory_of_file[token].name)


_directory_of_file: dict[Path, tempfile.TemporaryDirectory[str]] = {}


def _constraint(ids: set[JobId]) -> str:
    clusters = sorted({job.cluster for job in ids})
    # The range is cheap, and leaves few jobs for the list.
    within = ads.is_between("ClusterId", clusters[0], clusters[-1])
    return ads.all_of([within, ads.is_among("ClusterId", clusters)])


def _only(job: JobId) -> str:
    return ads.all_of([_constraint({job}), ads.equals("ProcId", job.proc)])


def _wanted(ids: set[JobId], found: Iterator[Job]) -> dict[JobId, Job]:
    return {job.id: job for job in found if job.id in ids}


def _job(schedd: str, ad: classad2.ClassAd, is_in_queue: bool) -> Job:
    status = STATUS_OF_CODE[ads.integer(ad, "JobStatus")]
    hold_code = ads.optional_integer(ad, "HoldReasonCode") if status == JobStatus.HELD else None
    if hold_code == HELD_FOR_SPOOLING:
        status = JobStatus.SPOOLING
    attribute = {JobStatus.HELD: "HoldReason", JobStatus.REMOVED: "RemoveReason"}.get(status)
    reason = ads.optional_string(ad, attribute) if attribute else None
    last = ads.optional_integer(ad, "LastJobStatus")
    by_signal = ads.has(ad, "ExitBySignal") and ads.boolean(ad, "ExitBySignal")
    return Job(
        id=JobId(schedd, ads.integer(ad, "ClusterId"), ads.integer(ad, "ProcId")),
        status=status,
        reason=reason,
        is_removed_by_policy=status == JobStatus.REMOVED and _POLICY in (reason or ""),
        last_status=STATUS_OF_CODE.get(last) if last is not None else None,
        starts=ads.optional_integer(ad, "NumJobStarts") or 0,
        hold_code=hold_code if status == JobStatus.HELD else None,
        exit_code=None if by_signal else ads.optional_integer(ad, "ExitCode"),
        exit_signal=ads.optional_integer(ad, "ExitSignal") if by_signal else None,
        entered_status_at=ads.optional_moment(ad, "EnteredCurrentStatus"),
        host=ads.optional_string(ad, "RemoteHost") or ads.optional_string(ad, "LastRemoteHost"),
        is_in_queue=is_in_queue,
    )
