"""A demand to try a factory on, and how sites behave: made from a file's numbers and its seed, so
that the same file is always the same week.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from desktopgrid.model import configuration
from desktopgrid.model.errors import ConfigurationError
from desktopgrid.model.sites import FakeSite, SiteConfig, site_of

NEVER = math.inf


@dataclass(frozen=True)
class Course:
    """``[trace]``: how long it goes on, from which seed, and what desktops give."""

    seed: int
    days: float = 7.0
    period: timedelta = timedelta(seconds=60)
    desktop_cores: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.days <= 60:
            raise ValueError("days must be more than 0 and at most 60")
        if self.period < timedelta(seconds=1):
            raise ValueError("period must be at least a second")


@dataclass(frozen=True)
class Crowd:
    """``[crowd NAME]``: users who send works one at a time, or many at once.

    Durations are lognormal about their median; at night only ``night`` of the day's works come. Of
    the bursts the share ``vanishing`` is taken back after about ``vanish_after``.
    """

    name: str
    works_an_hour: float = 0.0
    bursts_a_day: float = 0.0
    burst_works: int = 100
    burst_spread: float = 0.7
    vanishing: float = 0.0
    vanish_after: timedelta = timedelta(minutes=10)
    night: float = 0.3
    duration: timedelta = timedelta(minutes=20)
    duration_spread: float = 0.7
    cores: int = 1
    memory_mib: int = 0
    wall_time: timedelta = timedelta(hours=4)

    def __post_init__(self) -> None:
        if not 0 <= self.vanishing <= 1 or not 0 <= self.night <= 1:
            raise ValueError("vanishing and night must be between 0 and 1")
        if self.cores < 1 or self.burst_works < 1:
            raise ValueError("cores and burst_works must be at least 1")


@dataclass(frozen=True)
class Behaviour:
    """``[behaviour SITE]``: what goes on behind a site's door.

    ``failing``: the share of pilots that fail as they start; ``losing``: of those that the site
    forgets while they wait; ``preempting``: of running ones that it ends, an hour. Outages (the
    door is silent, nothing starts) and black holes (whatever starts ends at once) come so often a
    day and last about so long.
    """

    name: str
    slots: int = 100
    latency: timedelta = timedelta(minutes=5)
    latency_spread: float = 0.5
    failing: float = 0.0
    losing: float = 0.0
    preempting: float = 0.0
    outages_a_day: float = 0.0
    outage: timedelta = timedelta(hours=1)
    black_holes_a_day: float = 0.0
    black_hole: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        for name in ("failing", "losing", "preempting"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1")
        if self.slots < 0:
            raise ValueError("slots must not be negative")


@dataclass(frozen=True)
class Arrival:
    """Works of one crowd that come at once: each one's duration, and when they are taken back."""

    at: float
    crowd: Crowd
    durations: tuple[float, ...]
    vanishes_at: float = NEVER


