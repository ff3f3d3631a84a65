"""Submissions may say where they come from, and then no user has two of the same origin."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

INDEX = "submissions_have_unique_origins"


def upgrade() -> None:
    """No submission that is there has an origin."""
    op.add_column("submissions", sa.Column("origin", sa.String(255), nullable=True))
    op.create_index(INDEX, "submissions", ["origin", "owner"], unique=True)


def downgrade() -> None:
    """Undo it: works that came from elsewhere stay, under their names."""
    op.drop_index(INDEX, "submissions")
    op.drop_column("submissions", "origin")
