"""What VOMS says of a user, in the attribute certificates that his proxy carries (RFC 5755, and the
VOMS Attribute Certificate format of OGF GFD.182): read, and believed only where the site does.

The site names in its vomsdir, as `VO/HOST.lsc`, who may speak for a VO: the names of the signer and
of its CA. The signer's certificate comes with the attributes and is checked by the site's CAs and
their CRLs like any other. What cannot be believed counts for nothing, and a note says why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from OpenSSL import crypto

from desktopgrid.credentials.pkcs10 import HASHES
from desktopgrid.credentials.subjects import certificates_in, extensions_of, is_proxy, text_of
from desktopgrid.model.errors import BadRequest, NotAuthenticated
from desktopgrid.server.certificates import Trust, check_strength, path_of, public_key
from desktopgrid.server.proved import Shown

SIGNED_LISTS = x509.ObjectIdentifier("1.3.6.1.4.1.8005.100.100.5")
"""The extension of a proxy that holds attribute certificates."""
FQANS = x509.ObjectIdentifier("1.3.6.1.4.1.8005.100.100.4")
SIGNERS = x509.ObjectIdentifier("1.3.6.1.4.1.8005.100.100.10")
TARGETS = x509.ObjectIdentifier("2.5.29.55")

DIRECTORY_NAME, URI = b"\xa4", b"\x86"
"""How a GeneralName of these kinds is marked."""
NAME = re.compile(r"[A-Za-z0-9_.-]{1,255}")
ATTRIBUTE = re.compile(r"(/[\w.=-]+)+", re.ASCII)
MOST_ATTRIBUTES = 100

Speakers = Mapping[tuple[str, str], Sequence[tuple[str, ...]]]
"""(VO, host of its VOMS server) -> the chains of names that may speak for it: the signer's, then
its issuer's, and so on.
"""


@asn1.sequence
class _IssuerSerial:
    issuer: list[asn1.TLV]
    serial: int


@asn1.sequence
class _Holder:
    base: Annotated[_IssuerSerial, asn1.Implicit(0)]


@asn1.sequence
class _V2Form:
    issuer: list[asn1.TLV]


@asn1.sequence
class _Validity:
    not_before: asn1.GeneralizedTime
    not_after: asn1.GeneralizedTime


@asn1.sequence
class _Attribute:
    kind: x509.ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class _Extension:
    kind: x509.ObjectIdentifier
    is_critical: Annotated[bool, asn1.Default(False)]
    value: bytes


@asn1.sequence
class _Info:
    version: int
    holder: _Holder
    issuer: Annotated[_V2Form, asn1.Implicit(0)]
    algorithm: list[asn1.TLV]
    serial: int
    validity: _Validity
    attributes: list[_Attribute]
    extensions: list[_Extension]


@asn1.sequence
class _Certificate:
    info: asn1.TLV
    algorithm: list[asn1.TLV]
    signature: asn1.BitString


@asn1.sequence
class _Certificates:
    first: list[_Certificate]


@asn1.sequence
class _Signers:
    first: list[x509.Certificate]


@asn1.sequence
class _Names:
    """IetfAttrSyntax, with the texts as VOMS writes them."""

    authority: Annotated[list[asn1.TLV], asn1.Implicit(0)]
    values: list[bytes]


@dataclass(frozen=True)
class Attributes:
    """What a VO says of a user: the groups and roles that he has there, until when."""

    vo: str
    names: tuple[str, ...]
    ends_at: datetime


class NotBelieved(NotAuthenticated):
    """Attributes that count for nothing here; the text says why."""


def with_attributes(shown: Shown, speakers: Speakers, trust: Trust, now: datetime) -> Shown:
    """``shown``, with what VOMS says in it that is believed, and notes on what is not."""
    path = certificates_in(shown.chain)
    own = next(each for each in path if not is_proxy(each))
    notes: list[str] = []
    for content in _contents(path):
        try:
            for found in _read(content):
                believed = _checked(found, own, speakers, trust, now)
                return replace(
                    shown,
                    vo=believed.vo,
                    attributes=believed.names,
                    attributes_end_at=believed.ends_at,
                    notes=tuple(notes),
                )
        except (NotAuthenticated, BadRequest) as error:
            notes.append(f"VOMS attributes count for nothing here: {error}")
    return replace(shown, notes=tuple(notes))


def _contents(path: Sequence[x509.Certificate]) -> Iterator[bytes]:
    """The extensions with attribute certificates, that of the newest proxy first."""
    for certificate in path:
        if not is_proxy(certificate):
            return
        for extension in extensions_of(certificate):
            if extension.oid == SIGNED_LISTS:
                assert isinstance(extension.value, x509.UnrecognizedExtension)  # noqa: S101
                yield extension.value.value


def _read(content: bytes) -> list[_Certificate]:
    try:
        found = asn1.decode_der(_Certificates, content).first
    except (ValueError, TypeError) as error:
        raise NotBelieved(f"they cannot be read ({error})") from None
    if not found:
        raise NotBelieved("there are none in the list")
    return found


def _checked(
    found: _Certificate,
    own: x509.Certificate,
    speakers: Speakers,
    trust: Trust,
    now: datetime,
) -> Attributes:
    """What ``found`` says of the holder of ``own``; raises NotBelieved."""
    try:
        return _look(found, own, speakers, trust, now)
    # What the libraries say of bytes that only their maker could have meant to be read.
    except (ValueError, TypeError, IndexError, UnsupportedAlgorithm, crypto.Error) as error:
        raise NotBelieved(f"they cannot be read ({error})") from error


def _look(
    found: _Certificate,
    own: x509.Certificate,
    speakers: Speakers,
    trust: Trust,
    now: datetime,
) -> Attributes:
    info = found.info.parse(_Info)
    vo, host, names = _said(info)
    extensions = {extension.kind: extension for extension in info.extensions}
    signers = _signers(extensions)
    unknown = [e.kind.dotted_string for e in info.extensions if e.is_critical]
    if unknown or TARGETS in extensions:
        # Also attributes that are for other services than this one.
        raise NotBelieved(f"they make conditions that we do not know ({', '.join(unknown)})")
    _check_holder(info, own)
    _check_signers(signers, speakers.get((vo, host), ()), vo, host)
    signer = _certified(signers, trust, now)
    if [signer.subject.public_bytes()] != _directory_names(info.issuer.issuer):
        raise NotBelieved("who signed them is not who issued them")
    _check_signature(found, info, signer)
    starts_at = _utc(info.validity.not_before)
    ends_at = _utc(info.validity.not_after)
    if not starts_at <= now < ends_at:
        raise NotBelieved(f"those of {vo} are good from {starts_at} to {ends_at}")
    return Attributes(vo, names, ends_at)


def _utc(time: asn1.GeneralizedTime) -> datetime:
    return time.as_datetime().replace(tzinfo=UTC)


def _said(info: _Info) -> tuple[str, str, tuple[str, ...]]:
    """The VO, the host of its server, and the names of groups and roles."""
    [values] = [each.values.as_list() for each in info.attributes if each.kind == FQANS]
    [value] = values
    said = value.parse(_Names)
    [authority] = [bytes(name.data) for name in said.authority if name.tag_bytes == URI]
    vo, _, place = authority.decode("ascii").partition("://")
    host = place.partition(":")[0]
    names = tuple(_plain(each.decode("ascii")) for each in said.values[:MOST_ATTRIBUTES])
    if NAME.fullmatch(vo) is None or NAME.fullmatch(host) is None:
        raise ValueError("no VO is named")
    for name in names:
        if ATTRIBUTE.fullmatch(name) is None or f"{name}/".partition(f"/{vo}/")[0]:
            raise ValueError(f"{name[:80]!r} is no attribute of {vo}")
    return vo, host, names


def _plain(name: str) -> str:
    """An attribute as sites name it: without what it says it has not."""
    return name.removesuffix("/Capability=NULL").removesuffix("/Role=NULL")


def _signers(extensions: Mapping[x509.ObjectIdentifier, _Extension]) -> list[x509.Certificate]:
    if SIGNERS not in extensions:
        raise ValueError("the signer's certificate is not there")
    found = asn1.decode_der(_Signers, extensions[SIGNERS].value).first
    if not found:
        raise ValueError("the signer's certificate is not there")
    return found


def _check_holder(info: _Info, own: x509.Certificate) -> None:
    """VOMS names the holder by his own subject, where RFC 5755 wants his issuer's: both are taken,
    always with the number of his certificate.
    """
    named = _directory_names(info.holder.base.issuer)
    allowed = ([own.issuer.public_bytes()], [own.subject.public_bytes()])
    if info.holder.base.serial != own.serial_number or named not in allowed:
        raise NotBelieved("they were given to somebody else")


def _directory_names(names: list[asn1.TLV]) -> list[bytes]:
    return [bytes(name.data) for name in names if name.tag_bytes == DIRECTORY_NAME]


def _check_signers(
    signers: Sequence[x509.Certificate], allowed: Sequence[tuple[str, ...]], vo: str, host: str
) -> None:
    shown = (*(text_of(each.subject) for each in signers), text_of(signers[-1].issuer))
    if not allowed:
        raise NotBelieved(f"nobody may speak for {vo} at {host} (vomsdir has no {vo}/{host}.lsc)")
    if not any(chain == shown[: len(chain)] for chain in allowed):
        raise NotBelieved(f"{shown[0]!r} may not speak for {vo} (see {vo}/{host}.lsc)")


def _certified(
    signers: Sequence[x509.Certificate], trust: Trust, now: datetime
) -> x509.Certificate:
    """The signer's certificate, once its path to a CA of the site's is checked."""
    path = path_of(signers, trust, now)
    if any(is_proxy(each) for each in path):
        raise NotBelieved("a proxy cannot speak for a VO")
    for each in path[:-1]:
        check_strength(each)
    return path[0]


def _check_signature(found: _Certificate, info: _Info, signer: x509.Certificate) -> None:
    algorithms = [
        each[0].parse(x509.ObjectIdentifier) for each in (found.algorithm, info.algorithm)
    ]
    over = HASHES.get(algorithms[0])
    if algorithms[0] != algorithms[1] or over is None:
        raise NotBelieved(f"they are signed by {algorithms[0].dotted_string}")
    key, message, signature = (
        public_key(signer),
        asn1.encode_der(found.info),
        found.signature.as_bytes(),
    )
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), over)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(over))
        else:
            raise NotBelieved("the signer's key is of no kind that we know")
    except InvalidSignature:
        raise NotBelieved("their signature is wrong") from None
