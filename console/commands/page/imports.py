"""Imports: the list, one in full, and what people decide about it: approve, withdraw, undo."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

from starlette.responses import Response, StreamingResponse

from consent.change import Action
from consent.ledger.ledger import Ledger
from consent.ledger.queries.imports import ImportReport
from consent.ledger.queries.pages import PAGE
from consent.ledger.review.holds import Decided, Decision, NotAsExpected, NothingHeld, SamePerson
from consent.ledger.review.undo import NotUndone
from console.commands.ledger.status import Overview, overview
from console.commands.page.access import Refused
from console.commands.page.visit import Mistake, Visit, key_of, not_found
from console.ui.decisions import back_in_words
from console.ui.text import counted
from producers.files.csv_injection import escape

_ONLY = {"all": None, "optouts": Action.OPTOUT, "optins": Action.OPTIN}
_AT_ONCE = 1_000
_ENTRIES = 20


def show_all(visit: Visit) -> Response:
    """Show the imports, the newest first, a page at a time."""
    found = visit.ledger.queries.imports_page(visit.query.get("before"), PAGE + 1)
    return visit.page(
        "imports.html",
        imports=found[:PAGE],
        more=len(found) > PAGE,
        is_first="before" not in visit.query,
        fused={one.import_id for one in visit.ledger.fuses.tripped(1)},
    )


def show(visit: Visit) -> Response:
    """Show one import."""
    return _shown(visit)


class _Share(NamedTuple):
    """One part of the bar: its name, how many rows or changes, and where it lies, in hundredths of the whole."""

    name: str
    amount: int
    begins: float
    width: float
    means: str


_MEANINGS = {
    "applied": "the provider confirmed them",
    "unchanged": "the provider held them already: no call was needed",
    "superseded": "a newer change of the same slot won",
    "pending": "still to be delivered",
    "held": "wait for a person to decide",
    "dead": "need a person: dead letters",
    "withdrawn": "a person gave them up",
    "rejected": "could not be understood; nothing of them was recorded",
    "duplicates": "were recorded before",
    "skipped": "the feed leaves them out",
}


def _shares(report: ImportReport) -> list[_Share]:
    counts = {name: getattr(report, name) for name in _MEANINGS} | {"pending": report.pending - report.held}
    whole, begins, shares = sum(counts.values()) or 1, 0.0, []
    for name, means in _MEANINGS.items():
        width = 100 * counts[name] / whole
        if counts[name]:
            shares.append(_Share(name, counts[name], round(begins, 3), round(width, 3), means))
        begins += width
    return shares


def _shown(visit: Visit, status: HTTPStatus = HTTPStatus.OK, mistake: str = "", of: str = "") -> Response:
    import_id, queries = visit.path["id"], visit.ledger.queries
    report = queries.report(import_id)
    if report is None:
        raise not_found("import")
    rejects = (
        queries.rejects_page(import_id, key_of(visit.query.get("after")) or -1, PAGE + 1) if report.rejected else []
    )
    seen = overview(visit.parts.settings, visit.ledger) if report.pending > report.held else None
    return visit.page(
        "import.html",
        status,
        report=report,
        shares=_shares(report),
        held=visit.ledger.review.held_import(import_id) if report.held or report.state == "held" else None,
        fuses=[one for one in visit.ledger.fuses.tripped() if one.import_id == import_id],
        rejects=rejects[:PAGE],
        more_rejects=len(rejects) > PAGE,
        busy=[one for one in seen.buckets if one.left] if seen else [],
        finish_at=_finish(seen) if seen else None,
        entries=queries.audit_page(limit=_ENTRIES, import_id=import_id),
        mistake=mistake,
        of=of,
        form=visit.form,
        is_live=not report.is_settled,
        must_prove_name=visit.parts.settings.four_eyes and not visit.user.proves_name,
    )


def _finish(seen: Overview) -> int | None:
    """Return when all that waits is delivered at the present rate (microseconds); None if no one can tell.

    It is about all imports together: customers are delivered in the order of their deadlines, not of the imports.
    """
    stopped = any(one.obstacle for one in seen.buckets if one.left)
    ends = [one.forecast.finish_at for one in seen.outlooks if one.forecast.targets]
    return None if stopped or not ends else max(ends)


def download_rejects(visit: Visit) -> Response:
    """Send what is known of all rejected rows as CSV: where each stands and why, never what it says."""
    report = visit.ledger.queries.report(visit.path["id"])
    if report is None:
        raise not_found("import")
    headers = {"content-disposition": f'attachment; filename="{report.import_id}.rejects.csv"'}
    return StreamingResponse(_rejects_csv(visit.ledger, report.import_id), headers=headers, media_type="text/csv")


def _rejects_csv(ledger: Ledger, import_id: str) -> Iterator[str]:
    yield "line,column,code,message\n"
    after = -1
    while some := ledger.queries.rejects_page(import_id, after, _AT_ONCE):
        text = io.StringIO()
        cells = ([str(one.line), *map(escape, (one.column or "", one.code, one.message))] for one in some)
        csv.writer(text, lineterminator="\n").writerows(cells)
        yield text.getvalue()
        after = some[-1].line


def approve(visit: Visit) -> Response:
    """Let what is held be delivered, if the number that was typed is right."""
    _prove_name(visit)
    return _decided(visit, "approve", visit.ledger.review.approve)


def _prove_name(visit: Visit) -> None:
    """Refuse what two people have to agree on to an account of this machine."""
    if visit.parts.settings.four_eyes and not visit.user.proves_name:
        text = "OPTRELAY_FOUR_EYES is set, and the account of this machine proves no name: sign in at `optrelay serve`."
        raise Refused(HTTPStatus.FORBIDDEN, "A second person has to approve", text)


def _decision(visit: Visit, only: Action | None = None) -> Decision:
    """Return what a form decides; raise Mistake."""
    proven = visit.user.name if visit.parts.settings.four_eyes else None
    return Decision(visit.who, visit.why(), only, visit.number("expect"), proven)


def withdraw(visit: Visit) -> Response:
    """Give up what is held for good, if the number that was typed is right."""
    return _decided(visit, "withdraw", visit.ledger.review.withdraw)


_Result = Decided | NotAsExpected | NothingHeld | SamePerson | None
_DONE = {"approve": "approved", "withdraw": "withdrawn"}


def _decided(visit: Visit, what: str, decide: Callable[[str, Decision], _Result]) -> Response:
    import_id = visit.path["id"]
    try:
        only = _only(visit) if what == "approve" else None
        decision = _decision(visit, only)
    except Mistake as error:
        return _shown(visit, HTTPStatus.UNPROCESSABLE_ENTITY, str(error), what)
    match decide(import_id, decision):
        case None:
            raise not_found("import")
        case NotAsExpected(slots):
            message = (
                f"Nothing was done: it would change {counted(slots, 'slot')} now, and you typed {decision.expect:,}."
            )
            return _shown(visit, HTTPStatus.CONFLICT, message, what)
        case SamePerson(name):
            text = f"OPTRELAY_FOUR_EYES is set, and {name} has imported it: another person has to approve it."
            raise Refused(HTTPStatus.FORBIDDEN, "A second person has to approve", text)
        case Decided(changes, slots):
            effect = "change" if what == "approve" else "would have changed"
            message = f"{counted(changes, 'change')} {_DONE[what]}, which {effect} {counted(slots, 'slot')}."
        case NothingHeld():
            message = "Nothing of it is held any more, so nothing was done."
    visit.ledger.intake.publish(import_id)
    return visit.go(f"/imports/{import_id}", _with_note(message, visit.parts.wake(visit.ledger)))


def _only(visit: Visit) -> Action | None:
    """Return which action is to be approved, None for both; raise Mistake if the form does not say it."""
    if (only := visit.form.get("only")) not in _ONLY:
        raise Mistake("Choose what is to be delivered.")
    return _ONLY[only or ""]


def plan_undo(visit: Visit) -> Response:
    """Show what undoing an import would do now."""
    return _undo_page(visit, opt_in_again=visit.query.get("opt_in_again") == "yes")


def _undo_page(
    visit: Visit, status: HTTPStatus = HTTPStatus.OK, mistake: str = "", *, opt_in_again: bool = False
) -> Response:
    report = visit.ledger.queries.report(visit.path["id"])
    if report is None:
        raise not_found("import")
    plan = visit.ledger.review.plan_undo(report.import_id, opt_in_again=opt_in_again)
    more: dict[str, Any] = {"opt_in_again": opt_in_again, "mistake": mistake, "form": visit.form}
    more["refused"] = visit.ledger.review.refuses_undo(report.import_id)
    return visit.page("undo.html", status, report=report, plan=plan, back=back_in_words(plan), **more)


def undo(visit: Visit) -> Response:
    """Bring back what each slot held before, if the number that was typed is right."""
    import_id, again = visit.path["id"], visit.form.get("opt_in_again") == "yes"
    if again:
        _prove_name(visit)
    try:
        decision = _decision(visit)
    except Mistake as error:
        return _undo_page(visit, HTTPStatus.UNPROCESSABLE_ENTITY, str(error), opt_in_again=again)
    result = visit.ledger.review.undo(import_id, decision, opt_in_again=again)
    if result is None:
        raise not_found("import")
    if isinstance(result, NotUndone):
        reason = result.reason
        if result.slots is not None:
            now = counted(result.slots, "slot")
            reason = f"nothing was done: it would undo {now} now, and not {decision.expect:,}, which you typed"
        return _undo_page(visit, HTTPStatus.CONFLICT, reason, opt_in_again=again)
    back = "; ".join(back_in_words(result.plan))
    message = (
        f"{counted(result.plan.undone, 'slot')} undone: {back}." if result.undo_id else "There was nothing to undo."
    )
    return visit.go(f"/imports/{result.undo_id or import_id}", _with_note(message, visit.parts.wake(visit.ledger)))


def _with_note(message: str, note: str) -> str:
    return f"{message} {note}".strip()
