"""What each request of a client leads to, and the policy that lets it through: one entry of
:data:`REQUESTS` a verb.

A verb without an entry is refused, so that no request passes without a policy. A function gives the
body of the reply, or a :class:`Reading`: a question that only the database can answer. Errors are
raised before anything is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from desktopgrid.model.errors import AccessDenied, AlreadyThere, BadRequest, UnknownObject
from desktopgrid.model.lifecycle import (
    FINAL_WORKS,
    TaskEvent,
    WorkEvent,
    WorkStatus,
)
from desktopgrid.model.objects import (
    Application,
    Credential,
    Data,
    Group,
    Platform,
    Session,
    Task,
    User,
    UserGroup,
    Work,
)
from desktopgrid.model.rights import (
    READ,
    UserLevel,
    Who,
    application_rights,
    grants,
    may_administer,
    may_change,
    may_choose_rights,
    may_insert,
    may_provision,
)
from desktopgrid.server import changes as c
from desktopgrid.server import explain, listing, pilots, submitting
from desktopgrid.server.hosts import host_left
from desktopgrid.server.state import Grid, Outcome, check_uid, clean, timestamp
from desktopgrid.server.tasks import conclude, end_task, offer
from desktopgrid.wire import messages as m

Body = dict[str, Any]

LONGEST_WORD = 32
"""Characters in the name of a CPU type or of an operating system."""
LONGEST_LIFETIME = 10**9
"""Seconds that a token may live, unless it has no end."""


@dataclass(frozen=True)
class Reading:
    """A question for the database: ``kind`` of rows, as ``who`` may see them."""

    who: Who
    question: m.ListObjects | m.GetResults | m.Why | m.Watch
    known: Body


class Entry(NamedTuple):
    """Who may ask (None: each function decides by the object), and what is done."""

    policy: Callable[[Who], bool] | None
    do: Callable[[Grid, Who, str, Any, datetime, Outcome], Body | Reading]


def answer(
    grid: Grid, who: Who, session: str, request: m.Request, now: datetime, out: Outcome
) -> Body | Reading:
    """What ``request`` leads to; raises a GridError, and then nothing was changed."""
    entry = REQUESTS.get(type(request))
    if entry is None:
        raise AccessDenied(f"no policy lets anybody ask {request.verb}")
    if entry.policy is not None and not entry.policy(who):
        level = who.level.name.lower()
        raise AccessDenied(f"a user of level {level} may not {request.verb}")
    return entry.do(grid, who, session, request, now, out)


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


def abort(grid: Grid, work: Work, reason: str, now: datetime, out: Outcome) -> None:
    """``work`` is taken back: what runs of it is stopped."""
    task = work.task
    if task is not None:
        state = grid.host_of(task)
        if state is not None:
            out.push(state.session, m.Abandon(task.uid, task.epoch, reason))
        end_task(grid, task, TaskEvent.ABORTED, reason, now, out)
    elif work.status is WorkStatus.WAITING:
        grid.scheduler.forget(work, grid.users[work.submission.owner], now)
    conclude(grid, work, WorkEvent.ABORTED, reason, now, out)
    grid.counts["aborted"] += 1


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
    }


# --- applications, datas, bags --------------------------------------------------------------------


def _send_application(
    grid: Grid, who: Who, session: str, asked: m.SendApplication, now: datetime, out: Outcome
) -> Body:
    name = check_name(asked.name)
    for word in (asked.cpu, asked.os):
        if not 0 < len(word) <= LONGEST_WORD or not word.isprintable():
            raise BadRequest(f"{word[:40]!r} is neither a CPU type nor an operating system")
    data = readable_data(grid, who, asked.data)
    rights = asked.rights if asked.rights is not None else application_rights(who)
    if rights is not None:
        check_rights(rights)
    if rights is None or not may_choose_rights(who, rights):
        raise AccessDenied(
            f"a user of level {who.level.name.lower()} may insert private applications only"
        )
    known = application_named(grid, who, name)
    if known is not None and known.owner == who.user:
        application = replace(
            known,
            executables={**known.executables, Platform(asked.cpu, asked.os): data.uid},
        )
    elif known is not None and name == known.name and who.level < UserLevel.ADVANCED:
        raise AlreadyThere(f"application {name!r} is there already, and is another user's")
    else:
        application = Application(
            check_uid(asked.uid), name, who.user, rights, {Platform(asked.cpu, asked.os): data.uid}
        )
        if application.uid in grid.applications:
            raise AlreadyThere(f"there is an application {application.uid} already")
    grid.put_application(application)
    out.changes.append(
        c.ApplicationSaved(
            application.uid, application.name, application.owner, application.rights, False
        )
    )
    out.changes.append(c.ExecutableSaved(application.uid, asked.cpu, asked.os, data.uid))
    offer(grid, now, out)
    return {"uid": application.uid, "name": application.name, "rights": application.rights}


def application_named(grid: Grid, who: Who, name: str) -> Application | None:
    """The application with this UID or name that ``who`` may see: his own before others'."""
    found = grid.applications.get(name)
    if found is not None and not found.is_deleted:
        return found
    same = [
        a
        for a in grid.applications.values()
        if a.name == name
        and not a.is_deleted
        and grants(who, READ, a.owner, grid.owner_group(a.owner), a.rights)
    ]
    return min(same, key=lambda a: (a.owner != who.user, a.uid), default=None)


