"""Reading a request to be certified (PKCS #10, RFC 2986): which key it is for."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import SignatureAlgorithmOID

from desktopgrid.model.errors import BadRequest

LONGEST_REQUEST = 16 << 10
SHORTEST_RSA = 2048

PEM = re.compile(
    r"-----BEGIN ((?:NEW )?)CERTIFICATE REQUEST-----([^-]+)-----END \1CERTIFICATE REQUEST-----",
    re.ASCII,
)
HASHES: dict[x509.ObjectIdentifier, hashes.HashAlgorithm | None] = {
    SignatureAlgorithmOID.RSA_WITH_SHA256: hashes.SHA256(),
    SignatureAlgorithmOID.RSA_WITH_SHA384: hashes.SHA384(),
    SignatureAlgorithmOID.RSA_WITH_SHA512: hashes.SHA512(),
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: hashes.SHA256(),
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: hashes.SHA384(),
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: hashes.SHA512(),
    SignatureAlgorithmOID.ED25519: None,
    SignatureAlgorithmOID.ED448: None,
}
"""How a request may be signed, and over which hash."""


@asn1.sequence
class _Request:
    """CertificationRequest of RFC 2986."""

    info: asn1.TLV
    algorithm: list[asn1.TLV]
    signature: asn1.BitString


@asn1.sequence
class _RequestInfo:
    version: int
    subject: asn1.TLV
    key: asn1.TLV
    attributes: asn1.TLV


def key_of(request: str) -> CertificateIssuerPublicKeyTypes:
    """The key that ``request`` (PEM) is about, whose maker has shown that he has the private half;
    raises BadRequest.

    What it says beside the key counts for nothing. ARC 6 writes a version that does not exist,
    which the library refuses: so the fields are read here.
    """
    found = PEM.search(request[:LONGEST_REQUEST])
    if found is None:
        raise BadRequest("expected a certificate request in PEM")
    try:
        asked = asn1.decode_der(_Request, b64decode("".join(found[2].split()), validate=True))
        key = load_der_public_key(asn1.encode_der(asked.info.parse(_RequestInfo).key))
        algorithm = asked.algorithm[0].parse(x509.ObjectIdentifier)
        message, signature = asn1.encode_der(asked.info), asked.signature.as_bytes()
    except (ValueError, TypeError, IndexError, binascii.Error, UnsupportedAlgorithm) as error:
        raise BadRequest(f"the certificate request cannot be read: {error}") from None
    if algorithm not in HASHES:
        raise BadRequest(f"the certificate request is signed by {algorithm.dotted_string}")
    return _checked(key, HASHES[algorithm], signature, message)


def _checked(
    key: object, over: hashes.HashAlgorithm | None, signature: bytes, message: bytes
) -> CertificateIssuerPublicKeyTypes:
    try:
        if isinstance(key, rsa.RSAPublicKey) and over is not None:
            if key.key_size < SHORTEST_RSA:
                raise BadRequest(
                    f"the request's key has {key.key_size} bits; {SHORTEST_RSA} at least"
                )
            key.verify(signature, message, padding.PKCS1v15(), over)
            return key
        if isinstance(key, ec.EllipticCurvePublicKey) and over is not None:
            key.verify(signature, message, ec.ECDSA(over))
            return key
        if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey) and over is None:
            key.verify(signature, message)
            return key
    except InvalidSignature:
        raise BadRequest("the request was not made by who has its key") from None
    raise BadRequest("the request's key is of no kind that signs so")
