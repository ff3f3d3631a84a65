"""What a proxy certificate says of itself: ProxyCertInfo of RFC 3820, 3.8, read and written.

ProxyCertInfo ::= SEQUENCE { pCPathLenConstraint INTEGER (0..MAX) OPTIONAL,
                             proxyPolicy SEQUENCE { policyLanguage OBJECT IDENTIFIER,
                                                    policy OCTET STRING OPTIONAL } }
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from cryptography import x509

from desktopgrid.credentials.subjects import PROXY_INFO, extensions_of
from desktopgrid.model.errors import BadRequest

SEQUENCE, INTEGER, IDENTIFIER, OCTETS = 0x30, 0x02, 0x06, 0x04


class Policy(Enum):
    """The policy languages that we understand, by their identifiers as DER."""

    EVERYTHING = bytes.fromhex("2b06010505071501")
    """1.3.6.1.5.5.7.21.1: all that its issuer may."""
    LIMITED = bytes.fromhex("2b060104019b5001010109")
    """1.3.6.1.4.1.3536.1.1.1.9: all but starting something (Globus)."""


INDEPENDENT = bytes.fromhex("2b06010505071502")
"""1.3.6.1.5.5.7.21.2: it inherits nothing, and so is nobody whom we know."""


class ProxyInfo(NamedTuple):
    """What a proxy may do, and how many further proxies may be made from it one below the other;
    None is any number.
    """

    policy: Policy
    longest: int | None


def proxy_info(certificate: x509.Certificate, shown: str) -> ProxyInfo:
    """What ``certificate``, ``shown`` in messages, says of itself; raises BadRequest where that
    makes it none that we accept.
    """
    extension = extensions_of(certificate).get_extension_for_oid(PROXY_INFO)
    if not extension.critical:
        raise BadRequest(f"{shown}: ProxyCertInfo must be critical (RFC 3820, 3.8)")
    assert isinstance(extension.value, x509.UnrecognizedExtension)  # noqa: S101 - for the types
    try:
        return _read(extension.value.value)
    except ValueError as error:
        raise BadRequest(f"{shown}: {error}") from None


def written(info: ProxyInfo) -> x509.UnrecognizedExtension:
    """``info`` as a certificate has it."""
    number = b""
    if info.longest is not None:
        # A first bit that is set would make it a negative number.
        size = info.longest.bit_length() // 8 + 1
        number = _element(INTEGER, info.longest.to_bytes(size, "big"))
    policy = _element(SEQUENCE, _element(IDENTIFIER, info.policy.value))
    return x509.UnrecognizedExtension(PROXY_INFO, _element(SEQUENCE, number + policy))


def _element(tag: int, content: bytes) -> bytes:
    """An element of less than 128 bytes, as all of these are."""
    return bytes((tag, len(content))) + content


def _read(der: bytes) -> ProxyInfo:
    body, rest = _take(der, SEQUENCE)
    if rest:
        raise ValueError("something follows ProxyCertInfo")
    longest = None
    if body[:1] == bytes((INTEGER,)):
        number, body = _take(body, INTEGER)
        is_short = len(number) > 1 and number[0] == 0 and number[1] < 0x80
        if not 1 <= len(number) <= 8 or number[0] >= 0x80 or is_short:
            raise ValueError("ProxyCertInfo has no proper path length")
        longest = int.from_bytes(number, "big")
    policy, rest = _take(body, SEQUENCE)
    if rest:
        raise ValueError("something follows the policy in ProxyCertInfo")
    language, rest = _take(policy, IDENTIFIER)
    if language == INDEPENDENT:
        raise ValueError("an independent proxy has no rights of its issuer")
    try:
        found = Policy(language)
    except ValueError:
        raise ValueError("the proxy's policy is in a language that we do not know") from None
    if rest:
        # None of the languages that we know has a text (RFC 3820, 3.8.2).
        raise ValueError("the proxy's policy says more than we understand")
    return ProxyInfo(found, longest)


def _take(der: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the first element of ``der``, which must have ``tag``, and what follows it."""
    if len(der) < 2 or der[0] != tag:
        raise ValueError("ProxyCertInfo cannot be read")
    size, start = der[1], 2
    if size >= 0x80:
        count = size & 0x7F
        start += count
        size = int.from_bytes(der[2:start], "big")
        # The shortest form is the only one (X.690, 10.1).
        if not 1 <= count <= 4 or size < 0x80 or der[2] == 0:
            raise ValueError("ProxyCertInfo cannot be read")
    if len(der) < start + size:
        raise ValueError("ProxyCertInfo cannot be read")
    return der[start : start + size], der[start + size :]
