"""The limit of a bucket, what people call the bucket, and how long the rest of it takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from consent.change import Bucket
from consent.connection import ConnectionSettings, Rate
from consent.settings import Settings
from console.ui.text import duration_text
from worker.providers import provider_of
from worker.providers.contract import RateLimit as Limit

_WINDOW_SECONDS = 60.0
_SAMPLE_SECONDS = 0.5
_ENOUGH_SECONDS = 3.0
_STILL_SECONDS = 10.0
_AS_GOOD_AS = 0.75


def limit_of(connection: ConnectionSettings, bucket: str = "") -> Limit:
    """Return the limit of one of a connection's buckets: the configured one, or its provider's."""
    return provider_of(connection).rate_limit(bucket, connection)


def time_needed(calls: int, rate: Rate) -> str:
    """Say how long so many calls take at a limit, like "at 100/minute: about 2 h 10 min"."""
    return f"at {rate}: about {duration_text(max(1.0, calls * rate.interval))}"


@dataclass(slots=True)
class Throughput:
    """What is left in each bucket, sampled over the last minute; `elapsed` is in seconds since the start."""

    samples: deque[tuple[float, Mapping[str, int]]] = field(default_factory=deque)
    moving: bool = False

    def note(self, elapsed: float, left: Mapping[str, int]) -> None:
        """Remember what was left at this moment; the time before the first change says nothing of the pace."""
        if not self.moving and self.samples and left != self.samples[0][1]:
            self.moving = True
            self.samples.clear()
        if self.samples and elapsed - self.samples[-1][0] < _SAMPLE_SECONDS:
            return
        self.samples.append((elapsed, dict(left)))
        while elapsed - self.samples[0][0] > _WINDOW_SECONDS:
            self.samples.popleft()

    def per_second(self, name: str) -> float | None:
        """Return how many customers a second were finished lately, or None if it is too early to tell."""
        span = self._span()
        if span < _ENOUGH_SECONDS:
            return None
        done = self.samples[0][1].get(name, 0) - self.samples[-1][1].get(name, 0)
        if done > 0:
            return done / span
        return 0.0 if span >= _STILL_SECONDS else None

    def time_left(self, name: str, left: int, rate: Rate, per_call: int = 1) -> str:
        """Say how long the rest of a bucket will take, and at what pace; one call carries `per_call` customers."""
        lately = self.per_second(name)
        if lately is None or lately >= _AS_GOOD_AS * rate.per_second * per_call:
            return time_needed(-(-left // per_call), rate)
        if not lately:
            return f"nothing was finished in the last {duration_text(self._span())}"
        limit = f"the limit is {rate}" + (f" for {per_call:,} each" if per_call > 1 else "")
        return f"at {_per(lately)} lately, {limit}: about {duration_text(max(1.0, left / lately))}"

    def _span(self) -> float:
        return self.samples[-1][0] - self.samples[0][0] if self.samples else 0.0


def _per(per_second: float) -> str:
    return f"{per_second:.0f}/second" if per_second >= 10 else f"{per_second * 60:.0f}/minute"  # noqa: PLR2004


def bucket_label(settings: Settings, bucket: Bucket) -> str:
    """Return a bucket's name for people, like "capillary", "gupshup (app 42)" or "infobip (blocklist)"."""
    connection = settings.connections.get(bucket.connection)
    part = bucket.name if connection is None else limit_of(connection, bucket.name).name
    return f"{bucket.connection} ({part})" if part else bucket.connection
