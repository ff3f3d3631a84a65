"""The lists that memory can give; works, tasks and datas, of which there may be millions, come from
the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.lifecycle import FINAL_PILOTS
from desktopgrid.model.modes import mode
from desktopgrid.model.objects import Application, Group, Pilot, Session, User
from desktopgrid.model.rights import (
    READ,
    Who,
    grants,
    may_administer,
    may_see_pilot,
    may_see_worker,
)
from desktopgrid.server.scheduler import HostState
from desktopgrid.server.state import Grid
from desktopgrid.wire.messages import ListObjects

Row = dict[str, Any]

PILOTS = "pilots"
STORED = frozenset(("works", "tasks", "datas", "tokens"))
MOST_ROWS = 5_000


def rows(grid: Grid, who: Who, asked: ListObjects, now: datetime) -> dict[str, Any] | None:
    """A page of rows that ``who`` may read, by UID; None for the kinds that the database lists."""
    if not 0 < asked.limit <= MOST_ROWS:
        raise BadRequest(f"a page has 1 to {MOST_ROWS} rows, not {asked.limit}")
    if asked.kind in STORED:
        return None
    lister = LISTS.get(asked.kind)
    if lister is None and asked.kind != PILOTS:
        kinds = ", ".join(sorted((*LISTS, *STORED, PILOTS)))
        raise BadRequest(f"there are no {asked.kind[:40]!r}; there are {kinds}")
    if lister is None:
        found = list(_pilots(grid, who, asked))
    else:
        found = sorted(lister(grid, who, now), key=lambda row: str(row["uid"]))
    if asked.uids:
        wanted = frozenset(asked.uids)
        found = [row for row in found if row["uid"] in wanted]
    for name, value in asked.where.items():
        if found and name not in found[0]:
            raise BadRequest(f"{asked.kind} have no {name[:40]!r}; they have {', '.join(found[0])}")
        found = [row for row in found if row[name] == value]
    if asked.after is not None:
        found = [row for row in found if row["uid"] > asked.after]
    page, rest = found[: asked.limit], found[asked.limit :]
    return {"rows": page, "next": page[-1]["uid"] if rest else None}


def _may_read(grid: Grid, who: Who, owner: str, rights: int) -> bool:
    return grants(who, READ, owner, grid.owner_group(owner), rights)


def _login(grid: Grid, uid: str) -> str:
    user = grid.users.get(uid)
    return user.login if user is not None else uid


def _users(grid: Grid, who: Who, now: datetime) -> Iterable[Row]:
    """All for a super user, himself for anybody else (XW-UM-1)."""
    for user in grid.users.values():
        if not user.is_deleted and (may_administer(who) or user.uid == who.user):
            yield _user(grid, user)


def _user(grid: Grid, user: User) -> Row:
    group = grid.user_groups.get(user.group) if user.group is not None else None
    return {
        "uid": user.uid,
        "login": user.login,
        "level": user.level.name.lower(),
        "usergroup": group.name if group is not None else "",
        "email": user.email,
        "revoked": user.is_revoked,
        "subjects": "; ".join(user.subjects),
        "used_mib": round(grid.holdings.used(user.uid) / (1 << 20), 1),
        "quota_mib": grid.quota(user.uid) or None,
    }


def _user_groups(grid: Grid, who: Who, now: datetime) -> Iterable[Row]:
    for group in grid.user_groups.values():
        if not group.is_deleted and (may_administer(who) or group.uid == who.group):
            yield {"uid": group.uid, "name": group.name}


def _applications(grid: Grid, who: Who, now: datetime) -> Iterable[Row]:
    for application in grid.applications.values():
        if not application.is_deleted and _may_read(
            grid, who, application.owner, application.rights
        ):
            yield _application(grid, application)


def _application(grid: Grid, application: Application) -> Row:
    return {
        "uid": application.uid,
        "name": application.name,
        "owner": _login(grid, application.owner),
        "rights": mode(application.rights),
        "platforms": " ".join(sorted(str(p) for p in application.executables)),
        "validated_by": _login(grid, application.validated_by or ""),
        "validated_at": _moment(application.validated_at),
    }


def _moment(at: datetime | None) -> str:
    return at.isoformat(timespec="seconds") if at is not None else ""


def _bridges(grid: Grid, who: Who, now: datetime) -> Iterable[Row]:
    """Whom one may delegate to: everybody may know."""
    for bridge in grid.bridges.values():
        if not grid.users[bridge.user].is_revoked:
            offers = [o for o in grid.offers.values() if o.bridge == bridge.user]
            yield {
                "uid": bridge.user,
                "login": _login(grid, bridge.user),
                "signing_key": bridge.signing_key,
                "sealing_key": bridge.sealing_key,
                "offers": sum(offer.taken_by is None for offer in offers),
            }


def _delegations(grid: Grid, who: Who, now: datetime) -> Iterable[Row]:
    """One's own, those that were given to one, and all for a super user."""
    for found in grid.delegations.values():
        if who.user in (found.owner, found.bridge) or may_administer(who):
            yield {
                "uid": found.uid,
                "owner": _login(grid, found.owner),
                "bridge": _login(grid, found.bridge),
                "kind": found.kind,
                "status": found.status.value,
                "subject": found.subject,
                "vo": found.vo,
                "attributes": " ".join(found.attributes),
                "created_at": _moment(found.created_at),
                "expires_at": _moment(found.expires_at),
                "generation": found.generation,
                "offer": found.offer,
                "made_from": found.made_from,
                "works": _carried(grid, found.uid),
                "pilots": sum(
                    pilot.delegation == found.uid and pilot.status not in FINAL_PILOTS
                    for pilot in grid.pilots.values()
                ),
                "label": found.label,
                "reason": found.reason,
            }


