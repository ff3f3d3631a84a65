"""Names in certificates: read in all their forms, compared in one."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from desktopgrid.credentials.subjects import canonical, text_of
from desktopgrid.model.errors import AlreadyThere, BadRequest, UnknownObject
from desktopgrid.model.objects import Credential
from desktopgrid.server import changes as c
from desktopgrid.wire import messages as m
from tests.builders import NOON, GridUnderTest
from tests.grid_ca import a_ca, a_person, a_proxy, name

pytestmark = pytest.mark.feature("XW-UM-2", "XW-SEC-6")

CA = a_ca()
ANN = a_person(CA)
PROXY = a_proxy(ANN)
SUBJECT = "CN=Ann Example,OU=people,DC=grid,DC=org"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(SUBJECT, id="RFC 4514"),
        pytest.param("/DC=org/DC=grid/OU=people/CN=Ann Example", id="OpenSSL's form"),
        pytest.param("/dc=org/dc=grid/ou=people/cn=Ann Example", id="in small letters"),
        pytest.param(ANN.pem, id="a certificate"),
        pytest.param(ANN.pem + CA.pem, id="with its CA"),
        pytest.param(PROXY.pem + ANN.pem, id="a proxy with its chain"),
    ],
)
def test_a_name_in_any_form_is_one_name(text: str) -> None:
    assert canonical(text) == SUBJECT


def test_a_subject_of_an_issuer_is_kept_as_it_is() -> None:
    assert canonical("https://iam.example.org/#ann") == "https://iam.example.org/#ann"


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "1 to 500"),
        ("Ann", "no subject"),
        ("/Ann", "such as /DC=org/CN=Ann"),
        ("/XX=what/CN=Ann", "/XX=what is not understood"),
        ("/CN=" + "x" * 600, "no subject|1 to 500"),
        ("https://iam.example.org/", "https://ISSUER#SUB"),
        ("https://#ann", "https://ISSUER#SUB"),
        ("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----", "cannot be read"),
        ("-----BEGIN nothing", "expected 1 to 20 certificates"),
        (PROXY.pem, "proxies only"),
        (PROXY.pem + PROXY.key_pem + ANN.pem, "a private key is nobody else's business"),
    ],
)
def test_what_is_no_name_is_refused(text: str, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        canonical(text)


def test_a_name_that_only_looks_like_another_is_another() -> None:
    """In OpenSSL's form both would be /CN=Ann/CN=Bob."""
    one = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Ann/CN=Bob")])
    two = name("CN=Ann", "CN=Bob")
    assert text_of(one) != text_of(two) == canonical("/CN=Ann/CN=Bob")
    comma = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Bob,CN=Ann")])
    assert text_of(comma) != text_of(two)


def test_a_host_in_a_name_is_no_part_of_its_own() -> None:
    assert canonical("/DC=org/CN=host/grid.example.org") == "CN=host/grid.example.org,DC=org"


# --- users --------------------------------------------------------------------------------------


def test_a_user_is_known_by_his_names_and_no_two_by_one() -> None:
    grid = GridUnderTest()
    grid.ask(m.SendUser("u", "ann", subjects=(ANN.pem, "/CN=Ann")), login="admin")
    assert grid.grid.subjects == {SUBJECT: "u", "CN=Ann": "u"}
    assert set(grid.changes(c.SubjectSaved)) == {
        c.SubjectSaved(SUBJECT, "u"),
        c.SubjectSaved("CN=Ann", "u"),
    }
    with pytest.raises(AlreadyThere, match="another user is known by"):
        grid.ask(m.SendUser("v", "bob", subjects=(SUBJECT,)), login="admin")
    assert "bob" not in grid.grid.logins
    grid.ask(m.ChangeUser("ann", add_subjects=(SUBJECT,)), login="admin")
    assert set(grid.grid.users["u"].subjects) == {SUBJECT, "CN=Ann"}
    grid.ask(m.ChangeUser("ann", remove_subjects=("/CN=Ann",)), login="admin")
    assert grid.grid.subjects == {SUBJECT: "u"}
    assert grid.changes(c.SubjectSaved) == [c.SubjectSaved("CN=Ann", None)]
    with pytest.raises(UnknownObject, match="not known by"):
        grid.ask(m.ChangeUser("ann", remove_subjects=("/CN=Ann",)), login="admin")
    grid.ask(m.ChangeUser("alice", add_subjects=("/CN=Ann",)), login="admin")
    assert grid.grid.subjects == {SUBJECT: "u", "CN=Ann": "alice"}


def test_what_was_logged_in_by_a_name_ends_with_it() -> None:
    grid = GridUnderTest()
    grid.ask(m.ChangeUser("alice", add_subjects=(SUBJECT, "/CN=Ann")), login="admin")
    for uid, subject in (("by-cert", SUBJECT), ("by-other", "CN=Ann"), ("by-password", "")):
        grid.grid.credentials[uid] = Credential(
            uid, "alice", "token", "0" * 64, NOON, subject=subject
        )
    grid.ask(m.ChangeUser("alice", remove_subjects=(SUBJECT,)), login="admin")
    revoked = {uid for uid, token in grid.grid.credentials.items() if token.is_revoked}
    assert revoked == {"by-cert"}
    assert [session for session, _, _ in grid.out.closing] == ["by:by-cert"]
