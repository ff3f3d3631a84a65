"""Users and user groups may be removed: they are marked deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = ("users", "usergroups")


def upgrade() -> None:
    """Nobody is removed yet."""
    for table in TABLES:
        op.add_column(
            table,
            sa.Column("is_deleted", sa.Boolean(), server_default=sa.false(), nullable=False),
        )


def downgrade() -> None:
    """Undo it: who was removed is revoked, and listed again."""
    for table in TABLES:
        op.drop_column(table, "is_deleted")
