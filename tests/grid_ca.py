"""Certificates as a grid has them, good and bad ones: CAs, persons, RFC 3820 proxies, CRLs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.now(UTC).replace(microsecond=0)
PROXY_INFO = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14")
INHERIT = bytes.fromhex("06082b06010505071501")
INDEPENDENT = bytes.fromhex("06082b06010505071502")
LIMITED = bytes.fromhex("060b2b060104019b5001010109")
UNKNOWN = bytes.fromhex("06032a0304")


@dataclass(frozen=True)
class Holder:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> str:
        """The certificate alone."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        """The private key."""
        pem: bytes = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return pem.decode()


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key that is quickly made."""
    return ec.generate_private_key(ec.SECP256R1())


def name(*parts: str) -> x509.Name:
    """A name of ``DC=org``, ``CN=Ann`` and the like, the greatest first."""
    oids = {
        "DC": NameOID.DOMAIN_COMPONENT,
        "O": NameOID.ORGANIZATION_NAME,
        "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
        "CN": NameOID.COMMON_NAME,
    }
    pairs = [part.partition("=") for part in parts]
    return x509.Name([x509.NameAttribute(oids[word], value) for word, _, value in pairs])


def usage(*words: str) -> x509.KeyUsage:
    """A key usage with these bits set."""
    known = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{word: word in words for word in known})


Extensions = Sequence[tuple[x509.ExtensionType, bool]]


SHA256 = hashes.SHA256()


def issue(
    subject: x509.Name,
    signer: Holder | None,
    extensions: Extensions,
    *,
    key: Any = None,
    issuer: x509.Name | None = None,
    starts: datetime = NOW - timedelta(days=1),
    ends: datetime = NOW + timedelta(days=1),
    algorithm: Any = None,
    extra: Extensions = (),
    serial: int | None = None,
) -> Holder:
    """A certificate for ``subject``, by ``signer`` or by itself."""
    key = key or new_key()
    if issuer is None:
        issuer = signer.certificate.subject if signer is not None else subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(starts)
        .not_valid_after(ends)
    )
    for extension, critical in (*extensions, *extra):
        builder = builder.add_extension(extension, critical)
    return Holder(builder.sign(signer.key if signer is not None else key, algorithm or SHA256), key)


def a_ca(
    signer: Holder | None = None,
    called: x509.Name | None = None,
    *,
    longest: int | None = None,
    constraints: bool = True,
    bits: Sequence[str] = ("key_cert_sign", "crl_sign"),
    **changes: Any,
) -> Holder:
    """A CA, or one below ``signer``."""
    extensions: list[tuple[x509.ExtensionType, bool]] = [(usage(*bits), True)]
    if constraints:
        extensions.append((x509.BasicConstraints(ca=True, path_length=longest), True))
    return issue(called or name("DC=org", "DC=grid", "CN=CA"), signer, extensions, **changes)


ANN = name("DC=org", "DC=grid", "OU=people", "CN=Ann Example")


def a_person(
    ca: Holder,
    called: x509.Name = ANN,
    *,
    is_ca: bool = False,
    bits: Sequence[str] = ("digital_signature", "key_encipherment"),
    **changes: Any,
) -> Holder:
    """An end-entity certificate."""
    constraints = x509.BasicConstraints(ca=is_ca, path_length=None)
    return issue(called, ca, [(usage(*bits), True), (constraints, True)], **changes)


def proxy_info(language: bytes = INHERIT, longest: int | None = None, rest: bytes = b"") -> bytes:
    """ProxyCertInfo as DER."""
    policy = language + rest
    policy = b"\x30" + bytes((len(policy),)) + policy
    number = b"" if longest is None else bytes((2, 1, longest))
    return b"\x30" + bytes((len(number + policy),)) + number + policy


def a_proxy(
    of: Holder,
    info: bytes | None = None,
    *,
    added: Sequence[tuple[x509.ObjectIdentifier, str]] = ((NameOID.COMMON_NAME, "4711"),),
    bits: Sequence[str] = ("digital_signature", "key_encipherment"),
    is_critical: bool = True,
    oid: x509.ObjectIdentifier = PROXY_INFO,
    called: x509.Name | None = None,
    **changes: Any,
) -> Holder:
    """A proxy made from ``of``."""
    subject = called or x509.Name(
        [
            *of.certificate.subject.rdns,
            *(x509.RelativeDistinguishedName([x509.NameAttribute(o, v)]) for o, v in added),
        ]
    )
    value = proxy_info() if info is None else info
    extensions: list[tuple[x509.ExtensionType, bool]] = [(usage(*bits), True)]
    if value:
        extensions.append((x509.UnrecognizedExtension(oid, value), is_critical))
    return issue(subject, of, extensions, **changes)


def a_crl(
    ca: Holder,
    *revoked: Holder,
    key: Any = None,
    starts: datetime = NOW - timedelta(hours=1),
    ends: datetime = NOW + timedelta(days=7),
) -> x509.CertificateRevocationList:
    """What ``ca`` has revoked."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(starts)
        .next_update(ends)
    )
    for holder in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(holder.certificate.serial_number)
            .revocation_date(starts)
            .build()
        )
    return builder.sign(key or ca.key, hashes.SHA256())


def write_directory(
    directory: Path,
    authorities: Sequence[Holder],
    lists: Sequence[x509.CertificateRevocationList],
) -> None:
    """A site's directory of CAs. The names are as `openssl rehash` has them, but for the hash."""
    directory.mkdir(exist_ok=True)
    for number, authority in enumerate(authorities):
        (directory / f"{number:08x}.0").write_text(authority.pem)
    for number, revoked in enumerate(lists):
        pem = revoked.public_bytes(serialization.Encoding.PEM)
        (directory / f"{number:08x}.r0").write_bytes(pem)


def write_proxy(path: Path, leaf: Holder, *others: Holder) -> Path:
    """A proxy's file: its certificate, its key, and what it was made from."""
    path.touch(0o600)
    path.write_text(leaf.pem + leaf.key_pem + "".join(other.pem for other in others))
    return path
