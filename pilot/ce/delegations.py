"""The credential of ours that an A-REX keeps for jobs: made once, used for many, renewed in time.

Which one that is stands in a file of ours, for all processes that submit there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from desktopgrid.credentials.signing import sign
from desktopgrid.model.errors import BadRequest
from pilot.ce import tls
from pilot.ce.arc_rest import Arex, Refused
from pilot.ce.base import CredentialKind
from pilot.ce.https import Hopeless, utc_now

logger = logging.getLogger(__name__)

LIFETIME = timedelta(hours=24)
"""What is asked for; it ends with our proxy at the latest."""
RENEWED_BEFORE = timedelta(hours=6)
"""How long it is to be good for at least, while there is a proxy of ours that lasts longer."""
WORTH_IT = timedelta(minutes=10)
"""A delegation that would last this much longer only is not made anew."""


class Delegations:
    """What of our credential is at one A-REX."""

    def __init__(
        self, arex: Arex, directory: Path, clock: Callable[[], datetime] = utc_now
    ) -> None:
        """``directory`` holds the file."""
        self._arex, self._directory, self._clock = arex, directory, clock

    def current(self) -> str:
        """The name of a delegation that is good for some time; one is made if there is none.

        Raises Silent, Refused.
        """
        if self._arex.https.credential.kind is CredentialKind.TOKEN:
            # A token is short-lived, and cannot be renewed: each submission brings its own.
            return self._arex.delegate_token(self._token())
        proxy = self._proxy()
        with self._record(proxy) as (name, ends_at, write):
            if name and not self._is_due(ends_at, proxy):
                return name
            if name and self._renew(name, proxy, write):
                return name
            name = self._arex.delegate(lambda request: self._signed(request, proxy))
            write(name, self._end(proxy))
            logger.info("Delegated the proxy of %s to %s as %s", proxy.subject, self._arex, name)
            return name

    def keep(self) -> None:
        """Renew what is about to run out, if our proxy lasts longer by now."""
        if self._arex.https.credential.kind is CredentialKind.TOKEN:
            return
        proxy = self._proxy()
        if not self._file(proxy).exists():
            return
        with self._record(proxy) as (name, ends_at, write):
            if name and self._is_due(ends_at, proxy):
                self._renew(name, proxy, write)

    def _renew(
        self, name: str, proxy: tls.ProxyFacts, write: Callable[[str, datetime], None]
    ) -> bool:
        """Whether it could be: the A-REX may have it no more."""
        try:
            self._arex.renew(name, lambda request: self._signed(request, proxy))
        except Refused as refused:
            logger.warning("%r does not renew delegation %s: %s", self._arex, name, refused)
            write("", self._clock())
            return False
        write(name, self._end(proxy))
        logger.info("Renewed delegation %s of %s at %r", name, proxy.subject, self._arex)
        return True

    def _is_due(self, ends_at: datetime, proxy: tls.ProxyFacts) -> bool:
        is_near = ends_at < self._clock() + RENEWED_BEFORE
        return is_near and self._end(proxy) > ends_at + WORTH_IT

    def _end(self, proxy: tls.ProxyFacts) -> datetime:
        return min(proxy.ends_at, self._clock() + LIFETIME)

    def _signed(self, request: str, proxy: tls.ProxyFacts) -> str:
        try:
            return sign(request, proxy.proof, self._clock(), LIFETIME)
        except BadRequest as error:
            raise Hopeless(f"no proxy could be delegated: {error}") from error

    def _proxy(self) -> tls.ProxyFacts:
        try:
            return tls.proxy_in(self._arex.https.credential.file, self._clock())
        except tls.CredentialUnusable as error:
            raise Hopeless(str(error)) from error

    def _token(self) -> str:
        try:
            return tls.token_in(self._arex.https.credential.file)
        except tls.CredentialUnusable as error:
            raise Hopeless(str(error)) from error

    def _file(self, proxy: tls.ProxyFacts) -> Path:
        """One for each A-REX and person."""
        named = hashlib.sha256(f"{self._arex.url}\n{proxy.subject}".encode()).hexdigest()
        return self._directory / f"delegation-{named[:16]}"

    @contextmanager
    def _record(
        self, proxy: tls.ProxyFacts
    ) -> Iterator[tuple[str, datetime, Callable[[str, datetime], None]]]:
        """What the file says, and how to write it; nobody else does meanwhile."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._file(proxy), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)

            def write(name: str, ends_at: datetime) -> None:
                file.seek(0)
                file.truncate()
                json.dump({"name": name, "ends_at": ends_at.isoformat()}, file)
                file.flush()

            name, ends_at = _read(file.read())
            yield name, ends_at, write


def _read(text: str) -> tuple[str, datetime]:
    """What was written; nothing if that was broken off."""
    try:
        said = json.loads(text)
        return str(said["name"]), datetime.fromisoformat(said["ends_at"])
    except (ValueError, KeyError, TypeError):
        return "", datetime.min.replace(tzinfo=UTC)
