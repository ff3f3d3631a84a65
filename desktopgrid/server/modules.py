"""The three modules that the XWHEP manual cuts a server into (7.1.1), and whose lines are whose."""

from __future__ import annotations

import logging
from collections.abc import Collection

from desktopgrid.server.config import Module

LOGGERS = {
    "desktopgrid.server.database": Module.DATABASE,
    "desktopgrid.server.journal": Module.DATABASE,
    "alembic": Module.DATABASE,
    "sqlalchemy": Module.DATABASE,
    "desktopgrid.server.listeners": Module.COMMUNICATION,
    "desktopgrid.access": Module.COMMUNICATION,
    "aiohttp": Module.COMMUNICATION,
    "asyncio": Module.COMMUNICATION,
}
"""Loggers, those below them included; every other is about works and tasks."""


def module_of(logger: str) -> Module:
    """The module that a logger of this name belongs to."""
    words = logger.split(".")
    while words:
        found = LOGGERS.get(".".join(words))
        if found is not None:
            return found
        words.pop()
    return Module.TASKS


class Of(logging.Filter):
    """Lets pass what these modules say, and every error: it is worth somebody's while whatever he
    wanted to hear of.
    """

    def __init__(self, modules: Collection[Module]) -> None:
        super().__init__()
        self._modules = modules

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether ``record`` goes to the log."""
        return record.levelno >= logging.ERROR or module_of(record.name) in self._modules
