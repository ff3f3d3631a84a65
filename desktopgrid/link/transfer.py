"""Files to a server and back (docs/protocol.md, "Files"): resumed where they broke off, size and
digest always checked.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import (
    Any,
    Callable,
    Protocol,
)

from desktopgrid.link.address import HTTPS as HTTPS_SCHEME
from desktopgrid.link.address import ServerName
from desktopgrid.link.errors import ConnectionLost, ForeignServer, NotToBeHad, from_status, in_words
from desktopgrid.link.https import BROKEN, HTTPS, explanation
from desktopgrid.link.identity import Identity
from desktopgrid.link.persistence import (
    BLOCK,
    TIMEOUT,
    Persistence,
    Progress,
    complete,
    size_of,
)
from desktopgrid.link.proxy import choose
from desktopgrid.link.web import Web
from desktopgrid.model.errors import (
    BadRequest,
    GridError,
    LimitExceeded,
    NotAuthenticated,
    RemoteProtocolError,
    Unavailable,
)
from desktopgrid.wire.messages import Welcome
from desktopgrid.wire.proof import certificate_message

FRESH = 10.0
"""Seconds after which an idle connection is not used again: the server may have closed it."""

SMALL = 1 << 20
"""Bytes up to which an upload starts without asking how much the server has."""

DATAS = "/v1/datas/"
ELSEWHERE = 307
"""The status of an answer that says where the content is."""


class Session(Protocol):
    """What a transfer needs of a link."""

    identity: Identity

    @property
    def welcome(self) -> Welcome | None:
        """The last welcome, whose ticket counts."""

    @property
    def server(self) -> ServerName | None:
        """The server that gave it."""

    @property
    def proxy(self) -> str | None:
        """What the configuration says about a proxy."""


def _ignore(_: int) -> None:
    """What a caller does who does not watch."""


class Transfers:
    """Transfers under a session's ticket, from any thread, over connections that are kept alive."""

    def __init__(self, session: Session) -> None:
        self._session = session
        # The grid's server says where its store is; no user does.
        self._web = Web(reaches_private=True)
        self._lock = threading.Lock()
        self._idle: list[tuple[float, ServerName, str, HTTPS]] = []

    def get(
        self, path: str, target: Path, sha256: str, size: int, progress: Progress = _ignore
    ) -> None:
        """Make ``target`` the content of ``path``, whole or not at all, going on where an earlier
        attempt left ``target.part``.

        ``progress`` hears how many bytes there are by now. Raises what the server says no with,
        Unavailable where it cannot be reached, RemoteProtocolError if it sends something else than
        was announced.
        """
        if complete(target, sha256, lambda part: self._fetch(path, part, size, progress)) != sha256:
            raise RemoteProtocolError(f"what came as {path} has not the digest {sha256}")

    def put(
        self,
        path: str,
        source: Path | bytes,
        sha256: str,
        size: int,
        progress: Progress = _ignore,
    ) -> None:
        """Upload ``source`` to ``path``, where the server has it durably on return. What goes to
        /v1/datas goes on where it broke off.
        """
        actual = len(source) if isinstance(source, bytes) else source.stat().st_size
        if actual != size:
            raise BadRequest(f"there are {actual} bytes to upload, not {size}")
        if 0 < self._direct_from() <= size:
            self._put_directly(path, source, sha256, size, progress)
            return
        is_resumable = path.startswith(DATAS)
        persistence = Persistence()
        done: int | None = 0
        while True:
            trouble: GridError = Unavailable(f"{path} does not grow at the server")
            reached = 0
            try:
                if is_resumable and (size > SMALL or persistence.failures):
                    done = self._uploaded(path, size)
                if done is not None:
                    reached = done
                    done = self._upload(path, source, done, size, sha256, progress)
                if done is None:
                    progress(size)
                    return
                reached = done
            except (ConnectionLost, NotAuthenticated) as error:
                trouble, done = error, 0
            persistence.fail(trouble, reached)

    def read(self, path: str, limit: int) -> bytes:
        """The content of ``path``, at most ``limit`` bytes of it; raises LimitExceeded if there is
        more.
        """
        persistence = Persistence()
        while True:
            try:
                with self._answer("GET", path, also=(ELSEWHERE,)) as response:
                    if response.status == ELSEWHERE:
                        return self._read_elsewhere(response.headers.get("Location", ""), limit)
                    content = bytearray()
                    for block in _blocks(response):
                        content += block
                        if len(content) > limit:
                            raise LimitExceeded(f"{path} has more than {limit} bytes")
                    return bytes(content)
            except (ConnectionLost, NotAuthenticated) as error:
                persistence.fail(error, 0)

    def _read_elsewhere(self, place: str, limit: int) -> bytes:
        with _unsigned(place):
            return self._web.read(place, limit)

    def close(self) -> None:
        """Close the connections that are kept alive."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, _, _, connection in idle:
            connection.close()

    # Getting.

    def _fetch(self, path: str, part: Path, size: int, progress: Progress) -> None:
        """Make ``part`` as long as it should be."""
        persistence = Persistence()
        while not part.exists() or size_of(part) != size:
            if size_of(part) > size:
                part.unlink()
            try:
                self._fetch_rest(path, part, size, progress)
            except (ConnectionLost, NotAuthenticated) as error:
                persistence.fail(error, size_of(part))

    def _fetch_rest(self, path: str, part: Path, size: int, progress: Progress) -> None:
        start = size_of(part)
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._answer("GET", path, headers, also=(ELSEWHERE,)) as response:
            if response.status == ELSEWHERE:
                place = response.headers.get("Location", "")
                with _unsigned(place):
                    self._web.fetch_rest(place, part, size, None, progress)
                return
            if response.status != 206:
                start = 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise RemoteProtocolError(f"{path} was asked for from {start}, not from elsewhere")
            if response.length is not None and start + response.length != size:
                raise RemoteProtocolError(
                    f"{path} has {start + response.length} bytes instead of {size}"
                )
            with open(part, "r+b" if start else "wb") as file:
                file.seek(start)
                done = start
                for block in _blocks(response):
                    done += len(block)
                    if done > size:
                        raise RemoteProtocolError(f"{path} has more than {size} bytes")
                    file.write(block)
                    progress(done)
        if done < size:
            raise ConnectionLost(f"{path} broke off after {done} of {size} bytes")

    # Past the server, to its store and from there.

    def _direct_from(self) -> int:
        welcome = self._session.welcome
        return welcome.direct_from if welcome is not None else 0

    def _put_directly(
        self, path: str, source: Path | bytes, sha256: str, size: int, progress: Progress
    ) -> None:
        """Upload to where the server says, whole each time, and tell it."""
        persistence = Persistence()
        question = {"sha256": sha256, "size": size}
        while True:
            try:
                place = self._say("POST", f"{path}/direct", question)
                if place["url"]:
                    blocks = _told(_content(source, 0, size), progress)
                    with _unsigned(place["url"]):
                        self._web.put(place["url"], place["headers"], blocks)
                    self._say("PUT", f"{path}/direct", question)
                progress(size)
                return
            except (ConnectionLost, NotAuthenticated) as error:
                persistence.fail(error, 0)

    def _say(self, method: str, path: str, question: Mapping[str, Any]) -> dict[str, Any]:
        """What the server answers to ``question``."""
        body = json.dumps(question).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        with self._answer(method, path, headers, lambda to: to.send(body)) as response:
            said = b"".join(_blocks(response))
        answer = json.loads(said) if said else {}
        if method == "POST" and not {"url", "headers"} <= set(answer):
            raise RemoteProtocolError(f"the answer about {path} must be a url and headers")
        return dict(answer)

    # Putting.

    def _uploaded(self, path: str, size: int) -> int | None:
        """How much of a data the server has; None if it has it whole."""
        with self._answer("HEAD", path) as response:
            offset = _offset(response, 0)
            if offset < size:
                return offset
            # All bytes but no word that they are the right ones: from the start.
            return None if response.headers.get("Content-Length") == str(size) and size else 0

    def _upload(
        self,
        path: str,
        source: Path | bytes,
        start: int,
        size: int,
        sha256: str,
        progress: Progress,
    ) -> int | None:
        """Send what comes after ``start``; how much the server has then, or None if it has it whole
        and durably.
        """
        digest = base64.b64encode(bytes.fromhex(sha256)).decode("ascii")
        headers = {
            "Content-Length": str(size - start),
            "Repr-Digest": f"sha-256=:{digest}:",  # RFC 9530
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"

        def send(connection: HTTPS) -> None:
            done = start
            for block in _content(source, start, size):
                connection.send(block)
                done += len(block)
                progress(done)

        with self._answer("PUT", path, headers, send, also=(409,)) as response:
            response.read()
            if response.status in (202, 409):
                return _offset(response, start)
            return None

    # One request.

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        send: Callable[[HTTPS], None] | None = None,
        also: Sequence[int] = (),
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request if it is yes (or a status in ``also``); the connection is kept if
        the answer was read to its end.
        """
        welcome, server, ca = self._session.welcome, self._session.server, self._session.identity.ca
        if welcome is None or server is None:
            raise ConnectionLost("there is no session with a server yet")
        if server.scheme != HTTPS_SCHEME:
            server = ServerName(server.host, welcome.https_port)
        connection = self._take(server, ca)
        all_headers = {"Authorization": f"Ticket {welcome.ticket}", **(headers or {})}
        is_over = False
        try:
            response = _exchange(connection, method, path, all_headers, send)
            if response.status >= 300 and response.status not in also:
                raise from_status(response.status, *explanation(response))
            yield response
            is_over = response.isclosed() and not response.will_close
        finally:
            if is_over:
                with self._lock:
                    self._idle.append((time.monotonic(), server, ca, connection))
            else:
                connection.close()

    def _take(self, server: ServerName, ca: str) -> HTTPS:
        """A connection that nobody uses now."""
        since = time.monotonic() - FRESH
        with self._lock:
            idle = [
                entry for entry in self._idle if entry[0] > since and entry[1:3] == (server, ca)
            ]
            stale = [entry for entry in self._idle if entry not in idle]
            found = idle.pop()[3] if idle else None
            self._idle = idle
        for _, _, _, connection in stale:
            connection.close()
        if found is not None:
            return found
        via = choose(server.host, os.environ, self._session.proxy)
        return HTTPS(server, ca, via, TIMEOUT)


