"""Showing who one is by a certificate or an RFC 3820 proxy: what stands in its file, and the
signature by its key, which goes nowhere.

The package `cryptography` is loaded when it is needed; who logs in by password can do without it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from desktopgrid.model.errors import BadRequest, Unavailable

LARGEST_FILE = 1 << 20
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----", re.ASCII)
KEY = re.compile(
    r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.+?-----END \1PRIVATE KEY-----", re.ASCII | re.DOTALL
)

AskPassphrase = Callable[[], str]


def proxy_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where a proxy is unless one says: ``$X509_USER_PROXY``, else ``/tmp/x509up_uUID``."""
    named = environment.get("X509_USER_PROXY")
    return Path(named) if named else Path(f"/tmp/x509up_u{os.getuid()}")  # noqa: S108 - by custom


def public_part(path: Path) -> str:
    """The certificates in the file ``path``, in PEM, without whatever else is there; raises
    BadRequest.
    """
    return _certificates(path, _read(path, is_secret=False))


@dataclass(frozen=True)
class Proof:
    """A chain of certificates in PEM, and the key of the first one."""

    chain: str
    key: Any = field(repr=False)

    @classmethod
    def read(cls, certificate: Path, key: Path | None, ask: AskPassphrase = lambda: "") -> Proof:
        """What the files have; without ``key`` it is in the first one, as in a proxy's. ``ask``
        gives the passphrase of a key that has one. Raises BadRequest.
        """
        text = _read(certificate, is_secret=key is None)
        source = certificate if key is None else key
        secret = text if key is None else _read(key, is_secret=True)
        found = KEY.search(secret)
        if found is None:
            raise BadRequest(f"{source} has no private key; name one by --key")
        return cls(_certificates(certificate, text), _load(source, found[0], ask))

    def sign(self, message: bytes) -> str:
        """The signature of ``message`` by the key, as the server checks it, in base64."""
        import base64

        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

        if isinstance(self.key, rsa.RSAPrivateKey):
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256().digest_size)
            signature = self.key.sign(message, pss, hashes.SHA256())
        elif isinstance(self.key, ec.EllipticCurvePrivateKey):
            signature = self.key.sign(message, ec.ECDSA(hashes.SHA256()))
        else:
            signature = self.key.sign(message)
        return base64.b64encode(signature).decode()


def _load(source: Path, pem: str, ask: AskPassphrase) -> Any:
    try:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise Unavailable(
            "logging in by certificate wants the package cryptography: pip install cryptography"
        ) from error
    try:
        try:
            return load_pem_private_key(pem.encode(), None)
        except TypeError:  # it has a passphrase
            return load_pem_private_key(pem.encode(), ask().encode())
    except ValueError as error:
        raise BadRequest(f"the private key in {source} cannot be read: {error}") from None


def _certificates(path: Path, text: str) -> str:
    found = CERTIFICATE.findall(text)
    if not found:
        raise BadRequest(f"{path} has no certificate in PEM")
    return "".join(f"{each}\n" for each in found)


def _read(path: Path, *, is_secret: bool) -> str:
    """The file; raises BadRequest, also where others can read a secret or have made it."""
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            content = file.read(LARGEST_FILE)
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}") from None
    if is_secret and (facts.st_mode & 0o077 or facts.st_uid != os.geteuid()):
        raise BadRequest(
            f"the key in {path} must be yours alone (its mode is {facts.st_mode & 0o777:o}, its"
            f" owner {facts.st_uid}); chmod 600 it"
        )
    return content.decode("utf-8", "replace")
