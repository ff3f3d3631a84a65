"""What the database keeps of tokens, and how older databases come to keep it."""

from __future__ import annotations

from desktopgrid.model.rights import Scope, UserLevel, Who
from desktopgrid.server import changes as c
from desktopgrid.server.database import reading
from desktopgrid.server.database.listing import list_objects
from tests.rows import NOON, PEOPLE, Grid, row

ADMIN = Who("admin", UserLevel.SUPER)
ALICE = Who("alice", UserLevel.STANDARD, "physics")
CAROL = Who("carol", UserLevel.STANDARD)


def test_tokens_are_listed_for_their_owners_without_what_proves_them(bare):
    bare.record(
        *PEOPLE,
        row(c.CredentialSaved, label="laptop", scope="read cancel", expires_at=NOON + 60),
        row(c.CredentialSaved, uid="hers", user="carol", is_revoked=True),
        row(c.CredentialSaved, uid="carol", user="carol", kind="password"),
        row(c.CredentialUsed, last_used_at=NOON + 9),
    )
    assert uids(bare, ALICE) == ["token"]
    assert uids(bare, CAROL) == ["hers"]
    assert uids(bare, ADMIN) == ["hers", "token"]
    (listed,) = bare.read(list_objects, "tokens", where={"user": "alice"}).rows
    assert (listed["label"], listed["scope"], listed["revoked"]) == ("laptop", "read cancel", False)
    assert listed["last_used_at"] > listed["created_at"]
    assert "verifier" not in listed
    (token,) = [
        each for each in bare.read(reading.load, bare.shard).credentials if each.kind == "token"
    ]
    assert (token.scope, token.last_used_at.timestamp()) == (Scope.READ | Scope.CANCEL, NOON + 9)


def test_whose_a_name_in_certificates_is_the_last_word_says(bare):
    bare.record(*PEOPLE, row(c.SubjectSaved, user="bob"), row(c.SubjectSaved))
    bare.record(row(c.SubjectSaved, subject="x" * 500), row(c.SubjectSaved, subject="CN=ann"))
    bare.record(row(c.SubjectSaved, subject="CN=ann", user=None))
    found = {user.login: user.subjects for user in bare.read(reading.load, bare.shard).users}
    assert found["alice"] == ("CN=Ann,DC=org", "x" * 500)
    assert found["bob"] == found["carol"] == ()
    bare.record(row(c.SubjectSaved, subject="CN=Ann,DC=org", user="carol"))
    found = {user.login: user.subjects for user in bare.read(reading.load, bare.shard).users}
    assert found["carol"] == ("CN=Ann,DC=org",)


def test_a_token_keeps_for_which_certificates_it_was_given(bare):
    serials = '["12ab CN=CA,DC=org"]'
    bare.record(*PEOPLE, row(c.CredentialSaved, subject="CN=Ann,DC=org", serials=serials))
    (token,) = bare.read(reading.load, bare.shard).credentials
    assert (token.subject, token.serials) == ("CN=Ann,DC=org", ("12ab CN=CA,DC=org",))


def uids(grid: Grid, who: Who) -> list[str]:
    """The tokens that ``who`` is shown."""
    return [listed["uid"] for listed in grid.read(list_objects, "tokens", who).rows]
