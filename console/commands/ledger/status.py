"""What stands in the ledger: connections and imports at a glance, or one import in full."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.text import Text

from consent.change import Bucket, read_bucket
from consent.errors import READ_ONLY, ConfigurationError
from consent.ledger.ledger import Ledger
from consent.ledger.queries.backlog import MOST_STUCK
from consent.ledger.queries.imports import ImportReport
from consent.ledger.queue.breakers import BucketHealth
from consent.ledger.review.fuses import TrippedFuse
from consent.ledger.review.pauses import Pause, pause_of
from consent.settings import Settings
from consent.times import from_micros
from console.exit_codes import ExitCode, code_of, is_held
from console.ledger_access import reading_ledger
from console.ui.bottleneck import Bottleneck, Cause, bottlenecks
from console.ui.decisions import fuse_in_words, show_fuses
from console.ui.limits import bucket_label, limit_of, time_needed
from console.ui.outlook import Outlook, outlooks, show_outlooks, show_stuck
from console.ui.progress import bottleneck_note, latest_answer_note, why_stopped
from console.ui.screen import Screen, table
from console.ui.summaries import as_json, first_rejects, show_import
from worker.providers.contract import RateLimit as Limit
from worker.standstill import Standstill, standstill

LATEST = "latest"
_SHOWN = 10
_WIDE = 100


def show_all(settings: Settings, screen: Screen, *, check: bool = False) -> ExitCode:
    """Print every connection, bucket by bucket, and the newest imports; with `check`, return 4 if something stands."""
    with reading_ledger(settings) as ledger:
        found = [ledger.queries.report(one) for one in ledger.queries.recent_imports(_SHOWN)]
        seen, stuck = overview(settings, ledger), ledger.queries.stuck_optouts(MOST_STUCK)
    if not seen.writable:
        screen.error(f"the ledger's database: {READ_ONLY}")
    imports = [one for one in found if one is not None]
    _show_connections(screen, seen.buckets)
    screen.show(seen.still.message)
    for problem in seen.still.problems:
        screen.show(Text(f"problem: {problem}", "bold red"))
    show_fuses(screen, seen.fuses)
    show_outlooks(screen, [one for one in seen.deadlines if one.forecast.at_risk or one.forecast.breached])
    show_stuck(screen, stuck)
    _show_imports(screen, imports)
    connections = [_connection_json(one) for one in seen.buckets]
    report: dict[str, Any] = {"connections": connections, "imports": [as_json(one) for one in imports]}
    report |= {"ledger": {"takes_writes": seen.writable}, "oldest_pending_opt_out": seen.still.as_json()}
    report |= {"problems": seen.problems}
    report["fuses"] = [one.as_json() for one in seen.fuses]
    report["deadlines"] = [one.as_json() for one in seen.deadlines]
    report["stuck"] = [one.as_json() for one in stuck]
    screen.print_json(report)
    return ExitCode.UNFINISHED if check and seen.problems else ExitCode.WELL


@dataclass(frozen=True, slots=True)
class Overview:
    """How every bucket is that has something left or is stopped, what stands still, whether the ledger can write.

    `outlooks` are the forecasts of the buckets that have something left, `fuses` those that hold something.
    """

    buckets: Sequence[BucketStatus]
    still: Standstill
    writable: bool
    outlooks: Sequence[Outlook]
    fuses: Sequence[TrippedFuse] = ()

    @property
    def deadlines(self) -> list[Outlook]:
        """The forecasts of the buckets that have opt-outs left."""
        return [one for one in self.outlooks if one.forecast.rules]

    @property
    def problems(self) -> list[str]:
        """Say what a person has to know, with the remedy."""
        fused = [f"{fuse_in_words(one)} is held by a fuse: `optrelay held` says why" for one in self.fuses]
        return [*([] if self.writable else [READ_ONLY]), *_stopped(self.buckets), *fused, *self.still.problems]


def overview(settings: Settings, ledger: Ledger) -> Overview:
    """Look at all connections, bucket by bucket; raises LedgerUnavailable."""
    health = {one.name: one for one in ledger.breakers.all_health()}
    pending = ledger.queries.pending_by_bucket()
    limits = bottlenecks(settings, ledger, pending, health.values())
    pauses = ledger.pauses.current()
    buckets = [
        replace(
            _bucket_status(settings, one, health.get(str(one)), pending),
            pause=pause_of(pauses, one),
            answer=ledger.breakers.latest_answer(one),
            limited=limits.get(one),
        )
        for one in _shown(settings, health, pending, pauses)
    ]
    forecasts = outlooks(settings, ledger, ledger.deadlines.open_cells(), health)
    still, writable = standstill(settings, ledger, pending), ledger.maintenance.takes_writes()
    return Overview(buckets, still, writable, forecasts, ledger.fuses.tripped())


def _stopped(standings: Sequence[BucketStatus]) -> list[str]:
    return [
        f"{one.name}: {one.obstacle}"
        for one in standings
        if one.health.is_open or (one.left and (one.limit is None or one.is_paused))
    ]


def show_one(settings: Settings, screen: Screen, name: str) -> ExitCode:
    """Print one import, and why it is not sealed if it is not."""
    with reading_ledger(settings) as ledger:
        found = find_import(ledger, name)
        waiting, states = _waiting(ledger, found.import_id)
        paused = ledger.pauses.stopping(waiting)
        first = first_rejects(ledger, found)
    show_import(screen, found, first=first)
    for bucket, state in states.items():
        obstacle = paused[bucket].message if bucket in paused else why_stopped(state, time.time())
        message = f"  {bucket_label(settings, bucket)}: {waiting[bucket]:,} pending"
        screen.show(message + (f"; {obstacle}" if obstacle else ""))
    report = as_json(found) | _obstacles(waiting, states, paused)
    screen.print_json(report)
    return ExitCode.UNFINISHED if report["stopped"] else code_of([found])


def import_as_json(ledger: Ledger, import_id: str) -> dict[str, Any] | None:
    """Return what `status IMPORT --json` prints, or None if there is no such import; raise LedgerUnavailable."""
    found = ledger.queries.report(import_id)
    if found is None:
        return None
    waiting, states = _waiting(ledger, import_id)
    return as_json(found) | _obstacles(waiting, states, ledger.pauses.stopping(waiting))


def _waiting(ledger: Ledger, import_id: str) -> tuple[dict[Bucket, int], dict[Bucket, BucketHealth]]:
    """Return how many changes of an import wait in each bucket, and how those buckets are."""
    waiting = ledger.queries.buckets_waiting(import_id)
    health = {one.name: one for one in ledger.breakers.all_health()}
    return waiting, {bucket: health.get(str(bucket), BucketHealth(str(bucket))) for bucket in sorted(waiting)}


def _obstacles(
    waiting: Mapping[Bucket, int], states: Mapping[Bucket, BucketHealth], paused: Mapping[Bucket, Pause]
) -> dict[str, Any]:
    stopped = {str(one): state.reason for one, state in states.items() if state.is_open}
    stopped |= {str(one): pause.message for one, pause in paused.items()}
    return {"waiting": {str(bucket): count for bucket, count in waiting.items()}, "stopped": stopped}


def find_import(ledger: Ledger, name: str) -> ImportReport:
    """Return the import with this id, or whose id begins like this, or the latest; raise ConfigurationError."""
    if not name.strip():
        raise ConfigurationError("the id of an import is empty: `optrelay status` lists them; latest is the newest")
    ids = ledger.queries.recent_imports(1) if name == LATEST else ledger.queries.imports_named(name, 2)
    if name not in ids and len(ids) > 1:
        raise ConfigurationError(f"several imports begin with {name!r}: give more of the id")
    found = ledger.queries.report(name if name in ids else ids[0]) if ids else None
    if found is None and name == LATEST:
        raise ConfigurationError("nothing has been imported yet")
    if found is None:
        raise ConfigurationError(f"there is no import {name!r}: `optrelay status` lists them")
    return found


@dataclass(frozen=True, slots=True)
class BucketStatus:
    """How one bucket stands: its limit (None: its connection is not configured), and the customers it has left."""

    bucket: Bucket
    name: str
    provider: str
    limit: Limit | None
    health: BucketHealth
    left: int
    answer: str | None = None
    limited: Bottleneck | None = None
    pause: Pause | None = None

    @property
    def is_paused(self) -> bool:
        """Whether nothing is delivered, not even opt-outs."""
        return self.pause is not None and not self.pause.only_optins

    @property
    def obstacle(self) -> str | None:
        """Why nothing is delivered, None if something is."""
        if self.limit is None:
            return "not configured any more: its customers wait until it is"
        return self.pause.message if self.pause and self.is_paused else why_stopped(self.health, time.time())

    @property
    def message(self) -> str:
        """The same for people, or what is left and how long that takes."""
        optins = f"; {self.pause.message}" if self.pause is not None else ""
        if self.obstacle is not None or self.limit is None or not self.left:
            return self.obstacle or f"ready{optins}"
        calls = -(-self.left // self.limit.targets_per_call)
        is_shown = self.limited is not None and self.limited.cause is Cause.PAUSE
        notes = (optins if is_shown else optins + bottleneck_note(self.limited)) + latest_answer_note(self.answer)
        return f"ready; {time_needed(calls, self.limit.rate)}{notes}"


def _shown(
    settings: Settings, health: Mapping[str, BucketHealth], pending: Mapping[Bucket, int], pauses: Sequence[Pause]
) -> list[Bucket]:
    """Return the buckets that have something left, are stopped or paused, and every connection at least once."""
    stopped = {
        bucket
        for bucket in map(read_bucket, health)
        if bucket.connection in settings.connections and why_stopped(health[str(bucket)], time.time())
    }
    telling = {*pending, *stopped, *(Bucket(one.connection, one.bucket) for one in pauses if one.bucket is not None)}
    named = {bucket.connection for bucket in telling}
    return sorted({*telling, *(Bucket(name) for name in settings.connections if name not in named)})


def _bucket_status(
    settings: Settings, bucket: Bucket, health: BucketHealth | None, pending: Mapping[Bucket, int]
) -> BucketStatus:
    connection = settings.connections.get(bucket.connection)
    return BucketStatus(
        bucket=bucket,
        name=bucket_label(settings, bucket),
        provider=connection.provider if connection else "",
        limit=limit_of(connection, bucket.name) if connection else None,
        health=health or BucketHealth(str(bucket)),
        left=pending.get(bucket, 0),
    )


def _show_connections(screen: Screen, standings: Sequence[BucketStatus]) -> None:
    listed = table("connection", "provider", "limit", "pending", "state", title="Connections", right=("pending",))
    for one in standings:
        state = Text(one.message, "yellow" if one.obstacle else "")
        listed.add_row(one.name, one.provider, str(one.limit.rate) if one.limit else "", f"{one.left:,}", state)
    screen.show(listed if standings else "no connection is configured: see `optrelay doctor`")


def _show_imports(screen: Screen, imports: list[ImportReport]) -> None:
    if not imports:
        screen.show("nothing has been imported yet")
        return
    counts = ("rows", "rejected", "applied", "dead", "pending")
    started = ("started (UTC)",) if screen.out.width >= _WIDE else ()  # an import's id begins with its day
    names = ("import", *started, "file", *counts, "sealed")
    listed = table(*names, title=f"Newest imports (≤ {_SHOWN})", right=counts, whole=("import",))
    for one in imports:
        facts = {name: f"{getattr(one, name):,}" for name in counts} | {
            "import": one.import_id,
            "started (UTC)": f"{from_micros(one.started_at):%Y-%m-%d %H:%M}",
            "file": one.name,
            "sealed": _sealed(one),
        }
        listed.add_row(*(facts[name] for name in names))
    screen.show()
    screen.show(listed)


def _sealed(one: ImportReport) -> str:
    if one.sealed:
        return "yes" if one.undone_at is None else "yes, undone"
    return "held" if is_held(one) else "not yet"


def _connection_json(one: BucketStatus) -> dict[str, Any]:
    throttled = one.health.throttled_until / 1e6 > time.time()
    return {
        "connection": one.bucket.connection,
        "bucket": one.bucket.name,
        "provider": one.provider,
        "rate": str(one.limit.rate) if one.limit else "",
        "breaker": one.health.breaker.value,
        "reason": one.health.reason,
        "pending": one.left,
        "latest_answer": one.answer,
        "paused": one.pause.as_json() if one.pause else None,
        "limited_by": one.limited.cause.value if one.limited else None,
        "throttled_until": from_micros(one.health.throttled_until).isoformat() if throttled else None,
        "configured": one.limit is not None,
    }
