"""What is wrong with a configuration beyond its form: what is not there, or does not answer."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.config import BridgeConfig, GridSection
from bridge.home import Home
from bridge.inroute import gateway_of
from bridge.members import Members
from desktopgrid.model.errors import GridError


def complaints(config: BridgeConfig, home: Home) -> list[str]:
    """A sentence for each thing that would keep a route from working; asks the grids."""
    return [*_of_grids(config), *_of_routes(config, home)]


def _of_grids(config: BridgeConfig) -> Iterator[str]:
    used = {route.to for route in config.routes.values()}
    used |= {route.from_ for route in config.routes.values()}
    for name, section in config.grids.items():
        if name not in used:
            yield f"[grid {name}] is the end of no route"
            continue
        yield from _of_grid(name, section)


def _of_grid(name: str, section: GridSection) -> Iterator[str]:
    members = Members(section.identity, section.identities)
    paths = members.all()
    if section.identities is not None and not section.identities.is_dir():
        yield f"[grid {name}] identities: there is no directory {section.identities}"
    for path in paths:
        try:
            members.grid(path)
        except GridError as error:
            yield f"[grid {name}] {path}: {error}"
    members.close()


def _of_routes(config: BridgeConfig, home: Home) -> Iterator[str]:
    for route in config.routes.values():
        gateway = gateway_of(route, home.of_route(route.name))
        try:
            if gateway is not None:
                gateway.check()
        except GridError as error:
            yield str(error)
