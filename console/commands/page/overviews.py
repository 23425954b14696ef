"""What is seen at a glance: Today, with what a person has to do now; the connections; the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from starlette.responses import Response

from consent.change import Bucket, read_bucket
from consent.guards.fuse import FuseWay
from consent.ledger.queries.backlog import MOST_STUCK
from consent.ledger.queries.calls import RecentCalls
from consent.ledger.queries.pages import PAGE
from consent.ledger.queue.breakers import Breaker
from consent.ledger.review.holds import Decision
from consent.ledger.telemetry.recent import QuarterHour
from console.commands.ledger.status import BucketStatus, overview
from console.commands.page.charts import BarChart, ForecastChart, forecast_chart, settled_chart, waiting_chart
from console.commands.page.visit import Mistake, Visit, key_of
from console.ui.decisions import RESET_IN_WORDS, fuse_in_words
from console.ui.outlook import Outlook, pause_warning, paused_outlooks, stuck_counts
from console.ui.text import counted

_GROUPS = 8
_IMPORTS = 8
_HOURS = 6
_NOTICES = 50
"""Notices that can be acknowledged at once: a form has at most a hundred fields."""

_BOX = "notice-"
"""How the names of the boxes begin, each with the number of its notice."""

_STUCK_AT = {"dead": "/dead-letters", "held": "/imports"}
"""Where a person decides about opt-outs that wait, by their state."""

_SHOWN_ABOVE = frozenset(
    {
        *("import_held", "connection_stopped", "dead_letters_new", "deadline_breached", "deadline_at_risk"),
        *("backlog_not_falling", "opt_out_late", "fuse"),
    }
)
"""Kinds of notices that Today shows as they are now."""


def show_today(visit: Visit) -> Response:
    """Show what waits for a person first, and then how things go."""
    return _today(visit)


def _today(visit: Visit, status: HTTPStatus = HTTPStatus.OK, mistake: str = "") -> Response:
    queries, notices = visit.ledger.queries, visit.ledger.notices.current()
    seen = overview(visit.parts.settings, visit.ledger)
    groups = queries.letter_groups()
    unknown = [one for one in notices if one.acknowledged_at is None]
    return visit.page(
        "today.html",
        status,
        held=queries.held_lines(),
        fuses=seen.fuses,
        fused={one.import_id for one in seen.fuses},
        stopped=[one for one in seen.buckets if one.obstacle],
        problems=seen.still.problems,
        still=seen.still.message,
        writable=seen.writable,
        late=[one for one in seen.deadlines if one.forecast.at_risk or one.forecast.breached],
        stuck=[(stuck_counts(one), _STUCK_AT[one.state]) for one in queries.stuck_optouts(MOST_STUCK)],
        notices=[one for one in notices if one.kind not in _SHOWN_ABOVE],
        unknown=unknown[:_NOTICES],
        more_unknown=max(0, len(unknown) - _NOTICES),
        box=_BOX,
        mistake=mistake,
        form=visit.form,
        charts=_charts(visit.ledger.recent.last_hours(_HOURS)),
        groups=groups[:_GROUPS],
        more_groups=max(0, len(groups) - _GROUPS),
        letters=sum(one.count for one in groups),
        buckets=seen.buckets,
        pending=sum(one.left for one in seen.buckets),
        bars=bars(seen.buckets),
        imports=queries.imports_page(limit=_IMPORTS),
        now=visit.ledger.now(),
    )


def acknowledge(visit: Visit) -> Response:
    """Note that this user knows of the notices that the form names: they are not told again."""
    try:
        chosen, why = _chosen(visit), visit.why()
    except Mistake as error:
        return _today(visit, HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    notices = visit.ledger.notices
    done = [one for one in chosen if one is not None and notices.acknowledge(one, who=visit.who, why=why)]
    over = " What is over was left as it is." if len(done) < len(chosen) else ""
    return visit.go("/", f"{counted(len(done), 'notice')} acknowledged: not told again.{over}")


def _chosen(visit: Visit) -> list[int | None]:
    """Return the numbers of the notices that a form names; raise Mistake for none."""
    boxes = [key_of(name.removeprefix(_BOX)) for name in visit.form if name.startswith(_BOX)]
    if not boxes:
        raise Mistake("Choose which notices you know of.")
    return boxes


def _charts(quarters: Sequence[QuarterHour]) -> list[tuple[str, str, str, BarChart]]:
    """Return the pictures of the last hours that show anything: title, what is counted, in what, and the bars."""
    settled, waiting = settled_chart(quarters), waiting_chart(quarters)
    named = (
        ("Changes settled", "change", " in a quarter of an hour", settled),
        ("Customers waiting", "customer", "", waiting),
    )
    return [one for one in named if one[-1].most]


def bars(buckets: Sequence[BucketStatus]) -> dict[str, float]:
    """Return for each bucket with something left how long its bar is, in hundredths of the longest."""
    left = {str(one.bucket): one.left for one in buckets if one.left}
    most = max(left.values(), default=1)
    return {name: round(max(1.0, 100 * count / most), 1) for name, count in left.items()}


_LATELY_SECONDS = 60.0
_LEAST_PER_SECOND = 1.0
"""Of a lower limit the latest seconds tell no share: a few calls at once are no rate."""


@dataclass(frozen=True, slots=True)
class _Traffic:
    """How a bucket was called lately: `used` is the share of its limit, `seconds` a call, `failed` a share, too."""

    per_second: float | None
    under_way: float | None
    used: float | None
    seconds: float
    failed: float


def show_connections(visit: Visit) -> Response:
    """Show each connection, bucket by bucket: what is left, what limits it, how its latest calls went."""
    return _connections(visit)


def _connections(visit: Visit, status: HTTPStatus = HTTPStatus.OK, mistake: str = "") -> Response:
    seen = overview(visit.parts.settings, visit.ledger)
    calls, now = visit.ledger.queries.recent_calls(), visit.ledger.now()
    lately = {bucket: one for bucket, one in calls.items() if now - one.newest < _LATELY_SECONDS * 1e6}
    return visit.page(
        "connections.html",
        status,
        pauses=visit.ledger.pauses.current(),
        fuses=seen.fuses,
        places=_places(visit),
        mistake=mistake,
        form=visit.form,
        buckets=seen.buckets,
        bars=bars(seen.buckets),
        traffic={str(one.bucket): _traffic(one, lately[one.bucket]) for one in seen.buckets if one.bucket in lately},
        concurrency={name: one.concurrency for name, one in visit.parts.settings.connections.items()},
        breakers=_BREAKERS,
        now=now,
        forecasts=_forecasts(visit, seen.deadlines, now),
    )


_BREAKERS = {
    Breaker.CLOSED: "closed: it is called",
    Breaker.DOWN: "open: it is down, and tried now and then",
    Breaker.REFUSED: "open: it refuses our credentials",
}


def _forecasts(visit: Visit, found: Sequence[Outlook], now: int) -> dict[Bucket, tuple[Outlook, ForecastChart]]:
    """Return the forecast of each bucket with a deadline to keep, and its picture."""
    if not found:
        return {}
    cells = visit.ledger.deadlines.open_cells()
    drawn = ((one, forecast_chart(cells.get(one.bucket, ()), one.forecast, now)) for one in found)
    return {one.bucket: (one, chart) for one, chart in drawn if chart is not None}


def _places(visit: Visit) -> list[Bucket]:
    """Return what can be paused: each connection, and each of its buckets that has a name and is known."""
    found = [Bucket(name) for name in visit.parts.settings.connections]
    ledger = visit.ledger
    for name in visit.parts.settings.connections:
        known = {*ledger.pauses.known_buckets(name), *ledger.queries.buckets(name)}
        found += [bucket for bucket in known if bucket.name]
    return sorted(found)


def pause(visit: Visit) -> Response:
    """Pause what the form names, all of it or its opt-ins alone; say what becomes of its opt-outs."""
    try:
        place, why = _place(visit, _places(visit)), visit.why()
        only = _choice(visit, "all", "optins")
    except Mistake as error:
        return _connections(visit, HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    found, is_new = visit.ledger.pauses.pause(
        place.connection, place.name or None, only_optins=only == "optins", who=visit.who, why=why
    )
    notes = [f"{place} was paused already." if not is_new else f"{place}: {'opt-ins are ' * (only == 'optins')}paused."]
    if not found.only_optins:
        late = paused_outlooks(visit.parts.settings, visit.ledger, found)
        notes += [f"{message[0].upper()}{message[1:]}." for message in pause_warning(late)]
    return visit.go("/connections", " ".join(notes))


def resume(visit: Visit) -> Response:
    """Resume what the form names, or its opt-outs alone."""
    ledger = visit.ledger
    paused = [Bucket(one.connection, one.bucket or "") for one in ledger.pauses.current()]
    try:
        place, why = _place(visit, [*_places(visit), *paused]), visit.why()
        only = _choice(visit, "all", "optouts")
    except Mistake as error:
        return _connections(visit, HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    ended = ledger.pauses.resume(
        place.connection, place.name or None, only_optouts=only == "optouts", who=visit.who, why=why
    )
    if not ended:
        return visit.go("/connections", f"Nothing of {place} is paused any more, so nothing was done.")
    note = f"{place}: {'opt-outs ' * (only == 'optouts')}resumed."
    return visit.go("/connections", f"{note} {visit.parts.wake(ledger)}".strip())


def _place(visit: Visit, known: Sequence[Bucket]) -> Bucket:
    """Return the connection or bucket that a form names; raise Mistake for any other."""
    if (found := read_bucket(visit.form.get("place", ""))) not in known:
        raise Mistake("Choose a connection.")
    return found


def reset_fuse(visit: Visit) -> Response:
    """Go on with what one fuse holds, in the way that the form says."""
    fuses, origin = visit.ledger.fuses, visit.form.get("origin", "")
    bucket = read_bucket(visit.form.get("bucket", ""))
    try:
        way, decision = _way(visit), Decision(visit.who, visit.why(), None, None)
    except Mistake as error:
        return _connections(visit, HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    done = fuses.reset(origin, way, decision, bucket=bucket)
    if not done:
        return visit.go("/connections", "No fuse holds that in another way any more, so nothing was done.")
    fuses.work_off_soon()
    note = " ".join(f"{fuse_in_words(one)}: {RESET_IN_WORDS[way]}." for one in done)
    place = f"/imports/{done[0].import_id}" if visit.form.get("from") == "import" else "/connections"
    return visit.go(place, f"{note} {visit.parts.wake(visit.ledger)}".strip())


def _way(visit: Visit) -> FuseWay:
    """Return how to go on with what a fuse holds; raise Mistake if the form does not say it."""
    try:
        return FuseWay(visit.form.get("way", ""))
    except ValueError:
        raise Mistake("Choose how to go on with what the fuse holds.") from None


def _choice(visit: Visit, *choices: str) -> str:
    """Return which of these the form says; raise Mistake for anything else."""
    if (only := visit.form.get("only", "")) not in choices:
        raise Mistake("Choose what is meant.")
    return only


def _traffic(one: BucketStatus, calls: RecentCalls) -> _Traffic:
    limit = one.limit.rate.per_second if one.limit else None
    can_tell = calls.per_second is not None and limit is not None and limit >= _LEAST_PER_SECOND
    used = min(1.0, (calls.per_second or 0.0) / limit) if can_tell and limit else None
    return _Traffic(calls.per_second, calls.under_way, used, calls.seconds, calls.failed)


def show_audit_log(visit: Visit) -> Response:
    """Show what people did, the latest first, a page at a time."""
    before = key_of(visit.query.get("before"))
    found = visit.ledger.queries.audit_page(before, PAGE + 1)
    return visit.page("audit.html", entries=found[:PAGE], more=len(found) > PAGE, is_first=before is None)
