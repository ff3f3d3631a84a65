"""What each request of a client leads to, and the policy that lets it through: one entry of
:data:`REQUESTS` a verb.

A verb without an entry is refused, so that no request passes without a policy. A function gives the
body of the reply, or a :class:`Reading`: a question that only the database can answer. Errors are
raised before anything is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from desktopgrid.model.errors import AccessDenied, UnknownObject
from desktopgrid.model.lifecycle import FINAL_WORKS
from desktopgrid.model.objects import Task, User, UserGroup, Work
from desktopgrid.model.rights import (
    EVERYTHING,
    READ,
    Scope,
    Who,
    grants,
    may_administer,
    may_change,
    may_insert,
    may_provision,
)
from desktopgrid.server import changes as c
from desktopgrid.server import (
    delegations,
    demand,
    explain,
    inserting,
    leaving,
    listing,
    pilots,
    reporting,
    submitting,
    users,
)
from desktopgrid.server.state import Grid, Outcome, Owned
from desktopgrid.server.tasks import abort, offer
from desktopgrid.wire import messages as m

Body = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """A question for the database: ``kind`` of rows, as ``who`` may see them."""

    who: Who
    question: m.ListObjects | m.GetResults | m.Why | m.Watch | m.Report | m.UsageRecords
    known: Body


class Entry(NamedTuple):
    """Who may ask (None: each function decides by the object), what is done, and what the token of
    the asker must be good for.
    """

    policy: Callable[[Who], bool] | None
    do: Callable[[Grid, Who, str, Any, datetime, Outcome], Body | Reading]
    scope: Scope = Scope.MANAGE


def answer(
    grid: Grid, who: Who, session: str, request: m.Request, now: datetime, out: Outcome
) -> Body | Reading:
    """What ``request`` leads to; raises a GridError, and then nothing was changed."""
    return permitted(who, request).do(grid, who, session, request, now, out)


def permitted(who: Who, request: m.Request) -> Entry:
    """What is done for ``request``, if ``who`` may ask it at all; raises AccessDenied. Ask before
    anything is prepared for it that takes time.
    """
    entry = REQUESTS.get(type(request))
    if entry is None:
        raise AccessDenied(f"no policy lets anybody ask {request.verb}")
    if entry.policy is not None and not entry.policy(who):
        level = who.level.name.lower()
        raise AccessDenied(f"a user of level {level} may not {WORDS[type(request)]}")
    if not entry.scope & who.scope:
        good = str(who.scope) or "all but that"
        raise AccessDenied(
            f"your token is good for {good} only; to {WORDS[type(request)]} it has to be good for"
            f" {entry.scope}"
        )
    return entry


# --- works ----------------------------------------------------------------------------------------


def _watch(
    grid: Grid, who: Who, session: str, asked: m.Watch, now: datetime, out: Outcome
) -> Body | Reading:
    still_open = []
    for name in asked.works:
        batch = grid.batches.get(name)
        if batch is None and name in grid.works:
            batch = grid.batches[grid.works[name].submission.uid]
        if batch is None:
            continue
        submission = batch.submission
        group = grid.owner_group(submission.owner)
        if grants(who, READ, submission.owner, group, submission.rights):
            if session:
                batch.watchers.add(session)
            still_open.append(name)
    return Reading(who, asked, {"open": still_open})


def _cancel(
    grid: Grid, who: Who, session: str, asked: m.Cancel, now: datetime, out: Outcome
) -> Body:
    aborted = []
    for work in _open_works(grid, who, asked.works):
        abort(grid, work, "cancelled by its user", now, out)
        aborted.append(work.uid)
    offer(grid, now, out)
    return {"aborted": aborted}


def _open_works(grid: Grid, who: Who, names: tuple[str, ...]) -> list[Work]:
    """The open works of these names, or of the submissions of these names; raises AccessDenied if
    one is not the caller's.
    """
    found: dict[str, Work] = {}
    for name in names:
        batch = grid.batches.get(name)
        uids = list(batch.names()) if batch is not None else [name]
        for uid in uids:
            work = grid.works.get(uid)
            if work is None:
                continue
            if not may_change(who, work.submission.owner):
                raise AccessDenied(f"work {uid} is another user's")
            found[uid] = work
    return list(found.values())


def _results(
    grid: Grid, who: Who, session: str, asked: m.GetResults, now: datetime, out: Outcome
) -> Reading:
    return Reading(who, asked, {})


def _why(
    grid: Grid, who: Who, session: str, asked: m.Why, now: datetime, out: Outcome
) -> Body | Reading:
    sentences = explain.why(grid, who, asked.uid, now)
    return {"sentences": sentences} if sentences else Reading(who, asked, {})


def _list(
    grid: Grid, who: Who, session: str, asked: m.ListObjects, now: datetime, out: Outcome
) -> Body | Reading:
    rows = listing.rows(grid, who, asked, now)
    return Reading(who, asked, {}) if rows is None else rows


def _stats(grid: Grid, who: Who, session: str, asked: m.Stats, now: datetime, out: Outcome) -> Body:
    hosts = grid.scheduler.hosts.values()
    connected = [state for state in hosts if state.is_connected]
    return {
        **grid.counts,
        "waiting": grid.scheduler.waiting,
        "open": len(grid.works),
        "tasks": len(grid.tasks),
        "hosts": len(connected),
        "cores": sum(state.host.facts.cores for state in connected),
        "cores_given": sum(min(state.cores_given, state.host.facts.cores) for state in connected),
        "incarnation": grid.incarnation,
        # In whole MiB that were begun; a quota of 0 is none.
        "your_data_mib": -(-grid.holdings.used(who.user) >> 20),
        "your_quota_mib": grid.quota(who.user),
    }


def _report(
    grid: Grid, who: Who, session: str, asked: m.Report, now: datetime, out: Outcome
) -> Reading:
    return Reading(who, reporting.whole(asked, now), {})


def _usage_records(
    grid: Grid, who: Who, session: str, asked: m.UsageRecords, now: datetime, out: Outcome
) -> Reading:
    return Reading(who, reporting.checked(asked), {})


def _remove(
    grid: Grid, who: Who, session: str, asked: m.Remove, now: datetime, out: Outcome
) -> Body | Reading:
    """XW-GEN-1: marked deleted, never used again. All of them, or none if one cannot be."""
    works = _open_works(grid, who, asked.uids)
    others: list[Owned] = []
    leavers: dict[str, User | UserGroup] = {}
    over = {name for work in out.ended for name in (work, work.rpartition("-")[0])}
    for uid in asked.uids:
        if uid in grid.works or uid in grid.batches:
            continue
        found = inserting.removable(grid, who, uid)
        leaver = leaving.removable(grid, who, uid, asked.uids) if found is None else None
        if found is not None:
            others.append(found)
        elif leaver is not None:
            leavers[leaver.uid] = leaver
        elif uid not in over:
            raise UnknownObject.named("object", uid)
    for uid, owner in out.ended.items():
        if not may_change(who, owner):
            raise AccessDenied(f"work {uid} is another user's")

    for work in works:
        abort(grid, work, "removed by its user", now, out)
    for found in others:
        inserting.delete(grid, found, out)
    for leaver in leavers.values():
        leaving.remove(grid, leaver, now, out)
    gone = [*(work.uid for work in works), *(uid for uid in out.ended if uid not in grid.works)]
    out.changes.extend(c.WorkRemoved(uid, now.timestamp()) for uid in gone)
    offer(grid, now, out)
    return {"removed": [*gone, *(each.uid for each in (*others, *leavers.values()))]}


REQUESTS: dict[type[m.Request], Entry] = {
    m.Submit: Entry(may_insert, submitting.submit, Scope.CREATE),
    m.Watch: Entry(None, _watch, Scope.READ),
    m.Cancel: Entry(may_insert, _cancel, Scope.CANCEL),
    m.ListObjects: Entry(None, _list, Scope.READ),
    m.GetResults: Entry(None, _results, Scope.READ),
    m.Why: Entry(None, _why, Scope.READ),
    m.Stats: Entry(None, _stats, Scope.READ),
    m.Report: Entry(None, _report, Scope.READ),
    m.UsageRecords: Entry(may_administer, _usage_records, Scope.READ),
    m.SendApplication: Entry(may_insert, inserting.send_application),
    m.SendData: Entry(may_insert, inserting.send_data, Scope.CREATE),
    m.SendGroup: Entry(may_insert, inserting.send_group),
    m.SendUser: Entry(may_administer, users.send_user),
    m.ChangeUser: Entry(may_administer, users.change_user),
    m.SendToken: Entry(may_insert, users.send_token),
    m.Revoke: Entry(may_insert, leaving.revoke, EVERYTHING),
    m.Chmod: Entry(may_insert, inserting.chmod),
    m.Remove: Entry(may_insert, _remove),
    m.Demand: Entry(may_provision, demand.situation, Scope.READ),
    m.SubmitPilots: Entry(may_provision, pilots.submit),
    m.PilotReport: Entry(may_provision, pilots.report),
    m.DrainPilots: Entry(may_provision, pilots.drain),
    m.SiteReport: Entry(may_provision, demand.report),
    m.Validate: Entry(may_administer, inserting.validate),
    m.SendOffers: Entry(may_provision, delegations.send_offers, Scope.BRIDGE),
    m.TakeOffer: Entry(may_insert, delegations.take_offer, Scope.CREATE),
    m.Delegate: Entry(may_insert, delegations.delegate, Scope.CREATE),
    m.FetchDelegation: Entry(may_provision, delegations.fetch, Scope.BRIDGE),
    m.DelegationReport: Entry(may_provision, delegations.report, Scope.BRIDGE),
}

WORDS: dict[type[m.Request], str] = {
    m.Submit: "submit works",
    m.Watch: "wait for works",
    m.Cancel: "cancel works",
    m.ListObjects: "list objects",
    m.GetResults: "fetch results",
    m.Why: "ask why a work waits",
    m.Stats: "ask how the grid does",
    m.Report: "ask for reports",
    m.UsageRecords: "read the records of everybody's use",
    m.SendApplication: "insert applications",
    m.SendData: "insert datas",
    m.SendGroup: "insert sessions and groups",
    m.SendUser: "insert users",
    m.ChangeUser: "change users",
    m.SendToken: "make tokens",
    m.Revoke: "revoke users and tokens",
    m.Chmod: "change access rights",
    m.Remove: "remove objects",
    m.Demand: "see what pilots are wanted for",
    m.SubmitPilots: "submit pilots",
    m.PilotReport: "report on pilots",
    m.DrainPilots: "drain pilots",
    m.SiteReport: "report on sites",
    m.Validate: "validate applications",
    m.SendOffers: "offer to take delegations",
    m.TakeOffer: "delegate what you have",
    m.Delegate: "delegate what you have",
    m.FetchDelegation: "fetch what was delegated",
    m.DelegationReport: "report on what was delegated",
}
"""What each request is to do, as people say it."""

READING = frozenset(
    (
        m.Watch,
        m.ListObjects,
        m.GetResults,
        m.Why,
        m.Stats,
        m.Demand,
        m.Report,
        m.UsageRecords,
    )
)
PASSING = frozenset((m.SiteReport,))
"""The requests that change what is told, and nothing that is kept: the last one counts."""
RECORDED = frozenset(REQUESTS) - READING - PASSING - {m.Submit, m.FetchDelegation}
"""The requests whose reply is recorded, so that asking again has no second effect. A submission is
known by the names of its works.
"""

__all__ = ["FINAL_WORKS", "RECORDED", "REQUESTS", "Reading", "Task", "answer"]
