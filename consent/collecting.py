"""How often Python looks for garbage while much is taken in or delivered."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_SELDOM = (50_000, 10, 5)


def collect_seldom() -> None:
    """Let the collector pass over what is there already, and look seldom: batches are freed without it."""
    gc.freeze()
    gc.set_threshold(*_SELDOM)


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Collect seldom for as long as this lasts."""
    before = gc.get_threshold()
    collect_seldom()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
