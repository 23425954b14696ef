"""What Alembic runs for each migration: on a connection that `consent.ledger.maintenance` hands over."""

from alembic import context

from consent.ledger.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()
