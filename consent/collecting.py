"""How often Python looks for garbage: seldom, as batches are freed without it, and nearly all else stays."""

from __future__ import annotations

import gc

_SELDOM = (50_000, 10, 5)


def collect_seldom() -> None:
    """Let the collector pass over what is there already, and look seldom. Best said before much is imported."""
    gc.freeze()
    gc.set_threshold(*_SELDOM)


def end_without_collecting() -> None:
    """Let the collector pass over everything when this process ends: it would take a quarter of a second."""
    gc.freeze()
