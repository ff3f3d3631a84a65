"""What is learned from one situation to the next: how soon sites start pilots, how long those find
work, which sites swallow them, how much demand vanishes. Pure: time comes with what is observed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from desktopgrid.model.demand import PilotNews, Situation
from desktopgrid.model.lifecycle import PilotStatus

STARTS = 40
"""Starts of pilots at a site from which its latency is learned."""
CAUTIOUS = 0.8
"""The share of them that were quicker than the latency that is counted on."""
SHORT_LIFE = timedelta(minutes=10)
"""A pilot that lived so long without finishing a work may have been at a long one."""
USELESS_TO_OPEN = 3
"""Pilots in a row that end soon and have done no work before a site gets none for a while."""
FIRST_PAUSE = timedelta(minutes=10)
LONGEST_PAUSE = timedelta(hours=2)
MEMORY = timedelta(hours=6)
"""After which what was learned of vanishing demand counts half."""
STALL_MEMORY = timedelta(minutes=30)
"""After which a site counts as half as slow as it once was seen to be."""
IDLE_SHARE = 0.01
"""The part of the time that a site's pilots find work for which an idle one may wait for more."""
LEAST_IDLE = timedelta(seconds=30)
USUAL_IDLE = timedelta(seconds=60)


@dataclass
class Breaker:
    """Whether a site swallows pilots."""

    useless: int = 0
    """Pilots in a row that ended soon and had done nothing."""
    failing_since: datetime | None = None
    opened_at: datetime | None = None
    pause: timedelta = FIRST_PAUSE

    def failed(self, at: datetime) -> None:
        """A pilot ended soon and had done nothing."""
        self.useless += 1
        self.failing_since = self.failing_since or at
        if self.opened_at is not None and at > self.opened_at + self.pause:
            self.opened_at, self.pause = at, min(2 * self.pause, LONGEST_PAUSE)
        elif self.opened_at is None and self.useless >= USELESS_TO_OPEN:
            self.opened_at = at

    def worked(self, since: datetime) -> None:
        """A pilot that started at ``since`` did works. One that was there before others began to
        fail says nothing about new ones.
        """
        trouble = self.opened_at or self.failing_since
        if trouble is not None and since > trouble:
            self.useless, self.failing_since = 0, None
            self.opened_at, self.pause = None, FIRST_PAUSE

    @property
    def opens_again_at(self) -> datetime | None:
        """When a pilot may be tried again; None while the site is trusted."""
        return None if self.opened_at is None else self.opened_at + self.pause


@dataclass
class SiteHistory:
    """What was learned of one site."""

    starts: deque[float] = field(default_factory=lambda: deque(maxlen=STARTS))
    """Seconds from submission to first contact."""
    busy_life: float | None = None
    """Seconds that pilots which did works lived, on average."""
    useful: float = 0.0
    ended: float = 0.0
    breaker: Breaker = field(default_factory=Breaker)
    is_wanted: bool = False
    """Whether works waited, when it was looked at last, that its pilots could have run."""
    _stall: tuple[float, datetime | None] = (0.0, None)
    superfluous_since: datetime | None = None
    """Since when waiting pilots have seemed too many, without interruption."""

    def stalls(self, age: float, now: datetime) -> float:
        """Seconds for which pilots wait there that did not start: ``age`` by now, or what was seen
        before and fades; taking them back makes no site any quicker.
        """
        seen, at = self._stall
        fading = 0.5 ** ((now - at) / STALL_MEMORY) if at is not None else 0.0
        if age >= seen * fading:
            self._stall = (age, now)
        return max(age, seen * fading)

    def latency(self, usual: float, share: float = CAUTIOUS) -> float:
        """Seconds within which that share of the pilots start; ``usual`` where none did yet."""
        if not self.starts:
            return usual
        ordered = sorted(self.starts)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def idle_time(self, longest: timedelta) -> timedelta:
        """How long a pilot there may wait for a further work."""
        if self.busy_life is None:
            return min(USUAL_IDLE, longest)
        return min(longest, max(LEAST_IDLE, timedelta(seconds=IDLE_SHARE * self.busy_life)))

    @property
    def reliability(self) -> float:
        """The share of its pilots that did works, as far as is known."""
        return (self.useful + 1) / (self.ended + 1)