def login(
    servers: Sequence[str],
    ca: str,
    login: str,
    password: str,
    lifetime: float | None = None,
    label: str = "",
    proxy: str | None = None,
) -> dict[str, Any]:
    """A new token for the user ``login``: {"token", "secret", "user", "level", "expires_at"};
    raises what the server says no with, or Unavailable.
    """
    question: dict[str, Any] = {"login": login, "password": password, "label": label}
    if lifetime is not None:
        question["lifetime"] = lifetime
    return _at_first_server(
        servers, ca, proxy, lambda connection: _login(connection, "/v1/login", question)
    )


def change_password(
    servers: Sequence[str],
    ca: str,
    login: str,
    password: str,
    new: str,
    proxy: str | None = None,
) -> None:
    """Let ``login`` log in by ``new`` instead of ``password`` from now on; raises what the server
    says no with, or Unavailable.
    """
    question = {"login": login, "password": password, "new": new}
    _at_first_server(
        servers, ca, proxy, lambda connection: _post(connection, "/v1/password", question)
    )


def login_by_certificate(
    servers: Sequence[str],
    ca: str,
    chain: str,
    sign: Callable[[bytes], str],
    lifetime: float | None = None,
    label: str = "",
    proxy: str | None = None,
) -> dict[str, Any]:
    """The same for who has the key of the first certificate of ``chain`` (PEM); ``sign`` signs by
    it. The key stays where it is.
    """

    def ask(connection: HTTPS) -> dict[str, Any]:
        nonce = str(_post(connection, "/v1/login/nonce", {}).get("nonce"))
        # The connection is the one that the nonce came over, so the server is the one that signed
        # for this certificate of its.
        server = connection.sock.getpeercert(True) if connection.sock is not None else None
        if server is None:
            raise ConnectionLost("the server closed the connection before it was told who we are")
        question: dict[str, Any] = {"chain": chain, "nonce": nonce, "label": label}
        question["signature"] = sign(certificate_message(nonce, server, chain))
        if lifetime is not None:
            question["lifetime"] = lifetime
        return _login(connection, "/v1/login/certificate", question)

    return _at_first_server(servers, ca, proxy, ask)


