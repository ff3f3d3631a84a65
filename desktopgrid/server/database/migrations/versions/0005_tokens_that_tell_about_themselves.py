"""Tokens that tell what they are good for, where they came from and when they were used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NOTHING = sa.text("''")
COLUMNS = ("label", "scope", "source", "last_used_at")


def upgrade() -> None:
    """Add the columns; a token that is there is good for everything."""
    for name, length in (("label", 255), ("scope", 64), ("source", 255)):
        op.add_column(
            "credentials",
            sa.Column(name, sa.String(length), nullable=False, server_default=NOTHING),
        )
    op.add_column("credentials", sa.Column("last_used_at", sa.Double(), nullable=True))


def downgrade() -> None:
    """Undo it. A token that was good for less than everything would now be good for that: it is
    revoked.
    """
    credentials = sa.table(
        "credentials", sa.column("scope", sa.String), sa.column("is_revoked", sa.Boolean)
    )
    op.execute(credentials.update().where(credentials.c.scope != "").values(is_revoked=sa.true()))
    for name in reversed(COLUMNS):
        op.drop_column("credentials", name)
