"""Alembic's entry: runs the revisions in the transaction that ``preparation`` opened."""

from alembic import context

from clary.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot change a column in place; batch mode copies the table.
    render_as_batch=True,
)
context.run_migrations()
