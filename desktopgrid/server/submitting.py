"""What a submission must look like, and what it leads to: works that wait, or that hosts with room
are given at once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from desktopgrid.model.errors import (
    AccessDenied,
    AlreadyThere,
    BadRequest,
    LimitExceeded,
    UnknownObject,
)
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import (
    Application,
    Description,
    Submission,
    Submitted,
    Work,
)
from desktopgrid.model.origins import Origin
from desktopgrid.model.rights import (
    EXECUTE,
    READ,
    WRITE,
    Reach,
    Who,
    grants,
    may_refer,
    reach_of,
)
from desktopgrid.server import changes as c
from desktopgrid.server.inserting import readable_data
from desktopgrid.server.state import (
    Grid,
    Outcome,
    arguments_text,
    check_uid,
    clean,
    description_text,
)
from desktopgrid.server.tasks import offer
from desktopgrid.wire import messages as m

LONGEST_REQUIREMENTS = 4096
MOST_CORES = 4096
MOST_REMEMBERED = 2048
"""Bytes of a description that is remembered."""

_encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode


def submit(
    grid: Grid, who: Who, session: str, asked: m.Submit, now: datetime, out: Outcome
) -> dict[str, Any]:
    """The works of a submission are stored and wait; nothing is, if anything is wrong with one of
    them. Those that are there already are not stored twice: who sends the same again has not heard
    our answer.
    """
    names = names_of(asked)
    before = _before(grid, who, asked, names, out.submitted)
    if before is not None:
        if asked.watch and session and asked.uid in grid.batches:
            grid.batches[asked.uid].watchers.add(session)
        reply = {"works": len(names), "runs_on": runs_on(grid.applications[before.application])}
        return {**reply, "was_there": True} if before.origin else reply
    application = _application(grid, who, asked.description.get("application"))
    description, text = described(asked.description, application.uid)
    _check_origin(grid, who, asked, description)
    missing = _check_datas(grid, who, description, application.rights)
    _check_bags(grid, who, description)
    vo = _vo(grid, who, description, now)
    if len(grid.works) + len(names) > grid.policy.max_open_works:
        raise LimitExceeded(
            f"{len(grid.works)} works are open; the server takes {grid.policy.max_open_works}"
        )
    batch = grid.batches.get(asked.uid)
    if batch is None:
        grid.check_new(asked.uid)
        submission = Submission(asked.uid, who.user, description, application.rights, now, vo)
        # Further parts of a sweep come in messages of their own, and its row may be there already.
        out.changes.append(
            c.SubmissionInserted(
                submission.uid,
                who.user,
                application.uid,
                description.label,
                description.session,
                description.group,
                text,
                application.rights,
                now.timestamp(),
                description.origin or None,
                description.delegation,
                vo,
            )
        )
    else:
        submission = batch.submission
    batch = grid.put_batch(submission, asked.first + len(names), asked.single)
    if asked.watch and session:
        batch.watchers.add(session)
    _insert(grid, who, batch.submission, names, asked.arguments, missing, now, out)
    batch.open += len(names)
    offer(grid, now, out, description.expected_host)
    return {"works": len(names), "runs_on": runs_on(application)}


def _before(
    grid: Grid, who: Who, asked: m.Submit, names: list[str], submitted: Submitted | None
) -> Description | None:
    """The description of these very works, if they are there already; raises AlreadyThere if the
    names are those of others.
    """
    batch = grid.batches.get(asked.uid)
    if batch is not None:
        owner, description = batch.submission.owner, batch.submission.description
    elif submitted is not None:
        owner, description = submitted.owner, submitted.description
    else:
        return None
    if owner != who.user:
        raise AlreadyThere(f"there is a submission {asked.uid} already")
    over = submitted.arguments if submitted is not None else {}
    there = [name for name in names if name in grid.works or name in over]
    if not there:
        return None
    if description.origin and description.origin == asked.description.get("origin"):
        # Who brings a job in may have sent its files anew, as other datas: the first ones count.
        return description
    if len(there) < len(names) or not _is_same(grid, asked, description):
        raise AlreadyThere(f"there is a work {there[0]} already, and it is another one")
    for name, arguments in zip(names, asked.arguments, strict=True):
        work = grid.works.get(name)
        if (work.arguments if work is not None else over[name]) != arguments:
            raise AlreadyThere(f"there is a work {name} already, with other arguments")
    return description


def _check_origin(grid: Grid, who: Who, asked: m.Submit, description: Description) -> None:
    """Raise BadRequest unless a work that comes from elsewhere is one, and named by its origin."""
    if not description.origin:
        return
    uid = Origin.parse(description.origin).uid(grid.users[who.user].login)
    if not asked.single or asked.uid != uid:
        raise BadRequest(f"a work of origin {description.origin} is submitted alone, as {uid}")


def _is_same(grid: Grid, asked: m.Submit, before: Description) -> bool:
    application = grid.applications.get(before.application)
    if application is None or asked.description.get("application") not in (
        application.uid,
        application.name,
    ):
        return False
    return described(asked.description, before.application)[0] == before


def names_of(asked: m.Submit) -> list[str]:
    """The UIDs of the works that are submitted; raises BadRequest."""
    check_uid(asked.uid)
    count = len(asked.arguments)
    if not 0 < count <= m.MAX_WORKS:
        raise BadRequest(f"{count} works in one message; 1 to {m.MAX_WORKS} are allowed")
    if asked.single:
        if count != 1 or asked.first:
            raise BadRequest("a single work has one list of arguments and is the first")
        return [asked.uid]
    if not 0 <= asked.first <= 10**9 or len(asked.uid) > 50:
        raise BadRequest("a sweep's UID has at most 50 characters and starts at 0 to 10^9")
    return [f"{asked.uid}-{n}" for n in range(asked.first, asked.first + count)]


def _insert(
    grid: Grid,
    who: Who,
    submission: Submission,
    names: list[str],
    arguments: tuple[tuple[str, ...], ...],
    missing: list[str],
    now: datetime,
    out: Outcome,
) -> None:
    status = WorkStatus.DATAREQUEST if missing else WorkStatus.WAITING
    works = []
    changes = out.changes
    number = grid.next_number
    for name, args in zip(names, arguments, strict=True):
        work = Work(name, number, submission, args, status)
        number += 1
        works.append(work)
        grid.works[name] = work
        changes.append(
            c.WorkInserted(name, work.number, submission.uid, arguments_text(args), status.value)
        )
    grid.next_number = number
    for uid in missing:
        grid.awaiting.setdefault(uid, set()).update(names)
    if not missing:
        grid.scheduler.add_many(works, grid.users[who.user], now)
    grid.counts["submitted"] += len(works)


def _application(grid: Grid, who: Who, name: Any) -> Application:
    if not isinstance(name, str):
        raise BadRequest("a description names its application")
    found = grid.applications.get(name)
    same = [found] if found is not None else list(grid.applications.values())
    seen = [
        a
        for a in same
        if (a.uid == name or a.name == name)
        and not a.is_deleted
        and grants(who, READ | EXECUTE, a.owner, grid.owner_group(a.owner), a.rights)
    ]
    if not seen:
        raise UnknownObject.named("application", name)
    application = min(seen, key=lambda a: (a.owner != who.user, a.uid))
    if not grants(
        who, EXECUTE, application.owner, grid.owner_group(application.owner), application.rights
    ):
        raise AccessDenied(f"you may not run application {name!r}")
    return application


def described(fields: dict[str, Any], application: str) -> tuple[Description, str]:
    """The description that these fields make, and its text; see :func:`describe`.

    Who submits works one by one says the same of each: it is looked at once.
    """
    said = _encode(fields)
    look = _described if len(said) <= MOST_REMEMBERED else _described.__wrapped__
    return look(said, application)


@lru_cache(maxsize=1024)
def _described(fields: bytes, application: str) -> tuple[Description, str]:
    description = describe(msgspec.json.decode(fields), application)
    return description, description_text(description)


def describe(fields: dict[str, Any], application: str) -> Description:
    """The description that these fields make; raises BadRequest naming the field that is wrong."""
    unknown = set(fields) - set(Description.__dataclass_fields__)
    if unknown:
        raise BadRequest(
            f"a description has no {', '.join(sorted(unknown))};"
            f" it has {', '.join(Description.__dataclass_fields__)}"
        )
    try:
        made = msgspec.convert({**fields, "application": application}, Description)
    except msgspec.ValidationError as error:
        raise BadRequest(f"description: {error}") from None
    for name, least, most in (
        ("cores", 1, MOST_CORES),
        ("memory_mib", 0, 1 << 30),
        ("disk_mib", 0, 1 << 40),
        ("wall_time", 0, 10**8),
        ("priority", -1_000_000, 1_000_000),
        ("retries", 0, 1000),
    ):
        value = getattr(made, name)
        if not least <= value <= most:
            raise BadRequest(f"{name} is {value}; {least} to {most} are allowed")
    if clean(made.label, 255) != made.label:
        raise BadRequest("label: at most 255 characters, none of them NUL")
    if len(made.requirements) > LONGEST_REQUIREMENTS:
        raise BadRequest(
            f"requirements of {len(made.requirements)} characters; at most {LONGEST_REQUIREMENTS}"
        )
    for name, _ in made.inputs:
        if not _is_inside(name):
            raise BadRequest(f"input {name[:80]!r} would not lie in the task's directory")
    for pattern in made.outputs:
        if not _is_inside(pattern):
            raise BadRequest(f"output {pattern[:80]!r} would not lie in the task's directory")
    return made


def _is_inside(name: str) -> bool:
    parts = name.split("/")
    return bool(name) and "\0" not in name and "" not in parts and ".." not in parts


def _check_datas(grid: Grid, who: Who, description: Description, rights: int) -> list[str]:
    """The datas that have not arrived yet; raises where one is not there, not readable, or less
    open than the work (XW-AR-17).
    """
    missing = []
    for uid in description.datas:
        data = readable_data(grid, who, uid)
        if not data.is_elsewhere and not may_refer(rights, data.owner == who.user, data.rights):
            raise AccessDenied(
                f"data {uid} is {reach_of(data.rights).value},"
                f" the work is {reach_of(rights).value}:"
                " its worker could not read it"
            )
        if not data.is_available:
            missing.append(uid)
    return missing


def _check_bags(grid: Grid, who: Who, description: Description) -> None:
    for kind, uid in (("session", description.session), ("group", description.group)):
        if uid is None:
            continue
        bag = grid.find(kind, uid)
        if not grants(who, WRITE, bag.owner, grid.owner_group(bag.owner), bag.rights):
            raise UnknownObject.named(kind, uid)


def _vo(grid: Grid, who: Who, description: Description, now: datetime) -> str:
    """The VO of the works, which their credential shows; raises where that is not the caller's, or
    not good any more.
    """
    if description.delegation is None:
        return ""
    found = grid.delegations.get(description.delegation)
    if found is None or found.owner != who.user:
        raise UnknownObject.named("delegation", description.delegation)
    if not found.is_usable(now):
        raise BadRequest(
            f"delegation {found.uid} is not usable ({found.status.value}, until"
            f" {found.expires_at:%Y-%m-%d %H:%M}); renew it: xw delegate --renew {found.uid}"
        )
    return found.vo


RUNS_ON = {
    Reach.PUBLIC: "The works are public: any public worker may take them, and your own workers.",
    Reach.GROUP: "The works are your user group's: its workers may take them, and your own.",
    Reach.PRIVATE: "The works are private: only workers under your own identity may take them.",
}


def runs_on(application: Application) -> str:
    """Which workers may take works of ``application``, in a sentence, and how many of those are
    here.
    """
    sentence = RUNS_ON[reach_of(application.rights)]
    platforms = ", ".join(sorted(str(p) for p in application.executables))
    return f"{sentence} Executables for: {platforms}."
