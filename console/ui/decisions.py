"""What waits for a person, and what people have decided: held imports, fuses, imports that are undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from consent.guards.fuse import FuseWay
from consent.guards.rules import Guard
from consent.ledger.queries.imports import ImportReport
from consent.ledger.review.fuses import TrippedFuse
from consent.ledger.review.holds import HeldImport
from consent.ledger.review.undo_plan import BackTo, UndoPlan
from consent.times import from_micros
from console.ui.screen import Screen
from console.ui.text import counted, spoken

GUARD_IN_WORDS = {
    Guard.RESURRECTS: "opts people in again who are opted out",
    Guard.UNDATED_OPTINS: "opts people in again who are opted out, without a time of their own",
    Guard.MASS_OPTOUT: "opts out very many people",
    Guard.EMPTY: "has no rows",
    Guard.SHRUNKEN: "has far fewer rows than usual",
    Guard.SWOLLEN: "has far more rows than usual",
    Guard.REJECTS: "has many rows that are rejected",
    Guard.HEADER: "lacks a column that the last file had",
    Guard.MANIFEST: "is not what its manifest says",
    Guard.FAILED: "could not be checked",
    Guard.OVERRULING_OPTINS: "opts people in again, event by event, who are opted out",
}
"""What each guard says of a file or a sender, for a person who does not know the guards' names."""


def guard_in_words(guard: str) -> str:
    """Return a guard's name with what it means; the name alone for one of another version."""
    known = guard in {one.value for one in Guard}
    return f"{guard} ({GUARD_IN_WORDS[Guard(guard)]})" if known else guard


def show_findings(screen: Screen, findings: Sequence[Mapping[str, Any]], decided: str = "") -> None:
    """Print what the guards said of a file, and what holds in place of "held": what was decided, or would be."""
    held = decided or "held"
    for one in findings:
        message = f"  {held if one['holds'] else 'notice'}: {one['guard']}: {one['says']}"
        screen.show(message, "red" if one["holds"] and not decided.startswith("was") else "yellow")
        meaning = guard_in_words(one["guard"]).removeprefix(one["guard"]).strip(" ()")
        if meaning not in {"", one["says"]}:
            screen.show(f"    {meaning}", "dim")
        for example in one["examples"]:
            screen.show(f"    for example {spoken(example)}")


def show_ways_back(screen: Screen, report: ImportReport) -> None:
    """Print what to do about opt-outs that a guard noticed and let through, should they be a mistake."""
    noticed = [one for one in report.findings if one["guard"] == Guard.MASS_OPTOUT.value and not one["holds"]]
    if noticed and report.undone_at is None:
        stop = "`optrelay pause CONNECTION --why …` stops what is pending, " if report.pending else ""
        undo = f"`optrelay undo {report.import_id} --dry-run` says what can be brought back"
        screen.show(f"    a mistake? {stop}{undo}", "dim")


def decided_in_words(report: ImportReport) -> str:
    """Say what people have decided about an import that was held."""
    if not report.withdrawn:
        return f"was held, {'approved' if report.state != 'withdrawn' else 'withdrawn'} since"
    return f"was held, {f'{report.withdrawn:,} ' * (report.withdrawn != report.accepted)}withdrawn since"


def show_ways_on(screen: Screen, import_id: str, more: str = "   (what that changes: optrelay held)") -> None:
    """Print how to go on with an import that is held; `more` stands behind how to approve it."""
    screen.show(f'  approve it:   optrelay approve {import_id} --why "…"{more}')
    screen.show(f'  or give it up: optrelay withdraw {import_id} --why "…"')


def show_fuse_ways(screen: Screen, what: str, more: str = "") -> None:
    """Print how to go on with what a fuse holds; `more` stands behind how to send it."""
    screen.show(f'  fixed? send it: optrelay reset-fuse {what} --why "…"{more}')
    screen.show(f'  or give it up:  optrelay reset-fuse {what} --why "…" --let-die')


