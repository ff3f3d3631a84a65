"""The keys of ``xtremweb.server.conf``, the XWHEP manual's file (7.1.1), and what each means here.

A door that this server has not opened keeps its key: the file of a grid that moves here is read as
it stands, and says in the log what of it does nothing.
"""

from __future__ import annotations

from desktopgrid.model.manual import Ignored, Means, Table, a_port

DEFAULT_PORT = 4325
PORTS = {
    "port.tcp": 4321,
    "port.udp": 4322,
    "port.worker.http": 4323,
    "port.http": 4324,
    "port.https": DEFAULT_PORT,
    "port.xmlrpc": 4326,
    "port.sunrpc": 4327,
}
"""Where the manual's doors are unless a file says otherwise."""

DEFAULT_SECRET = "XWCertPass"  # noqa: S105 - a password that everybody knows


def not_the_default(value: str) -> None:
    """The check that a pass phrase is not the one that the manual prints."""
    if value == DEFAULT_SECRET:
        raise ValueError(
            "is the pass phrase that the manual prints, so everybody knows it; this server needs"
            " none: delete the line (server.key is for the server's user alone, without one)"
        )


def of_a_server(value: str) -> None:
    """The check that a file is a server's."""
    if value.lower() != "server":
        raise ValueError(f"must be server, not {value!r}: this is the file of another program")


def _refused(port: int, protocol: str) -> Ignored:
    return Ignored(
        f"{protocol} is not spoken here (docs/decisions/0013); port.https is", (str(port),), a_port
    )


MANUAL: Table = {
    "ModulesLogged": Means("server", "modules_logged"),
    "LOGGERLEVEL": Means("server", "log_level", str.lower),
    "XWServer": Means("server", "names"),
    "port.tcp": Means("doors", "tcp_port", check=a_port),
    "port.udp": Means("doors", "udp_port", check=a_port),
    "port.worker.http": Ignored(
        "workers listen at no port; they call the server", ("4323",), a_port
    ),
    "port.http": _refused(4324, "HTTP without TLS"),
    "port.https": Means("server", "port", check=a_port),
    "port.xmlrpc": Means("doors", "xmlrpc_port", check=a_port),
    "port.xlmrpc": Means("doors", "xmlrpc_port", check=a_port),
    "port.sunrpc": _refused(4327, "SUN RPC"),
    "java.nio": Ignored("nothing here is written in Java"),
    "XWdbVendor": Ignored(
        "the database that XWdbName names is a MariaDB or MySQL; [database] url names any other",
        ("mysql", "mariadb"),
    ),
    "XWdbName": Means("database", "name"),
    "XWdbHost": Means("database", "host"),
    "XWdbUser": Means("database", "user"),
    "XWdbPass": Means("database", "password", is_secret=True),
    "XWkeyStore": Ignored(
        "key and certificate are server.key and server.pem in the grid's directory, under the"
        " grid's own CA, which clients and workers have"
    ),
    "XWpassPhrase": Ignored(
        "server.key has no pass phrase; it is for the server's user alone",
        check=not_the_default,
        is_secret=True,
    ),
    "alive.period": Means("server", "alive_period"),
    "MAXCONNECTIONS": Means("limits", "max_connections"),
    "HOMEDIR": Ignored("the grid's directory is the one that xwserver is called for"),
    # The manual has it in a script of definitions, bin/xtremwebconf.sh; the spelling is ours.
    "xtremweb.user": Means("server", "user"),
    "xtremweb.role": Ignored("", ("server",), of_a_server),
    "admin.login": Ignored(
        "the first administrator is called admin; `xw senduser --level super` makes others",
        ("admin",),
    ),
    "admin.password": Ignored(
        "`xwserver passwd admin` sets it, and no file holds it", is_secret=True
    ),
    "worker.login": Ignored(
        "the first worker's identity is worker.identity in the grid's directory", ("worker",)
    ),
    "worker.password": Ignored(
        "`xwserver passwd worker` sets it, and no file holds it", is_secret=True
    ),
}