def login_by_token(
    servers: Sequence[str],
    ca: str,
    token: str,
    lifetime: float | None = None,
    label: str = "",
    proxy: str | None = None,
) -> dict[str, Any]:
    """The same for who has a bearer token of an issuer."""
    question: dict[str, Any] = {"token": token, "label": label}
    if lifetime is not None:
        question["lifetime"] = lifetime
    return _at_first_server(
        servers, ca, proxy, lambda connection: _login(connection, "/v1/login/token", question)
    )


def _at_first_server(
    servers: Sequence[str],
    ca: str,
    proxy: str | None,
    ask: Callable[[HTTPS], dict[str, Any]],
) -> dict[str, Any]:
    """What the first server says that can be reached."""
    trouble: GridError = Unavailable("there is no server to log in to")
    for text in servers:
        server = ServerName.parse(text)
        if server.scheme != HTTPS_SCHEME:
            trouble = Unavailable(
                f"{server} takes sessions only: passwords, certificates and issuers' tokens are"
                " shown at the grid's https:// port; name that one, too"
            )
            continue
        connection = HTTPS(server, ca, choose(server.host, os.environ, proxy), TIMEOUT)
        try:
            return ask(connection)
        except Unavailable as error:
            trouble = error
        finally:
            connection.close()
    raise trouble