def readable_data(grid: Grid, who: Who, uid: str) -> Data:
    """The data with this UID, if ``who`` may read it; raises UnknownObject, as for one that is not
    there.
    """
    data: Data = grid.find("data", uid)
    if not grants(who, READ, data.owner, grid.owner_group(data.owner), data.rights):
        raise UnknownObject.named("data", uid)
    return data


def _send_data(
    grid: Grid, who: Who, session: str, asked: m.SendData, now: datetime, out: Outcome
) -> Body:
    if len(asked.sha256) != 64 or set(asked.sha256) - set("0123456789abcdef"):
        raise BadRequest("sha256 must be 64 hexadecimal digits")
    if not 0 <= asked.size <= grid.policy.max_data_bytes:
        raise BadRequest(f"a data of {asked.size} bytes; at most {grid.policy.max_data_bytes}")
    check_rights(asked.rights)
    known = grid.datas.get(check_uid(asked.uid))
    if known is not None:
        if known.owner == who.user and (known.sha256, known.size) == (asked.sha256, asked.size):
            return {"uid": known.uid, "available": known.is_available}
        raise AlreadyThere(f"there is a data {asked.uid} already")
    # Content that another data of the caller has already need not be sent again. Others' content
    # must be: having a digest does not show that one has the content.
    has_content = any(
        d.sha256 == asked.sha256 and d.is_available and not d.is_deleted and d.owner == who.user
        for d in grid.datas.values()
    )
    data = Data(
        asked.uid,
        check_name(asked.name),
        who.user,
        asked.rights,
        asked.sha256,
        asked.size,
        clean(asked.type, 100),
        f"xw:///v1/datas/{asked.uid}",
        has_content,
    )
    grid.datas[data.uid] = data
    out.changes.append(data_row(data))
    return {"uid": data.uid, "available": has_content}


def data_row(data: Data) -> c.DataSaved:
    """The row of ``data``."""
    return c.DataSaved(
        data.uid,
        data.name,
        data.owner,
        data.rights,
        data.sha256,
        data.size,
        data.type,
        data.uri,
        data.is_available,
        data.is_deleted,
    )


def check_name(name: str) -> str:
    """``name`` if an object may have it; raises BadRequest."""
    if not 0 < len(name) <= 255 or not name.isprintable():
        raise BadRequest(f"{name[:80]!r} is no name: 1 to 255 printable characters")
    return name


def check_rights(rights: int) -> int:
    """``rights`` if they are access rights; raises BadRequest."""
    if not 0 <= rights <= 0o777:
        raise BadRequest(f"access rights {rights:#o} are not between 0 and 0o777")
    return rights


