"""How a peer shows that it has a secret without sending it: HMAC over the server's nonce.

A secret is 32 random bytes, written in hex. Who checks keeps only its SHA-256, the *verifier*, and
that is the HMAC's key.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets


def new_secret() -> str:
    """A secret that nobody can guess: 256 bits in hex."""
    return secrets.token_hex(32)


def new_nonce() -> str:
    """A nonce for one handshake."""
    return secrets.token_hex(16)


def verifier_of(secret: str) -> str:
    """What the server keeps of ``secret``."""
    return hashlib.sha256(secret.encode()).hexdigest()


def prove(secret: str, nonce: str, kind: str, identity: str, session: str) -> str:
    """The proof for this handshake and no other."""
    return _proof(verifier_of(secret), nonce, kind, identity, session)


def is_proved(
    verifier: str, proof: str, nonce: str, kind: str, identity: str, session: str
) -> bool:
    """Whether ``proof`` was made with the secret behind ``verifier`` for this handshake."""
    right = _proof(verifier, nonce, kind, identity, session)
    # As bytes: of texts only ASCII is compared, and a peer may say anything.
    return hmac.compare_digest(right.encode(), proof.encode(errors="replace"))


def certificate_message(nonce: str, server: bytes, chain: str) -> bytes:
    """What the key of the first certificate of ``chain`` (PEM) signs to log in: good for this nonce
    and for the server that showed the certificate ``server`` (DER), and for nothing else that a key
    may be asked to sign.
    """
    digests = (hashlib.sha256(each).hexdigest() for each in (server, chain.encode()))
    return "\n".join(("glidebridge: log in by certificate, 1", nonce, *digests)).encode()


def _proof(verifier: str, nonce: str, kind: str, identity: str, session: str) -> str:
    # Each part is hex, a word or a UID, none of which holds the separator.
    text = "\n".join((nonce, kind, identity, session))
    return hmac.new(bytes.fromhex(verifier), text.encode(), hashlib.sha256).hexdigest()
