"""Whether a chain of certificates proves who somebody is, by the CAs of the site.

What RFC 5280 demands of a path is OpenSSL's to say: signatures, dates, who may certify whom, name
constraints, a valid CRL of every CA on it. OpenSSL allows RFC 3820 proxies too, but it does not
interpret them, and lets pass what only its TLS would refuse; those rules are here. Both must agree.
Time is an argument. Every refusal says which certificate is wrong and why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import crypto

from desktopgrid.credentials.proxies import Policy, ProxyInfo, proxy_info
from desktopgrid.credentials.subjects import extensions_of, is_proxy, text_of
from desktopgrid.model.errors import BadRequest, NotAuthenticated
from desktopgrid.model.rights import EVERYTHING, Scope
from desktopgrid.server.proved import Proved, Shown

SHORTEST_RSA = 2048
HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
OLD_PROXIES = ("proxy", "limited proxy")
"""The last CN of the proxies that were before RFC 3820."""
DRAFT_INFO = x509.ObjectIdentifier("1.3.6.1.4.1.3536.1.222")
"""ProxyCertInfo of a draft of RFC 3820."""
LIMITED = Scope.READ
"""What a limited proxy is good for: it must not start anything (Globus)."""


class ChainRefused(NotAuthenticated):
    """The chain proves nothing; the text says why. Who sent it knows it already."""


@dataclass(frozen=True)
class Trust:
    """The CAs that are believed, and what they have revoked."""

    authorities: Sequence[x509.Certificate] = ()
    lists: Sequence[x509.CertificateRevocationList] = ()
    store: crypto.X509Store = field(init=False, repr=False, compare=False)
    revoked: frozenset[str] = field(init=False, repr=False, compare=False)
    """:func:`serial_of` each certificate on a list that its CA has signed."""

    def __post_init__(self) -> None:
        store = crypto.X509Store()
        flags = crypto.X509StoreFlags
        store.set_flags(flags.CRL_CHECK | flags.CRL_CHECK_ALL | flags.ALLOW_PROXY_CERTS)
        for authority in self.authorities:
            store.add_cert(crypto.X509.from_cryptography(authority))
        for each in self.lists:
            store.add_crl(each)
        object.__setattr__(self, "store", store)
        object.__setattr__(self, "revoked", frozenset(self._revoked()))

    def _revoked(self) -> set[str]:
        keys: dict[str, list[CertificatePublicKeyTypes]] = {}
        for authority in self.authorities:
            keys.setdefault(text_of(authority.subject), []).append(authority.public_key())
        found = set()
        for each in self.lists:
            issuer = text_of(each.issuer)
            if any(_has_signed(key, each) for key in keys.get(issuer, ())):
                found |= {serial_of(each.issuer, entry.serial_number) for entry in each}
        return found


def _has_signed(key: CertificatePublicKeyTypes, revoked: x509.CertificateRevocationList) -> bool:
    try:
        return revoked.is_signature_valid(key)  # type: ignore[arg-type]
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def serial_of(issuer: x509.Name, number: int) -> str:
    """What names a certificate: its number and who gave it."""
    return f"{number:x} {text_of(issuer)}"


def verify(sent: Sequence[x509.Certificate], trust: Trust, now: datetime) -> Proved:
    """What the chain ``sent`` proves, its own certificate first, by the CAs of ``trust``; raises
    ChainRefused with the reason.
    """
    return checked(sent, trust, now)[0]


def checked(
    sent: Sequence[x509.Certificate], trust: Trust, now: datetime
) -> tuple[Proved, list[x509.Certificate]]:
    """What the chain ``sent`` proves, and the path from its own certificate to a CA of ours; raises
    ChainRefused with the reason.
    """
    try:
        return _verify(sent, trust, now)
    except BadRequest as error:
        raise ChainRefused(str(error)) from error
    # What the libraries say of a certificate that only its maker could have meant to be read.
    except (ValueError, TypeError, UnsupportedAlgorithm, crypto.Error) as error:
        raise ChainRefused(f"a certificate of the chain cannot be read: {error}") from error


def shown(sent: Sequence[x509.Certificate], trust: Trust, now: datetime) -> Shown:
    """What the chain ``sent`` shows that somebody signed for a bridge; raises ChainRefused."""
    proved, path = checked(sent, trust, now)
    stray = [each for each in sent if each not in path]
    if stray:
        raise ChainRefused(f"{_shown(stray[0])} is sent along, and does not lead to the CA")
    signer = path[1].public_bytes(Encoding.DER)
    return Shown(
        proved,
        public_key(path[0]).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "".join(each.public_bytes(Encoding.PEM).decode() for each in path[:-1]),
        is_proxy(path[0]),
        hashlib.sha256(signer).hexdigest(),
    )


def _verify(
    sent: Sequence[x509.Certificate], trust: Trust, now: datetime
) -> tuple[Proved, list[x509.Certificate]]:
    for certificate in sent:
        _refuse_old_proxy(certificate)
        if is_proxy(certificate):
            # Before OpenSSL does, which would not say what is wrong.
            _check_alone(certificate)
    path = path_of(sent, trust, now)
    count = next((n for n, each in enumerate(path) if not is_proxy(each)), len(path))
    proxies, rest = path[:count], path[count:]
    if not rest or any(is_proxy(each) for each in rest):
        raise ChainRefused("a proxy stands where a person's certificate must")
    own, authorities = rest[0], rest[1:]
    if not authorities:
        raise ChainRefused(f"{_shown(own)} certifies itself")
    for certificate in path[:-1]:  # the last one is believed as it is
        check_strength(certificate)
        _check_purpose(certificate)
    for authority in authorities:
        _check_authority(authority)
    _check_end_entity(own)
    policies = [_check_proxy(path, n) for n in range(len(proxies))]
    is_limited = Policy.LIMITED in policies
    proved = Proved(
        text_of(own.subject),
        min(certificate.not_valid_after_utc for certificate in path),
        LIMITED if is_limited else EVERYTHING,
        tuple(serial_of(each.issuer, each.serial_number) for each in rest[:-1]),
    )
    return proved, path


def path_of(
    sent: Sequence[x509.Certificate], trust: Trust, now: datetime
) -> list[x509.Certificate]:
    """The path from the certificate sent first to a CA of ours, as OpenSSL finds it."""
    leaf, *others = [crypto.X509.from_cryptography(each) for each in sent]
    trust.store.set_time(now.astimezone(UTC))
    context = crypto.X509StoreContext(trust.store, leaf, others)
    try:
        found = context.get_verified_chain()
    except crypto.X509StoreContextError as error:
        raise ChainRefused(f"{_shown(error.certificate.to_cryptography())}: {error}") from None
    except crypto.Error as error:
        raise ChainRefused(f"the chain cannot be read: {error}") from None
    return [each.to_cryptography() for each in found]


def _shown(certificate: x509.Certificate) -> str:
    return f"the certificate of {text_of(certificate.subject)[:200]!r}"


def _refuse_old_proxy(certificate: x509.Certificate) -> None:
    last = list(certificate.subject)[-1:]
    is_called = bool(last) and last[0].oid == NameOID.COMMON_NAME and last[0].value in OLD_PROXIES
    is_draft = any(each.oid == DRAFT_INFO for each in extensions_of(certificate))
    if is_draft or (is_called and not is_proxy(certificate)):
        raise ChainRefused(
            f"{_shown(certificate)} is a proxy of before RFC 3820; make one by `-rfc`"
        )


def public_key(certificate: x509.Certificate) -> CertificatePublicKeyTypes:
    """Its key; raises ChainRefused where that is of no kind that we know."""
    try:
        return certificate.public_key()
    except (UnsupportedAlgorithm, ValueError, TypeError) as error:
        raise ChainRefused(f"{_shown(certificate)} has a key that we do not know") from error


def check_strength(certificate: x509.Certificate) -> None:
    """Raises ChainRefused where the key, or the signature, of ``certificate`` is too weak."""
    key = public_key(certificate)
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm as error:
        raise ChainRefused(f"{_shown(certificate)} is signed in an unknown way") from error
    # None: the algorithm has its own, as that of Ed25519.
    if algorithm is not None and not isinstance(algorithm, HASHES):
        raise ChainRefused(f"{_shown(certificate)} is signed over {algorithm.name}")
    is_strong = isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)
    if isinstance(key, rsa.RSAPublicKey):
        is_strong = key.key_size >= SHORTEST_RSA
    elif isinstance(key, ec.EllipticCurvePublicKey):
        is_strong = isinstance(key.curve, CURVES)
    if not is_strong:
        raise ChainRefused(
            f"{_shown(certificate)} has too weak a key; RSA must have {SHORTEST_RSA} bits"
        )


def _check_purpose(certificate: x509.Certificate) -> None:
    """It may be used to show a server who a client is (RFC 5280, 4.2.1.12)."""
    try:
        usage = extensions_of(certificate).get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    wanted = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    if not any(oid in usage for oid in wanted):
        raise ChainRefused(f"{_shown(certificate)} is not made for clients (extendedKeyUsage)")


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        found = extensions_of(certificate).get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return found.value.ca


def _usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return extensions_of(certificate).get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None


def _check_authority(certificate: x509.Certificate) -> None:
    usage = _usage(certificate)
    if not _is_authority(certificate) or (usage is not None and not usage.key_cert_sign):
        raise ChainRefused(f"{_shown(certificate)} is no CA's")


def _check_end_entity(certificate: x509.Certificate) -> None:
    if _is_authority(certificate):
        raise ChainRefused(f"{_shown(certificate)} is a CA's, and no person's")
    usage = _usage(certificate)
    if usage is not None and not usage.digital_signature:
        raise ChainRefused(f"{_shown(certificate)} is not made for signatures (keyUsage)")
    if not list(certificate.subject):
        raise ChainRefused("a certificate without a subject is nobody's")


def _check_alone(proxy: x509.Certificate) -> ProxyInfo:
    """What can be said of a proxy by looking at nothing else."""
    info = proxy_info(proxy, _shown(proxy))
    for kind in (x509.SubjectAlternativeName, x509.IssuerAlternativeName):
        if any(isinstance(extension.value, kind) for extension in extensions_of(proxy)):
            raise ChainRefused(f"{_shown(proxy)}: a proxy has no other name (RFC 3820, 3.5)")
    usage = _usage(proxy)
    if _is_authority(proxy) or (usage is not None and usage.key_cert_sign):
        raise ChainRefused(f"{_shown(proxy)}: a proxy is no CA (RFC 3820, 3.7)")
    if usage is not None and not usage.digital_signature:
        raise ChainRefused(f"{_shown(proxy)} is not made for signatures (keyUsage)")
    return info


def _check_proxy(path: Sequence[x509.Certificate], number: int) -> Policy:
    """What the proxy at ``number`` of ``path`` was made for, if it was made as RFC 3820 has it."""
    proxy, issuer = path[number], path[number + 1]
    info = _check_alone(proxy)
    if proxy.issuer.public_bytes() != issuer.subject.public_bytes():
        raise ChainRefused(f"{_shown(proxy)} is not issued by the one that it was made from")
    wanted, got = list(issuer.subject.rdns), list(proxy.subject.rdns)
    added = list(got[-1]) if got else []
    is_one_name = len(added) == 1 and added[0].oid == NameOID.COMMON_NAME
    if got[:-1] != wanted or not is_one_name:
        raise ChainRefused(
            f"{_shown(proxy)}: a proxy is called as its issuer, and one CN more (RFC 3820, 3.4)"
        )
    if info.longest is not None and number > info.longest:
        raise ChainRefused(
            f"{_shown(proxy)} may have {info.longest} proxies below it, and has {number}"
        )
    return info.policy


# --- showing that one has the key -----------------------------------------------------------------


def is_signed(key: CertificatePublicKeyTypes, signature: bytes, message: bytes) -> bool:
    """Whether ``signature`` of ``message`` was made with the private half of ``key``: RSA by PSS,
    curves by ECDSA, both over SHA-256.
    """
    try:
        if isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256().digest_size)
            key.verify(signature, message, pss, hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, message)
        else:
            return False
    except InvalidSignature:
        return False
    return True
