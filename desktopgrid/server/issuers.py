"""Bearer tokens of OpenID Connect issuers, in the profile of WLCG: signed JWTs, checked against the
keys that the issuer publishes.

What a token says is believed only once its signature is: by an algorithm of our list, with a key
that the issuer of that name has now, for us, and in time. Keys are kept for an hour, and longer
while the issuer does not answer; a key that we do not know is asked for, but not all the time.
"""

from __future__ import annotations

import json
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt

from desktopgrid.model.errors import NotAuthenticated, Unavailable
from desktopgrid.model.rights import EVERYTHING, Scope
from desktopgrid.server.config import IssuerSection
from desktopgrid.server.proved import Proved

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""None that a public key, or nothing at all, would be the secret of."""
METADATA = "/.well-known/openid-configuration"
LARGEST_ANSWER = 1 << 20
TIMEOUT = 5.0
KEPT = 3600.0
KEPT_AT_MOST = 86_400.0
"""Seconds for which keys are used, while the issuer answers and in any case."""
ASKED_EVERY = 30.0
"""Seconds between two questions because of a key that we do not know."""
RETRIED_EVERY = 5.0
"""Seconds from a question without an answer to the next one, while we know no keys."""
LEEWAY = 30.0
LONGEST_TOKEN = 16 << 10
LONGEST_SUB = 255

SCOPES = {
    "compute.read": Scope.READ,
    "compute.create": Scope.CREATE,
    "compute.cancel": Scope.CANCEL,
}
"""WLCG's words for what a token is good for, and ours."""


@dataclass(frozen=True)
class Claims:
    """What a token proves, and the login that its issuer says, if that counts here."""

    proved: Proved
    login: str = ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **options: Any) -> None:
        return None


