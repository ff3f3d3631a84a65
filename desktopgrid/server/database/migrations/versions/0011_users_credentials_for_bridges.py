"""What bridges offer and users delegate to them; which applications an administrator validated."""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKeyConstraint,
    Identity,
    Integer,
    PrimaryKeyConstraint,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import mysql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

LONG = BigInteger().with_variant(Integer, "sqlite")
LONG_TEXT = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
ADDED: tuple[tuple[str, str, String | Double[float]], ...] = (
    ("applications", "validated_by", String(255)),
    ("applications", "validated_at", Double()),
    ("pilots", "delegation", String(255)),
    ("submissions", "delegation", String(255)),
)


def _references(table: str, column: str, other: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint([column], [other], name=f"{table}_{column}_exists")


def _numbered(
    table: str,
) -> tuple[Column[int], Column[str], PrimaryKeyConstraint, UniqueConstraint]:
    return (
        Column("number", LONG, Identity(), nullable=False),
        Column("uid", String(255), nullable=False),
        PrimaryKeyConstraint("number", name=f"{table}_key"),
        UniqueConstraint("uid", name=f"{table}_have_unique_uid"),
    )


def upgrade() -> None:
    """Three tables, and a few columns that are empty for what was there before."""
    op.create_table(
        "bridges",
        Column("user", String(255), nullable=False),
        Column("signing_key", String(64), nullable=False),
        Column("sealing_key", String(64), nullable=False),
        Column("saved_at", Double, nullable=False),
        PrimaryKeyConstraint("user", name="bridges_key"),
        _references("bridges", "user", "users.uid"),
        CheckConstraint("signing_key <> '' AND sealing_key <> ''", name="bridges_have_keys"),
    )
    op.create_table(
        "offers",
        *_numbered("offers"),
        Column("bridge", String(255), nullable=False),
        Column("request", Text, nullable=False),
        Column("signature", String(128), nullable=False),
        Column("created_at", Double, nullable=False),
        Column("taken_by", String(255), nullable=True),
        Column("taken_at", Double, nullable=True),
        _references("offers", "bridge", "bridges.user"),
        _references("offers", "taken_by", "users.uid"),
        CheckConstraint("(taken_by IS NULL) = (taken_at IS NULL)", name="taken_offers_have_a_time"),
    )
    op.create_table(
        "delegations",
        *_numbered("delegations"),
        Column("owner", String(255), nullable=False),
        Column("bridge", String(255), nullable=False),
        Column("kind", String(16), nullable=False),
        Column("status", String(16), nullable=False),
        Column("created_at", Double, nullable=False),
        Column("expires_at", Double, nullable=False),
        Column("generation", LONG, nullable=False, server_default=text("0")),
        Column("content", LONG_TEXT, nullable=False),
        Column("offer", String(255), nullable=False),
        Column("subject", String(500), nullable=False),
        Column("made_from", String(64), nullable=False),
        Column("serials", Text, nullable=False),
        Column("vo", String(255), nullable=False),
        Column("attributes", Text, nullable=False),
        Column("attributes_end_at", Double, nullable=True),
        Column("label", String(255), nullable=False),
        Column("reason", Text, nullable=False),
        _references("delegations", "owner", "users.uid"),
        _references("delegations", "bridge", "bridges.user"),
        CheckConstraint("kind IN ('proxy', 'token')", name="delegations_are_proxies_or_tokens"),
        CheckConstraint(
            "status IN ('Active', 'Expired', 'Refused', 'Revoked', 'Signed')",
            name="delegations_have_a_status",
        ),
        CheckConstraint(
            "(status IN ('Active', 'Signed')) = (content <> '')",
            name="delegations_that_are_over_are_empty",
        ),
        CheckConstraint("generation > 0", name="delegations_have_a_generation"),
    )
    for table, column in (
        ("offers", "bridge"),
        ("offers", "taken_by"),
        ("delegations", "owner"),
        ("delegations", "bridge"),
    ):
        op.create_index(f"{table}_{column}", table, [column])
    for table, column, kind in ADDED:
        op.add_column(table, Column(column, kind, nullable=True))
    op.add_column(
        "submissions", Column("vo", String(255), nullable=False, server_default=text("''"))
    )


def downgrade() -> None:
    """Undo it; what was delegated is gone."""
    op.drop_column("submissions", "vo")
    for table, column, _ in reversed(ADDED):
        op.drop_column(table, column)
    for table in ("delegations", "offers", "bridges"):
        op.drop_table(table)
