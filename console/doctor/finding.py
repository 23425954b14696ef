"""One thing that the doctor looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, whether it is well (None: a hint), what was seen, and what to do about it."""

    what: str
    ok: bool | None
    words: str
    remedy: str = ""
