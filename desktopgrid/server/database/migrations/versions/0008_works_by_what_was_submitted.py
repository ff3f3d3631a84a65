"""Indexes that lead from a label, a session, a group or an application to its works."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

LABEL_LENGTH = 255


def _without_index() -> tuple[str, ...]:
    """MariaDB makes an index for every foreign key by itself."""
    is_mariadb = op.get_bind().dialect.name in ("mysql", "mariadb")
    return () if is_mariadb else ("application", "session", "group")


def upgrade() -> None:
    """An entry in each a submission."""
    op.create_index(
        "submissions_label",
        "submissions",
        ["label"],
        mysql_length=LABEL_LENGTH,
        mariadb_length=LABEL_LENGTH,
    )
    for column in _without_index():
        op.create_index(f"submissions_{column}", "submissions", [column])


def downgrade() -> None:
    """Undo it."""
    for column in ("label", *_without_index()):
        op.drop_index(f"submissions_{column}", "submissions")
