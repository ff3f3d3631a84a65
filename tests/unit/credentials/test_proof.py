"""What a client takes from the files of certificates, and what of them leaves the machine."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from desktopgrid.credentials.proof import Proof, proxy_path, public_part
from desktopgrid.model.errors import BadRequest
from desktopgrid.server.certificates import is_signed
from tests.grid_ca import Holder, a_ca, a_person, a_proxy, write_proxy

pytestmark = pytest.mark.feature("XW-SEC-6")

CA = a_ca()


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["curve", "Ed25519", "RSA"],
)
def test_the_server_accepts_what_the_client_signs(key: Any, tmp_path: Path) -> None:
    ann = a_person(CA, key=key)
    proof = Proof.read(write_proxy(tmp_path / "proxy", ann), None)
    signature = base64.b64decode(proof.sign(b"message"))
    assert is_signed(ann.certificate.public_key(), signature, b"message")


def test_the_chain_goes_out_and_the_key_does_not(tmp_path: Path) -> None:
    ann = a_person(CA)
    proxy = a_proxy(ann)
    path = write_proxy(tmp_path / "proxy", proxy, ann)
    proof = Proof.read(path, None)
    assert proof.chain == proxy.pem + ann.pem == public_part(path)
    assert "PRIVATE" not in proof.chain and "PRIVATE" not in repr(proof)


def encrypted(holder: Holder) -> bytes:
    """The key with a passphrase, as grids have it in userkey.pem."""
    made: bytes = holder.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(b"open sesame"),
    )
    return made


def test_a_passphrase_is_asked_for_where_there_is_one(tmp_path: Path) -> None:
    ann = a_person(CA)
    cert, key = tmp_path / "usercert.pem", tmp_path / "userkey.pem"
    cert.write_text(ann.pem)
    key.touch(0o600)
    key.write_bytes(encrypted(ann))
    proof = Proof.read(cert, key, lambda: "open sesame")
    signature = base64.b64decode(proof.sign(b"m"))
    assert is_signed(ann.certificate.public_key(), signature, b"m")
    with pytest.raises(BadRequest, match=r"userkey.pem cannot be read"):
        Proof.read(cert, key, lambda: "wrong")


def test_files_that_will_not_do_are_named_with_the_reason(tmp_path: Path) -> None:
    ann = a_person(CA)
    cert = tmp_path / "cert.pem"
    cert.touch(0o600)
    cert.write_text(ann.pem)
    with pytest.raises(BadRequest, match=r"cert.pem has no private key; name one by --key"):
        Proof.read(cert, None)
    with pytest.raises(BadRequest, match="none cannot be read: No such file"):
        Proof.read(tmp_path / "none", None)
    empty = tmp_path / "empty"
    empty.touch(0o600)
    with pytest.raises(BadRequest, match="has no private key"):
        Proof.read(empty, None)
    empty.write_text(ann.key_pem)
    with pytest.raises(BadRequest, match="empty has no certificate in PEM"):
        Proof.read(empty, None)
    open_ = write_proxy(tmp_path / "open", ann)
    open_.chmod(0o640)
    with pytest.raises(BadRequest, match="chmod 600"):
        Proof.read(open_, None)


def test_a_proxy_is_looked_for_where_grids_keep_it() -> None:
    assert proxy_path({"X509_USER_PROXY": "/run/p"}) == Path("/run/p")
    assert str(proxy_path({})).startswith("/tmp/x509up_u")
