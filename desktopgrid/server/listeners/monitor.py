"""The duty of adding a row to the monitoring table now and then."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from desktopgrid.model.errors import Unavailable
from desktopgrid.server.counting import look
from desktopgrid.server.home import Home
from desktopgrid.server.listeners.clock import utc_now
from desktopgrid.server.monitoring import Monitoring, of_grid

if TYPE_CHECKING:
    from desktopgrid.server.listeners.service import Service

logger = logging.getLogger(__name__)


async def monitor(service: Service, home: Home) -> None:
    """Write a row each `monitoring_period`, for as long as the server runs."""
    settings = home.config.watching
    period = settings.monitoring_period.total_seconds()
    try:
        table = Monitoring(home.logs, home.directory, settings.monitoring_days, utc_now())
    except OSError as error:
        logger.warning("There is no monitoring table here: %s", error)
        return
    is_well = True
    while True:
        await asyncio.sleep(period)
        try:
            await service.in_thread(service.files, table.run_once, _grid(service), utc_now())
            is_well = True
        except OSError as error:
            if is_well:
                logger.warning("The monitoring table takes no row: %s", error)
            is_well = False


def _grid(service: Service) -> dict[str, int]:
    try:
        core = service.core
    except Unavailable:
        return {}
    connections = sum(peer.send is not None for peer in core.peers.values())
    return of_grid(look(core.grid, utc_now()), connections, core.journal.backlog)