def _carried(grid: Grid, uid: str) -> int:
    """How many open works carry the delegation ``uid``."""
    return sum(
        batch.open
        for batch in grid.batches.values()
        if batch.submission.description.delegation == uid
    )


def _bags(kind: type[Session] | type[Group]) -> Callable[[Grid, Who, datetime], Iterable[Row]]:
    def bags(grid: Grid, who: Who, now: datetime) -> Iterable[Row]:
        for bag in grid.bags.values():
            is_there = isinstance(bag, kind) and not bag.is_deleted
            if is_there and _may_read(grid, who, bag.owner, bag.rights):
                yield {
                    "uid": bag.uid,
                    "name": bag.name,
                    "owner": _login(grid, bag.owner),
                    "rights": mode(bag.rights),
                }

    return bags


def _hosts(grid: Grid, who: Who, now: datetime) -> Iterable[Row]:
    """The hosts that are connected or lately were, as far as they are open to ``who``."""
    for state in grid.scheduler.hosts.values():
        if may_see_worker(who, state.who):
            yield _host(grid, state, now)


def _host(grid: Grid, state: HostState, now: datetime) -> Row:
    host, facts = state.host, state.host.facts
    is_paused = state.paused_until is not None and now < state.paused_until
    status = (
        "silent"
        if not state.is_connected
        else "draining"
        if state.is_draining
        else "paused"
        if is_paused
        else "active"
    )
    return {
        "uid": host.uid,
        "name": facts.name,
        "kind": facts.kind,
        "status": status,
        "owner": _login(grid, host.owner),
        "cpu": facts.cpu,
        "os": facts.os,
        "cores": facts.cores,
        "cores_given": min(state.cores_given, facts.cores),
        "memory_mib": facts.memory_mib,
        "disk_mib": facts.disk_mib,
        "tasks": len(state.tasks),
        "works_done": state.works_done,
        "ends_at": host.ends_at.isoformat() if host.ends_at is not None else "",
        "pilot": host.pilot or "",
    }


def _sites(grid: Grid, who: Who, now: datetime) -> Iterable[Row]:
    for site in grid.sites.values():
        pilots = [p for p in grid.pilots.values() if p.site == site.name]
        by_status: dict[str, int] = {}
        for pilot in pilots:
            by_status[pilot.status.value] = by_status.get(pilot.status.value, 0) + 1
        yield {
            "uid": site.name,
            "computing_element": site.computing_element,
            "max_pilots": site.max_pilots,
            "max_idle": site.max_idle,
            "max_an_hour": site.max_an_hour,
            "submits_as": site.submits_as,
            "vo": site.vo,
            "pilots": " ".join(f"{n} {status}" for status, n in sorted(by_status.items())),
        }


def _pilots(grid: Grid, who: Who, asked: ListObjects) -> Iterator[Row]:
    """Those that a page may show, in order: there may be very many, which a factory asks for page
    by page.
    """
    where = asked.where
    left = asked.limit + 1 if where.keys() <= {"site", "is_open"} else -1
    for stamp in sorted(set(asked.uids) & grid.pilots.keys() if asked.uids else grid.pilots):
        pilot = grid.pilots[stamp]
        if (
            (asked.after is not None and stamp <= asked.after)
            or where.get("site", pilot.site) != pilot.site
            or where.get("is_open", None) == (pilot.status in FINAL_PILOTS)
            or not may_see_pilot(who, pilot.owner)
        ):
            continue
        if not left:
            return
        left -= 1
        yield _pilot(grid, pilot)


def _pilot(grid: Grid, pilot: Pilot) -> Row:
    state = grid.scheduler.hosts.get(pilot.host) if pilot.host is not None else None
    done = pilot.tasks_done + (state.works_done if state is not None else 0)
    return {
        "uid": pilot.stamp,
        "site": pilot.site,
        "status": pilot.status.value,
        "reference": pilot.reference,
        "owner": _login(grid, pilot.owner),
        "host": pilot.host or "",
        "is_connected": state is not None and state.is_connected,
        "tasks": len(state.tasks) if state is not None else 0,
        "tasks_done": done,
        "submitted_at": pilot.submitted_at.isoformat(timespec="seconds"),
        "reason": pilot.reason,
        "delegation": pilot.delegation or "",
        "is_open": pilot.status not in FINAL_PILOTS,
    }


LISTS: dict[str, Callable[[Grid, Who, datetime], Iterable[Row]]] = {
    "users": _users,
    "usergroups": _user_groups,
    "apps": _applications,
    "sessions": _bags(Session),
    "groups": _bags(Group),
    "hosts": _hosts,
    "sites": _sites,
    "bridges": _bridges,
    "delegations": _delegations,
}
