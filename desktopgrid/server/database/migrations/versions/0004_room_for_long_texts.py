"""Room for long texts in MariaDB, whose plain TEXT and BLOB end at 64 KiB."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TEXTS = (
    ("hosts", "facts", False),
    ("submissions", "description", False),
    ("works", "arguments", False),
    ("tasks", "outputs", True),
    ("replies", "body", False),
)
BLOBS = (("tasks", "stdout", True), ("tasks", "stderr", True))
"""Table, column, and whether it may be null."""


def upgrade() -> None:
    """Room for long texts."""
    _change(mysql.MEDIUMTEXT(), mysql.MEDIUMBLOB())


def downgrade() -> None:
    """Undo it; fails on a text that is too long by then."""
    _change(sa.Text(), sa.LargeBinary())


def _change(text: TypeEngine[str], blob: TypeEngine[bytes]) -> None:
    if op.get_bind().dialect.name not in ("mysql", "mariadb"):
        return
    for kind, columns in ((text, TEXTS), (blob, BLOBS)):
        for table, column, nullable in columns:
            op.alter_column(table, column, type_=kind, existing_nullable=nullable)
