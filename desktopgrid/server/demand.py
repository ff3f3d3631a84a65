"""What waits for pilots, and what there is to run it: one walk over the grid, one answer.

It is as long as there are distinct demands and kinds of supply, not as works and pilots, and its
length is bounded; what is left off is counted. Pure but for the grid in memory, which it reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

from desktopgrid.model.demand import Demand as Wanted
from desktopgrid.model.demand import PilotNews, SiteRecord, Supply
from desktopgrid.model.errors import BadRequest
from desktopgrid.model.lifecycle import FINAL_PILOTS, PilotStatus
from desktopgrid.model.objects import Pilot, User
from desktopgrid.model.rights import Reach, UserLevel, Who, may_run, worker_reach
from desktopgrid.server import pilots, siterules
from desktopgrid.server.scheduler import Demand, HostState, Queue
from desktopgrid.server.state import Decision, Grid, Outcome, clean
from desktopgrid.wire import messages as m

MOST_DEMANDS = 1_000
MOST_SUPPLIES = 4_000
MOST_NEWS = 4_000
MOST_SENTENCES = 40
LONGEST_SENTENCE = 400
UNMET_TO_BE_UNFITTING = 3
"""Hosts of a site that do not meet requirements, and none that does, before it counts as unfit:
sites are mixtures, and one host says little.
"""
NEWS_OF = timedelta(hours=1)

Row = dict[str, Any]


def situation(
    grid: Grid, who: Who, session: str, asked: m.Demand, now: datetime, out: Outcome
) -> Row:
    """Demand and supply as far as pilots of ``who`` are concerned."""
    try:
        since = max(datetime.fromtimestamp(asked.since, UTC), now - NEWS_OF)
    except (ValueError, OverflowError, OSError):
        raise BadRequest(f"{asked.since!r} is no time") from None
    pilot = pilot_of(grid, who.user)
    wanted, left_off, others = demands(grid, pilot, now)
    return {
        "at": now.timestamp(),
        "incarnation": grid.incarnation,
        "demands": [_row(each) for each in wanted],
        "supplies": [_row(each) for each in supplies(grid, pilot, now)],
        "sites": [_row(each) for each in sites(grid, now)],
        "news": [_row(each) for each in news(grid, since, now)],
        "left_off": left_off,
        "others": others,
        "submitted": grid.counts["submitted"],
        "aborted": grid.counts["aborted"],
    }


def pilot_of(grid: Grid, owner: str) -> Who:
    """What a pilot of ``owner`` is to the grid: a public worker, or one of his user group."""
    return Who(owner, UserLevel.WORKER, grid.owner_group(owner))


# --- demand ---------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """What makes works the same to who plans pilots, whoever they belong to."""

    cores: int
    memory_mib: int
    disk_mib: int
    wall_time: int
    requirements: str
    platforms: tuple[str, ...]
    is_certified: bool
    is_validated: bool
    vo: str
    is_common: bool
    delegation: str
    refusals: tuple[tuple[str, str], ...]


def demands(grid: Grid, pilot: Who, now: datetime) -> tuple[list[Wanted], int, int]:
    """What waits that ``pilot`` may run, the most first; how many works are left off, and how many
    wait that it may not run.
    """
    works: dict[_Kind, int] = {}
    oldest: dict[_Kind, datetime] = {}
    others = 0
    for queue in _queues(grid):
        since = queue.oldest_at()
        if since is None:
            continue
        kind = _kind(grid, queue.owner, queue.demand, pilot, now)
        if queue.demand.expected_host is not None or not (kind.is_common or kind.delegation):
            others += queue.waiting
            continue
        works[kind] = works.get(kind, 0) + queue.waiting
        oldest[kind] = min(since, oldest.get(kind, since))
    ranked = sorted(works, key=lambda kind: (-works[kind], kind))
    listed = [_wanted(grid, kind, works[kind], oldest[kind]) for kind in ranked[:MOST_DEMANDS]]
    return listed, sum(works[kind] for kind in ranked[MOST_DEMANDS:]), others


def _queues(grid: Grid) -> Iterator[Queue]:
    for share in grid.scheduler.shares.values():
        yield from share.queues.values()


def _kind(grid: Grid, owner: User, asked: Demand, pilot: Who, now: datetime) -> _Kind:
    application = grid.applications.get(asked.application)
    platforms = application.executables if application is not None else ()
    delegation = grid.delegations.get(asked.delegation) if asked.delegation is not None else None
    is_mine = delegation is not None and delegation.bridge == pilot.user
    refusals = [
        (name, reason)
        for name, site in sorted(grid.sites.items())
        for reason in islice(siterules.obstacles(site, owner, application, delegation), 1)
    ]
    return _Kind(
        asked.cores,
        asked.memory_mib,
        asked.disk_mib,
        asked.wall_time,
        asked.requirements,
        tuple(sorted(map(str, platforms))),
        owner.is_certified,
        application is not None and application.is_validated,
        delegation.vo if delegation is not None else "",
        may_run(pilot, owner.uid, owner.group, asked.rights),
        delegation.uid if delegation is not None and is_mine and delegation.is_usable(now) else "",
        tuple(refusals),
    )


def _wanted(grid: Grid, kind: _Kind, works: int, oldest_at: datetime) -> Wanted:
    fitting, unfitting = [], []
    for site in sorted(grid.sites) if kind.requirements else ():
        met, unmet = grid.scheduler.suitability.get((kind.requirements, site), (0, 0))
        if met:
            fitting.append(site)
        elif unmet >= UNMET_TO_BE_UNFITTING:
            unfitting.append(site)
    return Wanted(
        works,
        oldest_at,
        **(kind._asdict() | {"refusals": dict(kind.refusals)}),
        fitting=tuple(fitting),
        unfitting=tuple(unfitting),
    )


# --- supply ---------------------------------------------------------------------------------------


@dataclass
class _Heap:
    """Hosts, or pilots, that are taken for alike."""

    count: int = 0
    ends_per_second: float = 0.0


def supplies(grid: Grid, pilot: Who, now: datetime) -> list[Supply]:
    """The hosts that run what ``pilot`` would, and the pilots that are on their way to do so."""
    heaps: dict[tuple[Any, ...], _Heap] = {}
    for state in grid.scheduler.hosts.values():
        if _is_mine(grid, state, pilot) and state.takes_any(now):
            heap = heaps.setdefault(_running(state, now), _Heap())
            heap.count += 1
            if state.mean_duration:
                busy = min(len(state.tasks), state.host.facts.cores)
                heap.ends_per_second += busy / max(state.mean_duration, 1.0)
    for each in grid.pilots.values():
        if each.status in FINAL_PILOTS or (each.host and each.host in grid.scheduler.hosts):
            continue
        is_mine = each.owner == pilot.user
        if is_mine if each.delegation else _is_like(pilot_of(grid, each.owner), pilot):
            # One that runs as its site says, and is silent, waits as far as works are concerned.
            heaps.setdefault(_waiting(each, now), _Heap()).count += 1
    found = [_supply(key, heap) for key, heap in heaps.items()]
    return sorted(found, key=lambda supply: (-supply.count, supply.site))[:MOST_SUPPLIES]


def _is_mine(grid: Grid, state: HostState, pilot: Who) -> bool:
    """Whether the host runs what pilots of ``pilot`` would, by its own or a user's credential."""
    if state.delegation is None:
        return _is_like(state.who, pilot)
    delegation = grid.delegations.get(state.delegation)
    return delegation is not None and delegation.bridge == pilot.user