@dataclass(frozen=True)
class Trace:
    """A whole file."""

    course: Course
    crowds: tuple[Crowd, ...]
    sites: Mapping[str, SiteConfig]
    behaviours: Mapping[str, Behaviour]

    @property
    def end(self) -> float:
        """Seconds from its beginning to its end."""
        return self.course.days * 86_400

    def at(self, sites: Mapping[str, SiteConfig]) -> Trace:
        """The same demand at other sites; one that the file does not tell of behaves as usual."""
        behaviours = {
            name: self.behaviours.get(name, Behaviour(name, slots=site.max_pilots))
            for name, site in sites.items()
        }
        return replace(self, sites=sites, behaviours=behaviours)

    def lasting(self, days: float) -> Trace:
        """The beginning of the same."""
        return replace(self, course=replace(self.course, days=days))

    def arrivals(self) -> list[Arrival]:
        """What comes, in the order of time: always the same."""
        found = [each for crowd in self.crowds for each in self._arrivals_of(crowd)]
        return sorted(found, key=lambda each: each.at)

    def _arrivals_of(self, crowd: Crowd) -> Iterator[Arrival]:
        chance = random.Random(f"{self.course.seed} {crowd.name}")  # noqa: S311 - a simulation's
        for at in _moments(chance, crowd.works_an_hour / 3_600, self.end, crowd.night):
            yield Arrival(at, crowd, (_duration(chance, crowd),))
        for at in _moments(chance, crowd.bursts_a_day / 86_400, self.end, crowd.night):
            count = max(1, round(crowd.burst_works * chance.lognormvariate(0, crowd.burst_spread)))
            durations = tuple(_duration(chance, crowd) for _ in range(count))
            vanishes = chance.random() < crowd.vanishing
            after = chance.expovariate(1 / crowd.vanish_after.total_seconds())
            yield Arrival(at, crowd, durations, at + after if vanishes else NEVER)

    def chance(self, site: str) -> random.Random:
        """What decides about pilots at a site."""
        return random.Random(f"{self.course.seed} {site}")  # noqa: S311 - a simulation's

    def spells(self, site: str, kind: str) -> list[tuple[float, float]]:
        """From when to when there are outages, or black holes, at a site."""
        behaviour = self.behaviours[site]
        is_outage = kind == "outage"
        rate = behaviour.outages_a_day if is_outage else behaviour.black_holes_a_day
        length = behaviour.outage if is_outage else behaviour.black_hole
        chance = random.Random(f"{self.course.seed} {site} {kind}")  # noqa: S311 - a simulation's
        begins = _moments(chance, rate / 86_400, self.end)
        return [(at, at + length.total_seconds() * (0.5 + chance.random())) for at in begins]


def _moments(chance: random.Random, rate: float, end: float, night: float = 1.0) -> Iterator[float]:
    """Random moments, ``rate`` a second by day, at night only the share ``night`` of that."""
    at = 0.0
    while rate > 0:
        at += chance.expovariate(rate)
        if at >= end:
            return
        by_day = 0.5 - 0.5 * math.cos(2 * math.pi * at / 86_400)  # 0 at midnight, 1 at noon
        if chance.random() < night + (1 - night) * by_day:
            yield at


def _duration(chance: random.Random, crowd: Crowd) -> float:
    longest = 0.95 * crowd.wall_time.total_seconds()
    median = crowd.duration.total_seconds()
    return min(longest, max(1.0, median * chance.lognormvariate(0, crowd.duration_spread)))


def read_trace(path: Path) -> Trace:
    """What ``path`` says; raises ConfigurationError."""
    course: Course | None = None
    crowds: list[Crowd] = []
    sites: dict[str, SiteConfig] = {}
    behaviours: dict[str, Behaviour] = {}
    sections = configuration.read(path).sections
    for section in sections:
        match section.kind:
            case "trace":
                course = configuration.from_section(Course, section)
            case "crowd":
                crowds.append(configuration.from_section(Crowd, section))
            case "site":
                is_bare = "computing_element" not in section.entries
                sites[section.name] = (
                    configuration.from_section(FakeSite, section) if is_bare else site_of(section)
                )
            case "behaviour":
                behaviours[section.name] = configuration.from_section(Behaviour, section)
            case _:
                message = (
                    f"unknown section {section.title}; there are [trace], [crowd NAME],"
                    " [site NAME] and [behaviour SITE]"
                )
                raise ConfigurationError(section.file, section.line, message)
    if course is None:
        raise ConfigurationError(str(path), 1, "section [trace] is missing, with its seed")
    for name in sites:
        behaviours.setdefault(name, Behaviour(name))
    for section in sections:
        if section.kind == "behaviour" and section.name not in sites:
            message = f"there is no [site {section.name}] whose behaviour this would be"
            raise ConfigurationError(section.file, section.line, message)
    return Trace(course, tuple(crowds), sites, behaviours)
