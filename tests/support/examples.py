"""What `make proofs` adds: all examples of a property, and PostgreSQL where `make test` is content with SQLite."""

from __future__ import annotations

import os

import pytest

IN_FULL = os.environ.get("PROOFS") == "1"

POSTGRESQL_IN_PROOFS = pytest.mark.parametrize(
    "ledger_url",
    ["sqlite", pytest.param("postgresql", marks=[pytest.mark.proof, pytest.mark.takes(0.5)])],
    indirect=True,
)
"""For tests of what both databases do with the same statements; others run each of these on both. A `takes` of the test
itself counts more than this one."""


def examples(full: int, share: int = 5) -> int:
    """Return `full` in `make proofs`, and a fifth of it (or another share) otherwise.

    These are the first ones, since every run gets the same.
    """
    return full if IN_FULL else max(1, full // share)
