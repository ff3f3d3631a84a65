"""What keeps a client from its grid: every step on the way to a server, tried by itself, with what
to do where it fails.

Each step that fails makes those after it pointless for this server; the next server is tried all
the same. Nothing is changed anywhere, but that a password in a configuration file is exchanged for
a token, as any command does.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import os
import platform
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from desktopgrid.client import profile
from desktopgrid.client.session import GridSession
from desktopgrid.link.address import ServerName, connect
from desktopgrid.link.errors import ConnectionLost, in_words
from desktopgrid.link.https import BROKEN, HTTPS
from desktopgrid.link.identity import Identity
from desktopgrid.link.proxy import Intermediary, choose
from desktopgrid.link.tls import pinned
from desktopgrid.model.errors import BadRequest, GridError, NotAuthenticated
from desktopgrid.model.rights import UserLevel
from desktopgrid.model.version import VERSION

GOOD, WARNING, WRONG = "good", "warning", "wrong"

PATIENCE = 10.0
"""Seconds that each step may take."""

SKEW = 30.0
"""Seconds by which the clocks here and there may differ before it is worth a word."""

CERTIFICATE = 30 * 86_400
"""Seconds before a certificate's end in which it is worth a word."""

ROOM_MIB = 256
"""Free disk below which results may not fit."""

LONGEST_STATUS = 64 << 10


@dataclass(frozen=True)
class Finding:
    """What one step found, and what to do about it."""

    check: str
    state: str
    found: str
    advice: str = ""


class Stop(Exception):
    """The way ends here; ``finding`` says why."""

    def __init__(self, check: str, found: str, advice: str) -> None:
        super().__init__(found)
        self.finding = Finding(check, WRONG, found, advice)


def examine(
    path: Path,
    environment: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.time,
    patience: float = PATIENCE,
) -> Iterator[Finding]:
    """Every finding about the way from the identity in ``path`` to its grid, as it is made."""
    yield Finding(
        "versions", GOOD, f"glidebridge {VERSION}, Python {platform.python_version()}, {ssl_name()}"
    )
    yield from (_room(place) for place in dict.fromkeys((Path.cwd(), Path(tempfile.gettempdir()))))
    try:
        servers, ca, finding = _known(path)
        yield finding
    except Stop as stop:
        yield stop.finding
        return
    reached = 0
    for text in servers:
        try:
            yield from _way_to(ServerName.parse(text), ca, environment, clock, patience)
            reached += 1
        except Stop as stop:
            yield stop.finding
    if reached:
        yield _login(path, patience)


def ssl_name() -> str:
    """The TLS library and its version."""
    return " ".join(ssl.OPENSSL_VERSION.split()[:2])


def _room(place: Path) -> Finding:
    free = shutil.disk_usage(place).free >> 20
    if free >= ROOM_MIB:
        return Finding("disk", GOOD, f"{free} MiB free in {place}")
    advice = "make room, or fetch results elsewhere (xw result --directory)"
    return Finding("disk", WARNING, f"only {free} MiB free in {place}", advice)


# Who we are.


def _known(path: Path) -> tuple[tuple[str, ...], str, Finding]:
    """The servers and the CA that ``path`` names, and what is to be said of it; raises Stop."""
    if not path.exists():
        raise Stop(
            "identity",
            f"there is no identity file {path}",
            "xw login --server https://HOST:PORT --ca FILE LOGIN makes one; --identity FILE or"
            f" ${profile.VARIABLE} names another",
        )
    try:
        if profile.is_configuration(path):
            grid = profile.read_configuration(path).grid
            ca, login = grid.checked(path), grid.login
            return grid.addresses, ca, Finding("identity", GOOD, f"{path} logs in as {login}")
        identity = Identity.read(path)
    except GridError as error:
        raise Stop("identity", str(error), _cure(path)) from None
    said = f"{path} is a {identity.kind}'s, for {', '.join(identity.servers)}"
    return identity.servers, identity.ca, Finding("identity", GOOD, said)


def _cure(path: Path) -> str:
    if not os.access(path, os.R_OK):
        return f"it must be yours to read: ls -l {path}"
    if not profile.is_configuration(path) and path.stat().st_mode & 0o077:
        return f"chmod 600 {path}; if others have read it, `xw logout` and log in anew"
    if profile.is_configuration(path):
        return "conf/xwrc of the source explains every key; or use `xw login` instead"
    return "`xw login` makes a new one"


# The way to one server.


def _way_to(
    server: ServerName,
    ca: str,
    environment: Mapping[str, str],
    clock: Callable[[], float],
    patience: float,
) -> Iterator[Finding]:
    via, finding = _proxy(server, environment)
    yield finding
    if via is None:
        yield _name(server)
    yield _connection(server, via, patience)
    yield _certificate(server, ca, via, clock, patience)
    yield from _status(server, ca, via, clock, patience)


def _proxy(
    server: ServerName, environment: Mapping[str, str]
) -> tuple[Intermediary | None, Finding]:
    try:
        via = choose(server.host, environment)
    except BadRequest as error:
        raise Stop("proxy", f"HTTPS_PROXY: {error}", "correct it, or unset HTTPS_PROXY") from None
    if via is None:
        said = "not for this server" if _names_proxy(environment) else "none is set"
        return via, Finding("proxy", GOOD, f"{server}: {said}")
    return via, Finding("proxy", GOOD, f"{server}: through {via.host}:{via.port} (HTTPS_PROXY)")


def _names_proxy(environment: Mapping[str, str]) -> bool:
    return bool(environment.get("https_proxy") or environment.get("HTTPS_PROXY"))


