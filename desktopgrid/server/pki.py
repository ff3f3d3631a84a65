"""The grid's own certificates: a CA that clients and workers pin, and the server's under it.

The CA lasts ten years and never changes; the server's certificate is renewed under it, so that
nobody out there has to be told anything. Keys are on the curve P-256: a handshake costs a tenth of
RSA's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from desktopgrid.model.errors import BadRequest

CA_LIFETIME = timedelta(days=3653)
SERVER_LIFETIME = timedelta(days=731)
RENEWAL = timedelta(days=30)
"""Remaining life of the server's certificate below which it should be renewed."""
BACKDATED = timedelta(hours=1)
"""For the clocks of workers that are late."""
HOST_NAME = re.compile(r"[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*\.?")
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def new_key() -> bytes:
    """A private key as PEM; keep it from others."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def ca_certificate(ca_key: bytes, title: str, now: datetime) -> bytes:
    """The certificate of a grid's CA, signed by itself, as PEM."""
    key = _private(ca_key)
    name = _called(title)
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    return (
        _builder(name, name, key.public_key(), now, now + CA_LIFETIME)
        .add_extension(constraints, critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(_identifier(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def server_certificate(
    ca: bytes, ca_key: bytes, server_key: bytes, names: Iterable[str], now: datetime
) -> bytes:
    """A certificate under the grid's CA for a server that is reached by ``names``, as PEM.

    ``localhost`` and the loopback addresses are always among them. Raises BadRequest on a name that
    cannot stand in a certificate. It does not outlive the CA.
    """
    issuer, key = x509.load_pem_x509_certificate(ca), _private(server_key)
    wanted = tuple(dict.fromkeys((*names, *LOCAL_NAMES)))
    alternatives = _alternatives(wanted)
    name = _called(wanted[0])
    ends_at = min(now + SERVER_LIFETIME, issuer.not_valid_after_utc)
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    )
    return (
        _builder(name, issuer.subject, key.public_key(), now, ends_at)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(_identifier(key.public_key()), critical=False)
        .add_extension(authority, critical=False)
        .sign(_private(ca_key), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def ends_at(certificate: bytes) -> datetime:
    """When the certificate, PEM, is no good any more."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def names_of(certificate: bytes) -> list[str]:
    """The names and addresses that the certificate, PEM, is good for."""
    found = x509.load_pem_x509_certificate(certificate)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


def _called(text: str) -> x509.Name:
    """A name for people: it proves nothing."""
    shown = text.encode("ascii", "replace").decode()[:64]
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, shown)])


def _alternatives(names: Iterable[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            try:
                ascii_name = name.encode("idna").decode()
            except UnicodeError:
                ascii_name = ""
            if not HOST_NAME.fullmatch(ascii_name):
                raise BadRequest(f"{name!r} is no host name, and no address") from None
            found.append(x509.DNSName(ascii_name))
    return found


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    ends_at: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(ends_at)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _identifier(key: ec.EllipticCurvePublicKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key)


def _private(key: bytes) -> ec.EllipticCurvePrivateKey:
    loaded = serialization.load_pem_private_key(key, password=None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise BadRequest("the key is not an elliptic curve's")
    return loaded
