"""How much a user's datas may take on the server, where it is not as much as everybody's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """MiB, 0 for all there is; nothing for those who have what everybody has."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("users", sa.Column("quota_mib", number, nullable=True))


def downgrade() -> None:
    """Undo it."""
    op.drop_column("users", "quota_mib")
