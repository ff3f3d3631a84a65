"""What the database keeps of tokens, and how older databases come to keep it."""

from __future__ import annotations

from desktopgrid.model.rights import EVERYTHING, Scope, UserLevel, Who
from desktopgrid.server import changes as c
from desktopgrid.server.database import reading, schema
from desktopgrid.server.database.engine import transaction
from desktopgrid.server.database.listing import list_objects
from desktopgrid.server.database.upgrading import migrate, upgrade
from tests.rows import NOON, PEOPLE, Grid, row

ADMIN = Who("admin", UserLevel.SUPER)
ALICE = Who("alice", UserLevel.STANDARD, "physics")
CAROL = Who("carol", UserLevel.STANDARD)


def test_a_token_of_before_scopes_is_good_for_everything(engine):
    migrate(engine, "0004")
    with engine.connect() as connection, transaction(connection):
        for change in (row(c.UserSaved), row(c.CredentialSaved)):
            table = {c.UserSaved: schema.users, c.CredentialSaved: schema.credentials}[type(change)]
            old = {
                n: v for n, v in change._asdict().items() if n not in ("label", "scope", "source")
            }
            connection.execute(table.insert().values(old))
    upgrade(engine)
    found = Grid(engine)
    (token,) = found.read(reading.load, found.shard).credentials
    assert (token.label, token.scope, token.source) == ("", EVERYTHING, "")
    assert token.last_used_at is None


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


def uids(grid: Grid, who: Who) -> list[str]:
    """The tokens that ``who`` is shown."""
    return [listed["uid"] for listed in grid.read(list_objects, "tokens", who).rows]
