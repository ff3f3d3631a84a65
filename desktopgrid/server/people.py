"""What the administrator does to users at the server's machine while no server runs."""

from __future__ import annotations

from datetime import datetime

from argon2 import PasswordHasher

from desktopgrid.model.errors import BadRequest, Unavailable, UnknownObject
from desktopgrid.server import changes
from desktopgrid.server.database import engine as database
from desktopgrid.server.database import records
from desktopgrid.server.database.reading import list_objects
from desktopgrid.server.database.upgrading import upgrade
from desktopgrid.server.home import Home
from desktopgrid.server.lock import DirectoryLock

SHORTEST_PASSWORD = 8


def check_length(password: str) -> None:
    """Raises BadRequest for a password that is too short to be one."""
    if len(password) < SHORTEST_PASSWORD:
        raise BadRequest(f"a password must have at least {SHORTEST_PASSWORD} characters")


def set_password(home: Home, login: str, password: str, now: datetime) -> None:
    """Let the user ``login`` log in by ``password`` from now on, and by no earlier one.

    Raises UnknownObject, BadRequest for a password that is too short, and Unavailable while a
    server runs: it knows the users by heart.
    """
    check_length(password)
    if DirectoryLock.is_held(home.directory):
        raise Unavailable(f"the grid in {home.directory} is being served; `xwserver stop` first")
    engine = database.open(home)
    try:
        upgrade(engine)
        with engine.connect() as connection, database.transaction(connection):
            found = list_objects(connection, "users", where={"login": login}).rows
            if not found:
                raise UnknownObject.named("user", login)
            user = found[0]["uid"]
            credential = changes.CredentialSaved(
                user,
                user,
                "password",
                PasswordHasher().hash(password),
                now.timestamp(),
                None,
                False,
            )
            shard = records.take(connection, 0, "passwd")
            records.record(connection, shard, [credential])
    finally:
        engine.dispose()
