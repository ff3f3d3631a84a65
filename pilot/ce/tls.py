"""TLS as grids do it: whom we believe, who we are, and what it means when a connection is refused.

CAs stand in a directory by their hashed names. Who we are stands in a file, an X.509 proxy or a
token, that somebody renews while we run: it is looked at again for each question.
"""

from __future__ import annotations

import os
import re
import ssl
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from desktopgrid.credentials.proof import Proof
from desktopgrid.credentials.proxies import Policy, proxy_info
from desktopgrid.credentials.subjects import certificates_in, holder, is_proxy, text_of
from desktopgrid.model.errors import BadRequest
from pilot.ce.base import Credential, CredentialKind

LONGEST_TOKEN = 64 << 10
HASHED_NAME = re.compile(r"[0-9a-f]{8}\.[0-9]+")
"""What OpenSSL looks a CA up by: the hash of its subject."""

# OpenSSL's numbers (x509_vfy.h).
REFUSED_CERTIFICATES = {
    9: "its certificate is not valid yet",
    10: "its certificate, or that of its CA, has expired",
    18: "its certificate is signed by itself",
    19: "its certificate is of a CA that is not in {authorities}",
    20: "its certificate is of a CA that is not in {authorities}",
    21: "its certificate is of a CA that is not in {authorities}",
    23: "its certificate was revoked",
    62: "its certificate is not for {host}",
    64: "its certificate is not for {host}",
}
"""What is wrong with a server's certificate, by why OpenSSL refuses it."""

REFUSALS = {
    "CERTIFICATE_EXPIRED": "it says that our proxy has expired",
    "CERTIFICATE_REVOKED": "it says that our certificate was revoked",
    "UNKNOWN_CA": "it does not know the CA of our proxy",
    "BAD_CERTIFICATE": "it does not accept our proxy",
    "CERTIFICATE_UNKNOWN": "it does not accept our proxy",
    "UNSUPPORTED_CERTIFICATE": "it does not accept proxies",
    "CERTIFICATE_REQUIRED": "it asks for a certificate, and we have none",
    "ACCESS_DENIED": "it does not accept our proxy",
    "WRONG_VERSION_NUMBER": "what answers does not speak TLS",
    "HTTP_REQUEST": "what answers does not speak TLS",
}
"""What a server's alert means, by a part of its name."""


class CredentialUnusable(Exception):
    """A proxy or token that is of no use; the text says which file, and what is wrong."""


@dataclass(frozen=True)
class ProxyFacts:
    """What a proxy's file says."""

    file: Path
    subject: str
    """Of the person or robot, not of the proxy."""
    ends_at: datetime
    is_limited: bool
    proof: Proof


def proxy_in(file: Path, now: datetime) -> ProxyFacts:
    """The proxy in ``file``; raises CredentialUnusable."""
    try:
        proof = Proof.read(file, None)
        chain = certificates_in(proof.chain)
        proxies = [each for each in chain if is_proxy(each)]
        policies = [proxy_info(each, f"a proxy in {file}").policy for each in proxies]
        subject = text_of(holder(chain))
    except BadRequest as error:
        raise CredentialUnusable(str(error)) from error
    ends_at = min(each.not_valid_after_utc for each in chain)
    if now >= ends_at:
        raise CredentialUnusable(
            f"the proxy in {file}, of {subject}, expired at {ends_at:%Y-%m-%d %H:%M} UTC;"
            " make a new one there, such as by arcproxy or grid-proxy-init"
        )
    return ProxyFacts(file, subject, ends_at, Policy.LIMITED in policies, proof)


def token_in(file: Path) -> str:
    """The token in ``file``; raises CredentialUnusable."""
    try:
        with file.open("rb") as opened:
            facts = os.fstat(opened.fileno())
            content = opened.read(LONGEST_TOKEN)
    except OSError as error:
        raise CredentialUnusable(f"the token {file} cannot be read: {error.strerror}") from error
    if facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or facts.st_uid != os.geteuid():
        raise CredentialUnusable(
            f"the token in {file} must be ours alone (its mode is {facts.st_mode & 0o777:o}, its"
            f" owner {facts.st_uid}); chmod 600 it"
        )
    token = content.decode("ascii", "replace").strip()
    if not token or not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token):
        raise CredentialUnusable(f"{file} holds no bearer token")
    return token


def check_authorities(directory: Path) -> None:
    """Raise CredentialUnusable where OpenSSL would find no CA in ``directory``."""
    try:
        names = os.listdir(directory)
    except OSError as error:
        raise CredentialUnusable(
            f"the directory of CAs {directory} cannot be read: {error.strerror}"
        ) from error
    if not any(HASHED_NAME.fullmatch(name) for name in names):
        raise CredentialUnusable(
            f"the directory of CAs {directory} has none by its hashed name, such as 5f54f417.0;"
            " openssl rehash makes them"
        )


def client_context(authorities: Path | None, credential: Credential) -> ssl.SSLContext:
    """How we speak to a server: it must show that it is its host, by a CA of ``authorities`` (or of
    this system); we show our proxy. Raises CredentialUnusable.
    """
    # Not create_default_context: from Python 3.13 it is stricter than many a grid's CA.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if authorities is None:
        context.load_default_certs()
    else:
        check_authorities(authorities)
        context.load_verify_locations(capath=str(authorities))
    if credential.kind is CredentialKind.PROXY:
        _show(context, credential.file)
    return context


def server_context(authorities: Path, proxy: Path) -> ssl.SSLContext:
    """How we answer to a site that fetches files: both sides show a proxy. Raises
    CredentialUnusable.
    """
    check_authorities(authorities)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(capath=str(authorities))
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags.VERIFY_ALLOW_PROXY_CERTS
    _show(context, proxy)
    return context


def _show(context: ssl.SSLContext, proxy: Path) -> None:
    try:
        context.load_cert_chain(str(proxy), password=_no_passphrase)
    except (OSError, ValueError) as error:
        raise CredentialUnusable(f"the proxy in {proxy} cannot be used: {error}") from error


def _no_passphrase() -> str:
    # A daemon has nobody to ask, and OpenSSL would ask on the terminal.
    raise ValueError("its key has a passphrase")


def reason_of(error: BaseException, host: str, authorities: Path | None) -> str:
    """Why TLS with ``host`` failed, in words."""
    place = str(authorities) if authorities else "the CAs of this system"
    if isinstance(error, ssl.SSLCertVerificationError):
        words = REFUSED_CERTIFICATES.get(error.verify_code)
        if words is not None:
            return words.format(host=host, authorities=place)
        return f"its certificate is not accepted: {error.verify_message}"
    text = str(error)
    for name, words in REFUSALS.items():
        if name in text.upper().replace(" ", "_"):
            return words
    return f"TLS failed: {getattr(error, 'reason', None) or text}"


def version_of(file: Path) -> tuple[int, ...]:
    """What changes when ``file`` is written or replaced; raises CredentialUnusable."""
    try:
        facts = file.stat()
    except OSError as error:
        raise CredentialUnusable(f"{file} cannot be read: {error.strerror}") from error
    return facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size
