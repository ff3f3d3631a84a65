"""``[grid]`` of a worker's or client's configuration: where the grid is, by what it is known, and a
login for who has no identity file.

A login and its password are exchanged for a token once; it is kept in a file until the
configuration changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from desktopgrid.link.address import ServerName
from desktopgrid.link.identity import Identity
from desktopgrid.link.transfer import login as ask_for_token
from desktopgrid.model import configuration
from desktopgrid.model.errors import BadRequest, ConfigurationError, NotAuthenticated
from desktopgrid.model.manual import Reading, Table, in_our_words

PORT = 4325


@dataclass(frozen=True)
class GridSection:
    """``[grid]``: what is left out is the identity file's."""

    servers: tuple[str, ...] = ()
    port: int = PORT
    certificate: Path = Path()
    login: str = ""
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        for server in self.addresses:
            try:
                ServerName.parse(server)
            except BadRequest as error:
                raise ValueError(f"servers: {error}") from None

    @property
    def addresses(self) -> tuple[str, ...]:
        """``https://host:port`` of each server, in the order in which they are to be tried."""
        return tuple(self._address(server) for server in self.servers)

    def _address(self, server: str) -> str:
        if "://" in server:
            return server
        if server.count(":") > 1 and not server.startswith("["):
            server = f"[{server}]"  # IPv6
        has_port = ":" in server.rpartition("]")[2]
        return f"https://{server}" if has_port else f"https://{server}:{self.port}"

    def applied_to(self, identity: Identity, file: Path) -> Identity:
        """``identity`` with the servers and the certificate that are set here in ``file``."""
        servers = self.addresses or identity.servers
        ca = self._certificate(file) if self.certificate != Path() else identity.ca
        return dataclasses.replace(identity, servers=servers, ca=ca)

    def identity(
        self, kind: str, file: Path, kept: Path, lifetime: Optional[int] = None
    ) -> Identity:
        """Who ``login`` and ``password`` of the configuration ``file`` are to the grid.

        The token is kept in ``kept`` and is asked for anew when ``file`` is newer. Raises
        ConfigurationError where the file does not say enough, NotAuthenticated, or Unavailable.
        """
        ca = self.checked(file)
        with contextlib.suppress(OSError):
            if kept.stat().st_mtime >= file.stat().st_mtime:
                return self.applied_to(Identity.read(kept), file)
        try:
            reply = ask_for_token(self.addresses, ca, self.login, self.password, lifetime)
        except NotAuthenticated:
            raise NotAuthenticated(
                f"the server does not know {self.login!r} by the password in {file}"
            ) from None
        found = Identity(self.addresses, kind, str(reply["token"]), str(reply["secret"]), ca)
        # A place that cannot be written to costs a login each time, and nothing else.
        with contextlib.suppress(OSError):
            found.write(kept)
        return found

    def checked(self, file: Path) -> str:
        """The certificate (PEM) by which the servers are known; raises ConfigurationError where
        ``file`` does not say all that a login needs.
        """
        for name, value in (
            ("dispatcher.servers", self.servers),
            ("path.certfile", self.certificate != Path()),
            ("login", self.login),
            ("password", self.password),
        ):
            if not value:
                raise ConfigurationError(str(file), 0, f"{name} is missing, {WHY[name]}")
        return self._certificate(file)

    def _certificate(self, file: Path) -> str:
        path = self.certificate.expanduser()
        try:
            text = (file.parent / path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ConfigurationError(
                str(file), 0, f"path.certfile: {path} cannot be read: {reason}"
            ) from None
        if "-----BEGIN CERTIFICATE-----" not in text:
            raise ConfigurationError(
                str(file), 0, f"path.certfile: {path} holds no certificate in PEM"
            )
        return text


WHY = {
    "dispatcher.servers": "which names the grid's servers",
    "path.certfile": "the grid's ca.pem, by which its servers are known: no other is talked to",
    "login": "which names the user to act as",
    "password": "without which nobody is known",
}


def read(path: Path, table: Table, ours: Mapping[str, Any]) -> Reading:
    """The configuration in the file ``path``, ours or the XWHEP manual's; raises
    ConfigurationError.
    """
    reading = in_our_words(configuration.read(path, may_begin_plain=True), table, ours)
    password = reading.configuration.section("grid").entries.get("password")
    if password is not None and password.value:
        reading.configuration.refuse_open_secret("password", password)
    return reading
