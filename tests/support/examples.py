"""How many examples a property gets: all of them in `make proofs`, a part in `make test`, which runs far more often."""

from __future__ import annotations

import os

IN_FULL = os.environ.get("PROOFS") == "1"


def examples(full: int, share: int = 5) -> int:
    """Return `full` in `make proofs`, and a fifth of it (or another share) otherwise.

    These are the first ones, since every run gets the same.
    """
    return full if IN_FULL else max(1, full // share)