def _login(connection: HTTPS, path: str, question: Mapping[str, Any]) -> dict[str, Any]:
    answer = _post(connection, path, question)
    if not {"token", "secret"} <= answer.keys():
        raise RemoteProtocolError("the answer to a login must be a token and its secret")
    return answer


def _post(connection: HTTPS, path: str, question: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to ``question``; raises what the server says no with, or Unavailable."""
    body = json.dumps(question).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    response = _exchange(
        connection, "POST", path, headers, lambda connection: connection.send(body)
    )
    if response.status >= 300:
        raise from_status(response.status, *explanation(response))
    try:
        answer = json.loads(b"".join(_blocks(response)))
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise RemoteProtocolError(f"the answer from {path} must be an object")
    return answer


def _exchange(
    connection: HTTPS,
    method: str,
    path: str,
    headers: Mapping[str, str],
    send: Callable[[HTTPS], None] | None,
) -> http.client.HTTPResponse:
    """Ask, and wait for the head of the answer; raises ConnectionLost."""
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
    except ForeignServer:
        raise
    except BROKEN as error:
        raise ConnectionLost(f"cannot ask for {path}: {in_words(error)}") from error
    try:
        if send is not None:
            send(connection)
    except BROKEN:
        pass  # who says no may do so before it has heard all; its answer tells why
    try:
        return connection.getresponse()
    except BROKEN as error:
        raise ConnectionLost(f"the answer about {path} did not come: {in_words(error)}") from error


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body; raises ConnectionLost where it breaks off."""
    while True:
        try:
            block = response.read(BLOCK)
        except BROKEN as error:
            raise ConnectionLost(f"the transfer broke off: {in_words(error)}") from error
        if not block:
            return
        yield block


def _content(source: Path | bytes, start: int, size: int) -> Iterator[bytes]:
    """``source`` from ``start`` on."""
    if isinstance(source, bytes):
        for offset in range(start, size, BLOCK):
            yield source[offset : min(offset + BLOCK, size)]
        return
    with open(source, "rb") as file:
        file.seek(start)
        left = size - start
        while left:
            block = file.read(min(BLOCK, left))
            if not block:
                raise BadRequest(f"{source} became shorter while it was uploaded")
            left -= len(block)
            yield block


def _told(blocks: Iterator[bytes], progress: Progress) -> Iterator[bytes]:
    """``blocks``, and how far they are told as they go."""
    done = 0
    for block in blocks:
        yield block
        done += len(block)
        progress(done)


@contextmanager
def _unsigned(url: str) -> Iterator[None]:
    """Keep out of errors, and so out of logs, what gives anybody the right to use ``url``."""
    try:
        yield
    except (ConnectionLost, NotToBeHad) as error:
        raise type(error)(str(error).replace(url, url.partition("?")[0])) from None


def _offset(response: http.client.HTTPResponse, default: int) -> int:
    text = response.headers.get("Upload-Offset", str(default))
    if not text.isdigit():
        raise RemoteProtocolError(f"Upload-Offset must be a number, not {text[:40]!r}")
    return int(text)
