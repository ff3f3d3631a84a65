"""IDTOKENS: HTCondor's signed identities, made from a pool's signing key without HTCondor's tools.

A token is a JSON web token (HS256) whose key is derived from the bytes of the signing key file.
The derivation is HTCondor's own (23.9 and 25.14 accept the result): the file is unscrambled, the
key named POOL is doubled for compatibility with pool passwords, and HKDF-SHA256 (RFC 5869) does
the rest.
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

SIGNING_KEY = "POOL"
"""The name of the key that HTCondor signs with unless told otherwise."""

_SCRAMBLE = bytes((0xDE, 0xAD, 0xBE, 0xEF))
_HKDF_SALT = b"htcondor"
_HKDF_PURPOSE = b"master jwt"


def mint(
    signing_key: bytes,
    identity: str,
    trust_domain: str,
    now: datetime,
    lifetime: timedelta | None = None,
    authorizations: Sequence[str] = (),
) -> str:
    """A token that proves ``identity`` to the daemons of ``trust_domain``.

    Without ``lifetime`` it never expires; without ``authorizations`` (``READ``, ``WRITE``, ...) it
    may do whatever its identity may.
    """
    issued_at = int(now.timestamp())
    claims: dict[str, str | int] = {
        "iss": trust_domain,
        "sub": identity,
        "iat": issued_at,
        "jti": secrets.token_hex(16),
    }
    if lifetime is not None:
        claims["exp"] = issued_at + int(lifetime.total_seconds())
    if authorizations:
        claims["scope"] = " ".join(f"condor:/{right}" for right in authorizations)
    header = {"alg": "HS256", "kid": SIGNING_KEY}
    signed = f"{_encode_json(header)}.{_encode_json(claims)}"
    signature = hmac.new(_token_key(signing_key), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_encode(signature)}"


def _token_key(signing_key: bytes) -> bytes:
    unscrambled = bytes(b ^ _SCRAMBLE[i % len(_SCRAMBLE)] for i, b in enumerate(signing_key))
    pseudo_random_key = hmac.new(_HKDF_SALT, unscrambled * 2, hashlib.sha256).digest()
    return hmac.new(pseudo_random_key, _HKDF_PURPOSE + b"\x01", hashlib.sha256).digest()


def _encode_json(value: object) -> str:
    return _encode(json.dumps(value).encode())


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
