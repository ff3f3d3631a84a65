"""VOMS attributes as VOMS' own tools make them, read by us."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from desktopgrid.credentials.proof import public_part
from desktopgrid.credentials.subjects import certificates_in
from desktopgrid.server.certificates import Trust, shown
from desktopgrid.server.trusted import VomsDirectory
from desktopgrid.server.voms import with_attributes
from tests.grid_ca import Extensions, a_ca, a_crl, a_person, name, write_directory
from tests.real import real_part
from tests.voms import write_lsc

pytestmark = pytest.mark.feature("XW-PIL-3")

SERVER = name("DC=org", "DC=grid", "O=hosts", "CN=voms.example.org")
NAMES = ("/DC=org/DC=grid/O=hosts/CN=voms.example.org", "/DC=org/DC=grid/CN=CA")
ROLE = "/testvo/Role=pilot"


def with_identifier() -> dict[str, Any]:
    """A key as these tools want it, and its identifier, which they want, too."""
    key = rsa.generate_private_key(65537, 2048)
    extra: Extensions = [(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)]
    return {"key": key, "extra": extra}


def test_a_proxy_of_voms_proxy_fake_is_verified(tmp_path: Path) -> None:
    program = real_part("GLIDEBRIDGE_GRID_CLIENTS", "VOMS' tools") / "bin/voms-proxy-fake"
    ca = a_ca(**with_identifier())
    ann = a_person(ca, **with_identifier())
    server = a_person(ca, SERVER, **with_identifier())
    write_directory(tmp_path / "certificates", [ca], [a_crl(ca)])
    for word, holder in (("user", ann), ("host", server)):
        (tmp_path / f"{word}.pem").write_text(holder.pem)
        (tmp_path / f"{word}.key").touch(0o600)
        (tmp_path / f"{word}.key").write_text(holder.key_pem)
    made = subprocess.run(
        [
            *(program, "-rfc", "-quiet", "-hours", "2", "-bits", "2048"),
            *("-cert", "user.pem", "-key", "user.key"),
            *("-hostcert", "host.pem", "-hostkey", "host.key"),
            *("-voms", "testvo", "-fqan", f"{ROLE}/Capability=NULL"),
            *("-uri", "voms.example.org:15000", "-out", "proxy.pem"),
        ],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "X509_CERT_DIR": str(tmp_path / "certificates")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert made.returncode == 0, made.stderr
    chain = certificates_in(public_part(tmp_path / "proxy.pem"))
    trust, now = Trust([ca.certificate], [a_crl(ca)]), datetime.now(UTC)
    proved = shown(chain, trust, now)
    write_lsc(tmp_path / "vomsdir", "testvo", "voms.example.org", *NAMES)
    found = with_attributes(proved, VomsDirectory(tmp_path / "vomsdir").read(), trust, now)
    assert (found.vo, found.attributes, found.notes) == ("testvo", (ROLE,), ())
    assert not with_attributes(proved, VomsDirectory(None).read(), trust, now).vo
