"""How the tables came to be what they are, one revision a change. Alembic runs env.py."""
