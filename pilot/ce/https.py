"""Questions to a site's HTTPS service, for whom a proxy or a token says who we are.

Connections stay open, every question has a time-out, and one that may be asked again is, where that
may help. Proxies and tokens are renewed in their files while we run; a new one makes new
connections. What goes wrong is said in words that an administrator can act on.
"""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import IO
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
)
from urllib3.exceptions import TimeoutError as TookTooLong

from pilot.ce import tls
from pilot.ce.base import Credential, CredentialKind

PAUSES = (0.2, 1.0)
"""Seconds before the second and the third try, more or less."""
PASSING = (500, 502, 503, 504)
"""Statuses that may be another one in a moment."""
LARGEST_ANSWER = 64 << 20
CHUNK = 1 << 16
CONNECTIONS = 4
NOTHING: Mapping[str, str] = MappingProxyType({})

Body = bytes | IO[bytes] | None


class Silent(Exception):
    """Nobody knows what the service would have said, or did; the text says why."""


class NotSent(Silent):
    """The question did not get through: nothing was done."""


class Hopeless(NotSent):
    """It did not, and will not a second later."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes = b""


def utc_now() -> datetime:
    """What time it is."""
    return datetime.now(UTC)


class Https:
    """One service."""

    def __init__(
        self,
        url: str,
        credential: Credential,
        authorities: Path | None,
        answer_within: timedelta,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """``authorities`` is the directory of CAs that may vouch for the service; None: those of
        this system do.
        """
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 443
        self.credential, self.authorities = credential, authorities
        self.seconds = answer_within.total_seconds()
        self.clock = clock
        self._lock = threading.Lock()
        self._pool: urllib3.HTTPSConnectionPool | None = None
        self._pool_is_for: tuple[int, ...] = ()

    @property
    def identity(self) -> str:
        """Who we are there, for messages."""
        file = self.credential.file
        if self.credential.kind is CredentialKind.TOKEN:
            return f"who has the token in {file}"
        try:
            return tls.proxy_in(file, self.clock()).subject
        except tls.CredentialUnusable:
            return f"who has the proxy in {file}"

    def ask(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] = NOTHING,
        body: Body = None,
        headers: Mapping[str, str] = NOTHING,
        *,
        once: bool = False,
    ) -> Answer:
        """The answer to one question; raises Silent.

        It is asked up to three times; ``once`` where a second time would do it twice.
        """
        deadline = time.monotonic() + self.seconds
        for pause in (*PAUSES, None):
            if body is not None and not isinstance(body, bytes):
                body.seek(0)
            try:
                with self._opened(method, path, parameters, body, headers, deadline) as opened:
                    if opened.answer.status not in PASSING or once or pause is None:
                        return opened.whole()
            except Hopeless:
                raise
            except NotSent:
                if pause is None:
                    raise
            except Silent:
                if once or pause is None:
                    raise
            seconds = random.uniform(0.5, 1.5) * pause  # noqa: S311 - no secret
            if time.monotonic() + seconds > deadline:
                raise self._late()
            time.sleep(seconds)
        raise AssertionError("the last try returns or raises")

    def stream(
        self, path: str, headers: Mapping[str, str] = NOTHING
    ) -> tuple[Answer, Iterator[bytes]]:
        """The head of an answer, and its body in chunks, which may take long as long as some come;
        both raise Silent. What is no file (200, 206) is an answer with its body.
        """
        deadline = time.monotonic() + self.seconds
        opened = self._opened("GET", path, NOTHING, None, headers, deadline)
        if opened.answer.status in (200, 206):
            return opened.answer, opened.chunks()
        with opened:
            return opened.whole(), iter(())

    def _opened(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        body: Body,
        headers: Mapping[str, str],
        deadline: float,
    ) -> _Opened:
        left = max(deadline - time.monotonic(), 0.1)
        try:
            response = self._connections().request(
                method,
                path + (f"?{urlencode(parameters)}" if parameters else ""),
                body=body,
                headers={"User-Agent": "glidebridge", **headers, **self._authorization()},
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=left, read=left),
                preload_content=False,
                decode_content=False,
            )
        except HTTPError as error:
            raise self._failure(error) from error
        return _Opened(self, response, deadline)

    def _authorization(self) -> Mapping[str, str]:
        if self.credential.kind is CredentialKind.PROXY:
            return NOTHING
        try:
            return {"Authorization": f"Bearer {tls.token_in(self.credential.file)}"}
        except tls.CredentialUnusable as error:
            raise Hopeless(str(error)) from error

    def _connections(self) -> urllib3.HTTPSConnectionPool:
        """The open connections, which show the proxy that the file has now."""
        try:
            version: tuple[int, ...] = (0,)
            if self.credential.kind is CredentialKind.PROXY:
                version = tls.version_of(self.credential.file)
                tls.proxy_in(self.credential.file, self.clock())
            with self._lock:
                if self._pool is None or self._pool_is_for != version:
                    context = tls.client_context(self.authorities, self.credential)
                    if self._pool is not None:
                        self._pool.close()
                    self._pool_is_for = version
                    self._pool = urllib3.HTTPSConnectionPool(
                        self.host, self.port, maxsize=CONNECTIONS, ssl_context=context
                    )
                return self._pool
        except tls.CredentialUnusable as error:
            raise Hopeless(str(error)) from error

    def _late(self) -> Silent:
        return Silent(f"{self.host}:{self.port} did not answer within {self.seconds:g} s")

    def _failure(self, error: Exception) -> Silent:
        """What ``error`` of the library means."""
        place = f"{self.host}:{self.port}"
        secure = _within(error, ssl.SSLError)
        if isinstance(secure, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return Silent(f"{place} broke off; perhaps it does not accept {self.identity}")
        if secure is not None:
            return Hopeless(f"{place}: {tls.reason_of(secure, self.host, self.authorities)}")
        if isinstance(error, NameResolutionError):
            return NotSent(f"the name {self.host} is not known")
        if isinstance(error, NewConnectionError):
            return NotSent(f"{place} cannot be reached: {_words(error)}")
        if isinstance(error, ConnectTimeoutError):
            return NotSent(f"{place} cannot be reached within {self.seconds:g} s")
        if isinstance(error, TookTooLong):
            return self._late()
        if isinstance(error, ProtocolError):
            return Silent(f"{place} broke off: {_words(error)}")
        return Silent(f"{place}: {error}")


class _Opened:
    """An answer whose body is still to be read."""

    def __init__(self, service: Https, response: urllib3.BaseHTTPResponse, deadline: float) -> None:
        self._service, self._response, self._deadline = service, response, deadline
        self._is_read = False
        self.answer = Answer(response.status, response.reason or "", response.headers)

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_read:
            self._response.close()
        self._response.release_conn()

    def whole(self) -> Answer:
        """The answer with its body; raises Silent."""
        body = b"".join(self.chunks(LARGEST_ANSWER))
        return Answer(self.answer.status, self.answer.reason, self.answer.headers, body)

    def chunks(self, limit: int | None = None) -> Iterator[bytes]:
        """The body; raises Silent where it breaks off or does not come. With a ``limit`` it must
        have come by the deadline, and be no larger.
        """
        size = 0
        with self:
            try:
                for chunk in self._response.stream(CHUNK, decode_content=False):
                    size += len(chunk)
                    if limit is not None and size > limit:
                        raise Silent(f"the answer is larger than {limit} bytes")
                    if limit is not None and time.monotonic() > self._deadline:
                        raise self._service._late()
                    yield chunk
            except HTTPError as error:
                raise self._service._failure(error) from error
            self._is_read = True


def _within(error: BaseException | None, kind: type[ssl.SSLError]) -> ssl.SSLError | None:
    """The error of ``kind`` that ``error`` is about; libraries wrap them in several ways."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, kind):
            return each
        if each is None or each in seen or len(seen) > 10:
            continue
        seen.append(each)
        waiting += [each.__cause__, each.__context__]
        waiting += [item for item in each.args if isinstance(item, BaseException)]
    return None


def _words(error: BaseException) -> str:
    """What the operating system said, if it did."""
    for each in (error, error.__cause__, error.__context__, *error.args):
        if isinstance(each, OSError) and each.strerror:
            return each.strerror
    return str(error.args[0]) if error.args else str(error)
