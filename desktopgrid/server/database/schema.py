"""The tables of the grid's database, and the nonsense that it refuses.

Column names are the fields of changes.py, so that a change is a row. Times are seconds since the
epoch, statuses their words, structures JSON. ``number`` orders the rows of a table as they came and
is what lists are paged by. Constraints never compare two times: a clock that was set back must not
keep a result from being recorded.

Foreign keys stand on every table but ``replies``, whose session is the connection's and no object,
and but for ``works.task``, ``works.host``, ``hosts.pilot``, ``tasks.account`` and
``pilots.account``: the first would close a circle, the second says no more than ``tasks.host``
does, a pilot may be newer than the row of its host, and of accounts ``usages`` are proof.
Columns that came later to large tables have none either: SQLite would have to copy the table.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
    text,
)
from sqlalchemy.dialects import mysql

from desktopgrid.model.lifecycle import (
    FINAL_PILOTS,
    FINAL_TASKS,
    FINAL_WORKS,
    USABLE_DELEGATIONS,
    DelegationStatus,
    PilotStatus,
    TaskStatus,
    WorkStatus,
)
from desktopgrid.model.rights import UserLevel

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_have_unique_%(column_0_N_name)s",
        "ck": "%(constraint_name)s",
        "fk": "%(table_name)s_%(column_0_N_name)s_exists",
        "pk": "%(table_name)s_key",
    }
)

Long = BigInteger().with_variant(Integer, "sqlite")
"""64 bits everywhere; SQLite keeps a table in the order of a key of this type."""

LongText = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
LongBinary = LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")
"""What a peer may say at length. MariaDB's plain ones end at 64 KiB; no frame is longer than these.
"""

SUBJECT_LENGTH = 500
"""Characters in a name in a certificate; MariaDB's indexes take no more than 768."""
NAME_LENGTH = 255
"""Characters that a name may have; all databases can keep that many in an index."""


def words(statuses: Iterable[Enum]) -> str:
    """``statuses`` as a list in SQL, in one order."""
    return ", ".join(sorted(f"'{status.value}'" for status in statuses))


def _uid(name: str, *constraints: Any, nullable: bool = False, **options: Any) -> Column[str]:
    return Column(name, String(NAME_LENGTH), *constraints, nullable=nullable, **options)


def _text(name: str) -> Column[str]:
    # MariaDB wants brackets around the default of a text.
    return Column(name, Text, nullable=False, server_default=text("('')"))


def _word(name: str, length: int = 32) -> Column[str]:
    # SQLite adds no column to a table that is there if brackets are around its default.
    return Column(name, String(length), nullable=False, server_default=text("''"))


def _number() -> Column[int]:
    return Column("number", Long, Identity(), primary_key=True)


def _time(name: str, *, nullable: bool = False) -> Column[float]:
    return Column(name, Double, nullable=nullable)


def _count(name: str) -> Column[int]:
    return Column(name, Long, nullable=False, server_default=text("0"))


def _shard() -> Column[int]:
    return Column("shard", Integer, nullable=False)


def _rights() -> Column[int]:
    return Column("rights", Integer, nullable=False)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _needs_index(*_asked: Any, dialect: Dialect, **_more: Any) -> bool:
    """Whether a foreign key has to be given one; MariaDB does so by itself."""
    return dialect.name not in ("mysql", "mariadb")


def _check(condition: str, name: str) -> CheckConstraint:
    return CheckConstraint(condition, name=name)


shards = Table(
    "shards",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    # Task epochs are made from it, so no two shards may have the same.
    Column("epoch", Long, nullable=False, unique=True),
    Column("holder", Text, nullable=False),
    _count("commits"),
    _check("epoch > 0", "shards_have_an_epoch"),
)

usergroups = Table(
    "usergroups",
    metadata,
    _number(),
    _uid("uid", unique=True),
    Column("name", String(NAME_LENGTH), nullable=False, unique=True),
    Column("is_deleted", Boolean, nullable=False, server_default=false()),
    _check("name <> ''", "usergroups_have_a_name"),
)

users = Table(
    "users",
    metadata,
    _number(),
    _uid("uid", unique=True),
    Column("login", String(NAME_LENGTH), nullable=False, unique=True),
    Column("level", Integer, nullable=False),
    _uid("group", ForeignKey("usergroups.uid"), nullable=True),
    Column("email", Text, nullable=False),
    _flag("is_revoked"),
    Column("quota_mib", Long, nullable=True),
    Column("is_deleted", Boolean, nullable=False, server_default=false()),
    _check("login <> ''", "users_have_a_login"),
    _check(f"level IN ({', '.join(str(int(level)) for level in UserLevel)})", "users_have_a_level"),
)

