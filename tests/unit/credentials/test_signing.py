"""Signing for a key that somebody else keeps, and reading what is asked to be signed."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from desktopgrid.credentials.pkcs10 import key_of
from desktopgrid.credentials.proof import Proof
from desktopgrid.credentials.proxies import Policy, ProxyInfo, proxy_info, written
from desktopgrid.credentials.signing import sign
from desktopgrid.credentials.subjects import certificates_in
from desktopgrid.model.errors import BadRequest
from desktopgrid.model.rights import EVERYTHING, Scope
from desktopgrid.server.certificates import Trust, verify
from tests.grid_ca import (
    LIMITED,
    NOW,
    Holder,
    a_ca,
    a_crl,
    a_person,
    a_proxy,
    name,
    new_key,
    write_proxy,
)
from tests.grid_ca import (
    proxy_info as info_of,
)

CA = a_ca()
TRUST = Trust([CA.certificate], [a_crl(CA)])
ANN = a_person(CA)
RSA = rsa.generate_private_key(65537, 2048)


SHA256 = hashes.SHA256()


def a_request(key: Any, algorithm: Any = SHA256) -> str:
    """A request for the public half of ``key``."""
    asked = x509.CertificateSigningRequestBuilder().subject_name(name("CN=whoever"))
    return asked.sign(key, algorithm).public_bytes(serialization.Encoding.PEM).decode()


def of(tmp_path: Path, leaf: Holder, *others: Holder) -> Proof:
    """What one has who holds this chain."""
    return Proof.read(write_proxy(tmp_path / "proxy", leaf, *others), None)


@pytest.mark.parametrize(
    "key, algorithm",
    [
        (new_key(), hashes.SHA256()),
        (RSA, hashes.SHA512()),
        (ed25519.Ed25519PrivateKey.generate(), None),
    ],
    ids=["curve", "RSA", "Ed25519"],
)
@pytest.mark.parametrize("own", [new_key(), RSA], ids=["by a curve", "by RSA"])
def test_what_was_signed_proves_who_signed(
    own: Any, key: Any, algorithm: Any, tmp_path: Path
) -> None:
    ann = a_person(CA, key=own)
    chain = sign(a_request(key, algorithm), of(tmp_path, ann), NOW, timedelta(hours=2))
    [proxy, *_] = made = certificates_in(chain)
    proved = verify(made, TRUST, NOW)
    assert proved.subject == "CN=Ann Example,OU=people,DC=grid,DC=org"
    assert (proved.scope, proved.ends_at) == (EVERYTHING, NOW + timedelta(hours=2))
    assert proxy.public_key() == key.public_key()
    assert "PRIVATE" not in chain


def test_a_proxy_signs_below_it_and_no_longer_than_it_lives(tmp_path: Path) -> None:
    proxy = a_proxy(ANN, info_of(longest=2), ends=NOW + timedelta(hours=1))
    chain = certificates_in(sign(a_request(new_key()), of(tmp_path, proxy, ANN), NOW))
    assert verify(chain, TRUST, NOW).ends_at == NOW + timedelta(hours=1)
    assert proxy_info(chain[0], "it").longest == 1
    assert len(chain) == 3


def test_a_limited_proxy_makes_limited_ones(tmp_path: Path) -> None:
    proxy = a_proxy(ANN, info_of(LIMITED))
    chain = certificates_in(sign(a_request(new_key()), of(tmp_path, proxy, ANN), NOW))
    assert verify(chain, TRUST, NOW).scope == Scope.READ


@pytest.mark.parametrize(
    "leaf, reason",
    [
        pytest.param(a_proxy(ANN, info_of(longest=0)), "path length 0", id="no further proxy"),
        pytest.param(a_proxy(ANN, ends=NOW), "make a new proxy", id="it has run out"),
        pytest.param(Holder(a_proxy(ANN).certificate, new_key()), "not that of", id="another key"),
    ],
)
def test_what_would_be_worth_nothing_is_not_signed(
    leaf: Holder, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(BadRequest, match=reason):
        sign(a_request(new_key()), of(tmp_path, leaf, ANN), NOW)


def arc_request(key: rsa.RSAPrivateKey) -> str:
    """A request as A-REX 6.17 writes it, with a version of 2; there is 0 only (RFC 2986, 4.1)."""
    pem = a_request(key)
    der = x509.load_pem_x509_csr(pem.encode()).tbs_certrequest_bytes
    place = der.index(b"\x02\x01\x00")
    info = der[:place] + b"\x02\x01\x02" + der[place + 3 :]
    signature = key.sign(info, padding.PKCS1v15(), hashes.SHA256())
    algorithm = bytes.fromhex("300d06092a864886f70d01010b0500")
    content = info + algorithm + asn1.encode_der(asn1.BitString(signature, 0))
    whole = b"\x30\x82" + len(content).to_bytes(2, "big") + content
    text = base64.encodebytes(whole).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"


def test_the_request_of_an_arc_ce_is_read() -> None:
    with pytest.raises(x509.InvalidVersion):
        x509.load_pem_x509_csr(arc_request(RSA).encode())
    assert key_of(arc_request(RSA)) == RSA.public_key()


def test_a_request_for_anothers_key_is_refused() -> None:
    """Else he would have a proxy for which somebody else has the key."""
    good, other = a_request(new_key()), a_request(new_key())
    lines = good.splitlines()
    mixed = "\n".join([*lines[:-2], *other.splitlines()[-2:]])
    with pytest.raises(BadRequest):
        key_of(mixed)
    with pytest.raises(BadRequest, match="expected a certificate request"):
        key_of(ANN.pem)
    with pytest.raises(BadRequest, match="1024 bits"):
        key_of(a_request(rsa.generate_private_key(65537, 1024)))  # noqa: S505 - it is refused


@given(st.binary(max_size=200))
def test_no_bytes_are_taken_for_a_request(content: bytes) -> None:
    text = base64.encodebytes(content).decode()
    with pytest.raises(BadRequest):
        key_of(f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----")


@pytest.mark.parametrize("longest", [None, 0, 1, 127, 128, 40_000])
@pytest.mark.parametrize("policy", Policy)
def test_what_a_proxy_says_of_itself_is_read_as_it_was_written(
    policy: Policy, longest: int | None
) -> None:
    info = ProxyInfo(policy, longest)
    holder = a_proxy(ANN, written(info).value)
    assert proxy_info(holder.certificate, "it") == info


def test_the_curve_of_a_request_may_be_any_that_we_know() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    assert key_of(a_request(key, hashes.SHA384())) == key.public_key()
