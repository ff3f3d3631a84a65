"""What CPU type and operating system a data is for, as its owner says."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A word each, empty for those that are there."""
    for name in ("cpu", "os"):
        op.add_column(
            "datas",
            sa.Column(name, sa.String(32), server_default=sa.text("''"), nullable=False),
        )


def downgrade() -> None:
    """Undo it."""
    for name in ("os", "cpu"):
        op.drop_column("datas", name)