def _send_group(
    grid: Grid, who: Who, session: str, asked: m.SendGroup, now: datetime, out: Outcome
) -> Body:
    uid, name = check_uid(asked.uid), check_name(asked.name)
    if asked.kind == "usergroup":
        if not may_administer(who):
            raise AccessDenied("only a super user may insert user groups")
        if any(group.name == name for group in grid.user_groups.values()):
            raise AlreadyThere(f"there is a user group {name!r} already")
        grid.user_groups[uid] = UserGroup(uid, name)
        out.changes.append(c.UserGroupInserted(uid, name))
    elif asked.kind in ("session", "group"):
        if uid in grid.bags:
            raise AlreadyThere(f"there is a {asked.kind} {uid} already")
        make = Session if asked.kind == "session" else Group
        grid.bags[uid] = make(uid, name, who.user)
        out.changes.append(c.BagInserted(uid, asked.kind, name, who.user))
    else:
        raise BadRequest(f"{asked.kind[:40]!r} is not one of session, group, usergroup")
    return {"uid": uid, "name": name}


# --- users ----------------------------------------------------------------------------------------


def _send_user(
    grid: Grid, who: Who, session: str, asked: m.SendUser, now: datetime, out: Outcome
) -> Body:
    login = check_name(asked.login)
    if login in grid.logins:
        raise AlreadyThere(f"there is a user {login!r} already")
    try:
        level = UserLevel.named(asked.level)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    if asked.group is not None:
        grid.find("user group", asked.group)
    user = User(check_uid(asked.uid), login, level, asked.group, clean(asked.email, 255))
    if user.uid in grid.users:
        raise AlreadyThere(f"there is a user {user.uid} already")
    save_user(grid, user, out)
    if asked.password:
        # The shell has replaced the password by its argon2 hash before it came here.
        save_credential(grid, Credential(user.uid, user.uid, "password", asked.password, now), out)
    return {"uid": user.uid, "login": user.login}


def save_user(grid: Grid, user: User, out: Outcome) -> None:
    """``user`` is as given from now on."""
    grid.put_user(user)
    out.changes.append(
        c.UserSaved(user.uid, user.login, int(user.level), user.group, user.email, user.is_revoked)
    )


def save_credential(grid: Grid, credential: Credential, out: Outcome) -> None:
    """``credential`` is as given from now on."""
    grid.credentials[credential.uid] = credential
    out.changes.append(
        c.CredentialSaved(
            credential.uid,
            credential.user,
            credential.kind,
            credential.verifier,
            credential.created_at.timestamp(),
            timestamp(credential.expires_at),
            credential.is_revoked,
        )
    )


def _send_token(
    grid: Grid, who: Who, session: str, asked: m.SendToken, now: datetime, out: Outcome
) -> Body:
    user: User = grid.find("user", asked.user or who.user)
    if user.uid != who.user and not may_administer(who):
        raise AccessDenied("only a super user may make tokens for others")
    if len(asked.verifier) != 64 or set(asked.verifier) - set("0123456789abcdef"):
        raise BadRequest("a verifier must be 64 hexadecimal digits")
    if check_uid(asked.uid) in grid.credentials:
        raise AlreadyThere(f"there is a token {asked.uid} already")
    if asked.lifetime is not None and not 0 < asked.lifetime <= LONGEST_LIFETIME:
        raise BadRequest(f"lifetime is 1 to {LONGEST_LIFETIME} seconds")
    expires_at = now + timedelta(seconds=asked.lifetime) if asked.lifetime else None
    save_credential(
        grid, Credential(asked.uid, user.uid, "token", asked.verifier, now, expires_at), out
    )
    return {"uid": asked.uid}


