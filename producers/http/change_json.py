"""A change and its outcomes as programs read them: over HTTP, and from `optrelay history` and `changes`."""

from __future__ import annotations

from consent.change import Action
from consent.ledger.queries.changes import ChangeReport
from consent.ledger.queries.outcomes import OutcomePage
from consent.times import from_micros
from producers.http import responses


def page_as_json(page: OutcomePage) -> responses.Outcomes:
    """Return a page of outcomes as programs read it."""
    outcomes: list[responses.Outcome] = [
        {**change_as_json(one.change), "at": from_micros(one.at).isoformat()} for one in page.outcomes
    ]
    return {"changes": outcomes, "cursor": page.cursor, "more": page.more}


def change_as_json(found: ChangeReport) -> responses.ChangeState:
    """Return a change as programs read it: what became of it, where it came from, and no address."""
    return {
        "id": found.id,
        "state": found.state,
        "superseded_by": found.superseded_by,
        "code": found.code,
        "reason": found.reason,
        "connection": found.connection,
        "slot": found.slot,
        "action": Action(found.action),
        "effective_at": from_micros(found.effective_at).isoformat(),
        "recorded_at": from_micros(found.recorded_at).isoformat(),
        "settled_at": from_micros(found.settled_at).isoformat() if found.settled_at is not None else None,
        "attempts": found.attempts,
        "discarded": found.discarded,
        "origin": {
            "import": found.import_id,
            "kind": found.import_kind,
            "name": found.import_name,
            "number": found.number,
        },
    }