class Issuer:
    """One issuer, and its keys as far as we know them. Any thread may ask."""

    def __init__(self, settings: IssuerSection, clock: Callable[[], datetime]) -> None:
        self.settings, self._clock = settings, clock
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._asked_at = self._got_at = -KEPT_AT_MOST
        self._lock = threading.Lock()

    def verify(self, token: str) -> Claims:
        """What ``token`` proves; raises NotAuthenticated with the reason, or Unavailable where the
        issuer does not say its keys.
        """
        header = _header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise NotAuthenticated(f"a token by {str(algorithm)[:20]!r} is not taken")
        key = self._key(kid if isinstance(kid, str) else None)
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=self.settings.audience,
                issuer=self.settings.url,
                leeway=LEEWAY,
                options={
                    "require": ["exp", "iss", "aud", "sub"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise NotAuthenticated(
                f"the token of {self.settings.name} is refused: {error}"
            ) from None
        return self._claims(claims)

    def _claims(self, claims: Mapping[str, Any]) -> Claims:
        now = self._clock().timestamp()
        # Its library reads the clock by itself; time is an argument here.
        expires_at = _moment(claims, "exp")
        if expires_at is None or expires_at + LEEWAY <= now:
            raise NotAuthenticated("the token has expired")
        for name in ("nbf", "iat"):
            begins_at = _moment(claims, name)
            if begins_at is not None and begins_at - LEEWAY > now:
                raise NotAuthenticated(f"the token is not valid yet ({name})")
        sub = claims["sub"]
        if not isinstance(sub, str) or not 0 < len(sub) <= LONGEST_SUB or not sub.isprintable():
            raise NotAuthenticated("the token is about nobody (sub)")
        login = claims.get(self.settings.login_claim) if self.settings.login_claim else ""
        return Claims(
            Proved(
                f"{self.settings.url}#{sub}",
                datetime.fromtimestamp(expires_at, UTC),
                self._scope(claims.get("scope", "")),
                (),
            ),
            login if isinstance(login, str) else "",
        )

    def _scope(self, said: object) -> Scope:
        if not self.settings.needs_scopes:
            return EVERYTHING
        words = said.split() if isinstance(said, str) else []
        scope = Scope(0)
        for word in words:
            scope |= SCOPES.get(word, Scope(0))
        if not scope:
            known = ", ".join(SCOPES)
            raise NotAuthenticated(f"the token is good for none of {known}")
        return scope

    # Keys

    def _key(self, kid: str | None) -> jwt.PyJWK:
        with self._lock:
            now = self._clock().timestamp()
            if now - self._got_at >= KEPT:
                self._ask(now)
            if self._found(kid) is None and now - self._asked_at >= ASKED_EVERY:
                self._ask(now)  # it may be new
            found = self._found(kid)
        if found is None:
            raise NotAuthenticated(f"{self.settings.name} has no key {str(kid)[:40]!r}")
        return found

    def _found(self, kid: str | None) -> jwt.PyJWK | None:
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid) if kid is not None else None

    def _ask(self, now: float) -> None:
        """Ask for the keys; where no answer comes the old ones do, for a day."""
        if now - self._asked_at < (ASKED_EVERY if self._keys else RETRIED_EVERY):
            if self._keys:
                return
            # Strangers must not make us ask an issuer that is in trouble again and again.
            raise Unavailable(f"the issuer {self.settings.name} did not answer a moment ago")
        self._asked_at = now
        try:
            self._keys = self._published()
            self._got_at = now
        except Unavailable:
            self._asked_at = self._clock().timestamp()  # it may have taken its time
            if now - self._got_at >= KEPT_AT_MOST:
                self._keys = {}
                raise

    def _published(self) -> Mapping[str, jwt.PyJWK]:
        url = self.settings.url
        metadata = self._get(url.rstrip("/") + METADATA)
        if metadata.get("issuer") != url:
            raise Unavailable(f"what {url} says of itself is about {metadata.get('issuer')!r}")
        place = metadata.get("jwks_uri")
        if not isinstance(place, str) or not place.startswith("https://"):
            raise Unavailable(f"{url} says no https address of its keys (jwks_uri)")
        listed = self._get(place).get("keys")
        return _usable(listed if isinstance(listed, list) else [])

    def _get(self, address: str) -> Mapping[str, Any]:
        context = ssl.create_default_context(cafile=self.settings.ca)
        opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=context), _NoRedirect
        )
        try:
            with opener.open(address, timeout=TIMEOUT) as answer:
                content = answer.read(LARGEST_ANSWER + 1)
            said = json.loads(content) if len(content) <= LARGEST_ANSWER else None
        except (OSError, ValueError) as error:
            raise Unavailable(
                f"the issuer {self.settings.name} does not answer: {error}"
            ) from error
        if not isinstance(said, dict):
            raise Unavailable(f"the issuer {self.settings.name} answers nonsense at {address}")
        return said


def _usable(listed: Sequence[Any]) -> Mapping[str, jwt.PyJWK]:
    """The keys of an answer that are for signatures and that we understand."""
    found = {}
    for each in listed:
        if not isinstance(each, dict) or each.get("use", "sig") != "sig":
            continue
        if each.get("kty") not in ("RSA", "EC", "OKP"):
            continue  # a secret that everybody can read is none
        try:
            key = jwt.PyJWK(each)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        found[str(each.get("kid", ""))] = key
    return found


def issuer_of(token: str) -> str:
    """Who says that he issued ``token``, of which nothing is believed yet; raises
    NotAuthenticated.
    """
    _header(token)
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError):
        raise NotAuthenticated("that is no token") from None
    return str(claims.get("iss", ""))


def _header(token: str) -> Mapping[str, Any]:
    if len(token) > LONGEST_TOKEN:
        raise NotAuthenticated("that is no token: it is too long")
    try:
        return jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError):
        raise NotAuthenticated("that is no token: expected a JWT") from None


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1 << 33:
        raise NotAuthenticated(f"the token's {name} is no time")
    return float(value)