def _revoke(
    grid: Grid, who: Who, session: str, asked: m.Revoke, now: datetime, out: Outcome
) -> Body:
    """XW-USR-13: at any time, and at once."""
    credential = grid.credentials.get(asked.uid)
    user = grid.users.get(asked.uid) or grid.user_named(asked.uid)
    owner = credential.user if credential is not None else user.uid if user is not None else None
    if owner is None:
        raise UnknownObject.named("user or token", asked.uid)
    if not may_administer(who) and not (credential is not None and owner == who.user):
        raise AccessDenied("only a super user may revoke users and others' tokens")
    if credential is not None:
        save_credential(grid, replace(credential, is_revoked=True), out)
    elif user is not None:
        save_user(grid, replace(user, is_revoked=True), out)
        for state in list(grid.scheduler.hosts.values()):
            if state.who.user == user.uid:
                if state.session is not None:
                    out.closing.append((state.session, "not-authenticated", "revoked"))
                host_left(grid, state, TaskEvent.LOST, "its worker's user was revoked", now, out)
    out.closing.append(
        (f"by:{asked.uid if credential is not None else owner}", "not-authenticated", "revoked")
    )
    return {"revoked": asked.uid}


def _remove(
    grid: Grid, who: Who, session: str, asked: m.Remove, now: datetime, out: Outcome
) -> Body | Reading:
    """XW-GEN-1: marked deleted, never used again. All of them, or none if one cannot be."""
    works = _open_works(grid, who, asked.uids)
    others: list[Application | Data] = []
    for uid in asked.uids:
        if uid in grid.works or uid in grid.batches:
            continue
        found = grid.applications.get(uid) or grid.datas.get(uid)
        if found is not None and not found.is_deleted:
            if not may_change(who, found.owner):
                raise AccessDenied(f"{uid} is another user's")
            others.append(found)
        elif not any(work == uid or work.startswith(f"{uid}-") for work in out.ended):
            raise UnknownObject.named("work, application or data", uid)
    for uid, owner in out.ended.items():
        if not may_change(who, owner):
            raise AccessDenied(f"work {uid} is another user's")

    for work in works:
        abort(grid, work, "removed by its user", now, out)
    for found in others:
        _delete(grid, found, out)
    gone = [*(work.uid for work in works), *(uid for uid in out.ended if uid not in grid.works)]
    out.changes.extend(c.WorkRemoved(uid, now.timestamp()) for uid in gone)
    offer(grid, now, out)
    return {"removed": [*gone, *(found.uid for found in others)]}


def _delete(grid: Grid, found: Application | Data, out: Outcome) -> None:
    gone = replace(found, is_deleted=True)
    if isinstance(gone, Application):
        grid.put_application(gone)
        out.changes.append(c.ApplicationSaved(gone.uid, gone.name, gone.owner, gone.rights, True))
    else:
        grid.datas[gone.uid] = gone
        out.changes.append(data_row(gone))


REQUESTS: dict[type[m.Request], Entry] = {
    m.Submit: Entry(may_insert, submitting.submit),
    m.Watch: Entry(None, _watch),
    m.Cancel: Entry(may_insert, _cancel),
    m.ListObjects: Entry(None, _list),
    m.GetResults: Entry(None, _results),
    m.Why: Entry(None, _why),
    m.Stats: Entry(None, _stats),
    m.SendApplication: Entry(may_insert, _send_application),
    m.SendData: Entry(may_insert, _send_data),
    m.SendGroup: Entry(may_insert, _send_group),
    m.SendUser: Entry(may_administer, _send_user),
    m.SendToken: Entry(may_insert, _send_token),
    m.Revoke: Entry(may_insert, _revoke),
    m.Remove: Entry(may_insert, _remove),
    m.SubmitPilots: Entry(may_provision, pilots.submit),
    m.PilotReport: Entry(may_provision, pilots.report),
    m.DrainPilots: Entry(may_provision, pilots.drain),
}

READING = frozenset((m.Watch, m.ListObjects, m.GetResults, m.Why, m.Stats))
RECORDED = frozenset(REQUESTS) - READING - {m.Submit}
"""The requests whose reply is recorded, so that asking again has no second effect. A submission is
known by the names of its works.
"""

__all__ = ["FINAL_WORKS", "RECORDED", "REQUESTS", "Reading", "Task", "answer"]
