"""Who a certificate says somebody is: distinguished names in one form that is compared as text.

That form is RFC 4514's, which no two names share. OpenSSL's old one (`/DC=org/CN=Ann`), as in grid
map files, is read and never compared: in it a name whose CN is `Ann/CN=Bob` looks like two.

A subject that begins with https:// is another thing: `ISSUER#SUB` of a token (OpenID Connect).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

from desktopgrid.model.errors import BadRequest

PROXY_INFO = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14")
"""The extension that makes a certificate a proxy's (RFC 3820, 3.8)."""

LONGEST_SUBJECT = 500
LONGEST_PEM = 64 << 10
MOST_CERTIFICATES = 20

BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----", re.ASCII)
NAMES = {
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.GIVEN_NAME: "GN",
    NameOID.SURNAME: "SN",
    NameOID.TITLE: "title",
}
"""What we call attributes for which RFC 4514 has no word."""
OIDS = {
    **{word.lower(): oid for oid, word in NAMES.items()},
    **{"e": NameOID.EMAIL_ADDRESS, "email": NameOID.EMAIL_ADDRESS},
    **{"cn": NameOID.COMMON_NAME, "l": NameOID.LOCALITY_NAME, "c": NameOID.COUNTRY_NAME},
    **{"st": NameOID.STATE_OR_PROVINCE_NAME, "o": NameOID.ORGANIZATION_NAME},
    **{"ou": NameOID.ORGANIZATIONAL_UNIT_NAME, "dc": NameOID.DOMAIN_COMPONENT},
    **{"uid": NameOID.USER_ID, "userid": NameOID.USER_ID, "street": NameOID.STREET_ADDRESS},
}
"""The attributes that OpenSSL's form may have."""


def text_of(name: x509.Name) -> str:
    """``name`` as it is kept and compared."""
    return name.rfc4514_string(NAMES)


def certificates_in(pem: str) -> list[x509.Certificate]:
    """The certificates in ``pem``, in their order; raises BadRequest for anything that is none, and
    above all for a private key.
    """
    if "PRIVATE KEY" in pem:
        raise BadRequest("a private key is nobody else's business; give the certificates only")
    blocks = BLOCK.findall(pem)
    if not blocks or len(pem) > LONGEST_PEM or len(blocks) > MOST_CERTIFICATES:
        raise BadRequest(
            f"expected 1 to {MOST_CERTIFICATES} certificates in PEM, of {LONGEST_PEM} bytes at most"
        )
    try:
        found = [x509.load_pem_x509_certificate(block.encode()) for block in blocks]
        for each in found:
            # Names are read when they are asked for; one that cannot be is better known now.
            text_of(each.subject), text_of(each.issuer)
        return found
    except (ValueError, TypeError, x509.InvalidVersion) as error:
        raise BadRequest(f"a certificate cannot be read: {error}") from None


def is_proxy(certificate: x509.Certificate) -> bool:
    """Whether ``certificate`` is an RFC 3820 proxy's; raises BadRequest where its extensions cannot
    be read.
    """
    return any(extension.oid == PROXY_INFO for extension in extensions_of(certificate))


def extensions_of(certificate: x509.Certificate) -> x509.Extensions:
    """The extensions; raises BadRequest where they cannot be read, or one comes twice."""
    try:
        return certificate.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise BadRequest(f"the extensions of a certificate cannot be read: {error}") from None


def canonical(text: str) -> str:
    """The subject that an administrator means by ``text``: a certificate in PEM or a proxy with its
    chain, a name in RFC 4514's form or in OpenSSL's, or ``https://ISSUER#SUB``. Raises BadRequest.
    """
    if "-----BEGIN" in text:
        subject = text_of(holder(certificates_in(text)))
    elif text.startswith("https://"):
        issuer, _, sub = text.partition("#")
        if not sub or not text.isprintable() or len(issuer) <= len("https://"):
            raise BadRequest(f"{text[:80]!r}: a subject of an issuer is written https://ISSUER#SUB")
        subject = text
    elif text.startswith("/"):
        subject = text_of(_from_slashes(text))
    else:
        try:
            subject = text_of(x509.Name.from_rfc4514_string(text, {w: o for o, w in NAMES.items()}))
        except ValueError as error:
            raise BadRequest(
                f"{text[:80]!r} is no subject: expected such as /DC=org/CN=Ann, CN=Ann,DC=org or"
                f" https://ISSUER#SUB ({error})"
            ) from None
    if not 0 < len(subject) <= LONGEST_SUBJECT or "\0" in subject:
        raise BadRequest(f"a subject has 1 to {LONGEST_SUBJECT} characters")
    return subject


def holder(chain: Sequence[x509.Certificate]) -> x509.Name:
    """Whom a file of certificates is about: the first one that is no proxy's; raises BadRequest."""
    for certificate in chain:
        if not is_proxy(certificate):
            return certificate.subject
    raise BadRequest("there are proxies only; give the certificate that they were made from")


def _from_slashes(text: str) -> x509.Name:
    parts = re.split(r"/(?=[A-Za-z]+=)", text)[1:]
    attributes = []
    for part in parts:
        word, _, value = part.partition("=")
        oid = OIDS.get(word.lower())
        if oid is None or not value:
            raise BadRequest(f"{text[:80]!r} is no subject: /{part[:40]} is not understood")
        try:
            attributes.append(x509.NameAttribute(oid, value))
        except ValueError as error:
            raise BadRequest(f"{text[:80]!r} is no subject: {error}") from None
    if not attributes:
        raise BadRequest(f"{text[:80]!r} is no subject; expected such as /DC=org/CN=Ann")
    return x509.Name(attributes)
