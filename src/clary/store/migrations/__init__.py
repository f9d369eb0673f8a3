"""How the tables became what they are: one Alembic revision for each change."""
