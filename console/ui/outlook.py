"""Which opt-outs of each bucket will be late at the present rate, for `deadlines`, `status` and the dry run."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from consent.change import Bucket
from consent.deadlines.forecast import Cell, Forecast, forecast
from consent.ledger.ledger import Ledger
from consent.ledger.queries.backlog import StuckOptOuts
from consent.ledger.queue.breakers import BucketHealth
from consent.ledger.review.pauses import Pause, pause_of
from consent.settings import Settings
from consent.times import from_micros
from console.ui.bottleneck import Cause, bottlenecks
from console.ui.limits import bucket_label, limit_of
from console.ui.progress import why_stopped
from console.ui.screen import Screen
from console.ui.text import counted
from worker.providers.contract import RateLimit as Limit

_UNLIMITED = 1e9
"""Customers a second of a connection that is not configured: nothing is known of its rate."""

COUNTS = ("open", "due_24h", "at_risk", "breached")


@dataclass(frozen=True, slots=True)
class Outlook:
    """The forecast of one bucket; `limit` is None if its connection is not configured, `stopped` says why it stands.

    Of what is paused it is as if it were resumed now.
    """

    bucket: Bucket
    label: str
    forecast: Forecast
    limit: Limit | None
    stopped: str | None
    pause: Pause | None = None

    @property
    def parts(self) -> list[str]:
        """Say when it is done, and what would have to be otherwise."""
        found, limit = self.forecast, self.limit
        parts = [self.label if self.stopped or limit is None else f"{self.label}: {counted(found.targets, 'customer')}"]
        if self.stopped or limit is None:
            parts[0] += f": {self.stopped or 'not configured any more'}"
            parts += [] if self.pause is None else ["assuming it is resumed now"]
            if found.latest_start is not None and not found.at_risk:
                back = "no breach if resumed by" if self.pause else "no further deadline is missed if it is back by"
                parts.append(f"{back} {_moment(found.latest_start)}")
        elif self.pause is not None:
            parts.append(f"{self.pause.message}, assuming they are resumed now")
        if limit is not None:
            resumed = " if it came back now" if self.stopped and self.pause is None else ""
            parts.append(f"done by {_moment(found.finish_at)}{resumed}, at {_rate(found.per_second, limit)}")
        if found.breached:
            parts.append(f"{counted(found.breached, 'customer')} past the deadline already")
        if found.at_risk and limit is not None and found.needs_per_second is not None:
            enough = math.isfinite(found.needs_per_second)
            needs = f"{_rate(found.needs_per_second, limit)} would be enough" if enough else "no rate would be enough"
            parts.append(f"{counted(found.at_risk, 'customer')} will be late: {needs}")
        return parts

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object; rates are calls a minute."""
        found, limit = self.forecast, self.limit
        rules = [{name: getattr(one, name) for name in ("rule", *COUNTS)} for _, one in sorted(found.rules.items())]
        needs = found.needs_per_second
        return {
            "connection": self.bucket.connection,
            "bucket": self.bucket.name,
            "stopped": self.stopped,
            "paused": None if self.pause is None else self.pause.as_json(),
            "pending": found.targets,
            "at_risk": found.at_risk,
            "breached": found.breached,
            "calls_per_minute": None if limit is None else round(_calls(found.per_second, limit), 3),
            "needs_calls_per_minute": (
                None if limit is None or needs is None or not math.isfinite(needs) else round(_calls(needs, limit), 3)
            ),
            "finish_at": None if limit is None else from_micros(found.finish_at).isoformat(),
            "latest_restart": None if found.latest_start is None else from_micros(found.latest_start).isoformat(),
            "rules": rules,
        }


def outlooks(
    settings: Settings, ledger: Ledger, cells: Mapping[Bucket, Sequence[Cell]], health: Mapping[str, BucketHealth]
) -> list[Outlook]:
    """Return the forecast of each bucket with these customers; raises LedgerUnavailable."""
    now, rates = ledger.now(), _present_rates(settings, ledger, cells, health)
    pauses = ledger.pauses.current()
    found = []
    for bucket, its in cells.items():
        state = health.get(str(bucket), BucketHealth(str(bucket)))
        start = now if state.is_open else max(now, state.throttled_until)
        outlook = forecast(its, now=now, start=start, per_second=rates.get(bucket, _UNLIMITED))
        limit = _limit(settings, bucket)
        pause = pause_of(pauses, bucket)
        stopped = pause.message if pause and not pause.only_optins else why_stopped(state, time.time())
        found.append(Outlook(bucket, bucket_label(settings, bucket), outlook, limit, stopped, pause))
    return found


