"""From a reply to what becomes of each change: HTTP 200 is not proof."""

from __future__ import annotations

from collections.abc import Sequence

from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import WITNESS, ClaimedChange
from consent.outcome import Applied, Outcome, TryLater, Well
from worker.providers.capillary.body import Body, parse_body
from worker.providers.capillary.calls import ALONE, READBACK, each_alone, read_back
from worker.providers.capillary.codes import MEANINGS, ROW_FAILED, UNCONFIRMED, Meaning, Next
from worker.providers.capillary.judging import judge
from worker.providers.capillary.matching import failed_ones, proven, shown
from worker.providers.capillary.verdicts import rejected, verdict
from worker.providers.contract import Answer, Reply, Request
from worker.providers.verdicts import witnessed


def read(request: Request, reply: Reply, connection: ConnectionSettings) -> Answer:
    """Say what a reply means for each change of its request."""
    body = parse_body(reply.text)
    meaning = judge(reply.status, body)
    if request.purpose == WITNESS:
        return witnessed(reply, shown=meaning.next is Next.ROWS and body.is_capillary)
    if request.purpose == READBACK:
        return _read_back(request, reply, body, meaning)
    if meaning.next is Next.ALONE and len(request.changes) > 1:
        further = each_alone(request, request.changes, connection)
        return Answer(Well(), {}, tuple(further), meaning.code)
    if meaning.next is Next.ROWS:
        return _row_by_row(request, reply, body, connection)
    return verdict(meaning, request, reply)


def _row_by_row(request: Request, reply: Reply, body: Body, connection: ConnectionSettings) -> Answer:
    failed, stray = failed_ones(request.changes, body)
    failed_ids = {change.id for change in failed}
    # A failure that names none of our rows may be any of them: then the echo proves nothing.
    sure = set() if stray else proven(request.changes, body.echoes) - failed_ids
    outcomes: dict[int, Outcome] = dict.fromkeys(sorted(sure), Applied())
    if len(sure) == len(request.changes):
        return Answer(Well(), outcomes, code=str(reply.status))

    told = sure | failed_ids
    missing = [change for change in request.changes if change.id not in told]
    further = [read_back(request, missing)] if missing else []
    if request.purpose == ALONE:
        outcomes |= rejected(MEANINGS[ROW_FAILED], failed)
    else:
        further = [*each_alone(request, failed, connection), *further]
    return Answer(Well(), outcomes, tuple(further), _filed_under(reply.status, failed, missing))


def _filed_under(status: int, failed: Sequence[ClaimedChange], missing: Sequence[ClaimedChange]) -> str:
    if failed:
        return str(ROW_FAILED)
    return UNCONFIRMED.code if missing else str(status)


def _read_back(request: Request, reply: Reply, body: Body, meaning: Meaning) -> Answer:
    if meaning.next in (Next.SLOW_DOWN, Next.UNWELL, Next.DEAD) or meaning.code == "401":
        return verdict(meaning, request, reply)
    # Any other failure is only the read-back's: a connection that may write but not read must not be held up by it.
    echoes = body.echoes if meaning.next is Next.ROWS else ()
    seen = [change for change in request.changes if shown(change, request.tasks[0].changes, echoes)]
    later = TryLater(UNCONFIRMED.code, UNCONFIRMED.reason, counts=True, after=reply.retry_after)
    outcomes: dict[int, Outcome] = dict.fromkeys((change.id for change in request.changes), later)
    outcomes |= {change.id: Applied() for change in seen}
    return Answer(Well(), outcomes, code=str(reply.status) if len(seen) == len(outcomes) else UNCONFIRMED.code)
