"""What a person has to be told of, as the ledger shows it: each minute by the sweep, and at the end of a run."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from consent.change import Bucket, read_bucket
from consent.deadlines.forecast import Forecast, forecast
from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import Breaker
from consent.ledger.review.pauses import pause_of
from consent.ledger.telemetry.counters import OTHER
from consent.settings import Settings
from consent.times import duration_text, from_micros
from worker.providers import provider_of
from worker.standstill import OPT_OUT_SECONDS, Standstill, standstill

Found = Iterator[tuple[str, str]]
"""Keys of notices, without their kind, and the words for people: counts, ids and names of connections, no person."""

DOWN_SECONDS = 300.0
"""For how long a connection may be down before it is told."""

THROTTLED_SECONDS = 900.0
"""For how long no customer may be served while the provider asks to wait."""

MANY_WAIT = 1_000
"""Opt-outs of a connection from which a backlog that does not fall is told."""

MOST_CODES = 20
"""Codes of a connection's dead letters that are told one by one."""

_FULL = 0.9
_LEAST_BYTES, _LEAST_SHARE = 1_000_000_000, 0.03
_SHARE_OF_A_PAUSE = 4
FILE_MISSING = "file_missing"


def look(settings: Settings, ledger: Ledger) -> None:
    """Look at everything, and open, go on with or resolve the notices of it. Raises LedgerUnavailable.

    `file_missing` is not among them: the watcher of a place looks for it.
    """
    seen = Seen(settings, ledger, standstill(settings, ledger), forecasts(settings, ledger))
    found = {
        f"{kind}:{key}".rstrip(":"): (kind, message)
        for kind, condition in CONDITIONS.items()
        for key, message in condition(seen)
    }
    ledger.notices.observe(tuple(CONDITIONS), found, tell=bool(settings.notify))


@dataclass(frozen=True, slots=True)
class Seen:
    """What several conditions look at: seen once."""

    settings: Settings
    ledger: Ledger
    still: Standstill
    forecasts: Mapping[Bucket, Forecast]


def forecasts(settings: Settings, ledger: Ledger) -> dict[Bucket, Forecast]:
    """Return which deadlines of each configured bucket are missed at its limit; raises LedgerUnavailable."""
    found = {}
    now, throttled = ledger.now(), {one.name: one.throttled_until for one in ledger.breakers.all_health()}
    for bucket, cells in ledger.deadlines.open_cells().items():
        if (connection := settings.connections.get(bucket.connection)) is not None:
            limit = provider_of(connection).rate_limit(bucket.name, connection)
            start, rate = max(now, throttled.get(str(bucket), 0)), limit.rate.per_second * limit.targets_per_call
            found[bucket] = forecast(cells, now=now, start=start, per_second=rate)
    return found


def _long_pauses(seen: Seen) -> Found:
    """Tell of opt-outs that a pause has held for longer than a quarter of their shortest deadline."""
    now, rules = seen.ledger.now(), seen.settings.chosen_deadlines.rules
    pauses = [one for one in seen.ledger.pauses.current() if not one.only_optins]
    for bucket, found in seen.forecasts.items() if pauses else ():
        pause = pause_of(pauses, bucket)
        lengths = [rules[name].due(now) - now for name in found.rules if name in rules]
        if pause is not None and lengths and now - pause.since > min(lengths) / _SHARE_OF_A_PAUSE:
            held = sum(one.open for one in found.rules.values())
            wait = "waits" if held == 1 else "wait"
            message = f"{_customers(held, bucket)} with opt-outs {wait} for the end of a pause"
            yield str(bucket), f"{message}: `optrelay deadlines` says until when it may last, `optrelay resume` ends it"


def _optout_bursts(seen: Seen) -> Found:
    """Tell of many opt-outs at once; they are delivered all the same."""
    for one in seen.ledger.event_guards.bursts():
        message = f"{one.optouts:,} opt-outs of {one.connection} came by events within ten minutes, usually at most"
        remedy = "does a mail scanner follow unsubscribe links? They are delivered"
        yield one.connection, f"{message} {one.usual:,} within an hour: {remedy}"


def _held_imports(seen: Seen) -> Found:
    for import_id in seen.ledger.queries.held_ids():
        yield import_id, f"import {import_id} is held: look at `optrelay held`, then approve or withdraw it"


def _fuses(seen: Seen) -> Found:
    """Tell what a fuse holds; an opt-out that is held is a late opt-out."""
    for one in seen.ledger.fuses.tripped():
        what = f"import {one.import_id}" if one.origin == one.import_id else one.origin or "all of it"
        count = "at least " if one.at_least else ""
        late = f", late from {from_micros(one.due_at):%Y-%m-%d %H:%M} UTC on" if one.due_at and one.optouts else ""
        message = f"a fuse holds {what} in {_label(str(one.bucket))}: {one.reason}; {count}{one.optouts:,} opt-outs"
        yield f"{one.bucket}:{one.origin}", f"{message}{late}: look at `optrelay held`, then `optrelay reset-fuse`"


def _stopped_connections(seen: Seen) -> Found:
    now = seen.ledger.now()
    for one in seen.ledger.breakers.all_health():
        name = _label(one.name)
        if one.breaker is Breaker.REFUSED:
            yield one.name, f"connection {name} refuses our credentials: fix them; everything is kept"
        elif one.breaker is Breaker.DOWN and now - (one.opened_at or now) > DOWN_SECONDS * 1e6:
            yield one.name, f"connection {name} is down: `optrelay status` says why; everything is kept"


