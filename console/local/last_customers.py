"""The last few customers of a bucket: for how long a run waits where nothing is left but another try of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from consent.change import Bucket
from consent.ledger.ledger import Ledger
from console.ui.text import duration_text

FEW, FEW_OF = 10, 100
"""So many customers are few, or one in so many of the run's."""

FEW_SECONDS = 120.0
"""For how long a run waits for nothing but another try of a few."""

LONGEST_SECONDS = 360.0
"""For how long it waits for ten or less, whatever becomes of them."""


@dataclass(slots=True)
class LastCustomers:
    """Since when only a few customers of each bucket are left, all of them tried; moments are of the monotonic clock.

    The two minutes count from the latest progress or the end of the latest doubt, whichever came last: while a call of
    a customer may still be under way, that customer cannot be tried. A call that timed out leaves a doubt of
    three timeouts, so two of them in a row would leave good rows over.
    """

    ledger: Ledger
    most: int = 0
    since: dict[Bucket, float] = field(default_factory=dict)
    in_doubt_at: dict[Bucket, float] = field(default_factory=dict)

    def waiting(self, bucket: Bucket, pending: int, progress_at: float) -> str | None:
        """Say that a run has waited long enough, and when the next try is; None if it goes on.

        `pending` counts the bucket's customers; the latest one ended at `progress_at`. Raises LedgerUnavailable.
        """
        now, queries = time.monotonic(), self.ledger.queries
        moment = queries.next_try(bucket) if pending <= max(FEW, self.most // FEW_OF) else None
        if moment is None:
            self.forget(bucket)
            return None
        if in_doubt := queries.in_doubt(bucket):
            self.in_doubt_at[bucket] = now
        since = self.since.setdefault(bucket, now)
        latest = max(since, progress_at, self.in_doubt_at.get(bucket, 0.0))
        if now - latest < FEW_SECONDS and (pending > FEW or now - since < LONGEST_SECONDS):
            return None
        why = f" ({in_doubt} of them because a call may still be under way)" if in_doubt else ""
        answer = self.ledger.breakers.latest_answer(bucket) or "none"
        seconds = duration_text(max(0.0, (moment - self.ledger.now()) / 1_000_000))
        return f"wait for another try{why}, the next in {seconds} (the latest answer was {answer}): run again then"

    def forget(self, bucket: Bucket) -> None:
        """Begin anew: more than a few are left, or the provider is down, for which --patience says how long."""
        self.since.pop(bucket, None)
        self.in_doubt_at.pop(bucket, None)
