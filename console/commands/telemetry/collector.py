"""The collector: what Prometheus is told, read from the ledger when it asks.

No process counts anything in its memory: workers are forked, restarted and spread over machines, so the counters of any
one of them would be wrong. Names, types and labels are in docs/metrics.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from threading import Lock

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from consent.change import Bucket, Lane
from consent.errors import ConfigurationError, LedgerError
from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import Breaker
from consent.ledger.telemetry.counters import MOST_BUCKETS, OTHER
from consent.ledger.telemetry.tallies import HONOUR_SECONDS, SECONDS
from consent.settings import Settings
from console.ui.limits import limit_of
from worker.notices import forecasts

CACHED_SECONDS = 15.0
"""For how long an answer is kept: however many ask, the ledger is read so often."""

_COUNTING_SECONDS = 1.0
_BUCKET = ("connection", "bucket")
Extra = Callable[[], Iterable[Metric]]


@dataclass(slots=True, eq=False)
class LedgerCollector(Collector):
    """Reads the ledger and makes metrics of it; an answer is kept for CACHED_SECONDS.

    `extra` gives further metrics, and may raise LedgerError. What cannot be read is left out, and counted.
    """

    settings: Settings
    ledger: Ledger
    extra: Extra = tuple
    _lock: Lock = field(default_factory=Lock)
    _kept: list[Metric] = field(default_factory=list)
    _at: float = float("-inf")

    def describe(self) -> Iterator[Metric]:
        """Say nothing: registering must not read the ledger."""
        yield from ()

    def collect(self) -> list[Metric]:
        """Return the metrics of now, or of a moment ago."""
        with self._lock:
            if time.monotonic() - self._at > CACHED_SECONDS:
                self._kept = list(self._look())
                self._at = time.monotonic()
            return self._kept

    def _look(self) -> Iterator[Metric]:
        with suppress(LedgerError):  # a standby takes no writes: then the sweep adds up, at the primary
            self.ledger.counters.add_up(_COUNTING_SECONDS)
        failures = 0
        parts = (self._counted, self._waiting, self._oldest, self._deadlines, self._buckets, self._standing, self.extra)
        for part in parts:
            try:
                yield from list(part())
            except LedgerError:
                failures += 1
        up = 0 if failures == len(parts) or not self._answers() else 1
        yield GaugeMetricFamily("optrelay_ledger_up", "Whether the ledger answers.", up)
        yield GaugeMetricFamily("optrelay_ledger_unread", "Parts of this answer that could not be read.", failures)

    def _answers(self) -> bool:
        try:
            self.ledger.maintenance.check_revision()
        except LedgerError:
            return False
        return True

    def _counted(self) -> Iterator[Metric]:
        """Tell the counters, which stand in the ledger."""
        tallies, rows = self.ledger.counters.tallies(), self.ledger.queries.rows_read()
        help_text = "Rows and events read, by what was made of them."
        read = CounterMetricFamily("optrelay_rows", help_text, labels=["result"])
        for result, count in rows.items():
            read.add_metric([result], count)
        yield read
        for name, labels, help_text in (
            ("changes", ("connection", "outcome"), "Changes that came into an outcome; one may do so more than once."),
            ("calls", (*_BUCKET, "class"), "Calls that were made, by class of the answer."),
        ):
            family = CounterMetricFamily(f"optrelay_{name}", help_text, labels=labels)
            for values, count in sorted(tallies.get(name, {}).items()):
                family.add_metric(values, count)
            yield family
        calls = tallies.get("call_seconds", {}), tallies.get("call_milliseconds", {})
        yield _durations("optrelay_call_seconds", "How long calls took.", _BUCKET, SECONDS, *calls)
        help_text = "How long it took from an opt-out to its delivery, by the rule of its deadline."
        honoured = tallies.get("honour_seconds", {}), tallies.get("honour_milliseconds", {})
        yield _durations("optrelay_honour_seconds", help_text, ("connection", "rule"), HONOUR_SECONDS, *honoured)

    def _waiting(self) -> Iterator[Metric]:
        """Tell how many wait."""
        found = self.ledger.queries.waiting()
        shown = bounded({bucket for bucket, _ in found})
        customers: dict[tuple[str, ...], float] = {}
        for (bucket, lane), count in found.items():
            key = (*shown[bucket], lane.name.lower())
            customers[key] = customers.get(key, 0) + count
        yield gauge("optrelay_pending_customers", "Customers with pending changes.", (*_BUCKET, "lane"), customers)

    def _oldest(self) -> Iterator[Metric]:
        """Tell for how long the one that waits longest has waited."""
        now, found = self.ledger.now(), self.ledger.queries.waiting_since()
        shown = bounded({bucket for bucket, _ in found})
        oldest: dict[tuple[str, ...], float] = {}
        for (bucket, lane), since in found.items():
            action = "optout" if lane in {Lane.EVENT_OPTOUT, Lane.BULK_OPTOUT} else "optin"
            key = (*shown[bucket], action)
            oldest[key] = max(oldest.get(key, 0.0), (now - since) / 1e6)
        help_text = "For how long the customer that waits longest has waited."
        yield gauge("optrelay_oldest_pending_seconds", help_text, (*_BUCKET, "action"), oldest)

    def _deadlines(self) -> Iterator[Metric]:
        """Tell how many customers are to be opted out by a rule, and how many will be or are late."""
        sums: dict[str, dict[tuple[str, ...], float]] = {"open": {}, "at_risk": {}, "breached": {}}
        for bucket, found in forecasts(self.settings, self.ledger).items():
            for rule in found.rules.values():
                for name, values in sums.items():
                    key = (bucket.connection, rule.rule)
                    values[key] = values.get(key, 0.0) + getattr(rule, name)
        for name, help_text in (
            ("open", "Customers to be opted out, by the rule of their deadline."),
            ("at_risk", "Those that will be late at the rate of their limit."),
            ("breached", "Those that are past their deadline."),
        ):
            yield gauge(f"optrelay_deadline_{name}", help_text, ("connection", "rule"), sums[name])

    def _buckets(self) -> Iterator[Metric]:
        """Tell how each bucket is, and what its limit is."""
        now, health = self.ledger.now(), {one.name: one for one in self.ledger.breakers.all_health()}
        called = {Bucket(*labels) for labels in self.ledger.counters.tallies().get("call_milliseconds", ())}
        waiting = {bucket for bucket, _ in self.ledger.queries.waiting()}
        known = waiting | called | set(map(Bucket, self.settings.connections))
        shown = {bucket: key for bucket, key in bounded(known).items() if key[1] != OTHER}
        states: dict[tuple[str, ...], int] = {}
        throttled: dict[tuple[str, ...], int] = {}
        limits: dict[tuple[str, ...], float] = {}
        for bucket, key in shown.items():
            state = health.get(str(bucket))
            breaker = Breaker.CLOSED if state is None else state.breaker
            states |= {(*key, one.value): int(one is breaker) for one in Breaker}
            throttled[key] = int(state is not None and state.throttled_until > now)
            with suppress(ConfigurationError):
                limits[key] = limit_of(self.settings.connection(bucket.connection), bucket.name).rate.per_second
        yield gauge("optrelay_breaker", "Whether a breaker is in this state.", (*_BUCKET, "state"), states)
        yield gauge("optrelay_throttled", "Whether the provider asked to wait.", _BUCKET, throttled)
        yield gauge("optrelay_rate_limit", "Calls a second that the limit allows.", _BUCKET, limits)

    def _standing(self) -> Iterator[Metric]:
        """Tell what waits for a person, and when each feed came last."""
        queries = self.ledger.queries
        letters: dict[tuple[str, ...], int] = {}
        found = queries.dead_letters_by_code()
        few = set(sorted(found, key=lambda one: (-found[one], one))[:MOST_BUCKETS])
        for (connection, code), count in found.items():
            key = (connection, code if (connection, code) in few else OTHER)
            letters[key] = letters.get(key, 0) + count
        yield gauge("optrelay_dead_letters", "Dead letters that stand.", ("connection", "code"), letters)
        yield GaugeMetricFamily("optrelay_imports_held", "Imports that wait for approval.", queries.imports_held())
        fused = self.ledger.fuses.held_customers()
        shown, customers = bounded(fused), dict[tuple[str, ...], float]()
        for bucket, count in fused.items():
            customers[shown[bucket]] = customers.get(shown[bucket], 0) + count
        yield gauge("optrelay_fuse_held_customers", "Customers that a fuse holds.", _BUCKET, customers)
        tripped = self.ledger.fuses.holding()
        shown, origins = bounded({bucket for bucket, _ in tripped}), dict[tuple[str, ...], float]()
        for bucket, origin in sorted(tripped)[:MOST_BUCKETS]:
            held = (*shown[bucket], origin)
            origins[held] = origins.get(held, 0) + tripped[bucket, origin]
        yield gauge("optrelay_fuses_tripped", "Fuses that hold something.", (*_BUCKET, "origin"), origins)
        latest = sorted(queries.last_published().items(), key=lambda one: -one[1])[:MOST_BUCKETS]
        published: dict[tuple[str, ...], float] = {(feed,): moment / 1e6 for feed, moment in latest}
        name = "optrelay_feed_last_published_timestamp_seconds"
        yield gauge(name, "When the latest file of a feed was published.", ("feed",), published)
        lags: dict[tuple[str, ...], float] = {
            (name,): lag for name, lag in self.ledger.event_sources.lag_seconds().items()
        }
        yield gauge("optrelay_source_lag_seconds", "How far behind its listeners are.", ("source",), lags)


def bounded(buckets: Collection[Bucket], most: int = MOST_BUCKETS) -> dict[Bucket, tuple[str, str]]:
    """Return the labels of each bucket: of more than `most`, the rest of each connection has the name OTHER."""
    kept = set(sorted(buckets)[:most])
    return {one: (one.connection, one.name if one in kept else OTHER) for one in buckets}


def gauge(name: str, help_text: str, labels: Iterable[str], values: Mapping[tuple[str, ...], float]) -> Metric:
    """Return a gauge with a value for each set of labels."""
    family = GaugeMetricFamily(name, help_text, labels=list(labels))
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _durations(
    name: str,
    help_text: str,
    labels: Collection[str],
    seconds: Sequence[float],
    counts: Mapping[tuple[str, ...], int],
    milliseconds: Mapping[tuple[str, ...], int],
) -> Metric:
    """Return a histogram with a bucket for each of these bounds, whether anything fell into it or not."""
    family = HistogramMetricFamily(name, help_text, labels=list(labels))
    bounds = (*map(str, seconds), "+Inf")
    for bucket, total in sorted(milliseconds.items()):
        each = accumulate(counts.get((*bucket, bound), 0) for bound in bounds)
        family.add_metric(bucket, list(zip(bounds, each, strict=True)), total / 1_000)
    return family