class History:
    """What was learned of all sites, and of demand."""

    def __init__(self) -> None:
        self.sites: dict[str, SiteHistory] = {}
        self.at: datetime | None = None
        """When the last situation was that was learned from."""
        self.is_borne_out = False
        """Whether the works that wait no more, since the last look, were aborted by the server's
        own count: then nobody needs to see it twice.
        """
        self._counts: tuple[int, int, int] | None = None
        self._waiting = 0
        self._submitted = self._aborted = 0.0

    def __repr__(self) -> str:
        open_ = [name for name, site in self.sites.items() if site.breaker.opened_at is not None]
        return f"<History of {len(self.sites)} sites until {self.at}, open: {open_}>"

    def of(self, site: str) -> SiteHistory:
        """What was learned of ``site``."""
        return self.sites.setdefault(site, SiteHistory())

    @property
    def vanishing(self) -> float:
        """The share of the works lately that were aborted before they ended."""
        return self._aborted / self._submitted if self._submitted > 1 else 0.0

    def observe(self, situation: Situation) -> None:
        """Learn from ``situation``; what was learned already is not learned twice."""
        since = self.at
        if since is not None and situation.at <= since:
            return
        ends = (news for news in situation.news if news.ended_at is not None)
        for news in sorted(ends, key=lambda each: each.ended_at or situation.at):
            if news.ended_at is not None and (since is None or news.ended_at > since):
                self._ended(news, news.ended_at, is_first=since is None)
        for news in situation.news:
            if news.started_at is not None and (since is None or news.started_at > since):
                span = (news.started_at - news.submitted_at).total_seconds()
                self.of(news.site).starts.append(max(0.0, span))
        for name, record in situation.sites.items():
            if record.useful_since is not None:
                self.of(name).breaker.worked(record.useful_since)
        self._count(situation, since)
        self.at = situation.at

    def _ended(self, news: PilotNews, ended_at: datetime, is_first: bool) -> None:
        site = self.of(news.site)
        life = ended_at - (news.started_at or ended_at)
        if news.tasks_done:
            spent = life.total_seconds()
            known = site.busy_life
            site.busy_life = spent if known is None else 0.9 * known + 0.1 * spent
            site.useful, site.ended = 0.97 * site.useful + 1, 0.97 * site.ended + 1
            site.breaker.worked(news.started_at or ended_at)
            return
        if news.status is PilotStatus.DELETED or not news.is_reached or life >= SHORT_LIFE:
            return  # our own doing; or at a long work when it was preempted
        # One that left by itself is to blame if works waited that it did not get.
        if news.status is not PilotStatus.DONE or (site.is_wanted and not is_first):
            site.useful, site.ended = 0.97 * site.useful, 0.97 * site.ended + 1
            site.breaker.failed(ended_at)

    def refused(self, site: str, at: datetime) -> None:
        """The site would not take pilots: it may as well swallow them."""
        self.of(site).breaker.failed(at)

    def _count(self, situation: Situation, since: datetime | None) -> None:
        counts = (situation.incarnation, situation.submitted, situation.aborted)
        before, self._counts = self._counts, counts
        waited, self._waiting = self._waiting, situation.waiting
        self.is_borne_out = False
        if before is None or since is None or before[0] != counts[0]:
            return  # a server that was started anew counts from zero
        gone = waited + counts[1] - before[1] - self._waiting
        self.is_borne_out = gone > 0 and 2 * (counts[2] - before[2]) >= gone
        fading = 0.5 ** ((situation.at - since) / MEMORY)
        self._submitted = self._submitted * fading + max(0, counts[1] - before[1])
        self._aborted = min(self._submitted, self._aborted * fading + max(0, counts[2] - before[2]))

    def wanted(self, sites: Mapping[str, bool]) -> None:
        """Which sites works waited for, for what is learned from the next situation."""
        for name, is_wanted in sites.items():
            self.of(name).is_wanted = is_wanted
