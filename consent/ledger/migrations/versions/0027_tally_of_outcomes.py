"""What is to be counted of settled changes is noted by the worker that settles them."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add an empty column: what is in the log already is summed up as before."""
    op.add_column("outcome_log", sa.Column("tally", sa.Text(), nullable=True))
