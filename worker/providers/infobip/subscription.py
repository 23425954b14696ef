"""The calls about one subscription and what their replies mean: look, merge, write, look again where it matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from consent.change import Action
from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from consent.outcome import Applied, Outcome, Rejected, TryLater, Well
from worker.providers import verdicts
from worker.providers.contract import Answer, Calls, Reply, Request
from worker.providers.infobip.blame import blamed
from worker.providers.infobip.body import Body, parse_body
from worker.providers.infobip.channel_events import offers
from worker.providers.infobip.document import Document, document_of, holds
from worker.providers.infobip.judging import Meaning, Next, judge, undivided, verdict
from worker.providers.infobip.merging import merge
from worker.providers.infobip.sharing import companies, halves
from worker.providers.infobip.slots import FIELD, read_slot, slot_text

LOOK, WRITE, VERIFY = "look", "write", "verify"
PURPOSES = (LOOK, WRITE, VERIFY)
"""Why a call is made: to see what a subscription holds, to write it, to see whether it holds what was written."""

MOST_TOGETHER = 1024
"""Changes that are put into one subscription at once."""

NO_SUBSCRIPTION = ("no_such_subscription", "Infobip has no such subscription for this channel")
NO_PROFILE = Rejected("no_such_profile", "Infobip has no notification profile with this profile_id")
NOT_SHOWN = ("unconfirmed", "Infobip took the change, but its subscription does not show it")
EVENT_IGNORED = Rejected(
    "event_ignored", "Infobip ignored this event: it is not in the published table of the channel's events"
)


def series_of_subscription(task: CustomerTask) -> tuple[Request, ...]:
    """Return a look at the subscription for all of its changes; what failed often is put in by itself."""
    groups = companies(task.changes, MOST_TOGETHER, lambda change: change.attempts)
    return tuple(look(task, group) for group in groups)


def calls_for_subscription(task: CustomerTask, connection: ConnectionSettings) -> Calls:
    """Foretell how many calls a subscription needs: looks, and where something changes writes and looks after them."""
    looks = series_of_subscription(task)
    channel = task.address["channel"]
    after = [connection.verify or not all(_is_offered(channel, one) for one in look.changes) for look in looks]
    return Calls(len(looks), 2 * len(looks) + sum(after))


def read_subscription(request: Request, reply: Reply, connection: ConnectionSettings) -> Answer:
    """Say what a reply means for each change of its request."""
    body = parse_body(reply.text)
    meaning = judge(reply.status, body)
    if meaning.next is Next.GONE:
        return _gone(request)
    if meaning.next is Next.FAULTY and request.purpose == WRITE:
        return _fault(request, body, meaning)
    if meaning.next is not Next.LOOK:
        return verdict(meaning, request, reply)
    if request.purpose == WRITE:
        return _written(request, reply, body, connection)
    document = document_of(body.json)
    if document is None:
        return verdict(replace(meaning, code="unreadable"), request, reply)
    return (_merged if request.purpose == LOOK else _verified)(request, reply, document, connection)


def look(task: CustomerTask, changes: Sequence[ClaimedChange]) -> Request:
    """GET …/{channel}/{subscriptionId}; page "Update subscription" has the same path for the PUT."""
    channel, id_ = (quote(task.address[name], safe="") for name in ("channel", "subscription_id"))
    return Request("GET", f"/subscriptions/1/subscription/{channel}/{id_}", (task,), tuple(changes), LOOK)


def _merged(request: Request, reply: Reply, document: Document, connection: ConnectionSettings) -> Answer:
    merged = merge(document, request.changes, allow_empty_filters=connection.allow_empty_filters)
    put = replace(request, method="PUT", changes=tuple(merged.carried), purpose=WRITE, json=merged.body)
    return Answer(Well(), merged.outcomes, (put,) if merged.carried else (), str(reply.status))


def _written(request: Request, reply: Reply, body: Body, connection: ConnectionSettings) -> Answer:
    """Read `{"subscriptionId": "…", "profile": {…}}`: it tells no events or criteria, nor reliably the profile."""
    channel = request.tasks[0].address["channel"]
    known = isinstance((body.json or {}).get("subscriptionId"), str)
    if known and not connection.verify and all(_is_offered(channel, change) for change in request.changes):
        return Answer(Well(), verdicts.all_of(request.changes, Applied()), code=str(reply.status))
    return Answer(Well(), {}, (replace(request, method="GET", purpose=VERIFY, json=None),), str(reply.status))


def _verified(request: Request, reply: Reply, document: Document, _: ConnectionSettings) -> Answer:
    channel = request.tasks[0].address["channel"]
    outcomes: dict[int, Outcome] = {}
    for change in request.changes:
        if holds(document, change):
            outcomes[change.id] = Applied()
        elif _is_offered(channel, change):
            outcomes[change.id] = TryLater(*NOT_SHOWN, counts=True, after=reply.retry_after)
        else:
            outcomes[change.id] = EVENT_IGNORED
    shown = all(isinstance(outcome, Applied) for outcome in outcomes.values())
    return Answer(Well(), outcomes, code=str(reply.status) if shown else NOT_SHOWN[0])


def _is_offered(channel: str, change: ClaimedChange) -> bool:
    kind, member = read_slot(change.slot)
    return kind != "events" or change.action is Action.OPTOUT or offers(channel, member)


def _fault(request: Request, body: Body, meaning: Meaning) -> Answer:
    """Reject what the reply names, and look again for the rest; where it names nothing, each half by itself."""
    told = blamed(request, body.violations)
    if not told and len(request.changes) == 1:
        return undivided(meaning, request)
    return _without(request, told, meaning.code)


def _gone(request: Request) -> Answer:
    """Tell a subscription that is not there from a profile that is not: a look comes before each write."""
    named = [change for change in request.changes if change.slot == _PROFILE]
    if request.purpose != WRITE or not named:
        return verdicts.rejected(request, *NO_SUBSCRIPTION)
    return _without(request, verdicts.all_of(named, NO_PROFILE), NO_PROFILE.code)


def _without(request: Request, told: Mapping[int, Outcome], code: str) -> Answer:
    rest = [change for change in request.changes if change.id not in told]
    further = [look(request.tasks[0], some) for some in ([rest] if told else halves(rest)) if some]
    return Answer(Well(), told, tuple(further), code)


_PROFILE = slot_text(FIELD, "profile_id")
