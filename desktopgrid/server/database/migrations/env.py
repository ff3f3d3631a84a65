"""What Alembic runs: the revisions on the connection that :mod:`..upgrading` gives it."""

from __future__ import annotations

from alembic import context

from desktopgrid.server.database.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite changes a table by making it anew.
    render_as_batch=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
