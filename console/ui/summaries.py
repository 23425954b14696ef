"""What became of imports: as sentences for people, and as the JSON object that programs read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from consent.ledger.ledger import Ledger
from consent.ledger.queries.imports import ImportReport
from consent.ledger.queries.pages import RejectLine
from consent.times import from_micros
from console.ui.decisions import decided_in_words, show_findings, show_fuse_ways, show_ways_back, show_ways_on
from console.ui.screen import Screen
from console.ui.text import counted, duration_text

_SUMS = (
    *("rows", "accepted", "rejected", "duplicates", "applied", "unchanged"),
    *("superseded", "dead", "pending", "calls"),
)

_REJECTS = 3
"""Rejected rows that are named with an import; the others are in its rejects file, or listed by a command."""


def as_json(report: ImportReport) -> dict[str, Any]:
    """Return one import as the object that the design fixes, with more keys after those."""
    fixed = {"import": report.import_id, **{name: getattr(report, name) for name in _SUMS}}
    more = {
        "name": report.name,
        "state": report.state,
        "reject_codes": dict(report.reject_codes),
        "dead_codes": dict(report.dead_codes),
        "reject_reasons": dict(report.reject_reasons),
        "dead_reasons": dict(report.dead_reasons),
        "discarded": report.discarded,
        "stamped": report.stamped,
        "held": report.held,
        "fused": report.fused,
        "withdrawn": report.withdrawn,
        "feed": report.feed,
        "guards": [dict(one) for one in report.findings],
        "skipped": report.skipped,
    }
    return fixed | {"sealed": report.sealed, "seconds": round(report.seconds, 3)} | more


def totals_as_json(reports: Sequence[ImportReport], seconds: float, **more: Any) -> dict[str, Any]:
    """Return one import as it is, and several (or none) as one object of totals that holds them."""
    if len(reports) == 1:
        return as_json(reports[0]) | more
    sums = {name: sum(getattr(one, name) for one in reports) for name in _SUMS}
    sealed = all(one.sealed for one in reports)
    more["skipped"] = sum(one.skipped for one in reports)
    each = {"imports": [as_json(one) for one in reports]}
    sums["withdrawn"] = sum(one.withdrawn for one in reports)
    return {"import": None, **sums, "sealed": sealed, "seconds": round(seconds, 3)} | more | each


def show_import(
    screen: Screen,
    report: ImportReport,
    rejects_file: str | None = None,
    *,
    took: float | None = None,
    first: Sequence[RejectLine] = (),
) -> None:
    """Print what became of one import: every row in exactly one place.

    `first` are the first of its rejected rows. `took` is in seconds,
    where it is not the time from the import's start to its end: a later run went on with it.
    """
    screen.show(Text.assemble((report.name, "bold"), ("  import " + report.import_id, "dim")))
    screen.show(f"  {rows_in_words(report)}")
    screen.show(f"  {_accepted(report)}")
    screen.show(f"  {_calls(report, took)}; {seal(report)}", "green" if report.sealed else None)
    if report.stamped:
        screen.show(f"  {stamped_in_words(report)}", "yellow")
    waits = report.held > report.fused or report.state == "held"
    show_findings(screen, report.findings, "" if waits else decided_in_words(report))
    show_ways_back(screen, report)
    if waits:
        show_ways_on(screen, report.import_id)
    if report.fused:
        message = f"  held by a fuse: {counted(report.fused, 'change')}, because the customers before drew one failure"
        screen.show(f"{message}: `optrelay held` says which", "red")
        show_fuse_ways(screen, report.import_id)
    if report.rejected:
        where = f"; fix them in {rejects_file} and import that" if rejects_file else _rejected_events(report)
        shown = {one.code for one in first}
        missing = {} if rejects_file else report.reject_reasons
        reasons = {code: reason for code, reason in missing.items() if code not in shown}
        show_codes(screen, "rejected", report.reject_codes, reasons, where, between=_first_lines(report, first))
    if report.dead:
        show_codes(screen, "dead", report.dead_codes, report.dead_reasons, f"; {_letters(report)}")
    if report.undone_at is not None:
        screen.show(f"  undone {from_micros(report.undone_at):%Y-%m-%d %H:%M} UTC", "yellow")


def first_rejects(ledger: Ledger, report: ImportReport) -> list[RejectLine]:
    """Return the first few rejected rows of an import, to be shown with it."""
    return ledger.queries.rejects_page(report.import_id, limit=_REJECTS) if report.rejected else []


def _first_lines(report: ImportReport, first: Sequence[RejectLine]) -> Iterator[str]:
    """Say where the first rejected rows stand, and why each was rejected."""
    for one in first:
        place = f"{'line' if report.kind == 'csv' else 'event'} {one.line:,}"
        yield f"{place}{f', {one.column}' if one.column else ''}: {one.message}"
    if first and report.rejected > len(first):
        yield f"and {report.rejected - len(first):,} more"


def show_totals(screen: Screen, reports: Sequence[ImportReport]) -> None:
    """Print the sum of several imports."""
    if len(reports) > 1:
        sums = {name: sum(getattr(one, name) for one in reports) for name in _SUMS}
        message = ", ".join(
            counted(sums[name], name.removesuffix("s")) if name in {"rows", "calls"} else f"{sums[name]:,} {name}"
            for name in _SUMS
        )
        screen.show(Text.assemble((f"{len(reports)} imports together: ", "bold"), message))


def seal(report: ImportReport) -> str:
    """Say that an import is sealed, or why it is not yet."""
    if report.sealed:
        return "sealed: every row is accounted for"
    if report.held or report.state == "held":
        until = "by a fuse until a person decides" if report.fused else "until a person approves"
        return f"not sealed: {counted(report.held, 'change')} held {until}"
    if report.state == "reading":
        return _still_open(report)
    if report.state != "released":
        return "not sealed: it has been read whole, and its changes are being published"
    if report.pending:
        return f"not sealed yet: {counted(report.pending, 'change')} pending"
    return "not sealed: the counts do not balance, which must never happen; please report it"


def _still_open(report: ImportReport) -> str:
    if report.kind != "csv":
        who = "server" if report.kind == "http" else "listener"
        return f"open: its {who} is still running, or was killed and goes on when it is started again"
    return "not sealed: its file has not been read to the end; run the same file again to go on"


def _rejected_events(report: ImportReport) -> str:
    """Say where the rejects of an event source are; those of a file are where its run has said."""
    return "" if report.kind == "csv" else f"; see `optrelay rejected-events list --import {report.import_id}`"


def _letters(report: ImportReport) -> str:
    """Say where the dead letters of an import are, or that all were discarded."""
    if report.discarded == report.dead:
        return "discarded, so nothing is left to do"
    look = f"see `optrelay dead-letters list --import {report.import_id}`"
    return f"{report.discarded:,} of them discarded; {look}" if report.discarded else look


def show_codes(
    screen: Screen,
    what: str,
    counted: Mapping[str, int],
    reasons: Mapping[str, str],
    where: str = "",
    *,
    between: Iterable[str] = (),
) -> None:
    """Print codes with their numbers, the commonest first, where to look, and what they mean.

    A single code has its meaning behind it; each of several has a line for it, below the lines in `between`.
    """
    ordered = Counter(counted).most_common()
    counts = " · ".join(f"{count:,} × {code}" for code, count in ordered)
    meanings = [(code, reasons[code]) for code, _ in ordered if reasons.get(code)]
    if len(ordered) == 1 and meanings:
        counts, meanings = f"{counts}: {meanings[0][1]}", []
    screen.show(f"  {what}: {counts}{where}", "yellow")
    for line in (*between, *(f"{code}: {reason}" for code, reason in meanings)):
        screen.show(f"    {line}")


def rows_in_words(report: ImportReport) -> str:
    """Return what the rows of an import were, as a sum."""
    parts = [f"{report.accepted:,} accepted", f"{report.rejected:,} rejected", counted(report.duplicates, "duplicate")]
    parts += [f"{report.skipped:,} skipped"] if report.skipped else []
    return f"{counted(report.rows, 'row')} = {' + '.join(parts)}"


def stamped_in_words(report: ImportReport) -> str:
    """Say how many opt-outs were not sent because of the export's time, and how to send them."""
    moment = "" if report.stamped_at is None else f" {from_micros(report.stamped_at):%Y-%m-%d %H:%M:%S} UTC"
    message = f"{counted(report.stamped, 'opt-out')} unchanged only because{moment} stands on most rows"
    return f"{message}: it is taken for the export's time; `--reassert always` sends them"


def _accepted(report: ImportReport) -> str:
    names = ("applied", "unchanged", "superseded", "dead", "pending", *(["withdrawn"] if report.withdrawn else []))
    return f"{report.accepted:,} accepted = " + " + ".join(f"{getattr(report, name):,} {name}" for name in names)


def _calls(report: ImportReport, took: float | None) -> str:
    if not report.sealed:
        return counted(report.calls, "API call")
    if took is not None:
        return f"{counted(report.calls, 'API call')} in all, this run took {duration_text(took)}"
    return f"{counted(report.calls, 'API call')} in {duration_text(report.seconds)}"
