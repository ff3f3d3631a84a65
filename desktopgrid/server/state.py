"""What the server keeps in memory: the live objects of its shard, and the rows that decisions about
them leave behind.

The grid is changed by dispatcher.py, requests.py and upkeep.py, and what they call, alone. It is
made at start from what the database has, and made again whenever a commit failed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from desktopgrid.model.accounting import Account
from desktopgrid.model.errors import AlreadyThere, BadRequest, LimitExceeded, UnknownObject
from desktopgrid.model.objects import (
    Application,
    Bridge,
    Credential,
    Data,
    Delegation,
    Description,
    Group,
    Host,
    Offer,
    Pilot,
    Session,
    Site,
    Submission,
    Submitted,
    Task,
    User,
    UserGroup,
    Work,
    first_epoch,
)
from desktopgrid.model.rights import Who
from desktopgrid.server import changes as c
from desktopgrid.server.holdings import Holdings
from desktopgrid.server.proved import Shown
from desktopgrid.server.scheduler import HostState, Scheduler, demand_of
from desktopgrid.wire.messages import Message, Submit

REQUIRED_PERIODS = 3
"""Alive periods of silence after which a host is lost."""

Owned = Application | Data | Session | Group
"""What users insert."""


@dataclass(frozen=True)
class Policy:
    """What the administrator set."""

    alive_period: float = 60.0
    max_open_works: int = 2_000_000
    max_data_bytes: int = 1 << 40
    longest_wall_time: int = 7 * 86_400
    losses_per_retry: int = 10
    quota_mib: int = 0
    """What a user's datas may take on the server, unless he has a quota of his own; 0: all there
    is."""
    max_objects: int = 1_000_000
    """Applications, datas, sessions and groups that a user may have."""
    max_keys: int = 100_000
    """Requests on record, by keys that their senders gave, that a user may have."""
    direct_from: int = 0
    """Bytes from which contents go to the S3 store; 0: there is none."""
    schemes: tuple[str, ...] = ()
    """What workers fetch beyond the schemes that every grid knows."""
    longest_delegation: timedelta = timedelta(days=7)
    """How long a credential may last that a bridge is given."""

    @property
    def lease(self) -> timedelta:
        """How long a silent host keeps its tasks."""
        return timedelta(seconds=REQUIRED_PERIODS * self.alive_period)


@dataclass(eq=False)
class Batch:
    """A submission with open works: how many, how many it was in all, and who watches."""

    submission: Submission
    total: int = 0
    open: int = 0
    is_single: bool = False
    watchers: set[str] = field(default_factory=set)

    def names(self) -> Iterator[str]:
        """The UIDs of its works."""
        uid = self.submission.uid
        return iter((uid,)) if self.is_single else (f"{uid}-{n}" for n in range(self.total))


@dataclass(eq=False)
class Outcome:
    """What a decision leads to: rows to make durable, then messages to say to sessions."""

    changes: list[c.Change] = field(default_factory=list)
    pushes: list[tuple[str, Message]] = field(default_factory=list)
    closing: list[tuple[str, str, str]] = field(default_factory=list)
    """Sessions to end, with code and reason."""
    notes: list[str] = field(default_factory=list)
    """What an administrator should know, for the log."""
    ended: Mapping[str, str] = field(default_factory=dict)
    """What the database was asked before the decision: works that are over, each with its owner."""
    submitted: Submitted | None = None
    """The same of a submission whose name is there already."""
    shown: Shown | None = None
    """What a chain shows that somebody delegates, looked at before the decision."""

    def push(self, session: str | None, message: Message) -> None:
        """Say ``message`` in ``session`` once the changes are durable; nobody there: nothing."""
        if session is not None:
            self.pushes.append((session, message))


@dataclass(frozen=True)
class Decision:
    """What a factory said last about a site."""

    at: datetime
    sentences: tuple[str, ...]


class Grid:
    """Everything that is alive in one shard."""

    def __init__(self, policy: Policy, incarnation: int, sites: Mapping[str, Site]) -> None:
        self.policy, self.incarnation, self.sites = policy, incarnation, sites
        self.users: dict[str, User] = {}
        self.logins: dict[str, str] = {}
        self.subjects: dict[str, str] = {}
        """name in certificates, or at an issuer of tokens -> user"""
        self.user_groups: dict[str, UserGroup] = {}
        self.credentials: dict[str, Credential] = {}
        self.applications: dict[str, Application] = {}
        self.datas: dict[str, Data] = {}
        self.holdings = Holdings()
        self._owned: Counter[str] = Counter()
        """Objects that are not deleted, by owner."""
        self.bags: dict[str, Session | Group] = {}
        self.bridges: dict[str, Bridge] = {}
        """by their users"""
        self.offers: dict[str, Offer] = {}
        self.delegations: dict[str, Delegation] = {}
        self.pilots: dict[str, Pilot] = {}
        self.decisions: dict[tuple[str, str], Decision] = {}
        """(site, user) -> what the user's factory has decided about it."""
        self.known_hosts: dict[str, Host] = {}
        self.batches: dict[str, Batch] = {}
        self.works: dict[str, Work] = {}
        self.tasks: dict[str, Task] = {}
        self.accounts: dict[Account, int] = {}
        """What use is reported by, with its number."""
        self.accounts_of: Counter[str] = Counter()
        """How many accounts each user has."""
        self.next_account = 1
        self.ended_batches: set[str] = set()
        """Submissions that are over, of which the database may not know yet that they were there.
        """
        self.awaiting: dict[str, set[str]] = {}
        """data -> works in DATAREQUEST that wait for it."""
        self.scheduler = Scheduler(self.applications, self.delegations)
        self.next_number = 1
        self.next_epoch = first_epoch(incarnation)
        self.counts = {"submitted": 0, "completed": 0, "failed": 0, "aborted": 0, "lost": 0}

    # --- look-ups ---------------------------------------------------------------------------------

    def who(self, user: User) -> Who:
        """``user`` as far as rights go."""
        return Who(user.uid, user.level, user.group)

    def owner_group(self, owner: str) -> str | None:
        """The user group of ``owner``, which is that of what he owns."""
        user = self.users.get(owner)
        return user.group if user is not None else None

    def check_new(self, uid: str) -> str:
        """``uid`` if no object, of whatever kind, has it or had it; raises AlreadyThere."""
        check_uid(uid)
        for table in (
            self.applications,
            self.datas,
            self.bags,
            self.batches,
            self.works,
            self.users,
            self.user_groups,
            self.credentials,
            self.known_hosts,
            self.pilots,
            self.offers,
            self.delegations,
        ):
            if uid in table:
                raise AlreadyThere(f"there is an object {uid} already")
        return uid

    def find(self, kind: str, name: str) -> Any:
        """The object of ``kind`` with this UID; raises UnknownObject."""
        found = self.tables[kind].get(name)
        if found is None or getattr(found, "is_deleted", False):
            raise UnknownObject.named(kind, name)
        return found

    @property
    def tables(self) -> dict[str, dict[str, Any]]:
        """The objects of each kind."""
        return {
            "user": self.users,
            "user group": self.user_groups,
            "application": self.applications,
            "data": self.datas,
            "session": self.bags,
            "group": self.bags,
            "pilot": self.pilots,
            "host": self.known_hosts,
            "work": self.works,
            "task": self.tasks,
        }

    def user_named(self, login: str) -> User | None:
        """The user with this login, unless he was removed."""
        user = self.users[self.logins[login]] if login in self.logins else None
        return user if user is not None and not user.is_deleted else None

    def user_called(self, name: str) -> User | None:
        """The user with this UID or login, unless he was removed."""
        user = self.users.get(name)
        return user if user is not None and not user.is_deleted else self.user_named(name)

    def user_group_called(self, name: str) -> UserGroup | None:
        """The user group with this UID or name, unless it was removed."""
        for group in self.user_groups.values():
            if name in (group.uid, group.name) and not group.is_deleted:
                return group
        return None

    def new_epoch(self) -> int:
        """An epoch that no task had before."""
        self.next_epoch += 1
        return self.next_epoch

    # --- putting objects in place (loading, and after a decision) ---------------------------------

    def put_user(self, user: User) -> None:
        """``user`` is as given from now on."""
        before = self.users.get(user.uid)
        for subject in before.subjects if before is not None else ():
            del self.subjects[subject]
        self.subjects.update(dict.fromkeys(user.subjects, user.uid))
        self.users[user.uid] = user
        self.logins[user.login] = user.uid
        for share in self.scheduler.shares.values():
            for queue in share.queues.values():
                if queue.owner.uid == user.uid:
                    queue.owner = user
        for state in self.scheduler.hosts.values():
            if state.who.user == user.uid and state.host.pilot is None:
                state.who = replace(state.who, level=user.level, group=user.group)
            elif state.who.user == user.uid:
                # A pilot is a worker of the user's group, whatever he may do himself.
                state.who = replace(state.who, group=user.group)
        self.scheduler.rematch()

    def put_application(self, application: Application) -> None:
        """``application`` is as given from now on."""
        self._count(self.applications.get(application.uid), application)
        self.applications[application.uid] = application
        self.scheduler.rematch()

    def put_data(self, data: Data) -> None:
        """``data`` is as given from now on."""
        self.holdings.change(self.datas.get(data.uid), data)
        self._count(self.datas.get(data.uid), data)
        self.datas[data.uid] = data

    def put_bag(self, bag: Session | Group) -> None:
        """``bag`` is as given from now on."""
        self._count(self.bags.get(bag.uid), bag)
        self.bags[bag.uid] = bag

    def _count(self, before: Owned | None, after: Owned) -> None:
        """One object more of its owner's, or one less."""
        self._owned[after.owner] += (not after.is_deleted) - (
            before is not None and not before.is_deleted
        )

    def check_count(self, owner: str) -> None:
        """Raise LimitExceeded if ``owner`` has as many objects as anybody may."""
        if self._owned[owner] >= self.policy.max_objects:
            raise LimitExceeded(
                f"you have {self._owned[owner]} applications, datas, sessions and groups, which is"
                " all that anybody may ([limits] max_objects of the server); remove some (xw rm)"
            )

    def quota(self, owner: str) -> int:
        """MiB that the datas of ``owner`` may take here; 0: all there is."""
        user = self.users.get(owner)
        own = user.quota_mib if user is not None else None
        return self.policy.quota_mib if own is None else own

    def check_quota(self, data: Data) -> None:
        """Raise LimitExceeded if the content of ``data`` would be more than its owner may have."""
        quota, used = self.quota(data.owner), self.holdings.used(data.owner)
        if not quota or data.is_elsewhere or self.holdings.has(data):
            return
        if self.holdings.has_begun(data.uid):
            return
        if used + data.size > quota << 20:
            raise LimitExceeded(
                f"{data.name} has {data.size} bytes, and your datas take {used} of the"
                f" {quota << 20} that you may have on this server; remove some (xw datas, xw rm),"
                " or leave it on a web server"
            )

    def put_batch(self, submission: Submission, total: int, is_single: bool) -> Batch:
        """The batch of ``submission``, which has ``total`` works so far."""
        batch = self.batches.get(submission.uid)
        if batch is None:
            batch = self.batches[submission.uid] = Batch(submission, is_single=is_single)
        batch.total = max(batch.total, total)
        return batch

    def drop_work(self, work: Work) -> None:
        """``work`` is final: memory needs it no more."""
        del self.works[work.uid]
        batch = self.batches[work.submission.uid]
        batch.open -= 1
        if not batch.open:
            del self.batches[work.submission.uid]
            self.ended_batches.add(work.submission.uid)

    def may_have_forgotten(self, asked: Submit) -> bool:
        """Whether works of the names that a submission gives may have been here, and be over."""
        batch = self.batches.get(asked.uid)
        if batch is None:
            return asked.uid in self.ended_batches
        return asked.single or asked.first < batch.total

    def host_of(self, task: Task) -> HostState | None:
        """The host that has ``task``."""
        return self.scheduler.hosts.get(task.host)

    def release(self, task: Task, now: datetime) -> None:
        """``task`` is over: its host has room again, and its owner's share is charged."""
        del self.tasks[task.uid]
        work = self.works[task.work]
        work.task = None
        description = work.submission.description
        state = self.host_of(task)
        if state is not None and task.uid in state.tasks:
            state.take_back(task, demand_of(description, work.submission.rights))
        share = self.scheduler.share(work.submission.owner, now)
        share.end(description.cores, task.created_at, now)


