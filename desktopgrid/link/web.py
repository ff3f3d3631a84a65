"""Contents from any web server, by http and https: for datas that are not on the grid's server.

Who names a URI is not trusted, and neither is who answers: the size is known before, the digest is
checked, redirections are few and never lead from https to http, the whole may not take for ever,
and a worker does not let itself be used to ask machines that only its own network can reach.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import ipaddress
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Callable, NoReturn
from urllib.parse import SplitResult, urljoin, urlsplit

from desktopgrid.link.errors import ConnectionLost, NotToBeHad, in_words
from desktopgrid.link.https import BROKEN
from desktopgrid.link.persistence import (
    BLOCK,
    TIMEOUT,
    Persistence,
    Progress,
    complete,
    size_of,
)
from desktopgrid.link.proxy import Intermediary, ask_for_tunnel, choose
from desktopgrid.model.errors import AccessDenied, LimitExceeded, Unavailable

MOST_REDIRECTIONS = 10
PATIENCE = 300.0
"""Seconds that any fetch may take."""
SLOWEST = 4 << 10
"""Bytes a second below which a fetch is given up in the end."""
HEAD = 20
"""Bytes of the beginning that tell what an executable was made for."""
PORTS = {"http": 80, "https": 443}
PASSING = (408, 409, 425, 429)
"""Answers below 500 that may be others later."""
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 names of IPv4 addresses (RFC 6052)."""
EMBEDDING = (ipaddress.ip_network("::/96"), ipaddress.ip_network("::ffff:0:0:0/96"))
"""Others that were so once, and that nothing public has (RFC 4291, 2.5.5.1; RFC 2765, 2.1)."""


def patience_for(size: int) -> float:
    """Seconds that it may take to fetch so many bytes."""
    return PATIENCE + size / SLOWEST


