"""The keys of the XWHEP manual's server file, and a real MariaDB behind them."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import inspect, make_url

from desktopgrid.server.database import engine as database
from desktopgrid.server.database.upgrading import upgrade
from desktopgrid.server.home import Home


@pytest.mark.feature("XW-CFG-12")
def test_a_server_opens_the_database_that_its_keys_name(tmp_path: Path, mariadb_url: str) -> None:
    url = make_url(mariadb_url)
    place = tmp_path / "conf" / "xtremweb.server.conf"
    place.parent.mkdir()
    host = url.query.get("unix_socket") or f"{url.host}:{url.port}"
    place.write_text(
        f"XWdbName={url.database}\nXWdbHost={host}\nXWdbUser={url.username}\n"
        f"XWdbPass={url.password or ''}\n"
    )
    place.chmod(0o600)
    engine = database.open(Home.open(tmp_path))
    try:
        assert engine.dialect.name == "mariadb"
        assert engine.url.database == url.database
        upgrade(engine)
        assert "works" in inspect(engine).get_table_names()
    finally:
        engine.dispose()
