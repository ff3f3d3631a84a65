"""A site's directory of CAs: read as it is now, whatever is wrong with a file of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from desktopgrid.model.errors import Unavailable
from desktopgrid.server.trusted import TrustedDirectory
from tests.grid_ca import a_ca, a_crl, a_person, name, write_directory

pytestmark = pytest.mark.feature("XW-LIM-1")


def test_it_is_read_again_when_a_file_changed(tmp_path: Path) -> None:
    ca = a_ca()
    bob = a_person(ca)
    write_directory(tmp_path, [ca], [a_crl(ca)])
    directory = TrustedDirectory(tmp_path)
    first = directory.read()
    assert directory.read() is first
    write_directory(tmp_path, [ca], [a_crl(ca, bob)])
    second = directory.read()
    assert (first.revoked, len(second.revoked)) == (frozenset(), 1)
    other = a_ca(called=name("CN=Other"))
    write_directory(tmp_path, [ca, other], [a_crl(ca), a_crl(other)])
    assert len(directory.read().authorities) == 2
    (tmp_path / "00000001.0").unlink()
    assert len(directory.read().authorities) == 1


def test_hashes_of_two_kinds_name_one_ca(tmp_path: Path) -> None:
    ca = a_ca()
    write_directory(tmp_path, [ca], [a_crl(ca)])
    os.symlink("00000000.0", tmp_path / "abcdef01.0")
    assert len(TrustedDirectory(tmp_path).read().authorities) == 1


def test_what_cannot_be_read_counts_for_nothing_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ca = a_ca()
    write_directory(tmp_path, [ca], [])
    (tmp_path / "00000001.0").write_text("no certificate")
    (tmp_path / "00000001.r0").write_text("no list")
    (tmp_path / "00000000.signing_policy").write_text("not for us")
    (tmp_path / "00000000.info").write_text("nor this")
    der = a_crl(ca).public_bytes(serialization.Encoding.DER)
    (tmp_path / "00000000.r0").write_bytes(der)
    found = TrustedDirectory(tmp_path).read()
    assert (len(found.authorities), len(found.lists)) == (1, 1)
    told = [record.getMessage() for record in caplog.records]
    assert sum("counts for nothing" in line for line in told) == 2


def test_a_directory_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="none cannot be read: No such file"):
        TrustedDirectory(tmp_path / "none").read()
