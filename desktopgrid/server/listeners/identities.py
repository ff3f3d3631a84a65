"""Who somebody is by other proofs than passwords: certificates, and tokens of issuers, looked at in
threads of their own.

A nonce is good for one attempt, and for a minute.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from desktopgrid.credentials.subjects import certificates_in
from desktopgrid.model.errors import BadRequest, NotAuthenticated, Unavailable
from desktopgrid.server import delegations
from desktopgrid.server.certificates import Trust, is_signed, public_key, shown, verify
from desktopgrid.server.config import IdentitySection, IssuerSection
from desktopgrid.server.issuers import Claims, Issuer, issuer_of
from desktopgrid.server.listeners.clock import utc_now
from desktopgrid.server.proved import Proved, Shown
from desktopgrid.server.state import Grid, Outcome
from desktopgrid.server.throttle import Throttle, origin_of
from desktopgrid.server.trusted import TrustedDirectory, VomsDirectory
from desktopgrid.server.users import revoke_token
from desktopgrid.server.voms import with_attributes
from desktopgrid.wire.proof import certificate_message, new_nonce

logger = logging.getLogger(__name__)

NONCE_LIFE = 60.0
MOST_NONCES = 10_000
LOOK_EVERY = 10.0
"""Seconds between two looks at what the CAs have revoked."""
ATTEMPTS, ATTEMPTS_A_SECOND = 20, 5.0
"""Chains that an address may send at once, and from then on."""

T = TypeVar("T")


class Identities:
    """Proofs by certificate, where the administrator has named a directory of CAs, and by token,
    where he has named issuers.
    """

    def __init__(
        self, server: bytes, settings: IdentitySection, issuers: Iterable[IssuerSection]
    ) -> None:
        """``server`` is the certificate that we show, as DER."""
        self._issuers = {each.url: Issuer(each, utc_now) for each in issuers}
        # An issuer that is slow to answer holds up no certificate.
        self._askers = ThreadPoolExecutor(2, "issuers")
        self._server = server
        directory = settings.certificates
        self._directory = TrustedDirectory(directory) if directory is not None else None
        self._speakers = VomsDirectory(settings.vomsdir)
        self._pool = ThreadPoolExecutor(1, "certificates")
        self._nonces: dict[str, float] = {}
        self._attempts = Throttle(ATTEMPTS, ATTEMPTS_A_SECOND)

    def nonce(self, address: str) -> str:
        """What is to be signed next; raises Throttled, or BadRequest where no certificate is
        looked at.
        """
        now = asyncio.get_running_loop().time()
        self._attempts.count(origin_of(address), now)
        self._trusted()
        self._nonces = {nonce: at for nonce, at in self._nonces.items() if at > now}
        if len(self._nonces) >= MOST_NONCES:
            raise Unavailable("too many log in at present")
        nonce = new_nonce()
        self._nonces[nonce] = now + NONCE_LIFE
        return nonce

    def _trusted(self) -> TrustedDirectory:
        if self._directory is None:
            raise BadRequest(
                "this grid looks at no certificates; its administrator has named no directory of"
                " CAs in [identity]"
            )
        return self._directory

    async def by_certificate(self, chain: str, nonce: str, signature: str, address: str) -> Proved:
        """What ``chain`` (PEM) proves of whoever has the key of its first certificate; raises
        NotAuthenticated with the reason, or Throttled.
        """
        now = asyncio.get_running_loop().time()
        self._attempts.count(origin_of(address), now)
        trusted = self._trusted()
        expires_at = self._nonces.pop(nonce, None)
        if expires_at is None or expires_at <= now:
            raise NotAuthenticated("the nonce was not given out, was used, or is too old")
        try:
            signed = base64.b64decode(signature, validate=True)
        except (binascii.Error, ValueError):
            raise BadRequest("a signature is base64") from None
        message = certificate_message(nonce, self._server, chain)
        return await self._in_thread(_prove, trusted, chain, signed, message)

    async def delegated(self, chain: str) -> Shown | None:
        """What ``chain`` (PEM) shows that a user signed for a bridge; None where no certificate is
        looked at. Raises NotAuthenticated with the reason, or BadRequest.
        """
        if self._directory is None:
            return None
        return await self._in_thread(_show, self._directory, self._speakers, chain)

    async def by_token(self, token: str, address: str) -> tuple[str, Claims]:
        """The issuer of ``token``, by the name that it has here, and what the token proves; raises
        NotAuthenticated with the reason, Throttled, or Unavailable where the issuer does not
        answer.
        """
        self._attempts.count(origin_of(address), asyncio.get_running_loop().time())
        url = issuer_of(token)
        issuer = self._issuers.get(url)
        if issuer is None:
            raise NotAuthenticated(f"{url[:200]!r} is no issuer whose tokens are taken here")
        claims = await self._in_thread(issuer.verify, token, pool=self._askers)
        return issuer.settings.name, claims

    async def _in_thread(
        self, do: Callable[..., T], *args: Any, pool: ThreadPoolExecutor | None = None
    ) -> T:
        try:
            working = asyncio.get_running_loop().run_in_executor(pool or self._pool, do, *args)
        except RuntimeError as error:  # the pool takes no more
            raise Unavailable("the server is stopping") from error
        return await working

    async def watch(self, change: Callable[[Callable[[Grid, Outcome], None]], None]) -> None:
        """Take back, from now on, what was given for certificates that their CAs have revoked;
        ``change`` changes the grid.
        """
        while self._directory is not None:
            try:
                trust = await self._in_thread(self._directory.read)
                change(partial(take_back, trust))
            except Unavailable as error:
                logger.warning("Nobody can log in by certificate: %s", error)
            await asyncio.sleep(LOOK_EVERY)

    def close(self) -> None:
        """Take no more."""
        self._pool.shutdown(wait=False)
        self._askers.shutdown(wait=False)


def _prove(trusted: TrustedDirectory, chain: str, signed: bytes, message: bytes) -> Proved:
    certificates = certificates_in(chain)
    if not is_signed(public_key(certificates[0]), signed, message):
        raise NotAuthenticated("who sent the certificate has not signed by its key")
    return verify(certificates, trusted.read(), utc_now())


def _show(trusted: TrustedDirectory, speakers: VomsDirectory, chain: str) -> Shown:
    trust, now = trusted.read(), utc_now()
    return with_attributes(shown(certificates_in(chain), trust, now), speakers.read(), trust, now)


def take_back(trust: Trust, grid: Grid, out: Outcome) -> None:
    """What was given for certificates which are revoked by now ends: tokens, and delegations with
    the pilots that were submitted by them.
    """
    reason = "its certificate was revoked"
    delegations.revoke_all(
        grid, lambda each: not trust.revoked.isdisjoint(each.serials), reason, utc_now(), out
    )
    for token in list(grid.credentials.values()):
        if not token.is_revoked and not trust.revoked.isdisjoint(token.serials):
            revoke_token(grid, token, reason, utc_now(), out)
            out.notes.append(f"Revoked token {token.uid} of {token.subject}: {reason}")
