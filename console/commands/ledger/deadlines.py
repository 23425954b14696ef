"""The command `deadlines`: which opt-outs will be late, and how many were lately."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from consent.ledger.queries.backlog import StuckOptOuts
from consent.ledger.queue.deadlines import DeadlineRecord
from consent.settings import Settings
from consent.times import from_micros
from console.exit_codes import ExitCode
from console.ledger_access import reading_ledger
from console.ui.decisions import show_fuses
from console.ui.outlook import COUNTS, Outlook, outlooks, show_outlooks
from console.ui.screen import Screen, table
from console.ui.text import counted


def show_deadlines(settings: Settings, screen: Screen, *, check: bool = False, verify: bool = False) -> ExitCode:
    """Print the forecast; with `check`, return 1 if a deadline is or will be missed. `verify` counts anew first."""
    with reading_ledger(settings) as ledger:
        wrong = ledger.deadlines.wrong_cells() if verify else 0
        if wrong:
            ledger.deadlines.rebuild_cells()
        health = {one.name: one for one in ledger.breakers.all_health()}
        found = outlooks(settings, ledger, ledger.deadlines.open_cells(), health)
        records = ledger.deadlines.records()
        stuck = ledger.queries.stuck_optouts()
        fuses, now = ledger.fuses.tripped(), ledger.now()
    if verify:
        message = f"{counted(wrong, 'count')} of deadlines were wrong and have been put right"
        screen.show(message if wrong else "all counts of deadlines are right")
    _show(screen, found)
    show_fuses(screen, fuses)
    _show_stuck(screen, stuck)
    _show_records(screen, records)
    report: dict[str, Any] = {"at": from_micros(now).isoformat(), "buckets": [one.as_json() for one in found]}
    report |= {"stuck": [one.as_json() for one in stuck], "fuses": [one.as_json() for one in fuses]}
    report["last_30_days"] = [_record_json(one) for one in records]
    screen.print_json(report | ({"wrong_counts": wrong} if verify else {}))
    late = any(one.forecast.at_risk or one.forecast.breached for one in found) or any(one.late for one in stuck)
    return ExitCode.IMPERFECT if wrong or (check and late) else ExitCode.WELL


def _show(screen: Screen, found: Sequence[Outlook]) -> None:
    counts = ("open", "due in 24 h", "will be late", "late")
    listed = table("bucket", "rule", *counts, title="Customers to be opted out", right=counts)
    for one in found:
        for _, rule in sorted(one.forecast.rules.items()):
            late = rule.at_risk or rule.breached
            numbers = (Text(f"{getattr(rule, name):,}", "bold red" if late else "") for name in COUNTS)
            listed.add_row(one.label, rule.rule, *numbers)
    if any(one.forecast.rules for one in found):
        screen.show(listed)
    else:
        screen.show("no opt-out is pending")
    show_outlooks(screen, found)


def _show_stuck(screen: Screen, found: Sequence[StuckOptOuts]) -> None:
    if not found:
        return
    counts = ("open", "due in 24 h", "late")
    listed = table("connection", "state", "rule", *counts, title="Opt-outs that wait for a person", right=counts)
    for one in found:
        style = "bold red" if one.late else ""
        numbers = (Text(f"{count:,}", style) for count in (one.open, one.due_in_24h, one.late))
        listed.add_row(one.connection, one.state, one.rule, *numbers)
    screen.show(listed)
    screen.show("their time goes on: see `optrelay dead-letters list` and `optrelay held`")


def _show_records(screen: Screen, records: Sequence[DeadlineRecord]) -> None:
    if not records:
        return
    names = ("in time", "late", "historic", "half within", "95 % within")
    listed = table("connection", "rule", *names, title="Opt-outs delivered in the last 30 days", right=names)
    for one in records:
        within = (_minutes(one.minutes(0.5)), _minutes(one.minutes(0.95)))
        listed.add_row(one.connection, one.rule, f"{one.met:,}", f"{one.late:,}", f"{one.historic:,}", *within)
    screen.show(listed)


def _record_json(one: DeadlineRecord) -> dict[str, Any]:
    within = {f"p{share}_minutes": one.minutes(share / 100) for share in (50, 95, 100)}
    counts = {name: getattr(one, name) for name in ("connection", "rule", "met", "late", "historic")}
    return counts | within


def _minutes(minutes: int | None) -> str:
    if minutes is None:
        return ""
    hour, day = 60, 1440
    if minutes < hour:
        return f"{minutes} min"
    return f"{math.ceil(minutes / hour)} h" if minutes < day else f"{math.ceil(minutes / day)} d"
