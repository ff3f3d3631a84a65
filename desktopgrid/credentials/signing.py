"""Signing a proxy for a key that somebody else keeps: RFC 3820 delegation, the one place of it.

Who is to act for us makes a key and a request (PKCS #10), we sign, and no key goes anywhere. The
bridge is delegated to so, and so is a computing element.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from desktopgrid.credentials.pkcs10 import key_of
from desktopgrid.credentials.proof import Proof
from desktopgrid.credentials.proxies import Policy, ProxyInfo, proxy_info, written
from desktopgrid.credentials.subjects import certificates_in, extensions_of, is_proxy, text_of
from desktopgrid.model.errors import BadRequest

LIFETIME = timedelta(hours=12)
EARLIER = timedelta(minutes=5)
"""A proxy is valid from so long ago: clocks differ."""


def sign(
    request: str,
    proof: Proof,
    now: datetime,
    lifetime: timedelta = LIFETIME,
    longest: int | None = None,
) -> str:
    """A proxy for the key of ``request``, made from the certificate of ``proof``, and the chain
    that it hangs on, in PEM; never a key. Raises BadRequest.

    It ends with what it is made from at the latest, and is limited where that is. ``longest``: how
    many proxies may be made from it one below the other; None is any number.
    """
    key = key_of(request)
    chain = certificates_in(proof.chain)
    issuer = chain[0]
    if issuer.public_key() != proof.key.public_key():
        raise BadRequest(f"the key is not that of the certificate of {text_of(issuer.subject)!r}")
    if not issuer.not_valid_before_utc <= now < issuer.not_valid_after_utc:
        raise BadRequest(
            f"{text_of(issuer.subject)!r} is good from {issuer.not_valid_before_utc} to"
            f" {issuer.not_valid_after_utc} only; make a new proxy"
        )
    number = secrets.randbits(63) | 1
    subject = x509.Name(
        [
            *issuer.subject.rdns,
            x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, str(number))]),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject)
        .public_key(key)
        .serial_number(number)
        .not_valid_before(max(now - EARLIER, issuer.not_valid_before_utc))
        .not_valid_after(min(now + lifetime, issuer.not_valid_after_utc))
        .add_extension(_usage(issuer), critical=True)
        .add_extension(written(_below(issuer, longest)), critical=True)
    )
    signed = isinstance(proof.key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    proxy = builder.sign(proof.key, None if signed else hashes.SHA256())
    return proxy.public_bytes(Encoding.PEM).decode() + proof.chain


def _below(issuer: x509.Certificate, longest: int | None) -> ProxyInfo:
    """What a proxy made from ``issuer`` may do: never more than that."""
    if not is_proxy(issuer):
        return ProxyInfo(Policy.EVERYTHING, longest)
    above = proxy_info(issuer, f"the proxy {text_of(issuer.subject)!r}")
    if above.longest == 0:
        raise BadRequest(f"no proxy may be made from {text_of(issuer.subject)!r} (path length 0)")
    lengths = [
        n for n in (longest, None if above.longest is None else above.longest - 1) if n is not None
    ]
    return ProxyInfo(above.policy, min(lengths, default=None))


def _usage(issuer: x509.Certificate) -> x509.KeyUsage:
    """A proxy signs, and encrypts where its issuer does (RFC 3820, 3.6)."""
    try:
        encrypts = (
            extensions_of(issuer).get_extension_for_class(x509.KeyUsage).value.key_encipherment
        )
    except x509.ExtensionNotFound:
        encrypts = True
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=encrypts,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
