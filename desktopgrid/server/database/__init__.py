"""Schema, records and migrations: the only SQL of the project."""
