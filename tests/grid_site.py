"""What a grid gives to its sites and people: a directory of CAs, a host's certificate, proxies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from desktopgrid.credentials.subjects import text_of
from tests.grid_ca import NOW, Holder, a_ca, a_person, a_proxy, issue, name, usage, write_proxy


@dataclass(frozen=True)
class Grid:
    """One CA and whom it vouches for; files are under ``directory``."""

    directory: Path
    ca: Holder
    ann: Holder

    @property
    def authorities(self) -> Path:
        """The directory of CAs."""
        return self.directory / "certificates"

    @property
    def people(self) -> list[str]:
        """The subjects that sites let in."""
        return [text_of(self.ann.certificate.subject)]

    def proxy(self, called: str = "proxy.pem", **changes: Any) -> Path:
        """A proxy of Ann's in a file of that name."""
        return write_proxy(self.directory / called, a_proxy(self.ann, **changes), self.ann)

    def host(self, called: str = "localhost", ca: Holder | None = None, **changes: Any) -> Path:
        """A host's certificate and key in a file of its name."""
        extensions = [
            (usage("digital_signature", "key_encipherment"), True),
            (x509.SubjectAlternativeName([x509.DNSName(called)]), False),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        ]
        subject = name("DC=org", "DC=grid", "O=hosts", f"CN={called}")
        host = issue(subject, ca or self.ca, extensions, **changes)
        return write_proxy(self.directory / f"host-{called}.pem", host)


def a_grid(directory: Path) -> Grid:
    """A grid whose files are under ``directory``."""
    ca = a_ca(starts=NOW - timedelta(days=10), ends=NOW + timedelta(days=10))
    grid = Grid(directory, ca, a_person(ca))
    believe(grid.authorities, ca)
    return grid


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    """A grid for all tests; what they change they make anew."""
    return a_grid(tmp_path_factory.mktemp("grid"))


def believe(directory: Path, ca: Holder) -> None:
    """Put a CA into a directory of them, by its hashed name."""
    directory.mkdir(exist_ok=True)
    hashed = crypto.X509.from_cryptography(ca.certificate).subject_name_hash()
    (directory / f"{hashed:08x}.0").write_text(ca.pem)
