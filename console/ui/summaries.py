"""What became of imports: as sentences for people, and as the JSON object that programs read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from consent.change import from_micros
from consent.guards.fuse import FuseWay
from consent.ledger.queries.imports import ImportReport
from consent.ledger.review.compensations import UndoPlan
from consent.ledger.review.fuses import TrippedFuse
from consent.ledger.review.holds import HeldImport
from console.ui.screen import Screen
from console.ui.text import counted, duration_text, spoken

_SUMS = (
    *("rows", "accepted", "rejected", "duplicates", "applied", "unchanged"),
    *("superseded", "dead", "pending", "calls"),
)


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
    screen: Screen, report: ImportReport, rejects_file: str | None = None, *, took: float | None = None
) -> None:
    """Print what became of one import: every row in exactly one place.

    `took` is in seconds, where it is not the time from the import's start to its end: a later run went on with it.
    """
    screen.show(Text.assemble((report.name, "bold"), ("  import " + report.import_id, "dim")))
    screen.show(f"  {rows_in_words(report)}")
    screen.show(f"  {_accepted(report)}")
    screen.show(f"  {_calls(report, took)}; {seal(report)}", "green" if report.sealed else None)
    if report.stamped:
        screen.show(f"  {stamped_in_words(report)}", "yellow")
    show_findings(screen, report.findings)
    if report.held > report.fused or report.state == "held":
        show_ways_on(screen, report.import_id)
    if report.fused:
        words = f"  held by a fuse: {counted(report.fused, 'change')}, because the customers before drew one failure"
        screen.show(f"{words}: `optrelay held` says which", "red")
        show_fuse_ways(screen, report.import_id)
    if report.rejected:
        where = f"; fix them in {rejects_file} and import that" if rejects_file else _rejected_events(report)
        screen.show(f"  rejected: {codes(report.reject_codes, report.reject_reasons)}{where}", "yellow")
    if report.dead:
        screen.show(f"  dead: {codes(report.dead_codes, report.dead_reasons)}; {_letters(report)}", "yellow")


def show_findings(screen: Screen, findings: Sequence[Mapping[str, Any]]) -> None:
    """Print what the guards said of a file."""
    for one in findings:
        words = f"  {'held' if one['holds'] else 'notice'}: {one['guard']}: {one['says']}"
        screen.show(words, "red" if one["holds"] else "yellow")
        for example in one["examples"]:
            screen.show(f"    for example {spoken(example)}")


def show_ways_on(screen: Screen, import_id: str) -> None:
    """Print how to go on with an import that is held."""
    screen.show(f'  approve it:   optrelay approve {import_id} --why "…"   (or only a part: --only optouts)')
    screen.show(f'  or give it up: optrelay withdraw {import_id} --why "…"')


def show_fuse_ways(screen: Screen, what: str) -> None:
    """Print how to go on with what a fuse holds."""
    screen.show(f'  fixed? send it: optrelay reset-fuse {what} --why "…"   (or only a part: --only optouts)')
    screen.show(f'  or give it up:  optrelay reset-fuse {what} --why "…" --let-die')


RESET_IN_WORDS = {
    FuseWay.RESUME: "it is sent",
    FuseWay.OPTOUTS: "its opt-outs are sent, its opt-ins stay held",
    FuseWay.LET_DIE: "it dies without a call: `optrelay dead-letters list --code not_sent`",
    FuseWay.OFF: "it is sent, whatever is answered",
}
"""What becomes of what a fuse holds, once a person has decided."""


def fuse_in_words(one: TrippedFuse) -> str:
    """Name what a fuse is about, without a person."""
    if not one.origin:
        return f"connection {one.bucket}"
    what = f"import {one.import_id}" if one.origin == one.import_id else one.origin
    return f"{one.title}, {what}, in {one.bucket}"


def show_fuse(screen: Screen, one: TrippedFuse) -> None:
    """Print what a fuse holds: why, since when, what is late by it, and how to go on."""
    screen.show(Text.assemble((one.title, "bold"), (f"  {fuse_in_words(one)}", "dim")))
    what = {"optouts": "opt-ins held, opt-outs sent", "dying": "dying without a call"}.get(one.state.value, "held")
    screen.show(f"  {what} by a fuse since {from_micros(one.tripped_at):%Y-%m-%d %H:%M} UTC: {one.reason}", "red")
    screen.show(f"  pending: {held_by_fuse(one)}")
    show_fuse_ways(screen, (one.import_id if one.origin == one.import_id else one.origin) or str(one.bucket))


def show_fuses(screen: Screen, found: Sequence[TrippedFuse]) -> None:
    """Print in a line each what fuses hold: nothing of it is delivered until a person decides."""
    for one in found:
        words = f"held by a fuse: {fuse_in_words(one)}: {held_by_fuse(one)}"
        screen.show(Text(f"{words}: see `optrelay held`", "bold red"))


def held_by_fuse(one: TrippedFuse) -> str:
    """Say how many changes a fuse holds, and by when the first of the opt-outs must be delivered."""
    at_least = "at least " if one.at_least else ""
    return f"{at_least}{counted(one.optins, 'opt-in')} and {counted(one.optouts, 'opt-out')}{due_in_words(one)}"


def due_in_words(one: TrippedFuse) -> str:
    """Say by when the first of the opt-outs must be delivered: its clock runs while it is held."""
    if one.due_at is None or not one.optouts:
        return ""
    return f", which are late from {from_micros(one.due_at):%Y-%m-%d %H:%M} UTC on"


def show_held(screen: Screen, one: HeldImport) -> None:
    """Print an import of which something is held: why, what it would change, and how to go on."""
    screen.show(Text.assemble((one.name, "bold"), ("  import " + one.import_id, "dim")))
    screen.show(f"  held: {counted(one.optins, 'opt-in')} and {counted(one.optouts, 'opt-out')}")
    screen.show(
        f"  approved, it would change {counted(one.slots['all'], 'slot')}; --only optouts {one.slots['optouts']:,}, "
        f"--only optins {one.slots['optins']:,}"
    )
    show_findings(screen, one.findings)
    show_ways_on(screen, one.import_id)


def show_undo(screen: Screen, import_id: str, undo_id: str | None, plan: UndoPlan) -> None:
    """Print what undoing an import does, and what it cannot do."""
    by = f" by import {undo_id}" if undo_id else ""
    verb = "would be brought" if plan.undone and undo_id is None else "brought"
    screen.show(f"import {import_id}: {counted(plan.undone, 'slot')} {verb} back{by}")
    if plan.overtaken:
        screen.show(f"  {plan.overtaken:,} have a newer change, or were undone before; they stay as they are")
    if plan.repeated:
        screen.show(
            f"  {plan.repeated:,} of these say the same again, by import {plan.repeating}: if that is wrong, too, "
            "undo it as well",
            "yellow",
        )
    if plan.same:
        screen.show(f"  {plan.same:,} held the same before")
    if plan.opted_out:
        stay = "stays" if plan.opted_out == 1 else "stay"
        screen.show(
            f"  {counted(plan.opted_out, 'slot')} {stay} opted out: --opt-in-again brings back who was in", "yellow"
        )
    if plan.no_value:
        have = "has" if plan.no_value == 1 else "have"
        screen.show(f"  {counted(plan.no_value, 'slot')} {have} no earlier value to go back to", "yellow")
    for one in plan.listed:
        screen.show(f"    {spoken(one)}")


def show_totals(screen: Screen, reports: Sequence[ImportReport]) -> None:
    """Print the sum of several imports."""
    if len(reports) > 1:
        sums = {name: sum(getattr(one, name) for one in reports) for name in _SUMS}
        words = ", ".join(f"{sums[name]:,} {name}" for name in _SUMS)
        screen.show(Text.assemble((f"{len(reports)} imports together: ", "bold"), words))


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


def codes(counted: Mapping[str, int], reasons: Mapping[str, str]) -> str:
    """Return codes with their numbers and what they mean, the commonest first."""
    said = (f"{count:,} × {code}" + _meaning(reasons.get(code)) for code, count in Counter(counted).most_common())
    return " · ".join(said)


def _meaning(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def rows_in_words(report: ImportReport) -> str:
    """Return what the rows of an import were, as a sum."""
    parts = [f"{report.accepted:,} accepted", f"{report.rejected:,} rejected", counted(report.duplicates, "duplicate")]
    parts += [f"{report.skipped:,} skipped"] if report.skipped else []
    return f"{counted(report.rows, 'row')} = {' + '.join(parts)}"


def stamped_in_words(report: ImportReport) -> str:
    """Say how many opt-outs were not sent because of the export's time, and how to send them."""
    moment = "" if report.stamped_at is None else f" {from_micros(report.stamped_at):%Y-%m-%d %H:%M:%S} UTC"
    words = f"{counted(report.stamped, 'opt-out')} unchanged only because{moment} stands on most rows"
    return f"{words}: it is taken for the export's time; `--reassert always` sends them"


def _accepted(report: ImportReport) -> str:
    names = ("applied", "unchanged", "superseded", "dead", "pending", *(["withdrawn"] if report.withdrawn else []))
    return f"{report.accepted:,} accepted = " + " + ".join(f"{getattr(report, name):,} {name}" for name in names)


def _calls(report: ImportReport, took: float | None) -> str:
    if not report.sealed:
        return counted(report.calls, "API call")
    if took is not None:
        return f"{counted(report.calls, 'API call')} in all, this run took {duration_text(took)}"
    return f"{counted(report.calls, 'API call')} in {duration_text(report.seconds)}"