def paused_outlooks(settings: Settings, ledger: Ledger, pause: Pause) -> list[Outlook]:
    """Return the forecasts of the buckets whose opt-outs a pause holds back, as if it ended now."""
    if pause.only_optins:
        return []
    health = {one.name: one for one in ledger.breakers.all_health()}
    cells = {bucket: its for bucket, its in ledger.deadlines.open_cells().items() if pause.covers(bucket)}
    return [one for one in outlooks(settings, ledger, cells, health) if one.forecast.rules]


def pause_warning(found: Sequence[Outlook]) -> list[str]:
    """Say what a pause does to the opt-outs with these forecasts: until when it may last."""
    lines = ["a paused opt-out is a late opt-out: opt-ins can be paused alone"]
    for one in found:
        waiting = counted(sum(rule.open for rule in one.forecast.rules.values()), "customer")
        lines.append(f"{one.label}: {waiting} with opt-outs; {'; '.join(one.parts[1:])}")
    return lines if found else [*lines, "no opt-out is pending; those that come now wait"]


def _limit(settings: Settings, bucket: Bucket) -> Limit | None:
    connection = settings.connections.get(bucket.connection)
    return None if connection is None else limit_of(connection, bucket.name)


def _present_rates(
    settings: Settings, ledger: Ledger, cells: Mapping[Bucket, Sequence[Cell]], health: Mapping[str, BucketHealth]
) -> dict[Bucket, float]:
    """Return the customers a second of each configured bucket: its limit, or less if calls have been slower lately."""
    pending = {bucket: sum(cell.targets for cell in its) for bucket, its in cells.items()}
    slowed = bottlenecks(settings, ledger, pending, health.values())
    calls = ledger.queries.recent_calls() if slowed else {}
    found = {}
    for bucket in cells:
        if (limit := _limit(settings, bucket)) is None:
            continue
        rate = limit.rate.per_second
        lately = calls.get(bucket)
        by_calls = bucket in slowed and slowed[bucket].cause in {Cause.LATENCY, Cause.LEDGER}
        if by_calls and lately is not None and lately.per_second:
            rate = min(rate, lately.per_second)
        found[bucket] = rate * limit.targets_per_call
    return found


def show_outlooks(screen: Screen, found: Sequence[Outlook]) -> None:
    """Print what is said about each bucket that has something left."""
    for one in found:
        bad = one.forecast.at_risk or one.forecast.breached
        screen.show(Text("; ".join(one.parts), "bold red" if bad else ""))


def stuck_in_words(one: StuckOptOuts) -> str:
    """Say which opt-outs wait for a person, how many of them are or will soon be late, and what to look at."""
    rest = "; `optrelay deadlines` looks at all of them" if one.at_least else ""
    return f"{stuck_counts(one)}; see `{_STUCK[one.state][1]}`{rest}"


def stuck_counts(one: StuckOptOuts) -> str:
    """Say which opt-outs wait for a person, and how many of them are or will soon be late."""
    where = _STUCK[one.state][0]
    least = "at least " if one.at_least else ""
    times = [f"{least}{n:,} {when}" for n, when in ((one.late, "late"), (one.due_in_24h, "due within a day")) if n]
    late = f": {', '.join(times)} by the rule {one.rule}" if times else ""
    return f"{one.connection}: {least}{counted(one.open, 'opt-out')} {where}{late}"


_STUCK = {
    "dead": ("among the dead letters", "optrelay dead-letters list"),
    "held": ("held by a guard", "optrelay held"),
}


def show_stuck(screen: Screen, found: Sequence[StuckOptOuts]) -> None:
    """Print which opt-outs wait for a person."""
    for one in found:
        screen.show(
            Text(f"waits for a person: {stuck_in_words(one)}", "bold red" if one.late or one.at_least else "yellow")
        )


def _moment(micros: int) -> str:
    return f"{from_micros(micros):%a %Y-%m-%d %H:%M} UTC"


def _calls(per_second: float, limit: Limit) -> float:
    return per_second / limit.targets_per_call * 60


def _rate(per_second: float, limit: Limit) -> str:
    """Return a rate of calls, rounded up so that it is enough; a low one by the hour."""
    a_minute = _calls(per_second, limit)
    calls, unit = (a_minute, "minute") if a_minute >= 1 else (60 * a_minute, "hour")
    return f"{counted(math.ceil(round(calls, 6)), 'call')}/{unit}"
