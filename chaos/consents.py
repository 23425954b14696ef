"""The files of a run, and what the provider must hold in the end: counted independently of the product."""

from __future__ import annotations

import csv
import json
import os
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

COLUMNS = ("user_id", "channel", "priority", "action", "effective_at", "reason")
Slot = tuple[str, str, str]
UNKNOWN_SHARE = 0.002
EVENT_SHARE = 5
"""One change of so many comes as an event."""


@dataclass
class Consents:
    """What people said: some files, written one after the other, with clocks that are wrong by up to minutes."""

    folder: Path
    changes: int
    files: int
    seed: int
    written: int = 0
    events: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    newest: dict[Slot, tuple[datetime, bool]] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._odds = random.Random(self.seed)
        self._start = datetime.now(UTC).replace(microsecond=0)
        self._customers = max(20, self.changes // 20)

    def next_file(self) -> Path:
        """Write the next file as a producer would; it was finished a minute ago."""
        self.written += 1
        path = self.folder / f"consents-{self.written:03}.csv"
        count = self.changes // self.files - self.changes // self.files // EVENT_SHARE
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(self._row(f"file {self.written}") for _ in range(count))
        os.utime(path, (time.time() - 60,) * 2)
        self.rows[path.name] = count
        return path

    def next_events(self) -> list[bytes]:
        """Return the events that are sent while that file is imported."""
        names = range(self.events, self.events + self.changes // self.files // EVENT_SHARE)
        self.events = names.stop
        rows = [dict(zip(COLUMNS, self._row(f"event {number}"), strict=True)) for number in names]
        return [json.dumps(one).encode() for one in rows]

    def _row(self, reason: str) -> tuple[str, ...]:
        """One word; its clock is off by minutes, so that words arrive in any order and some at the same moment."""
        odds = self._odds
        stranger = odds.random() < UNKNOWN_SHARE
        user = f"404{odds.randrange(1000):06}" if stranger else str(500_000_000 + odds.randrange(self._customers))
        slot = (user, odds.choice(("EMAIL", "MOBILE")), odds.choice(("BULK", "TRANS")))
        moment = self._start + timedelta(minutes=self.written - self.files, seconds=10 * odds.randrange(-30, 31))
        moment = min(moment, self._start)
        out = odds.random() < 0.5
        if stranger:
            self.unknown.add(user)
        else:
            self.newest[slot] = max(self.newest.get(slot, (moment, out)), (moment, out))
        return (*slot, "OPTOUT" if out else "OPTIN", moment.isoformat(), reason)

    def must_be_held(self) -> dict[Slot, str]:
        """Return what every slot must hold: the latest change, on a tie the opt-out."""
        return {slot: "OPTOUT" if out else "OPTIN" for slot, (_, out) in self.newest.items()}