def _name(server: ServerName) -> Finding:
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Stop(
            "name",
            f"{server.host} has no address: {in_words(error)}",
            "is it spelt right, and does this network know it? `getent hosts NAME` asks as we do",
        ) from None
    addresses = ", ".join(dict.fromkeys(str(entry[4][0]) for entry in found))
    return Finding("name", GOOD, f"{server.host} is {addresses}")


def _connection(server: ServerName, via: Intermediary | None, patience: float) -> Finding:
    began = time.monotonic()
    try:
        connect(server, patience, via).close()
    except ConnectionLost as error:
        cause = error.__cause__
        if via is not None:
            advice = "the proxy must allow CONNECT to this port; NO_PROXY leaves it out"
        elif isinstance(cause, ConnectionRefusedError):
            advice = "nobody listens there: does the server run (`xwserver status`), at this port?"
        else:
            advice = "a firewall may be in between: ask for this port, or set HTTPS_PROXY"
        raise Stop("connection", str(error), advice) from None
    took = (time.monotonic() - began) * 1000
    return Finding("connection", GOOD, f"{server} answers within {took:.0f} ms")


def _certificate(
    server: ServerName,
    ca: str,
    via: Intermediary | None,
    clock: Callable[[], float],
    patience: float,
) -> Finding:
    try:
        with (
            connect(server, patience, via) as plain,
            pinned(ca).wrap_socket(plain, server_hostname=server.host) as secure,
        ):
            shown = secure.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        raise Stop("certificate", f"{server}: {error.verify_message}", _trust(error)) from None
    except (OSError, ConnectionLost) as error:
        advice = "is this a grid's server? Something else may listen at this port"
        raise Stop(
            "certificate", f"{server} does not speak TLS: {in_words(error)}", advice
        ) from None
    ends_at = ssl.cert_time_to_seconds(str(shown["notAfter"]))
    said = f"{server} is certified until {time.strftime('%Y-%m-%d', time.gmtime(ends_at))}"
    if ends_at - clock() > CERTIFICATE:
        return Finding("certificate", GOOD, said)
    advice = "the administrator should run `xwserver renew` and `xwserver restart`"
    return Finding("certificate", WARNING, said, advice)


def _trust(error: ssl.SSLCertVerificationError) -> str:
    message = error.verify_message.lower()
    if "mismatch" in message or "not valid for" in message:
        return (
            "call the server by a name of its certificate, or have the administrator add this one"
            " (names in server.conf, then `xwserver renew`)"
        )
    if "expired" in message:
        return "the administrator should run `xwserver renew` and `xwserver restart`"
    if "not yet valid" in message:
        return "this machine's clock is behind, or the server's was ahead: set it"
    return (
        "this is another grid's server, or somebody stands in between; get ca.pem of the grid from"
        " its administrator, by a way that you trust"
    )


def _status(
    server: ServerName,
    ca: str,
    via: Intermediary | None,
    clock: Callable[[], float],
    patience: float,
) -> Iterator[Finding]:
    connection = HTTPS(server, ca, via, patience)
    try:
        asked_at = clock()
        connection.request("GET", "/v1/status")
        response = connection.getresponse()
        answered_at = clock()
        body = response.read(LONGEST_STATUS)
    except BROKEN as error:
        advice = "something else may listen at this port, or the server stops just now"
        raise Stop("server", f"{server} does not answer: {in_words(error)}", advice) from None
    finally:
        connection.close()
    said: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        said = json.loads(body)
    date = email.utils.parsedate_to_datetime(response.headers["Date"])
    yield judged_skew((asked_at + answered_at) / 2 - date.timestamp())
    if response.status == 503:
        reason = said.get("reason") or "it does not say why"
        raise Stop("server", f"{server} cannot serve: {reason}", "wait, or tell its administrator")
    if response.status != 200 or said.get("status") != "serving":
        advice = "something else may listen at this port"
        raise Stop("server", f"{server} is no server of a grid ({response.status})", advice)
    yield judged_version(server, str(said.get("version") or "of an unknown version"))


def judged_skew(seconds: float) -> Finding:
    """What is to be said of a clock that is ahead of the server's by ``seconds``."""
    if abs(seconds) <= SKEW:
        return Finding("clock", GOOD, "this machine and the server agree on the time")
    way = "ahead of" if seconds > 0 else "behind"
    advice = "set this machine's clock (chronyc tracking, timedatectl), or tell the administrator"
    return Finding("clock", WARNING, f"{abs(seconds):.0f} s {way} the server", advice)


def judged_version(server: ServerName, version: str) -> Finding:
    """What is to be said of a server of ``version``: those of one MINOR series understand each
    other.
    """
    said = f"{server} serves, glidebridge {version}"
    if version.split(".")[:2] == VERSION.split(".")[:2]:
        return Finding("server", GOOD, said)
    advice = (
        f"this client is {VERSION}; a server speaks with clients of its own series and the last"
    )
    return Finding("server", WARNING, said, advice)


def _login(path: Path, patience: float) -> Finding:
    """Open a session, as every command does."""
    try:
        identity = profile.load(path)
        if identity.kind != "client":
            advice = "`xwworker --identity` takes it; for `xw` make one by `xw login`"
            return Finding("login", WRONG, f"it is the identity of a {identity.kind}", advice)
        session = GridSession(identity, patience=patience)
        try:
            welcome = session.open()
        finally:
            session.close()
    except NotAuthenticated as error:
        advice = "the login has come to its end, or was revoked: `xw login` again"
        return Finding("login", WRONG, str(error), advice)
    except GridError as error:
        advice = "something between here and the server may stop long connections: set HTTPS_PROXY"
        return Finding("login", WRONG, str(error), advice)
    level = UserLevel(welcome.level).name.lower()
    return Finding("login", GOOD, f"the server knows this user, of level {level}")
