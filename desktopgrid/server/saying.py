"""What the server says of itself: where it goes, how much of it, and which of the three modules
that the XWHEP manual cuts a server into (7.1.1) may say it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from logging.handlers import RotatingFileHandler
from pathlib import Path

from desktopgrid.server.config import LogLevel, Module

LOG_BYTES, LOGS_KEPT = 16 << 20, 3

LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARN: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}

LOGGERS = {
    "desktopgrid.server.database": Module.DATABASE,
    "desktopgrid.server.journal": Module.DATABASE,
    "alembic": Module.DATABASE,
    "sqlalchemy": Module.DATABASE,
    "desktopgrid.server.listeners": Module.COMMUNICATION,
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


class OneLine(logging.Formatter):
    """A line a message. Names that others give, such as those in certificates, forge no line, and
    move no cursor.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The message; what stands below it, such as a trace, is not part of it."""
        text = super().formatMessage(record)
        if text.isprintable():
            return text
        return "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
        )


def set_up_log(level: LogLevel, file: Path | None = None) -> None:
    """Send what is worth telling to standard error, or to a file that is replaced when it is full;
    the last few of those are kept.
    """
    handler = (
        logging.StreamHandler()
        if file is None
        else RotatingFileHandler(file, maxBytes=LOG_BYTES, backupCount=LOGS_KEPT)
    )
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=LEVELS[level], handlers=[handler])
    # What these say at INFO is about themselves.
    for name in ("alembic", "asyncio", "aiohttp.access"):
        logging.getLogger(name).setLevel(max(LEVELS[level], logging.WARNING))


def hear_only(modules: Collection[Module]) -> None:
    """From now on only these modules write to the log, if any is named."""
    if modules:
        for handler in logging.getLogger().handlers:
            handler.addFilter(Of(modules))
