"""Ways into an A-REX and a Globus site that are not real."""

from __future__ import annotations

from pilot.ce.arc import ArcCE
from pilot.ce.arc_rest import Arex
from pilot.ce.base import Credential, CredentialKind
from pilot.ce.fake_arex import FakeArex
from pilot.ce.fake_globus import FakeGlobus
from pilot.ce.globus import Globus
from pilot.ce.gram import GramCE
from tests.grid_site import Grid


def a_proxy_of(grid: Grid) -> Credential:
    return Credential(CredentialKind.PROXY, grid.proxy())


def client(
    arex: FakeArex, grid: Grid, credential: Credential | None = None, **facts: object
) -> Arex:
    credential = credential or a_proxy_of(grid)
    return Arex(arex.url, credential, grid.authorities, **facts)  # type: ignore[arg-type]


def a_door(arex: FakeArex, grid: Grid, credential: Credential | None = None) -> ArcCE:
    return ArcCE(client(arex, grid, credential), "site arc")


def a_door_to_globus(site: FakeGlobus, grid: Grid, queue: str = "", **facts: object) -> GramCE:
    given = {"proxy": grid.proxy(), "host": "localhost", **facts}
    globus = Globus(
        "ce.example/jobmanager-x",
        authorities=grid.authorities,
        commands=site.commands,
        **given,  # type: ignore[arg-type]
    )
    return GramCE(globus, grid.authorities, "site gram", queue)
