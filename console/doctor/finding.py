"""One thing that the doctor looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_CLOCK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, whether it is well (None: a hint), what was seen, and what to do about it."""

    what: str
    ok: bool | None
    message: str
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as programs read it."""
        return {"what": self.what, "ok": self.ok, "words": self.message, "remedy": self.remedy}


def clock_finding(what: str, ahead: float) -> Finding:
    """Say by how many seconds another clock is ahead of ours, and whether that is too much."""
    message = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    remedy = "" if abs(ahead) < _CLOCK_SECONDS else "set the clocks by NTP: the newest change wins, so clocks matter"
    return Finding(what, ok=not remedy, message=message, remedy=remedy)
