"""The command `xwserver` where all libraries of the server are installed, and a sentence where not.

Whoever installs the client alone has the command, too.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

LIBRARIES = """
    OpenSSL aiohttp alembic argon2 click cryptography defusedxml jwt msgspec prometheus_client
    psycopg pymysql sqlalchemy uvloop
""".split()  # noqa: SIM905 - fourteen lines would say no more


def main() -> None:
    """Run `xwserver`, or exit with the names of what it lacks."""
    absent = [name for name in LIBRARIES if find_spec(name) is None]
    if absent:
        sys.exit(
            f"xwserver: not installed for {sys.executable}: {', '.join(absent)};"
            " pip install 'glidebridge[server]' brings them"
        )
    from desktopgrid.server.cli import main as command

    command()
