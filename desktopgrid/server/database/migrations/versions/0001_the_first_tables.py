"""The first tables: the whole grid."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Name = sa.String(255)
Long = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

TABLES = (
    "tasks",
    "works",
    "submissions",
    "pilots",
    "executables",
    "hosts",
    "datas",
    "credentials",
    "bags",
    "applications",
    "users",
    "usergroups",
    "shards",
    "replies",
)
"""What downgrade drops: what refers before what is referred to."""


def upgrade() -> None:
    """The first tables."""
    op.create_table(
        "replies",
        sa.Column("session", Name, nullable=False),
        sa.Column("sequence", Long, autoincrement=False, nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("user", Name, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.CheckConstraint("sequence > 0", name="replies_answer_a_request"),
        sa.PrimaryKeyConstraint("session", "sequence", name="replies_key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "shards",
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", Long, nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("commits", Long, server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("epoch > 0", name="shards_have_an_epoch"),
        sa.PrimaryKeyConstraint("shard", name="shards_key"),
        sa.UniqueConstraint("epoch", name="shards_have_unique_epoch"),
    )
    op.create_table(
        "usergroups",
        sa.Column("number", Long, sa.Identity(always=False), nullable=False),
        sa.Column("uid", Name, nullable=False),
        sa.Column("name", Name, nullable=False),
        sa.CheckConstraint("name <> ''", name="usergroups_have_a_name"),
        sa.PrimaryKeyConstraint("number", name="usergroups_key"),
        sa.UniqueConstraint("name", name="usergroups_have_unique_name"),
        sa.UniqueConstraint("uid", name="usergroups_have_unique_uid"),
    )
    op.create_table(
        "users",
        sa.Column("number", Long, sa.Identity(always=False), nullable=False),
        sa.Column("uid", Name, nullable=False),
        sa.Column("login", Name, nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("group", Name, nullable=True),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("is_revoked", sa.Boolean(), nullable=False),
        sa.CheckConstraint("login <> ''", name="users_have_a_login"),
        sa.CheckConstraint("level IN (10, 20, 30, 40)", name="users_have_a_level"),
        sa.ForeignKeyConstraint(["group"], ["usergroups.uid"], name="users_group_exists"),
        sa.PrimaryKeyConstraint("number", name="users_key"),
        sa.UniqueConstraint("login", name="users_have_unique_login"),
        sa.UniqueConstraint("uid", name="users_have_unique_uid"),
    )
    op.create_table(
        "applications",
        sa.Column("number", Long, sa.Identity(always=False), nullable=False),
        sa.Column("uid", Name, nullable=False),
        sa.Column("name", Name, nullable=False),
        sa.Column("owner", Name, nullable=False),
        sa.Column("rights", sa.Integer(), nullable=False),
        sa.Column("is_deleted", sa.Boolean(), nullable=False),
        sa.CheckConstraint("name <> ''", name="applications_have_a_name"),
        sa.CheckConstraint("rights BETWEEN 0 AND 511", name="applications_have_rights"),
        sa.ForeignKeyConstraint(["owner"], ["users.uid"], name="applications_owner_exists"),
        sa.PrimaryKeyConstraint("number", name="applications_key"),
        sa.UniqueConstraint("uid", name="applications_have_unique_uid"),
    )
    op.create_index("applications_name", "applications", ["name"])

    op.create_table(
        "bags",
        sa.Column("number", Long, sa.Identity(always=False), nullable=False),
        sa.Column("uid", Name, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", Name, nullable=False),
        sa.Column("rights", sa.Integer(), nullable=False),
        sa.Column("is_deleted", sa.Boolean(), nullable=False),
        sa.CheckConstraint("kind IN ('session', 'group')", name="bags_are_sessions_or_groups"),
        sa.CheckConstraint("rights BETWEEN 0 AND 511", name="bags_have_rights"),
        sa.ForeignKeyConstraint(["owner"], ["users.uid"], name="bags_owner_exists"),
        sa.PrimaryKeyConstraint("number", name="bags_key"),
        sa.UniqueConstraint("uid", name="bags_have_unique_uid"),
    )
    op.create_index("bags_owner", "bags", ["owner"])

    op.create_table(
        "credentials",
        sa.Column("number", Long, sa.Identity(always=False), nullable=False),
        sa.Column("uid", Name, nullable=False),
        sa.Column("user", Name, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("verifier", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("is_revoked", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('password', 'token')", name="credentials_are_passwords_or_tokens"
        ),
        sa.CheckConstraint("verifier <> ''", name="credentials_have_a_verifier"),
        sa.ForeignKeyConstraint(["user"], ["users.uid"], name="credentials_user_exists"),
        sa.PrimaryKeyConstraint("number", name="credentials_key"),
        sa.UniqueConstraint("uid", name="credentials_have_unique_uid"),
    )
    op.create_index("credentials_user", "credentials", ["user"])

    op.create_table(
        "datas",
        sa.Column("number", Long, sa.Identity(always=False), nullable=False),
        sa.Column("uid", Name, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", Name, nullable=False),
        sa.Column("rights", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", Long, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("is_available", sa.Boolean(), nullable=False),
        sa.Column("is_deleted", sa.Boolean(), nullable=False),
        sa.CheckConstraint("length(sha256) = 64", name="datas_have_a_digest"),
        sa.CheckConstraint("rights BETWEEN 0 AND 511", name="datas_have_rights"),
        sa.CheckConstraint("size >= 0", name="datas_have_a_size"),
        sa.ForeignKeyConstraint(["owner"], ["users.uid"], name="datas_owner_exists"),
        sa.PrimaryKeyConstraint("number", name="datas_key"),
        sa.UniqueConstraint("uid", name="datas_have_unique_uid"),
    )
    op.create_index("datas_owner", "datas", ["owner"])

    op.create_table(
        "hosts",
        sa.Column("number", Long, sa.Identity(always=False), nullable=False),
        sa.Column("uid", Name, nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("owner", Name, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("first_seen_at", sa.Double(), nullable=False),
        sa.Column("last_seen_at", sa.Double(), nullable=False),
        sa.Column("ends_at", sa.Double(), nullable=True),
        sa.Column("pilot", Name, nullable=True),
        sa.ForeignKeyConstraint(["owner"], ["users.uid"], name="hosts_owner_exists"),
        sa.PrimaryKeyConstraint("number", name="hosts_key"),
        sa.UniqueConstraint("uid", name="hosts_have_unique_uid"),
    )
    op.create_table(
        "executables",
        sa.Column("application", Name, nullable=False),
        sa.Column("cpu", sa.String(length=32), nullable=False),
        sa.Column("os", sa.String(length=32), nullable=False),
        sa.Column("data", Name, nullable=False),
        sa.CheckConstraint("cpu <> '' AND os <> ''", name="executables_have_a_platform"),
        sa.ForeignKeyConstraint(
            ["application"], ["applications.uid"], name="executables_application_exists"
        ),
        sa.ForeignKeyConstraint(["data"], ["datas.uid"], name="executables_data_exists"),
        sa.PrimaryKeyConstraint("application", "cpu", "os", name="executables_key"),
    )
    op.create_table(
        "pilots",
        sa.Column("number", Long, sa.Identity(always=False), nullable=False),
        sa.Column("stamp", Name, nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("site", Name, nullable=False),
        sa.Column("owner", Name, nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("verifier", sa.Text(), nullable=False),
        sa.Column("submitted_at", sa.Double(), nullable=False),
        sa.Column("deadline_at", sa.Double(), nullable=False),
        sa.Column("wall_time", Long, nullable=False),
        sa.Column("reference", sa.Text(), server_default=sa.text("('')"), nullable=False),
        sa.Column("session_verifier", sa.Text(), server_default=sa.text("('')"), nullable=False),
        sa.Column("host", Name, nullable=True),
        sa.Column("reason", sa.Text(), server_default=sa.text("('')"), nullable=False),
        sa.Column("tasks_done", Long, server_default=sa.text("0"), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "(status IN ('Aborted', 'Deleted', 'Done', 'Failed')) = (ended_at IS NOT NULL)",
            name="final_pilots_have_an_end",
        ),
        sa.CheckConstraint(
            "status IN ('Aborted', 'Deleted', 'Done', 'Failed', 'Running', 'Submitted', 'Waiting')",
            name="pilots_have_a_status",
        ),
        sa.CheckConstraint("tasks_done >= 0", name="pilots_count_their_tasks"),
        sa.CheckConstraint("wall_time > 0", name="pilots_have_a_wall_time"),
        sa.ForeignKeyConstraint(["host"], ["hosts.uid"], name="pilots_host_exists"),
        sa.ForeignKeyConstraint(["owner"], ["users.uid"], name="pilots_owner_exists"),
        sa.PrimaryKeyConstraint("number", name="pilots_key"),
        sa.UniqueConstraint("stamp", name="pilots_have_unique_stamp"),
    )
    op.create_index(
        "pilots_alive",
        "pilots",
        ["shard", "ended_at"],
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("pilots_by_site", "pilots", ["site", "submitted_at"])

    op.create_table(
        "submissions",
        sa.Column("uid", Name, nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("owner", Name, nullable=False),
        sa.Column("application", Name, nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("session", Name, nullable=True),
        sa.Column("group", Name, nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("rights", sa.Integer(), nullable=False),
        sa.Column("submitted_at", sa.Double(), nullable=False),
        sa.CheckConstraint("rights BETWEEN 0 AND 511", name="submissions_have_rights"),
        sa.ForeignKeyConstraint(
            ["application"], ["applications.uid"], name="submissions_application_exists"
        ),
        sa.ForeignKeyConstraint(["group"], ["bags.uid"], name="submissions_group_exists"),
        sa.ForeignKeyConstraint(["owner"], ["users.uid"], name="submissions_owner_exists"),
        sa.ForeignKeyConstraint(["session"], ["bags.uid"], name="submissions_session_exists"),
        sa.PrimaryKeyConstraint("uid", name="submissions_key"),
    )
    op.create_table(
        "works",
        sa.Column("number", Long, autoincrement=False, nullable=False),
        sa.Column("uid", Name, nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("owner", Name, nullable=False),
        sa.Column("submission", Name, nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempts", Long, server_default=sa.text("0"), nullable=False),
        sa.Column("failures", Long, server_default=sa.text("0"), nullable=False),
        sa.Column("task", Name, nullable=True),
        sa.Column("host", Name, nullable=True),
        sa.Column("reason", sa.Text(), server_default=sa.text("('')"), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("removed_at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "(status IN ('ABORTED', 'COMPLETED', 'ERROR')) = (ended_at IS NOT NULL)",
            name="final_works_have_an_end",
        ),
        sa.CheckConstraint(
            "(status IN ('PENDING', 'RUNNING')) = (host IS NOT NULL)",
            name="works_given_to_a_host_name_it",
        ),
        sa.CheckConstraint(
            "status <> 'COMPLETED' OR task IS NOT NULL", name="completed_works_name_their_task"
        ),
        sa.CheckConstraint(
            "status IN ('ABORTED', 'COMPLETED', 'DATAREQUEST', 'ERROR', 'PENDING', "
            "'RUNNING', 'WAITING')",
            name="works_have_a_status",
        ),
        sa.CheckConstraint(
            "status NOT IN ('WAITING', 'DATAREQUEST') OR task IS NULL",
            name="waiting_works_have_no_task",
        ),
        sa.CheckConstraint("attempts >= 0 AND failures >= 0", name="works_count_their_tasks"),
        sa.CheckConstraint(
            "host IS NULL OR task IS NOT NULL", name="works_given_to_a_host_have_a_task"
        ),
        sa.CheckConstraint(
            "removed_at IS NULL OR ended_at IS NOT NULL", name="removed_works_are_final"
        ),
        sa.ForeignKeyConstraint(
            ["submission"], ["submissions.uid"], name="works_submission_exists"
        ),
        sa.PrimaryKeyConstraint("number", name="works_key"),
        sa.UniqueConstraint("uid", name="works_have_unique_uid"),
    )
    op.create_index(
        "works_alive",
        "works",
        ["shard", "ended_at", "number"],
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("works_of_an_owner", "works", ["owner", "number"])
    op.create_index("works_submission", "works", ["submission"])

    op.create_table(
        "tasks",
        sa.Column("epoch", Long, autoincrement=False, nullable=False),
        sa.Column("uid", Name, nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("work", Name, nullable=False),
        sa.Column("host", Name, nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("registered_at", sa.Double(), nullable=True),
        sa.Column("exit_code", Long, nullable=True),
        sa.Column("reason", sa.Text(), server_default=sa.text("('')"), nullable=False),
        sa.Column("wall", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("user_time", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("system_time", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("memory_kib", Long, server_default=sa.text("0"), nullable=False),
        sa.Column("outputs", sa.Text(), nullable=True),
        sa.Column("stdout", sa.LargeBinary(), nullable=True),
        sa.Column("stderr", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint(
            "(status IN ('ABORTED', 'COMPLETED', 'ERROR', 'LOST')) = (ended_at IS NOT NULL)",
            name="final_tasks_have_an_end",
        ),
        sa.CheckConstraint(
            "status IN ('ABORTED', 'COMPLETED', 'ERROR', 'LOST', 'PENDING', "
            "'RUNNING', 'SUSPENDED')",
            name="tasks_have_a_status",
        ),
        sa.CheckConstraint(
            "status NOT IN ('RUNNING', 'SUSPENDED') OR started_at IS NOT NULL",
            name="running_tasks_have_started",
        ),
        sa.CheckConstraint("epoch > 0", name="tasks_have_an_epoch"),
        sa.ForeignKeyConstraint(["host"], ["hosts.uid"], name="tasks_host_exists"),
        sa.ForeignKeyConstraint(["work"], ["works.uid"], name="tasks_work_exists"),
        sa.PrimaryKeyConstraint("epoch", name="tasks_key"),
        sa.UniqueConstraint("uid", name="tasks_have_unique_uid"),
    )
    op.create_index("tasks_work", "tasks", ["work"])


def downgrade() -> None:
    """Undo it."""
    for name in TABLES:
        op.drop_table(name)
