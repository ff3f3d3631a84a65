"""Accounts, daily sums of what was used, and when pilots had work.

What ended before is in no report: nobody wrote down for which user group, and at which site.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

LONG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
ZERO = sa.text("0")
NOTHING = sa.text("''")


def upgrade() -> None:
    """Two tables, and columns of tasks and of pilots."""
    op.create_table(
        "accounts",
        sa.Column("number", LONG, autoincrement=False, nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("user", sa.String(255), nullable=False),
        sa.Column("group", sa.String(255), nullable=True),
        sa.Column("vo", sa.String(255), nullable=False, server_default=NOTHING),
        sa.Column("site", sa.String(255), nullable=False, server_default=NOTHING),
        sa.Column("route", sa.String(255), nullable=False, server_default=NOTHING),
        sa.Column("application", sa.String(255), nullable=True),
        sa.Column("kind", sa.String(32), nullable=False, server_default=NOTHING),
        sa.Column("cores", sa.Integer(), nullable=False),
        sa.CheckConstraint("cores > 0", name="accounts_have_cores"),
        sa.ForeignKeyConstraint(["user"], ["users.uid"], name="accounts_user_exists"),
        sa.ForeignKeyConstraint(["group"], ["usergroups.uid"], name="accounts_group_exists"),
        sa.ForeignKeyConstraint(
            ["application"], ["applications.uid"], name="accounts_application_exists"
        ),
        sa.PrimaryKeyConstraint("number", name="accounts_key"),
    )
    op.create_table(
        "usages",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("account", LONG, autoincrement=False, nullable=False),
        sa.Column("cause", sa.String(16), nullable=False),
        sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tasks", LONG, nullable=False, server_default=ZERO),
        sa.Column("core_time", sa.Double(), nullable=False, server_default=ZERO),
        sa.Column("cpu_time", sa.Double(), nullable=False, server_default=ZERO),
        sa.Column("doubtful", LONG, nullable=False, server_default=ZERO),
        sa.CheckConstraint("tasks >= 0 AND doubtful >= 0", name="usages_count_their_tasks"),
        sa.CheckConstraint("core_time >= 0 AND cpu_time >= 0", name="usages_are_not_negative"),
        sa.ForeignKeyConstraint(["account"], ["accounts.number"], name="usages_account_exists"),
        sa.PrimaryKeyConstraint("day", "account", "cause", "bucket", name="usages_key"),
        sqlite_with_rowid=False,
    )
    op.add_column("tasks", sa.Column("account", LONG, nullable=True))
    op.add_column("tasks", sa.Column("cause", sa.String(16), nullable=True))
    op.add_column(
        "tasks", sa.Column("is_doubtful", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("pilots", sa.Column("started_at", sa.Double(), nullable=True))
    op.add_column("pilots", sa.Column("cores", LONG, nullable=False, server_default=ZERO))
    op.add_column("pilots", sa.Column("busy", sa.Double(), nullable=False, server_default=ZERO))
    op.add_column("pilots", sa.Column("account", LONG, nullable=True))
    op.create_index("pilots_by_end", "pilots", ["ended_at"])


def downgrade() -> None:
    """Undo it; what was used is forgotten."""
    op.drop_index("pilots_by_end", "pilots")
    for name in ("account", "busy", "cores", "started_at"):
        op.drop_column("pilots", name)
    for name in ("is_doubtful", "cause", "account"):
        op.drop_column("tasks", name)
    op.drop_table("usages")
    op.drop_table("accounts")
