"""Which changes a call that is in doubt was for, so that the same may be sent again before the doubt is over."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add an empty table; customers in doubt now are left alone until their doubt is over, as before."""
    op.create_table(
        "calls_in_doubt",
        sa.Column(
            "target_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False
        ),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("change_ids", sa.Text(), nullable=False),
    )
