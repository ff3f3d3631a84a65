"""By what names in certificates users are known, and which certificate a token was given for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A table, and two columns of tokens."""
    op.create_table(
        "subjects",
        sa.Column("subject", sa.String(500), nullable=False),
        sa.Column("user", sa.String(255), nullable=True),
        sa.CheckConstraint("subject <> ''", name="subjects_have_a_name"),
        sa.ForeignKeyConstraint(["user"], ["users.uid"], name="subjects_user_exists"),
        sa.PrimaryKeyConstraint("subject", name="subjects_key"),
    )
    op.create_index("subjects_user", "subjects", ["user"])
    op.add_column(
        "credentials",
        sa.Column("subject", sa.String(500), nullable=False, server_default=sa.text("''")),
    )
    op.add_column("credentials", sa.Column("serials", sa.Text(), nullable=True))


def downgrade() -> None:
    """Undo it. Nobody could take back a token that a certificate was shown for: it is revoked."""
    credentials = sa.table(
        "credentials", sa.column("subject", sa.String), sa.column("is_revoked", sa.Boolean)
    )
    op.execute(credentials.update().where(credentials.c.subject != "").values(is_revoked=sa.true()))
    op.drop_column("credentials", "serials")
    op.drop_column("credentials", "subject")
    op.drop_table("subjects")