subjects = Table(
    "subjects",
    metadata,
    Column("subject", String(SUBJECT_LENGTH), primary_key=True),
    _uid("user", ForeignKey("users.uid"), index=True, nullable=True),
    _check("subject <> ''", "subjects_have_a_name"),
)

credentials = Table(
    "credentials",
    metadata,
    _number(),
    _uid("uid", unique=True),
    _uid("user", ForeignKey("users.uid"), index=True),
    Column("kind", String(16), nullable=False),
    Column("verifier", Text, nullable=False),
    _time("created_at"),
    _time("expires_at", nullable=True),
    _flag("is_revoked"),
    _word("label", NAME_LENGTH),
    _word("scope", 64),
    _word("source", NAME_LENGTH),
    _time("last_used_at", nullable=True),
    _word("subject", SUBJECT_LENGTH),
    Column("serials", Text, nullable=True),
    _check("kind IN ('password', 'token')", "credentials_are_passwords_or_tokens"),
    _check("verifier <> ''", "credentials_have_a_verifier"),
)

bridges = Table(
    "bridges",
    metadata,
    _uid("user", ForeignKey("users.uid"), primary_key=True),
    Column("signing_key", String(64), nullable=False),
    Column("sealing_key", String(64), nullable=False),
    _time("saved_at"),
    _check("signing_key <> '' AND sealing_key <> ''", "bridges_have_keys"),
)

offers = Table(
    "offers",
    metadata,
    _number(),
    _uid("uid", unique=True),
    _uid("bridge", ForeignKey("bridges.user"), index=True),
    Column("request", Text, nullable=False),
    Column("signature", String(128), nullable=False),
    _time("created_at"),
    _uid("taken_by", ForeignKey("users.uid"), index=True, nullable=True),
    _time("taken_at", nullable=True),
    _check("(taken_by IS NULL) = (taken_at IS NULL)", "taken_offers_have_a_time"),
)

