"""What keeps a bucket from being delivered faster, as it is told in progress, `status` and JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from consent.change import Bucket
from consent.ledger.ledger import Ledger
from consent.ledger.queries.calls import RecentCalls
from consent.ledger.queue.breakers import BucketHealth
from consent.settings import Settings
from console.ui.limits import limit_of
from worker.delivery.breaker import may_call

_FAILING = 0.1
_NEARLY = 0.85
_LATELY_SECONDS = 15.0


class Cause(StrEnum):
    """What limits a bucket."""

    RATE = "rate"
    LATENCY = "latency"
    ERRORS = "errors"
    RETRIES = "retries"
    LEDGER = "ledger"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """What limits a bucket, and the same in words."""

    cause: Cause
    message: str


@dataclass(slots=True)
class LimitsOverTime:
    """What has limited each bucket in a delivery, and for how many seconds."""

    _seconds: dict[Bucket, defaultdict[Cause, float]] = field(default_factory=dict)
    _noted_at: float = 0.0

    def note(self, limits: Mapping[Bucket, Bottleneck], elapsed: float) -> None:
        """Take in what limits each bucket, so many seconds after the delivery's start."""
        for bucket, found in limits.items():
            self._seconds.setdefault(bucket, defaultdict(float))[found.cause] += elapsed - self._noted_at
        self._noted_at = elapsed

    def as_json(self) -> dict[str, str]:
        """Return what limited each bucket for the longest time, by its name as text."""
        return {str(bucket): max(found, key=found.__getitem__).value for bucket, found in sorted(self._seconds.items())}


def bottlenecks(
    settings: Settings, ledger: Ledger, pending: Mapping[Bucket, int], health: Iterable[BucketHealth]
) -> dict[Bucket, Bottleneck]:
    """Return what limits each bucket with something left; those of which nothing can be said are missing.

    Raises LedgerUnavailable.
    """
    found, now, states = dict[Bucket, Bottleneck](), ledger.now(), {one.name: one for one in health}
    waiting = {one: left for one, left in pending.items() if left and one.connection in settings.connections}
    calls = ledger.queries.recent_calls() if waiting else {}
    paused = ledger.pauses.stopping(waiting)
    for bucket in waiting:
        if (pause := paused.get(bucket)) is not None:
            found[bucket] = Bottleneck(Cause.PAUSE, pause.message)
            continue
        state = states.get(str(bucket), BucketHealth(str(bucket)))
        if not may_call(state, now):
            found[bucket] = Bottleneck(Cause.ERRORS, "limited by the provider's errors")
        elif not ledger.queue.due(bucket, 1) and ledger.queries.next_try(bucket) is not None:
            found[bucket] = Bottleneck(Cause.RETRIES, "waiting for retries")
        elif (lately := calls.get(bucket)) and now - lately.newest < (_LATELY_SECONDS + lately.seconds) * 1e6:
            found[bucket] = _of_calls(settings, bucket, lately)
    return found


def _of_calls(settings: Settings, bucket: Bucket, lately: RecentCalls) -> Bottleneck:
    """Say what limits a bucket in which calls are being made."""
    connection = settings.connections[bucket.connection]
    rate, most = limit_of(connection, bucket.name).rate, connection.concurrency
    if lately.failed >= _FAILING:
        return Bottleneck(
            Cause.ERRORS, f"limited by the provider's errors ({lately.failed:.0%} of calls failed lately)"
        )
    if lately.per_second is None or lately.per_second >= _NEARLY * rate.per_second:
        return Bottleneck(Cause.RATE, f"limited by the rate ({rate})")
    if lately.per_second * lately.seconds >= _NEARLY * most:
        message = f"limited by the provider's latency ({lately.seconds:.2f} s a call, CONCURRENCY is {most})"
        return Bottleneck(Cause.LATENCY, message)
    return Bottleneck(
        Cause.LEDGER, "limited by the workers and the ledger, or by how many calls the provider bears at once"
    )
