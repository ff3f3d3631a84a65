"""VOMS attribute certificates, good and bad ones, as a VOMS server puts them into proxies. They are
written element by element, and not by what reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.grid_ca import NOW, Holder, a_proxy

AC_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.8005.100.100.5")
FQANS = "060a2b06010401be45646404"
SIGNERS = "060a2b06010401be4564640a"
NO_REVOCATION = "0603551d38"
MEMBER = ("/testvo/Role=NULL/Capability=NULL", "/testvo/Role=pilot/Capability=NULL")
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def der(tag: int, *parts: bytes) -> bytes:
    """An element."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    count = (size.bit_length() + 7) // 8
    return bytes((tag, 0x80 | count)) + size.to_bytes(count, "big") + content


def number(value: int) -> bytes:
    """An INTEGER."""
    return der(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def sequence(*parts: bytes) -> bytes:
    """A SEQUENCE."""
    return der(0x30, *parts)


def directory(name: x509.Name) -> bytes:
    """GeneralNames with this name."""
    return der(0xA4, name.public_bytes())


def time(at: datetime) -> bytes:
    """A GeneralizedTime."""
    return der(0x18, at.strftime("%Y%m%d%H%M%SZ").encode())


def an_ac(
    holder: Holder,
    signer: Holder,
    vo: str = "testvo",
    fqans: Sequence[str] = (
        "/testvo/Role=NULL/Capability=NULL",
        "/testvo/Role=pilot/Capability=NULL",
    ),
    *,
    host: str = "voms.example.org:15000",
    serial: int | None = None,
    holder_name: x509.Name | None = None,
    issuer: x509.Name | None = None,
    starts: datetime = NOW - timedelta(minutes=5),
    ends: datetime = NOW + timedelta(hours=12),
    carried: Holder | None = None,
    more: bytes = b"",
    key: Any = None,
    changes: tuple[bytes, bytes] | None = None,
) -> bytes:
    """An attribute certificate for ``holder``, by ``signer``."""
    certificate = holder.certificate
    authority = der(0xA0, der(0x86, f"{vo}://{host}".encode()))
    names = sequence(*(der(4, fqan.encode()) for fqan in fqans))
    carried_der = (carried or signer).certificate.public_bytes(Encoding.DER)
    info = sequence(
        number(1),
        sequence(
            der(
                0xA0,
                sequence(directory(holder_name or certificate.subject)),
                number(certificate.serial_number if serial is None else serial),
            )
        ),
        der(0xA0, sequence(directory(issuer or signer.certificate.subject))),
        ECDSA_SHA256,
        number(4711),
        sequence(time(starts), time(ends)),
        sequence(sequence(bytes.fromhex(FQANS), der(0x31, sequence(authority, names)))),
        sequence(
            sequence(bytes.fromhex(NO_REVOCATION), der(4, b"\x05\x00")),
            sequence(bytes.fromhex(SIGNERS), der(4, sequence(sequence(carried_der)))),
            more,
        ),
    )
    signature = (key or signer.key).sign(info, ec.ECDSA(hashes.SHA256()))
    if changes is not None:
        assert changes[0] in info
        info = info.replace(*changes)
    return sequence(info, ECDSA_SHA256, der(3, b"\0", signature))


def a_voms_proxy(of: Holder, *acs: bytes, content: bytes | None = None) -> Holder:
    """A proxy of ``of`` that carries these."""
    value = sequence(sequence(*acs)) if content is None else content
    return a_proxy(of, extra=[(x509.UnrecognizedExtension(AC_LIST, value), False)])


def write_lsc(vomsdir: Path, vo: str, host: str, *names: str) -> None:
    """Let who is called so speak for ``vo``."""
    (vomsdir / vo).mkdir(parents=True, exist_ok=True)
    (vomsdir / vo / f"{host}.lsc").write_text("".join(f"{name}\n" for name in names))
