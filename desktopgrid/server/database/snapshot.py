"""Everything alive in a shard, as a server reads it at its start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, or_, select

from desktopgrid.model.accounting import Account
from desktopgrid.model.lifecycle import DelegationStatus, PilotStatus
from desktopgrid.model.objects import (
    Application,
    Bridge,
    Credential,
    Data,
    Delegation,
    Facts,
    Group,
    Host,
    Offer,
    Pilot,
    Platform,
    Session,
    Submission,
    User,
    UserGroup,
    Work,
)
from desktopgrid.model.rights import Scope, UserLevel
from desktopgrid.server.database.live import live_works
from desktopgrid.server.database.portions import streamed
from desktopgrid.server.database.records import Shard
from desktopgrid.server.database.schema import (
    accounts,
    applications,
    bags,
    bridges,
    credentials,
    datas,
    delegations,
    executables,
    hosts,
    offers,
    pilots,
    replies,
    subjects,
    usergroups,
    users,
    works,
)

PILOT_MEMORY = 3600.0
"""Seconds before the newest pilot for which final ones are read too: the caps count an hour."""

_facts: Callable[[str], Facts] = msgspec.json.Decoder(Facts).decode
_texts: Callable[[str], list[str]] = msgspec.json.Decoder(list[str]).decode
_at = partial(datetime.fromtimestamp, tz=UTC)


@dataclass(frozen=True)
class RecordedReply:
    """The answer to a request that changed something: ``body`` as it was recorded."""

    user: str
    body: str
    recorded_at: datetime


@dataclass(eq=False)
class Snapshot:
    """Everything alive in a shard, and what all shards share.

    ``works`` are in the order of their numbers; each holds its submission, and its task if it has
    one. ``totals`` has for each sweep with open works how many it was in all; a submission that is
    not there is a single work.
    """

    users: list[User] = field(default_factory=list)
    user_groups: list[UserGroup] = field(default_factory=list)
    credentials: list[Credential] = field(default_factory=list)
    bridges: list[Bridge] = field(default_factory=list)
    offers: list[Offer] = field(default_factory=list)
    delegations: list[Delegation] = field(default_factory=list)
    datas: list[Data] = field(default_factory=list)
    applications: list[Application] = field(default_factory=list)
    bags: list[Session | Group] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)
    pilots: list[Pilot] = field(default_factory=list)
    submissions: dict[str, Submission] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)
    works: list[Work] = field(default_factory=list)
    replies: dict[tuple[str, int], RecordedReply] = field(default_factory=dict)
    next_number: int = 1
    accounts: dict[Account, int] = field(default_factory=dict)
    next_account: int = 1


def load(connection: Connection, shard: Shard) -> Snapshot:
    """The live objects of ``shard``, to be read after it was taken."""
    number = shard.number
    alive = live_works(connection, number)
    return Snapshot(
        users=_users(connection),
        user_groups=[
            UserGroup(row.uid, row.name, bool(row.is_deleted))
            for row in connection.execute(select(usergroups))
        ],
        credentials=_credentials(connection),
        bridges=[
            Bridge(row.user, row.signing_key, row.sealing_key, _at(row.saved_at))
            for row in connection.execute(select(bridges))
        ],
        offers=[
            _offer(row) for row in connection.execute(select(offers).order_by(offers.c.number))
        ],
        delegations=[_delegation(row) for row in connection.execute(select(delegations))],
        datas=_datas(connection),
        applications=_applications(connection),
        bags=[_bag(row) for row in connection.execute(select(bags))],
        hosts=_hosts(connection, number),
        pilots=_pilots(connection, number),
        submissions=alive.submissions,
        totals=alive.totals,
        works=alive.works,
        replies=_replies(connection, number),
        next_number=_next_number(connection, number),
        accounts=_accounts(connection, number),
        next_account=_next_account(connection, number),
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else _at(seconds)


def _users(connection: Connection) -> list[User]:
    names: dict[str, list[str]] = {}
    for row in connection.execute(select(subjects).where(subjects.c.user.is_not(None))):
        names.setdefault(row.user, []).append(row.subject)
    found = [_user(row) for row in connection.execute(select(users))]
    return [replace(each, subjects=tuple(sorted(names.get(each.uid, ())))) for each in found]


def _user(row: Row[Any]) -> User:
    return User(
        row.uid,
        row.login,
        UserLevel(row.level),
        row.group,
        row.email,
        bool(row.is_revoked),
        row.quota_mib,
        bool(row.is_deleted),
    )


def _credentials(connection: Connection) -> list[Credential]:
    wanted = select(credentials).where(credentials.c.is_revoked.is_(False))
    return [
        Credential(
            row.uid,
            row.user,
            row.kind,
            row.verifier,
            _at(row.created_at),
            _time(row.expires_at),
            label=row.label,
            scope=Scope.of(row.scope),
            source=row.source,
            last_used_at=_time(row.last_used_at),
            subject=row.subject,
            serials=tuple(_texts(row.serials)) if row.serials else (),
        )
        for row in connection.execute(wanted)
    ]


def _offer(row: Row[Any]) -> Offer:
    return Offer(
        row.uid,
        row.bridge,
        row.request,
        row.signature,
        _at(row.created_at),
        row.taken_by,
        _time(row.taken_at),
    )


def _delegation(row: Row[Any]) -> Delegation:
    """Also one that is over: its name is not given again, and works may carry it."""
    return Delegation(
        row.uid,
        row.owner,
        row.bridge,
        row.kind,
        DelegationStatus(row.status),
        _at(row.created_at),
        _at(row.expires_at),
        row.generation,
        row.content,
        row.offer,
        row.subject,
        row.made_from,
        tuple(row.serials.splitlines()),
        row.vo,
        tuple(row.attributes.splitlines()),
        _time(row.attributes_end_at),
        row.label,
        row.reason,
    )


def _datas(connection: Connection) -> list[Data]:
    """All of them: the name of one that was removed is not given again."""
    columns = [datas.c[name] for name in Data.__dataclass_fields__]
    wanted = select(*columns).order_by(datas.c.number)
    return [Data(*row) for row in streamed(connection, wanted)]


def _applications(connection: Connection) -> list[Application]:
    """All of them: a work may wait for one that was deleted since."""
    programs: dict[str, dict[Platform, str]] = {}
    for row in connection.execute(select(executables)):
        programs.setdefault(row.application, {})[Platform(row.cpu, row.os)] = row.data
    return [
        Application(
            row.uid,
            row.name,
            row.owner,
            row.rights,
            programs.get(row.uid, {}),
            row.is_deleted,
            row.validated_by,
            _time(row.validated_at),
        )
        for row in connection.execute(select(applications).order_by(applications.c.number))
    ]


def _bag(row: Row[Any]) -> Session | Group:
    kind = Session if row.kind == "session" else Group
    return kind(row.uid, row.name, row.owner, row.rights, bool(row.is_deleted))


def _hosts(connection: Connection, shard: int) -> list[Host]:
    wanted = select(hosts).where(hosts.c.shard == shard)
    return [
        Host(
            row.uid,
            row.owner,
            _facts(row.facts),
            _at(row.first_seen_at),
            _at(row.last_seen_at),
            _time(row.ends_at),
            row.pilot,
        )
        for row in streamed(connection, wanted)
    ]


def _pilots(connection: Connection, shard: int) -> list[Pilot]:
    newest = select(func.max(pilots.c.submitted_at)).scalar_subquery()
    is_recent = pilots.c.submitted_at >= newest - PILOT_MEMORY
    wanted = select(pilots).where(
        pilots.c.shard == shard, or_(pilots.c.ended_at.is_(None), is_recent)
    )
    return [
        Pilot(
            row.stamp,
            row.site,
            row.owner,
            PilotStatus(row.status),
            row.verifier,
            _at(row.submitted_at),
            _at(row.deadline_at),
            row.wall_time,
            row.reference,
            row.session_verifier,
            row.host,
            row.reason,
            row.tasks_done,
            _time(row.ended_at),
            _time(row.started_at),
            row.cores,
            row.account,
            row.delegation,
        )
        for row in connection.execute(wanted.order_by(pilots.c.number))
    ]


def _replies(connection: Connection, shard: int) -> dict[tuple[str, int], RecordedReply]:
    wanted = select(replies).where(replies.c.shard == shard)
    return {
        (row.session, row.sequence): RecordedReply(row.user, row.body, _at(row.recorded_at))
        for row in streamed(connection, wanted)
    }


def _accounts(connection: Connection, shard: int) -> dict[Account, int]:
    columns = [accounts.c[name] for name in Account._fields]
    wanted = select(accounts.c.number, *columns).where(accounts.c.shard == shard)
    return {Account(*row[1:]): row[0] for row in streamed(connection, wanted)}


def _next_account(connection: Connection, shard: int) -> int:
    """The first free number of the shard; each has 2^40 of its own."""
    last = connection.execute(
        select(func.max(accounts.c.number)).where(accounts.c.shard == shard)
    ).scalar()
    return (shard << 40) + 1 if last is None else int(last) + 1


def _next_number(connection: Connection, shard: int) -> int:
    """The first free number of the shard; each has 2^40 of its own."""
    first = shard << 40
    last = connection.execute(
        select(func.max(works.c.number)).where(works.c.number.between(first, first + (1 << 40) - 1))
    ).scalar()
    return first + 1 if last is None else int(last) + 1