delegations = Table(
    "delegations",
    metadata,
    _number(),
    _uid("uid", unique=True),
    _uid("owner", ForeignKey("users.uid"), index=True),
    _uid("bridge", ForeignKey("bridges.user"), index=True),
    Column("kind", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    _time("created_at"),
    _time("expires_at"),
    _count("generation"),
    Column("content", LongText, nullable=False),
    _uid("offer"),
    Column("subject", String(SUBJECT_LENGTH), nullable=False),
    Column("made_from", String(64), nullable=False),
    Column("serials", Text, nullable=False),
    Column("vo", String(NAME_LENGTH), nullable=False),
    Column("attributes", Text, nullable=False),
    _time("attributes_end_at", nullable=True),
    Column("label", String(NAME_LENGTH), nullable=False),
    Column("reason", Text, nullable=False),
    _check("kind IN ('proxy', 'token')", "delegations_are_proxies_or_tokens"),
    _check(f"status IN ({words(DelegationStatus)})", "delegations_have_a_status"),
    _check(
        f"(status IN ({words(USABLE_DELEGATIONS)})) = (content <> '')",
        "delegations_that_are_over_are_empty",
    ),
    _check("generation > 0", "delegations_have_a_generation"),
)

datas = Table(
    "datas",
    metadata,
    _number(),
    _uid("uid", unique=True),
    Column("name", Text, nullable=False),
    _uid("owner", ForeignKey("users.uid"), index=True),
    _rights(),
    Column("sha256", String(64), nullable=False),
    Column("size", Long, nullable=False),
    Column("type", Text, nullable=False),
    Column("uri", Text, nullable=False),
    _flag("is_available"),
    _flag("is_deleted"),
    _word("cpu"),
    _word("os"),
    _check("rights BETWEEN 0 AND 511", "datas_have_rights"),
    _check("length(sha256) = 64", "datas_have_a_digest"),
    _check("size >= 0", "datas_have_a_size"),
)

applications = Table(
    "applications",
    metadata,
    _number(),
    _uid("uid", unique=True),
    Column("name", String(NAME_LENGTH), nullable=False, index=True),
    _uid("owner", ForeignKey("users.uid")),
    _rights(),
    _flag("is_deleted"),
    _uid("validated_by", nullable=True),
    _time("validated_at", nullable=True),
    _check("name <> ''", "applications_have_a_name"),
    _check("rights BETWEEN 0 AND 511", "applications_have_rights"),
)

executables = Table(
    "executables",
    metadata,
    _uid("application", ForeignKey("applications.uid"), primary_key=True),
    Column("cpu", String(32), primary_key=True),
    Column("os", String(32), primary_key=True),
    _uid("data", ForeignKey("datas.uid")),
    _check("cpu <> '' AND os <> ''", "executables_have_a_platform"),
)

bags = Table(
    "bags",
    metadata,
    _number(),
    _uid("uid", unique=True),
    Column("kind", String(16), nullable=False),
    Column("name", Text, nullable=False),
    _uid("owner", ForeignKey("users.uid"), index=True),
    _rights(),
    _flag("is_deleted"),
    _check("kind IN ('session', 'group')", "bags_are_sessions_or_groups"),
    _check("rights BETWEEN 0 AND 511", "bags_have_rights"),
)

hosts = Table(
    "hosts",
    metadata,
    _number(),
    _uid("uid", unique=True),
    _shard(),
    _uid("owner", ForeignKey("users.uid")),
    Column("name", Text, nullable=False),
    Column("facts", LongText, nullable=False),
    _time("first_seen_at"),
    _time("last_seen_at"),
    _time("ends_at", nullable=True),
    _uid("pilot", nullable=True),
)

pilots = Table(
    "pilots",
    metadata,
    _number(),
    _uid("stamp", unique=True),
    _shard(),
    Column("site", String(NAME_LENGTH), nullable=False),
    _uid("owner", ForeignKey("users.uid")),
    Column("status", String(16), nullable=False),
    Column("verifier", Text, nullable=False),
    _time("submitted_at"),
    _time("deadline_at"),
    Column("wall_time", Long, nullable=False),
    _text("reference"),
    _text("session_verifier"),
    _uid("host", ForeignKey("hosts.uid"), nullable=True),
    _text("reason"),
    _count("tasks_done"),
    _time("ended_at", nullable=True),
    # When its worker was first heard of, how many cores it had, and for how many seconds of them
    # all together there were tasks.
    _time("started_at", nullable=True),
    _count("cores"),
    Column("busy", Double, nullable=False, server_default=text("0")),
    Column("account", Long, nullable=True),
    _uid("delegation", nullable=True),
    _check(f"status IN ({words(PilotStatus)})", "pilots_have_a_status"),
    _check(
        f"(status IN ({words(FINAL_PILOTS)})) = (ended_at IS NOT NULL)",
        "final_pilots_have_an_end",
    ),
    _check("wall_time > 0", "pilots_have_a_wall_time"),
    _check("tasks_done >= 0", "pilots_count_their_tasks"),
    Index("pilots_by_site", "site", "submitted_at"),
    Index("pilots_by_end", "ended_at"),
)
Index(
    "pilots_alive",
    pilots.c.shard,
    pilots.c.ended_at,
    sqlite_where=pilots.c.ended_at.is_(None),
    postgresql_where=pilots.c.ended_at.is_(None),
)

submissions = Table(
    "submissions",
    metadata,
    _uid("uid", primary_key=True),
    _shard(),
    _uid("owner", ForeignKey("users.uid")),
    _uid("application", ForeignKey("applications.uid")),
    Column("label", Text, nullable=False),
    _uid("session", ForeignKey("bags.uid"), nullable=True),
    _uid("group", ForeignKey("bags.uid"), nullable=True),
    Column("description", LongText, nullable=False),
    _rights(),
    _time("submitted_at"),
    # Where it comes from, if it was a job elsewhere (model/origins.py).
    Column("origin", String(NAME_LENGTH), nullable=True),
    _uid("delegation", nullable=True),
    _word("vo", NAME_LENGTH),
    _check("rights BETWEEN 0 AND 511", "submissions_have_rights"),
    Index("submissions_have_unique_origins", "origin", "owner", unique=True),
    Index("submissions_label", "label", mysql_length=NAME_LENGTH, mariadb_length=NAME_LENGTH),
)
for _column in (submissions.c.application, submissions.c.session, submissions.c.group):
    Index(f"submissions_{_column.name}", _column).ddl_if(callable_=_needs_index)

works = Table(
    "works",
    metadata,
    Column("number", Long, primary_key=True, autoincrement=False),
    _uid("uid", unique=True),
    _shard(),
    # Its submission's, repeated here so that a user's works are found by number.
    _uid("owner"),
    _uid("submission", ForeignKey("submissions.uid"), index=True),
    Column("arguments", LongText, nullable=False),
    Column("status", String(16), nullable=False),
    _count("attempts"),
    _count("failures"),
    _uid("task", nullable=True),
    _uid("host", nullable=True),
    _text("reason"),
    _time("ended_at", nullable=True),
    _time("removed_at", nullable=True),
    _check(f"status IN ({words(WorkStatus)})", "works_have_a_status"),
    _check(
        "(status IN ('PENDING', 'RUNNING')) = (host IS NOT NULL)",
        "works_given_to_a_host_name_it",
    ),
    _check("host IS NULL OR task IS NOT NULL", "works_given_to_a_host_have_a_task"),
    _check(
        "status NOT IN ('WAITING', 'DATAREQUEST') OR task IS NULL",
        "waiting_works_have_no_task",
    ),
    _check("status <> 'COMPLETED' OR task IS NOT NULL", "completed_works_name_their_task"),
    _check(
        f"(status IN ({words(FINAL_WORKS)})) = (ended_at IS NOT NULL)",
        "final_works_have_an_end",
    ),
    _check("removed_at IS NULL OR ended_at IS NOT NULL", "removed_works_are_final"),
    _check("attempts >= 0 AND failures >= 0", "works_count_their_tasks"),
    Index("works_of_an_owner", "owner", "number"),
)
# Most works are over. This one has the others, which a server reads at start; MariaDB, which has
# no partial indexes, finds them by ended_at.
Index(
    "works_alive",
    works.c.shard,
    works.c.ended_at,
    works.c.number,
    sqlite_where=works.c.ended_at.is_(None),
    postgresql_where=works.c.ended_at.is_(None),
)

tasks = Table(
    "tasks",
    metadata,
    # No two tasks of any time have the same.
    Column("epoch", Long, primary_key=True, autoincrement=False),
    _uid("uid", unique=True),
    _shard(),
    _uid("work", ForeignKey("works.uid"), index=True),
    _uid("host", ForeignKey("hosts.uid")),
    Column("status", String(16), nullable=False),
    _time("created_at"),
    _time("started_at", nullable=True),
    _time("ended_at", nullable=True),
    _time("registered_at", nullable=True),
    Column("exit_code", Long, nullable=True),
    _text("reason"),
    Column("wall", Double, nullable=False, server_default=text("0")),
    Column("user_time", Double, nullable=False, server_default=text("0")),
    Column("system_time", Double, nullable=False, server_default=text("0")),
    _count("memory_kib"),
    Column("outputs", LongText, nullable=True),
    Column("stdout", LongBinary, nullable=True),
    Column("stderr", LongBinary, nullable=True),
    # Whoever did not use a core has none of these.
    Column("account", Long, nullable=True),
    Column("cause", String(16), nullable=True),
    Column("is_doubtful", Boolean, nullable=False, server_default=false()),
    _check(f"status IN ({words(TaskStatus)})", "tasks_have_a_status"),
    _check(
        f"(status IN ({words(FINAL_TASKS)})) = (ended_at IS NOT NULL)",
        "final_tasks_have_an_end",
    ),
    _check(
        "status NOT IN ('RUNNING', 'SUSPENDED') OR started_at IS NOT NULL",
        "running_tasks_have_started",
    ),
    _check("epoch > 0", "tasks_have_an_epoch"),
)

accounts = Table(
    "accounts",
    metadata,
    # Made by the shard that needs it; what a combination of the others is called in short.
    Column("number", Long, primary_key=True, autoincrement=False),
    _shard(),
    _uid("user", ForeignKey("users.uid")),
    _uid("group", ForeignKey("usergroups.uid"), nullable=True),
    _word("vo", NAME_LENGTH),
    _word("site", NAME_LENGTH),
    _word("route", NAME_LENGTH),
    _uid("application", ForeignKey("applications.uid"), nullable=True),
    _word("kind"),
    Column("cores", Integer, nullable=False),
    _check("cores > 0", "accounts_have_cores"),
)

usages = Table(
    "usages",
    metadata,
    # Written as 20261125.
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("account", Long, ForeignKey("accounts.number"), primary_key=True),
    Column("cause", String(16), primary_key=True),
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    _count("tasks"),
    Column("core_time", Double, nullable=False, server_default=text("0")),
    Column("cpu_time", Double, nullable=False, server_default=text("0")),
    _count("doubtful"),
    _check("tasks >= 0 AND doubtful >= 0", "usages_count_their_tasks"),
    _check("core_time >= 0 AND cpu_time >= 0", "usages_are_not_negative"),
    # A day's usages lie together.
    sqlite_with_rowid=False,
)

replies = Table(
    "replies",
    metadata,
    Column("session", String(NAME_LENGTH), primary_key=True),
    Column("sequence", Long, primary_key=True, autoincrement=False),
    _shard(),
    _uid("user"),
    Column("body", LongText, nullable=False),
    _time("recorded_at"),
    _check("sequence > 0", "replies_answer_a_request"),
    # A session's replies lie together.
    sqlite_with_rowid=False,
)
