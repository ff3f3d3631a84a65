"""HTTP proxies on the way to a server: which one to take, and the CONNECT that makes a tunnel
through it.

"Proxy" is the word of the environment variables and of the manual that an administrator reads;
everywhere else in this project a proxy is a credential, so the code says *intermediary*.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from desktopgrid.link.answers import MAX_HEAD, Head
from desktopgrid.link.errors import ConnectionLost, in_words
from desktopgrid.model.errors import BadRequest


@dataclass(frozen=True)
class Intermediary:
    """An HTTP proxy that makes tunnels; ``credentials`` is ``user:password``, or empty."""

    host: str
    port: int
    credentials: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> Intermediary:
        """The proxy that ``http://[user:password@]host:port`` names; raises BadRequest for anything
        else.
        """
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise BadRequest(f"a proxy's name is http://host:port: {error}") from None
        if parts.scheme != "http" or not host:
            raise BadRequest("a proxy's name is http://host:port; no other kind is known")
        credentials = ""
        if parts.username is not None:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return cls(host, 3128 if port is None else port, credentials)

    @property
    def address(self) -> tuple[str, int]:
        """What to connect to."""
        return self.host, self.port

    @property
    def headers(self) -> dict[str, str]:
        """What a request to it carries."""
        if not self.credentials:
            return {}
        token = base64.b64encode(self.credentials.encode()).decode("ascii")
        return {"Proxy-Authorization": f"Basic {token}"}


def choose(
    host: str,
    environment: Mapping[str, str],
    explicit: str | None = None,
    scheme: str = "https",
) -> Intermediary | None:
    """The proxy to reach ``host`` through, or None.

    ``explicit`` (a configuration key) counts for every host, empty for none. Otherwise HTTPS_PROXY
    does (HTTP_PROXY for the ``scheme`` http), but for hosts in NO_PROXY and for this very machine,
    which no proxy can reach on our behalf.
    """
    if explicit is not None:
        return Intermediary.parse(explicit) if explicit else None
    named = environment.get(f"{scheme}_proxy") or environment.get(f"{scheme}_proxy".upper())
    if not named or _is_loopback(host):
        return None
    if _is_exempt(host, environment.get("no_proxy") or environment.get("NO_PROXY") or ""):
        return None
    return Intermediary.parse(named)


def ask_for_tunnel(connection: socket.socket, via: Intermediary, authority: str) -> None:
    """Make ``connection``, which leads to a proxy, lead to ``authority``; raises ConnectionLost if
    the proxy refuses.
    """
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    lines += [f"{name}: {value}" for name, value in via.headers.items()]
    received = b""
    try:
        connection.sendall("\r\n".join((*lines, "", "")).encode())
        while b"\r\n\r\n" not in received:
            # One byte at a time would be exact; but whoever answers CONNECT says nothing more until
            # we have started TLS.
            data = connection.recv(4096)
            if not data or len(received) > MAX_HEAD:
                raise ConnectionLost(f"the proxy {via.host}:{via.port} did not answer CONNECT")
            received += data
    except OSError as error:
        raise ConnectionLost(
            f"the proxy {via.host}:{via.port} failed: {in_words(error)}"
        ) from error
    head = Head.parse(received.partition(b"\r\n\r\n")[0])
    if not 200 <= head.status < 300:
        raise ConnectionLost(
            f"the proxy {via.host}:{via.port} refused to connect to {authority}:"
            f" {head.status} {head.reason}"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_exempt(host: str, exemptions: str) -> bool:
    return any(
        _covers(entry.strip().lower(), host.lower())
        for entry in exemptions.split(",")
        if entry.strip()
    )


def _covers(entry: str, host: str) -> bool:
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        name = entry.split(":")[0].lstrip("*").lstrip(".")
        return host == name or host.endswith(f".{name}")
