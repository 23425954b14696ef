"""How often Python looks for garbage: seldom, as batches are freed without it, and nearly all else stays."""

from __future__ import annotations

import gc

_WHILE_LOADING = 300_000  # objects; a command's modules are 200,000, of which nearly none is garbage
_SELDOM = (50_000, 10, 5)


def collect_once_loaded() -> None:
    """Let the collector look at nothing while modules load, and seldom afterwards."""
    gc.set_threshold(_WHILE_LOADING)
    if _pass_over not in gc.callbacks:
        gc.callbacks.append(_pass_over)


def collect_seldom() -> None:
    """Let the collector pass over what is there already, and look seldom."""
    gc.freeze()
    gc.set_threshold(*_SELDOM)


def end_without_collecting() -> None:
    """Let the collector pass over everything when this process ends: it would take a quarter of a second."""
    gc.freeze()


def _pass_over(phase: str, _facts: object) -> None:
    """Once the collector has looked for the first time, what there is is modules."""
    if phase == "stop":
        gc.callbacks.remove(_pass_over)
        collect_seldom()