def _part(optins: int, optouts: int) -> str:
    """Say how to go on with a part, if there are both."""
    return "   (or only a part: --only optouts)" if optins and optouts else ""


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
    state = {"optouts": "opt-ins held, opt-outs sent", "dying": "dying without a call"}.get(one.state.value, "held")
    screen.show(f"  {state} by a fuse since {from_micros(one.tripped_at):%Y-%m-%d %H:%M} UTC: {one.reason}", "red")
    screen.show(f"  pending: {held_by_fuse(one)}")
    what = (one.import_id if one.origin == one.import_id else one.origin) or str(one.bucket)
    show_fuse_ways(screen, what, _part(one.optins, one.optouts))


def show_fuses(screen: Screen, found: Sequence[TrippedFuse]) -> None:
    """Print in a line each what fuses hold: nothing of it is delivered until a person decides."""
    for one in found:
        message = f"held by a fuse: {fuse_in_words(one)}: {held_by_fuse(one)}"
        screen.show(Text(f"{message}: see `optrelay held`", "bold red"))


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
    parts = f"; --only optouts {one.slots['optouts']:,}, --only optins {one.slots['optins']:,}"
    both = parts if one.optins and one.optouts else ""
    screen.show(f"  approved, it would change {counted(one.slots['all'], 'slot')}{both}")
    show_findings(screen, one.findings)
    show_ways_on(screen, one.import_id, _part(one.optins, one.optouts))


def show_undo(screen: Screen, import_id: str, undo_id: str | None, plan: UndoPlan) -> None:
    """Print what undoing an import does, and what it cannot do."""
    by = f" by import {undo_id}" if undo_id else ""
    verb = "would be brought" if plan.undone and undo_id is None else "brought"
    screen.show(f"import {import_id}: {counted(plan.undone, 'slot')} {verb} back{by}")
    for line in back_in_words(plan) or ["there is nothing to bring back"]:
        screen.show(f"  {line}")
    if plan.overtaken:
        verbs = (
            ("has", "was", "it stays as it is") if plan.overtaken == 1 else ("have", "were", "they stay as they are")
        )
        screen.show(f"  {plan.overtaken:,} {verbs[0]} a newer change, or {verbs[1]} undone before; {verbs[2]}")
    if plan.repeated:
        screen.show(
            f"  {plan.repeated:,} of these {'says' if plan.repeated == 1 else 'say'} the same again, by import "
            f"{plan.repeating}: if that is wrong, too, undo it as well",
            "yellow",
        )
    if plan.same:
        screen.show(f"  {plan.same:,} held the same before")
    if plan.opted_out:
        stay = "stays" if plan.opted_out == 1 else "stay"
        screen.show(f"  {counted(plan.opted_out, 'slot')} {stay} opted out: {opted_out_in_words(plan)}", "yellow")
    if plan.no_value:
        have = "has" if plan.no_value == 1 else "have"
        screen.show(f"  {counted(plan.no_value, 'slot')} {have} no earlier value to go back to", "yellow")
    more = plan.repeated + plan.opted_out + plan.no_value - len(plan.listed)
    for line in (*map(spoken, plan.listed), *([f"and {more:,} more"] if more else [])):
        screen.show(f"    {line}")


BACK_TO = {
    BackTo.OPTED_IN: "opted in, as before",
    BackTo.OPTED_OUT: "opted out, as before",
    BackTo.NEVER_SAID: "opted out, because nothing was said of them before",
    BackTo.EARLIER_VALUE: "an earlier value",
}
"""What undoing takes a slot back to."""


def opted_out_in_words(plan: UndoPlan) -> str:
    """Say why slots that an import opted out stay so, and which of them could be opted in again."""
    if not plan.were_in:
        return "before the import nothing was said, or the same"
    return (
        f"--opt-in-again brings back the {plan.were_in:,} that {'was' if plan.were_in == 1 else 'were'} opted in before"
    )


def back_in_words(plan: UndoPlan) -> list[str]:
    """Say in a line each how many slots undoing takes back to each state, and which imports had said that."""
    lines = []
    for state, slots in plan.back_to.items():
        named = [f"{one.slots:,} by {one.name}, import {one.import_id}" for one in plan.shares if one.state is state]
        by = f" ({'; '.join(named)})" if slots and state is not BackTo.NEVER_SAID else ""
        lines += [f"{slots:,} back to {BACK_TO[state]}{by}"] if slots else []
    return lines