MOST_INTEGER = 2**31 - 1
LONGEST_TEXT = 1000


def clean(text: str, longest: int = LONGEST_TEXT) -> str:
    """``text`` of a peer as every database takes it."""
    return text[:longest].replace("\0", "").encode("utf-8", "replace").decode("utf-8")


_UID_FORM = re.compile("[0-9A-Za-z-]{1,64}")


def check_uid(uid: str) -> str:
    """``uid`` if it has the form of one; raises BadRequest."""
    if _UID_FORM.fullmatch(uid) is None:
        raise BadRequest(f"{uid[:80]!r} is no UID: 1 to 64 letters, digits and hyphens")
    return uid


def check_name(name: str) -> str:
    """``name`` if an object may have it; raises BadRequest."""
    if not 0 < len(name) <= 255 or not name.isprintable():
        raise BadRequest(f"{name[:80]!r} is no name: 1 to 255 printable characters")
    return name


def bounded(number: int) -> int:
    """``number`` of a peer, cut to what every database's column takes."""
    return max(-MOST_INTEGER, min(MOST_INTEGER, number))


def timestamp(at: datetime | None) -> float | None:
    """``at`` as it stands in the database."""
    return None if at is None else at.timestamp()


_encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode


def description_text(description: Description) -> str:
    """``description`` as it stands in the database: its fields but those at their default."""
    said = {
        name: getattr(description, name)
        for name, field_ in Description.__dataclass_fields__.items()
        if getattr(description, name) != field_.default
    }
    return _encode(said).decode()