def _throttled_connections(seen: Seen) -> Found:
    now = seen.ledger.now()
    for one in seen.ledger.breakers.all_health():
        unserved = now - (one.healthy_at or 0)
        if one.throttled_until > now and unserved > THROTTLED_SECONDS * 1e6:
            message = f"connection {_label(one.name)} asks us to wait, and has served no one for long: lower its RATE"
            yield one.name, message


def _dead_letters(seen: Seen) -> Found:
    """Tell of each code, or of a connection with very many codes once: a provider may invent one for each customer."""
    by_connection: dict[str, dict[str, int]] = {}
    for (connection, code), count in seen.ledger.queries.dead_letters_by_code().items():
        by_connection.setdefault(connection, {})[code] = count
    for connection, codes in by_connection.items():
        if len(codes) > MOST_CODES:
            message = f"{sum(codes.values()):,} dead letters of {connection} with {len(codes):,} codes"
            yield f"{connection}:{OTHER}", f"{message}: `optrelay dead-letters`"
            continue
        for code, count in codes.items():
            message = (
                f"{count:,} dead letter{'s' * (count != 1)} of {connection} with code {code}: `optrelay dead-letters`"
            )
            yield f"{connection}:{code}", message


def _backlog(seen: Seen) -> Found:
    """Tell what `status --check` tells: nothing delivers what is due.

    Between two runs nothing does, and if what is due waits for a stopped connection, that is told already.
    """
    stopped = any(one.is_open for one in seen.ledger.breakers.all_health())
    if seen.still.no_worker and (seen.settings.broker_url or not stopped):
        yield "", f"changes are due, {seen.still.no_worker}"
    else:
        yield from _backlog_of_connections(seen)


def _backlog_of_connections(seen: Seen) -> Found:
    """Tell of connections that are called, and at which no fewer opt-outs wait than an hour ago."""
    waiting: Counter[str] = Counter()
    paused: Counter[str] = Counter()
    pauses = [one for one in seen.ledger.pauses.current() if not one.only_optins]
    for bucket, found in seen.forecasts.items():
        count = sum(rule.open for rule in found.rules.values())
        waiting[bucket.connection] += count
        if (
            pause_of(pauses, bucket) is not None
        ):  # a person wants these to wait: `paused_long` tells when it is too long
            paused[bucket.connection] += count
    # What waited an hour ago is known of whole connections only.
    many = {name: count for name, count in waiting.items() if count - paused[name] >= MANY_WAIT}
    before = seen.ledger.counters.an_hour_ago(many) if many else {}
    health = seen.ledger.breakers.all_health()
    stopped = {read_bucket(one.name).connection for one in health if one.is_open}
    for name, count in many.items():
        if name not in stopped and count >= before.get(name, count + 1):
            message = f"{count - paused[name]:,} opt-outs of {name} wait, and no fewer than an hour ago"
            yield name, f"{message}: `optrelay status` says what limits it"


def _late_opt_outs(seen: Seen) -> Found:
    if (seen.still.opt_out_seconds or 0.0) > OPT_OUT_SECONDS:
        yield "", f"an opt-out has waited for {duration_text(OPT_OUT_SECONDS)}: `optrelay status` says on what"


def _full_ledger(seen: Seen) -> Found:
    """Tell of the disk of an SQLite ledger, and of a size that a setting limits: a server tells no one its disk."""
    if (most := seen.settings.ledger_gb) and (size := seen.ledger.maintenance.size() / 1e9) > _FULL * most:
        yield (
            "size",
            f"the ledger takes {size:,.1f} of {most:,.1f} GB (OPTRELAY_LEDGER_GB): make room, or raise the limit",
        )
    file = seen.ledger.maintenance.file
    if file is not None and file.exists():
        disk = shutil.disk_usage(file.absolute().parent)
        if disk.free < max(_LEAST_BYTES, _LEAST_SHARE * disk.total):
            yield "", f"{disk.free / 1e9:,.1f} GB are free where the ledger is: make room"


def _breached_deadlines(seen: Seen) -> Found:
    for bucket, found in seen.forecasts.items():
        if found.breached:
            are_past = "is past its deadline" if found.breached == 1 else "are past their deadline"
            yield str(bucket), f"{_customers(found.breached, bucket)} {are_past}: `optrelay deadlines`"


def _customers(count: int, bucket: Bucket) -> str:
    return f"{count:,} customer{'s' * (count != 1)} of {_label(str(bucket))}"


def _deadlines_at_risk(seen: Seen) -> Found:
    for bucket, found in seen.forecasts.items():
        if found.at_risk:
            message = f"{_customers(found.at_risk, bucket)} will be late"
            yield str(bucket), f"{message}: `optrelay deadlines` says at what rate none would be"


CONDITIONS: dict[str, Callable[[Seen], Found]] = {
    "import_held": _held_imports,
    "fuse": _fuses,
    "connection_stopped": _stopped_connections,
    "paused_long": _long_pauses,
    "optout_burst": _optout_bursts,
    "connection_throttled_long": _throttled_connections,
    "dead_letters_new": _dead_letters,
    "backlog_not_falling": _backlog,
    "deadline_breached": _breached_deadlines,
    "deadline_at_risk": _deadlines_at_risk,
    "opt_out_late": _late_opt_outs,
    "ledger_full": _full_ledger,
}
"""What is looked at, by kind. A further kind is one function here and one row in docs/notices.md."""


def _label(name: str) -> str:
    bucket = read_bucket(name)
    return f"{bucket.connection} ({bucket.name})" if bucket.name else bucket.connection