class Web:
    """Fetches what http and https URIs name. Any thread."""

    def __init__(
        self,
        reaches_private: bool = False,
        environment: Mapping[str, str] = os.environ,
        trust: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reaches_private, self._environment = reaches_private, environment
        self._trust, self._clock = trust, clock

    def fetch(
        self, uri: str, target: Path, sha256: str, size: int, progress: Progress = lambda _: None
    ) -> None:
        """Make ``target`` what ``uri`` names, going on where an earlier attempt left
        ``target.part``.

        Raises NotToBeHad for what is not there or not as announced, AccessDenied for an address
        that this host does not ask, Unavailable for what may pass.
        """
        ends_at = self._clock() + patience_for(size)

        def fill(part: Path) -> None:
            persistence = Persistence()
            while size_of(part) != size or not part.exists():
                if size_of(part) > size:
                    part.unlink()
                try:
                    self.fetch_rest(uri, part, size, ends_at, progress)
                except ConnectionLost as error:
                    if self._clock() >= ends_at:
                        raise Unavailable(f"{uri} took longer than it may: {error}") from error
                    persistence.fail(error, size_of(part))

        found = complete(target, sha256, fill)
        if found != sha256:
            raise NotToBeHad(f"{uri} is not what was announced: its SHA-256 is {found}")

    def measure(self, uri: str, progress: Progress = lambda _: None) -> tuple[str, int, bytes]:
        """Digest, size and the first bytes of what ``uri`` names, read once to its end."""
        digest, done, head = hashlib.sha256(), 0, b""
        with self._answer(uri, {}, None) as response:
            announced = response.length
            for block in _blocks(uri, response):
                digest.update(block)
                head += block[: HEAD - len(head)]
                done += len(block)
                progress(done)
        if announced is not None and done < announced:
            raise ConnectionLost(f"{uri} broke off after {done} of {announced} bytes")
        return digest.hexdigest(), done, head

    def read(self, uri: str, limit: int) -> bytes:
        """What ``uri`` names, at most ``limit`` bytes of it; raises LimitExceeded if it is more."""
        content = bytearray()
        with self._answer(uri, {}, None) as response:
            for block in _blocks(uri, response):
                content += block
                if len(content) > limit:
                    raise LimitExceeded(f"{uri} has more than {limit} bytes")
        return bytes(content)

    def put(self, uri: str, headers: Mapping[str, str], blocks: Iterable[bytes]) -> None:
        """Store ``blocks``, whose length ``headers`` say, under ``uri``.

        Raises ConnectionLost for what may pass, NotToBeHad for what does not.
        """
        channel = _Channel(_parts(uri), self._connect)
        with (
            contextlib.closing(channel),
            channel.ask(uri, headers, "PUT", blocks) as response,
        ):
            if response.status not in (200, 201, 204):
                _refuse(uri, response)

    def fetch_rest(
        self,
        uri: str,
        part: Path,
        size: int,
        ends_at: float | None = None,
        progress: Progress = lambda _: None,
    ) -> None:
        """Bring what ``part`` lacks of the content at ``uri``; raises as :meth:`fetch` does, and
        ConnectionLost for what may pass.
        """
        start = size_of(part)
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._answer(uri, headers, ends_at) as response:
            if not _is_a_part(response):
                start = 0
            whole = _whole_size(uri, response, start)
            if whole is not None and whole != size:
                raise NotToBeHad(f"{uri} has {whole} bytes, not the {size} that were announced")
            with open(part, "r+b" if start else "wb") as file:
                file.seek(start)
                done = start
                for block in _blocks(uri, response):
                    done += len(block)
                    if done > size:
                        raise NotToBeHad(f"{uri} has more than the {size} bytes announced")
                    file.write(block)
                    progress(done)
        if done < size:
            raise ConnectionLost(f"{uri} broke off after {done} of {size} bytes")

    @contextlib.contextmanager
    def _answer(
        self, uri: str, headers: Mapping[str, str], ends_at: float | None
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer with the content that ``uri`` names in the end."""
        place = uri
        for _ in range(MOST_REDIRECTIONS + 1):
            channel = _Channel(_parts(place), self._connect)
            with (
                contextlib.closing(channel),
                _cut_at(channel, ends_at, self._clock),
                channel.ask(place, headers) as response,
            ):
                target = response.headers.get("Location")
                if target is None or not 300 < response.status < 400:
                    _check(uri, response)
                    yield response
                    return
            place = _redirected(uri, place, target)
        raise NotToBeHad(f"{uri} redirects more than {MOST_REDIRECTIONS} times")

    def _connect(self, parts: SplitResult) -> tuple[socket.socket, Intermediary | None]:
        """A connection for a request to the host of ``parts``, and the proxy that it leads to."""
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        via = choose(host, self._environment, scheme=parts.scheme)
        if via is None:
            plain = self._direct(host, port)
        else:
            # The proxy looks the name up, and its owner decides where it may lead.
            self._check_literal(host)
            plain = socket.create_connection(via.address, TIMEOUT)
        if parts.scheme == "http":
            return plain, via
        try:
            if via is not None:
                ask_for_tunnel(plain, via, f"{f'[{host}]' if ':' in host else host}:{port}")
            return self._trust().wrap_socket(plain, server_hostname=host), None
        except BaseException:
            plain.close()
            raise

    def _direct(self, host: str, port: int) -> socket.socket:
        # What was looked at is what we connect to: the name is not looked up a second time.
        trouble: Exception = ConnectionLost(f"{host} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            if not self._reaches_private and not is_public(str(address[0])):
                trouble = _refusal(host, str(address[0]))
                continue
            plain = socket.socket(family, kind, protocol)
            plain.settimeout(TIMEOUT)
            try:
                plain.connect(address)
                return plain
            except OSError as error:
                plain.close()
                trouble = error
        raise trouble

    def _check_literal(self, host: str) -> None:
        if self._reaches_private:
            return
        # An address may be written in many ways, such as 2130706433 and 127.1: whoever looks it up
        # understands them all.
        with contextlib.suppress(OSError, UnicodeError):
            for *_, address in socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST):
                if not is_public(str(address[0])):
                    raise _refusal(host, str(address[0]))


def is_public(address: str) -> bool:
    """Whether an IP address can be reached from everywhere: not this machine's own, not one of the
    network that it stands in.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in TRANSLATED:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if found.is_site_local or any(found in network for network in EMBEDDING):
            return False
    return found.is_global and not found.is_multicast


def _refusal(host: str, address: str) -> AccessDenied:
    return AccessDenied(
        f"{host} is at {address}, which only this host's own network can reach:"
        " it is not asked unless fetch_private is set"
    )


class _Channel(http.client.HTTPConnection):
    """A connection for one request."""

    def __init__(
        self,
        parts: SplitResult,
        connect: Callable[[SplitResult], tuple[socket.socket, Intermediary | None]],
    ) -> None:
        self.default_port = PORTS[parts.scheme]
        super().__init__(parts.hostname or "", parts.port or self.default_port, timeout=TIMEOUT)
        self._parts, self._connect = parts, connect
        self._via: Intermediary | None = None
        self._raw: socket.socket | None = None

    def connect(self) -> None:
        """See http.client."""
        self.sock, self._via = self._connect(self._parts)
        self._raw = self.sock

    def ask(
        self,
        uri: str,
        headers: Mapping[str, str],
        method: str = "GET",
        blocks: Iterable[bytes] | None = None,
    ) -> http.client.HTTPResponse:
        """The head of the answer; raises ConnectionLost."""
        parts = self._parts
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            self.connect()
            more: Mapping[str, str] = {}
            if self._via is not None:
                path, more = f"http://{parts.netloc}{path}", self._via.headers
            self.request(method, path, blocks, {**headers, **more})
            return self.getresponse()
        except AccessDenied as error:
            raise AccessDenied(f"{uri}: {error}") from None
        except BROKEN as error:
            raise ConnectionLost(f"{uri}: {in_words(error)}") from error

    def cut(self) -> None:
        """Let whoever waits for the other side wait no more. Any thread."""
        if self._raw is not None:
            with contextlib.suppress(OSError):
                # Past the TLS around it, which another thread is reading.
                socket.socket.shutdown(self._raw, socket.SHUT_RDWR)


@contextlib.contextmanager
def _cut_at(channel: _Channel, ends_at: float | None, clock: Callable[[], float]) -> Iterator[None]:
    if ends_at is None:
        yield
        return
    # A byte now and then keeps a connection from timing out.
    timer = threading.Timer(max(0.0, ends_at - clock()), channel.cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _parts(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError as error:
        raise NotToBeHad(f"{uri[:200]!r} is no URI: {error}") from None
    return parts


def _redirected(uri: str, place: str, target: str) -> str:
    """Where ``place``, to which ``uri`` has led, leads by ``target``."""
    found = urljoin(place, target)
    scheme, before = urlsplit(found).scheme, urlsplit(place).scheme
    if scheme not in PORTS or (before == "https" and scheme != "https"):
        raise NotToBeHad(
            f"{uri} leads from {before} to {scheme or 'nowhere'}, which is not followed"
        )
    if not urlsplit(found).hostname or re.search(r"[^!-~]", found):
        raise NotToBeHad(f"{uri} leads to {found[:200]!r}, which is no URI")
    return found


def _check(uri: str, response: http.client.HTTPResponse) -> None:
    if response.status not in (200, 206):
        _refuse(uri, response)


def _refuse(uri: str, response: http.client.HTTPResponse) -> NoReturn:
    status = response.status
    said = f"{uri} was answered {status} {response.reason[:100]}"
    if status >= 500 or status in PASSING:
        raise ConnectionLost(said)
    raise NotToBeHad(said)


def _is_a_part(response: http.client.HTTPResponse) -> bool:
    # Some S3 servers (rclone's) say 200 where they should say 206.
    return response.status == 206 or "Content-Range" in response.headers


def _whole_size(uri: str, response: http.client.HTTPResponse, start: int) -> int | None:
    """What the answer says of the size of the whole content, if it says anything."""
    if not _is_a_part(response):
        return response.length
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != start:
        raise ConnectionLost(f"{uri} was asked for from {start}, and answered from elsewhere")
    return None if match[2] == "*" else int(match[2])


def _blocks(uri: str, response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body as it comes, which may be less than was announced."""
    left = response.length
    while left is None or left > 0:
        try:
            block = response.read1(BLOCK if left is None else min(BLOCK, left))
        except BROKEN as error:
            raise ConnectionLost(f"{uri} broke off: {in_words(error)}") from error
        if not block:
            return
        if left is not None:
            left -= len(block)
        yield block