def arguments_text(arguments: tuple[str, ...]) -> str:
    """``arguments`` as they stand in the database."""
    return _encode(arguments).decode() if arguments else "[]"


def host_row(host: Host) -> c.HostSaved:
    """The row of ``host``."""
    return c.HostSaved(
        host.uid,
        host.owner,
        host.facts.name,
        _encode(host.facts).decode(),
        host.first_seen_at.timestamp(),
        host.last_seen_at.timestamp(),
        timestamp(host.ends_at),
        host.pilot,
    )


def work_row(
    work: Work, ended_at: datetime | None = None, task: str | None = None
) -> c.WorkUpdated:
    """The row of ``work`` as it is now; ``task`` names the one whose result counts."""
    live = work.task
    return c.WorkUpdated(
        work.uid,
        work.status.value,
        work.attempts,
        work.failures,
        live.uid if live is not None else task,
        live.host if live is not None else None,
        work.reason,
        timestamp(ended_at),
    )


def pilot_row(pilot: Pilot, ended_at: datetime | None = None) -> c.PilotUpdated:
    """The row of ``pilot`` as it is now."""
    return c.PilotUpdated(
        pilot.stamp,
        pilot.status.value,
        pilot.reference,
        pilot.session_verifier,
        pilot.host,
        pilot.reason,
        pilot.deadline_at.timestamp(),
        pilot.tasks_done,
        timestamp(ended_at),
        timestamp(pilot.started_at),
        pilot.cores,
        pilot.account,
    )
