"""How often Python looks for garbage while much is taken in."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_SELDOM = (50_000, 20, 50)


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Let the collector pass over what is there already, and look seldom: batches are freed without it."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*_SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
