"""Putting changes into a subscription: what we do not own stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from consent.change import Action
from consent.ledger.queue.tasks import ClaimedChange
from consent.outcome import Outcome, Rejected, Unchanged
from worker.providers.infobip.document import Document, holds, item_of, key_of, listed
from worker.providers.infobip.slots import FIELD, SETS, read_slot

MOST_MEMBERS = 255
"""Members of one set (page "Update subscription": events, criteria, resources and users hold 0..255 items)."""

FILTERS = ("criteria", "resources", "users")
"""The sets that narrow what a subscription matches: it matches everything where they are empty (our inference)."""

TOO_MANY = Rejected("too_many_members", f"the subscription would hold more than {MOST_MEMBERS} members of this kind")
LAST_FILTER = Rejected(
    "last_filter",
    "without its last criterion, resource or user the subscription would match everybody; "
    "set the connection's ALLOW_EMPTY_FILTERS to true if that is meant",
)


@dataclass(slots=True)
class Merged:
    """The body of a PUT, the changes that it carries, and what became of the others."""

    body: dict[str, Any]
    carried: list[ClaimedChange] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)


def merge(document: Document, changes: Sequence[ClaimedChange], *, allow_empty_filters: bool) -> Merged:
    """Return the whole subscription with the changes in it, as a PUT takes it.

    Whether a PUT clears or keeps what it leaves out is not documented, so nothing is left out; of the profile it takes
    only the id.
    """
    merged = Merged({name: value for name, value in document.items() if name != "subscriptionId" and value is not None})
    merged.body["profile"] = {"profileId": document["profile"]["profileId"]}
    merged.body.setdefault("events", [])
    merged.outcomes.update({change.id: Unchanged() for change in changes if holds(document, change)})
    fresh = [change for change in changes if change.id not in merged.outcomes]
    for kind in SETS:
        mine = [change for change in fresh if read_slot(change.slot).kind == kind]
        if mine:
            _merge_set(merged, kind, mine, keep_one=kind in FILTERS and not allow_empty_filters)
    for change in fresh:
        if read_slot(change.slot).kind == FIELD:
            _set_field(merged, change)
    return merged


def _merge_set(merged: Merged, kind: str, changes: Sequence[ClaimedChange], *, keep_one: bool) -> None:
    out = {read_slot(change.slot).member: change for change in changes if change.action is Action.OPTOUT}
    into = [change for change in changes if change.action is Action.OPTIN]
    before = listed(merged.body, kind)
    if keep_one and not into and all(key_of(kind, item) in out for item in before):
        merged.outcomes[out.popitem()[1].id] = LAST_FILTER
    kept = [item for item in before if key_of(kind, item) not in out]
    room = max(0, MOST_MEMBERS - len(kept))
    merged.outcomes.update({change.id: TOO_MANY for change in into[room:]})
    added = [item_of(kind, read_slot(change.slot).member) for change in into[:room]]
    if out or added:
        merged.body[kind] = [*kept, *added]
        merged.carried += [*out.values(), *into[:room]]


def _set_field(merged: Merged, change: ClaimedChange) -> None:
    name = read_slot(change.slot).member
    value = change.details[name]
    if name == "profile_id":
        merged.body["profile"] = {"profileId": value}
    else:
        merged.body[name] = value
    merged.carried.append(change)