def _is_like(worker: Who, pilot: Who) -> bool:
    reach = worker_reach(worker)
    return reach is worker_reach(pilot) and (
        worker.group == pilot.group if reach is Reach.GROUP else reach is Reach.PUBLIC
    )


def _running(state: HostState, now: datetime) -> tuple[Any, ...]:
    facts, host = state.host.facts, state.host
    life = (host.ends_at - now).total_seconds() if host.ends_at is not None else None
    return (
        state.site,
        True,
        now if life is None else now + timedelta(seconds=_floor(life)),
        facts.cores,
        facts.memory_mib,
        facts.disk_mib,
        max(0, facts.cores - state.cores_given),
        max(0, facts.memory_mib - state.memory_given),
        life is not None,
        state.delegation or "",
    )


def _waiting(pilot: Pilot, now: datetime) -> tuple[Any, ...]:
    age = (now - pilot.submitted_at).total_seconds()
    return (pilot.site, False, now - timedelta(seconds=_floor(age)), pilot.delegation or "")


def _floor(seconds: float) -> float:
    """A span cut to one of few, the finer the shorter: what differs little is alike."""
    step = (
        60 if seconds < 600 else 300 if seconds < 3_600 else 1_800 if seconds < 21_600 else 10_800
    )
    return max(0.0, seconds // step * step)


def _supply(key: tuple[Any, ...], heap: _Heap) -> Supply:
    site, is_running, at, *rest = key
    if not is_running:
        return Supply(site, False, heap.count, at, delegation=rest[0])
    cores, memory, disk, free_cores, free_memory, is_mortal, delegation = rest
    return Supply(
        site,
        True,
        heap.count,
        at,
        cores,
        memory,
        disk,
        free_cores,
        free_memory,
        at if is_mortal else None,
        heap.ends_per_second,
        delegation,
    )


def sites(grid: Grid, now: datetime) -> list[SiteRecord]:
    """The sites with their caps and what counts against them."""
    useful = _useful_since(grid)
    return [
        SiteRecord(
            name,
            grid.sites[name].max_pilots,
            grid.sites[name].max_idle,
            grid.sites[name].max_an_hour,
            grid.sites[name].max_of_vo if grid.sites[name].vo else 0,
            *(counts.open, counts.idle, counts.an_hour, counts.of_vo),
            useful.get(name),
        )
        for name, counts in pilots.counts(grid, now).items()
    ]


def _useful_since(grid: Grid) -> Mapping[str, datetime]:
    found: dict[str, datetime] = {}
    for state in grid.scheduler.hosts.values():
        if state.site and state.works_done:
            since = state.host.first_seen_at
            found[state.site] = max(since, found.get(state.site, since))
    return found


def news(grid: Grid, since: datetime, now: datetime) -> list[PilotNews]:
    """What happened to pilots after ``since``, the latest first."""
    found = []
    for pilot in grid.pilots.values():
        host = grid.known_hosts.get(pilot.host) if pilot.host is not None else None
        started_at = host.first_seen_at if host is not None else None
        ended_at = pilot.ended_at
        if (started_at or since) > since or (ended_at or since) > since:
            status = PilotStatus(pilot.status)
            found.append(
                PilotNews(
                    pilot.site,
                    status,
                    pilot.submitted_at,
                    started_at,
                    ended_at,
                    pilot.tasks_done,
                    bool(pilot.reference or pilot.host),
                )
            )
    found.sort(key=lambda each: each.ended_at or now, reverse=True)
    return found[:MOST_NEWS]


def _row(value: Any) -> Row:
    """A value as its fields, times as seconds; what nobody knows is left out."""
    return {name: _plain(each) for name, each in vars(value).items() if each is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.timestamp()
    return list(value) if isinstance(value, tuple) else value


# --- decisions ------------------------------------------------------------------------------------


def report(
    grid: Grid, who: Who, session: str, asked: m.SiteReport, now: datetime, out: Outcome
) -> Row:
    """What was decided about sites is told to whoever asks why; it is not kept over a restart."""
    known = [site for site in asked.sites if site in grid.sites]
    for site in known:
        said = tuple(clean(text, LONGEST_SENTENCE) for text in asked.sites[site][:MOST_SENTENCES])
        grid.decisions[site, who.user] = Decision(now, said)
    return {"sites": known}


def why_site(grid: Grid, name: str, now: datetime) -> list[str]:
    """How a site stands to its caps, and what factories have decided about it."""
    site = grid.sites[name]
    caps = pilots.counts(grid, now)[name].against(site)
    counted = ", ".join(f"{have} of {cap} ({key})" for have, cap, key in caps)
    said = [f"Pilots of site {name} that count against its caps: {counted}."]
    decided = [(user, each) for (at, user), each in grid.decisions.items() if at == name]
    if not decided:
        said.append(
            "No factory has told what it decided about this site since the server was started;"
            " `pilot factory` does."
        )
    for user, decision in decided:
        login = grid.users[user].login if user in grid.users else user
        said.append(f"The factory of {login} decided at {decision.at:%Y-%m-%d %H:%M:%S} UTC:")
        said += [f"  {sentence}" for sentence in decision.sentences]
    return said
