"""The grid's certificates, as TLS itself judges them."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from desktopgrid.model.errors import BadRequest
from desktopgrid.server import pki

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def ca_key() -> bytes:
    return pki.new_key()


@pytest.fixture(scope="module")
def ca(ca_key: bytes) -> bytes:
    return pki.ca_certificate(ca_key, "Glidebridge grid of test", NOW)


def handshake(tmp_path: Path, ca: bytes, certificate: bytes, key: bytes, name: str) -> str:
    """Client and server shake hands in memory; the client trusts ``ca`` alone."""
    (tmp_path / "server.pem").write_bytes(certificate)
    (tmp_path / "server.key").write_bytes(key)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.verify_flags |= ssl.VERIFY_X509_STRICT
    asking.load_verify_locations(cadata=ca.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(to_client, to_server, server_hostname=name)
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.version() or ""


@pytest.mark.parametrize("name", ["grid.example.org", "192.0.2.7", "localhost", "127.0.0.1", "::1"])
def test_a_client_that_pins_the_ca_trusts_the_server_by_each_of_its_names(
    tmp_path, ca, ca_key, name
):
    key = pki.new_key()
    names = ("grid.example.org", "192.0.2.7")
    certificate = pki.server_certificate(ca, ca_key, key, names, NOW)
    assert handshake(tmp_path, ca, certificate, key, name) == "TLSv1.3"


def test_a_server_of_another_name_is_not_trusted(tmp_path, ca, ca_key):
    key = pki.new_key()
    certificate = pki.server_certificate(ca, ca_key, key, ("grid.example.org",), NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(tmp_path, ca, certificate, key, "other.example.org")


def test_a_server_under_another_ca_is_not_trusted(tmp_path, ca, ca_key):
    key, other_key = pki.new_key(), pki.new_key()
    # Same name, another key.
    other = pki.ca_certificate(other_key, "Glidebridge grid of test", NOW)
    certificate = pki.server_certificate(other, other_key, key, (), NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, ca, certificate, key, "localhost")


def test_a_renewed_certificate_is_trusted_by_who_pinned_the_ca_before(tmp_path, ca, ca_key):
    key = pki.new_key()
    later = NOW + timedelta(seconds=5)
    first = pki.server_certificate(ca, ca_key, key, (), NOW)
    second = pki.server_certificate(ca, ca_key, key, ("new.example.org",), later)
    assert first != second
    assert handshake(tmp_path, ca, second, key, "new.example.org")


def test_a_server_key_cannot_sign_certificates(tmp_path, ca, ca_key):
    key, thief = pki.new_key(), pki.new_key()
    certificate = pki.server_certificate(ca, ca_key, key, ("grid.example.org",), NOW)
    forged = pki.server_certificate(certificate, key, thief, ("bank.example.org",), NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, ca, forged + certificate, thief, "bank.example.org")


def test_the_ca_lasts_ten_years_and_no_server_outlives_it(ca, ca_key):
    assert pki.ends_at(ca) - NOW > timedelta(days=3650)
    late = NOW + timedelta(days=3600)
    certificate = pki.server_certificate(ca, ca_key, pki.new_key(), (), late)
    assert pki.ends_at(certificate) == pki.ends_at(ca)


def test_a_certificate_names_its_names_once(ca, ca_key):
    names = ("localhost", "grid.example.org", "grid.example.org")
    certificate = pki.server_certificate(ca, ca_key, pki.new_key(), names, NOW)
    assert pki.names_of(certificate) == ["localhost", "grid.example.org", "127.0.0.1", "::1"]


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64 + ".org", "a b", "http://a"])
def test_a_name_that_is_none_is_refused(ca, ca_key, name):
    with pytest.raises(BadRequest, match="no host name"):
        pki.server_certificate(ca, ca_key, pki.new_key(), (name,), NOW)


def test_a_title_that_is_too_long_is_cut():
    assert pki.ca_certificate(pki.new_key(), "x" * 200, NOW)
