"""The databases that the suites of this directory run on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from desktopgrid.server.database import engine as database
from desktopgrid.server.database.upgrading import upgrade
from tests.databases import empty
from tests.rows import Grid


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'grid.db'}"
    else:
        url = request.getfixturevalue(f"{request.param}_url")
    opened = database.open(url)
    empty(opened)
    upgrade(opened)
    yield opened
    opened.dispose()


@pytest.fixture
def bare(engine: Engine) -> Grid:
    return Grid(engine)
