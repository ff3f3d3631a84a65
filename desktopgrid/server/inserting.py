"""What requests about applications, datas and bags lead to: they are inserted, their access rights
change, they are removed.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from desktopgrid.model.errors import (
    AccessDenied,
    AlreadyThere,
    BadRequest,
    GridError,
    UnknownObject,
)
from desktopgrid.model.modes import mode, rights_from
from desktopgrid.model.objects import Application, Data, Group, Platform, Session, UserGroup
from desktopgrid.model.rights import (
    READ,
    Reach,
    UserLevel,
    Who,
    application_rights,
    grants,
    may_administer,
    may_change,
    may_choose_rights,
    reach_of,
)
from desktopgrid.model.uris import Place, located
from desktopgrid.server import changes as c
from desktopgrid.server.state import (
    Grid,
    Outcome,
    Owned,
    check_name,
    check_uid,
    clean,
    timestamp,
)
from desktopgrid.server.tasks import offer
from desktopgrid.server.users import save_user_group
from desktopgrid.wire import messages as m

Body = dict[str, Any]

LONGEST_WORD = 32
"""Characters in the name of a CPU type or of an operating system."""


def send_application(
    grid: Grid, who: Who, session: str, asked: m.SendApplication, now: datetime, out: Outcome
) -> Body:
    """An application is inserted, or gets an executable for another platform."""
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
        if asked.rights not in (None, known.rights):
            raise AlreadyThere(
                f"application {name!r} is there already, with access rights {mode(known.rights)}:"
                " they are given once and stay (manual, 3.2.1)"
            )
        executables = {**known.executables, Platform(asked.cpu, asked.os): data.uid}
        application = replace(known, executables=executables)
        if executables != known.executables and known.is_validated:
            # Somebody stood for what was there, and not for this.
            application = replace(application, validated_by=None, validated_at=None)
            out.notes.append(
                f"Application {known.name} has another executable and is not validated any more"
            )
    elif known is not None and name == known.name and not _may_namesake(who, rights):
        raise AlreadyThere(f"application {name!r} is there already, and is another user's")
    else:
        grid.check_count(who.user)
        executables = {Platform(asked.cpu, asked.os): data.uid}
        application = Application(grid.check_new(asked.uid), name, who.user, rights, executables)
    grid.put_application(application)
    out.changes.append(application_row(application))
    out.changes.append(c.ExecutableSaved(application.uid, asked.cpu, asked.os, data.uid))
    offer(grid, now, out)
    return {"uid": application.uid, "name": application.name, "rights": application.rights}


def application_row(application: Application) -> c.ApplicationSaved:
    """The row of ``application``."""
    return c.ApplicationSaved(
        application.uid,
        application.name,
        application.owner,
        application.rights,
        application.is_deleted,
        application.validated_by,
        timestamp(application.validated_at),
    )


def validate(
    grid: Grid, who: Who, session: str, asked: m.Validate, now: datetime, out: Outcome
) -> Body:
    """XW-PIL-4: an administrator stands for the executables of an application, as they are now, or
    does so no longer.
    """
    application = application_named(grid, who, asked.application)
    if application is None:
        raise UnknownObject.named("application", asked.application)
    by, at = (who.user, now) if asked.is_valid else (None, None)
    application = replace(application, validated_by=by, validated_at=at)
    grid.put_application(application)
    out.changes.append(application_row(application))
    offer(grid, now, out)
    return {
        "uid": application.uid,
        "name": application.name,
        "validated": application.is_validated,
    }


def _may_namesake(who: Who, rights: int) -> bool:
    """Whether ``who`` may insert an application that is called as another's: an advanced user for
    himself, but only a super user for others, whose works would run it for the one they mean.
    """
    if reach_of(rights) is Reach.PRIVATE:
        return who.level >= UserLevel.ADVANCED
    return may_administer(who)


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
    if not may_read(grid, who, data):
        raise UnknownObject.named("data", uid)
    return data


def may_read(grid: Grid, who: Who, data: Data) -> bool:
    """Access rights govern what is stored here, and nothing else (3.3)."""
    return data.is_elsewhere or grants(
        who, READ, data.owner, grid.owner_group(data.owner), data.rights
    )


def send_data(
    grid: Grid, who: Who, session: str, asked: m.SendData, now: datetime, out: Outcome
) -> Body:
    """A data is announced; its content comes by another door, unless it is here already, or stays
    where its URI says.
    """
    if len(asked.sha256) != 64 or set(asked.sha256) - set("0123456789abcdef"):
        raise BadRequest("sha256 must be 64 hexadecimal digits")
    if not 0 <= asked.size <= grid.policy.max_data_bytes:
        raise BadRequest(f"a data of {asked.size} bytes; at most {grid.policy.max_data_bytes}")
    check_rights(asked.rights)
    for word in (asked.cpu, asked.os):
        if len(word) > LONGEST_WORD or not word.isprintable():
            raise BadRequest(f"{word[:40]!r} is neither a CPU type nor an operating system")
    known = grid.datas.get(check_uid(asked.uid))
    if known is not None and _is_again(known, who, asked):
        return {"uid": known.uid, "available": known.is_available}
    grid.check_new(asked.uid)
    grid.check_count(who.user)
    data = Data(
        asked.uid,
        check_name(asked.name),
        who.user,
        asked.rights,
        asked.sha256,
        asked.size,
        clean(asked.type, 100),
        _checked_uri(grid, asked.uri) if asked.uri else f"xw:///{asked.uid}",
        cpu=asked.cpu,
        os=asked.os,
    )
    # Content that another data of the caller has already need not be sent again. Others' content
    # must be: having a digest does not show that one has the content.
    data = replace(data, is_available=data.is_elsewhere or grid.holdings.has(data))
    grid.check_quota(data)
    if asked.replaces:
        for other in _same_name(grid, data):
            delete(grid, other, out)
    grid.put_data(data)
    out.changes.append(data_row(data))
    return {"uid": data.uid, "available": data.is_available}


def _checked_uri(grid: Grid, uri: str) -> str:
    locator = located(uri, grid.policy.schemes)
    if locator.place is not Place.ELSEWHERE:
        raise BadRequest(f"{uri[:80]!r} cannot be a data's URI: it is {locator.place.value}")
    return uri


def _same_name(grid: Grid, data: Data) -> list[Data]:
    """What its owner has under the name, the platform and the place of ``data`` (XW-DM-2). All that
    the server keeps is in one place.
    """

    def key(data: Data) -> tuple[str, ...]:
        return (data.owner, data.name, data.cpu, data.os, data.uri if data.is_elsewhere else "")

    return [d for d in grid.datas.values() if not d.is_deleted and key(d) == key(data)]


def _is_again(known: Data, who: Who, asked: m.SendData) -> bool:
    """Whether a data is announced again by one who has not heard our answer."""
    is_same = (known.sha256, known.size) == (asked.sha256, asked.size)
    is_same = is_same and (known.uri == asked.uri if known.is_elsewhere else not asked.uri)
    return is_same and known.owner == who.user and not known.is_deleted


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
        data.cpu,
        data.os,
    )


def check_rights(rights: int) -> int:
    """``rights`` if they are access rights; raises BadRequest."""
    if not 0 <= rights <= 0o777:
        raise BadRequest(f"access rights {rights:#o} are not between 0 and 0o777")
    return rights


def send_group(
    grid: Grid, who: Who, session: str, asked: m.SendGroup, now: datetime, out: Outcome
) -> Body:
    """A session, a group or a user group is inserted."""
    uid, name = grid.check_new(asked.uid), check_name(asked.name)
    if asked.kind == "usergroup":
        if not may_administer(who):
            raise AccessDenied("only a super user may insert user groups")
        if any(group.name == name for group in grid.user_groups.values()):
            raise AlreadyThere(f"there is a user group {name!r} already, or was")
        save_user_group(grid, UserGroup(uid, name), out)
    elif asked.kind in ("session", "group"):
        grid.check_count(who.user)
        make = Session if asked.kind == "session" else Group
        _save_bag(grid, make(uid, name, who.user), out)
    else:
        raise BadRequest(f"{asked.kind[:40]!r} is not one of session, group, usergroup")
    return {"uid": uid, "name": name}


def _save_bag(grid: Grid, bag: Session | Group, out: Outcome) -> None:
    grid.put_bag(bag)
    kind = "session" if isinstance(bag, Session) else "group"
    out.changes.append(c.BagSaved(bag.uid, kind, bag.name, bag.owner, bag.rights, bag.is_deleted))


def chmod(grid: Grid, who: Who, session: str, asked: m.Chmod, now: datetime, out: Outcome) -> Body:
    """XW-GEN-2: by its owner or a super user, where access rights may change at all (C-4)."""
    found = grid.datas.get(asked.uid) or grid.bags.get(asked.uid)
    if found is None or found.is_deleted or not _may_change(grid, who, found):
        raise _no_chmod(grid, who, asked.uid)
    rights = rights_from(asked.rights, found.rights)
    if isinstance(found, Data):
        changed = replace(found, rights=rights)
        grid.put_data(changed)
        out.changes.append(data_row(changed))
    else:
        _save_bag(grid, replace(found, rights=rights), out)
    return {"uid": found.uid, "rights": rights}


def _no_chmod(grid: Grid, who: Who, uid: str) -> GridError:
    """Why the rights of this never change (3.3), told to its owner; to others there is none."""
    work, batch = grid.works.get(uid), grid.batches.get(uid)
    if work is not None:
        batch = grid.batches[work.submission.uid]
    if batch is not None:
        owner, rule = batch.submission.owner, "they are those of its application"
    elif uid in grid.applications:
        owner, rule = grid.applications[uid].owner, "they are given once, when it is inserted"
    elif uid in grid.known_hosts:
        owner, rule = grid.known_hosts[uid].owner, "they follow from its worker's identity"
    else:
        return UnknownObject.named("data, session or group", uid)
    if not may_change(who, owner):
        return UnknownObject.named("data, session or group", uid)
    return AccessDenied(f"the access rights of {uid} cannot change: {rule}")


def removable(grid: Grid, who: Who, uid: str) -> Owned | None:
    """The application, data or bag of this name, which ``who`` may remove; None if there is none.
    Raises AccessDenied.
    """
    found = grid.applications.get(uid) or grid.datas.get(uid) or grid.bags.get(uid)
    if found is None or found.is_deleted or not _may_change(grid, who, found):
        return None
    return found


def delete(grid: Grid, found: Owned, out: Outcome) -> None:
    """``found`` is marked deleted: it is in no list, and nothing else ever gets its name."""
    gone = replace(found, is_deleted=True)
    if isinstance(gone, Application):
        grid.put_application(gone)
        out.changes.append(application_row(gone))
    elif isinstance(gone, Data):
        grid.put_data(gone)
        out.changes.append(data_row(gone))
    else:
        _save_bag(grid, gone, out)


def _may_change(grid: Grid, who: Who, found: Owned) -> bool:
    """Whether ``who`` may change ``found``; raises AccessDenied where he may read it and no more.
    To anybody else it is not there.
    """
    if may_change(who, found.owner):
        return True
    if grants(who, READ, found.owner, grid.owner_group(found.owner), found.rights):
        raise AccessDenied(f"{found.uid} is another user's")
    return False
