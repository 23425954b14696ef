"""The ledger knows the forms of its addresses, and who checked an audience against it."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_KEPT = ("identifier_name", "source", "source_account_id")
_AT_ONCE = 10_000


def upgrade() -> None:
    """Add both tables; all targets are read once for the forms of their addresses."""
    op.create_table(
        "suppression_checks",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("who", "source", "sha256", "channel", "priority")),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("connections", "unknown")),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("clean", "stopped")),
    )
    forms = op.create_table(
        "address_forms",
        sa.Column("connection", sa.Text(), primary_key=True),
        sa.Column("form", sa.Text(), primary_key=True),
    )
    found: set[tuple[str, str]] = set()
    query = sa.text("SELECT connection, address FROM targets").execution_options(yield_per=_AT_ONCE)
    for connection, address in op.get_bind().execute(query):
        found.add((connection, _form(json.loads(address))))
    if found:
        op.bulk_insert(forms, [{"connection": connection, "form": form} for connection, form in sorted(found)])


def _form(address: dict[str, str]) -> str:
    form = {name: value if name in _KEPT else "" for name, value in address.items()}
    if (to := address.get("destination")) is not None:
        form["destination"] = "@" if "@" in to else "." if "." in to else "+"
    return json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
