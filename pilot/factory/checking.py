"""Trying the doors of sites: what is wrong with each, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.sites import SiteConfig
from pilot.ce.doors import describe_pilot
from pilot.ce.finding import Finding, Verdict
from pilot.factory.sites import Sites

AT_A_TIME = 8

NO_PILOT = "check"
"""The stamp of a pilot that is described and never submitted."""


def check(sites: Sites, names: Sequence[str]) -> Iterator[tuple[str, Finding]]:
    """What is found at the sites of these names, at all if none is named; a site that hangs keeps
    nobody waiting but those behind it in the list.

    Raises UnknownObject for a name that no site has, before any is tried.
    """
    chosen = [sites[name] for name in names or sites.names]
    with ThreadPoolExecutor(AT_A_TIME) as threads:
        tried = threads.map(lambda site: list(_findings(sites, site)), chosen)
        for site, findings in zip(chosen, tried, strict=True):
            for finding in findings:
                yield site.name, finding


def _findings(sites: Sites, site: SiteConfig) -> Iterator[Finding]:
    for cap in ("max_pilots", "max_idle", "max_an_hour"):
        if getattr(site, cap) == 0:
            sentence = f"{cap} is 0, so that no pilot goes in"
            yield Finding("caps", sentence, Verdict.WORRYING, f"set `{cap}`")
    if site.idle_time > site.wall_time:
        sentence = f"a pilot lives for {site.wall_time} and would wait for {site.idle_time} idle"
        yield Finding("pilot", sentence, Verdict.WORRYING, "set `idle_time` below `wall_time`")
    try:
        door = sites.door(site.name)
    except BadRequest as error:
        yield Finding("door", str(error), Verdict.WRONG)
        return
    yield from door.examine(describe_pilot(site, NO_PILOT, Path("pilot.pyz"), (), ()))
