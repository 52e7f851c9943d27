"""What Alembic runs: the migrations that are missing, over the connection and in the transaction handed to it."""

from alembic import context

from klepaas.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
