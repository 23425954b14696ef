"""What the blocklist shows of one person, and what has to be made and removed for what the person said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from consent.change import Action, from_micros
from consent.connection import ConnectionSettings
from consent.identifiers.identity import fold_destination
from consent.ledger.merge import Word, rank
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from consent.outcome import Applied, Outcome, Rejected, Unchanged
from consent.times import UnusableTime, in_utc, read_time
from worker.providers.infobip.blocklist_calls import Item, entry_of, properties_of
from worker.providers.infobip.row import REMOVE_CHANNELS
from worker.providers.infobip.slots import INEXPRESSIBLE, Place, blocked_text, read_place

OURS = "CUSTOM"
"""The source of entries made by calls like ours; MO, URL_OPT_OUT and CAMPAIGN come from the persons themselves."""

NEWER = Rejected("newer_optout", "an opt-out was recorded at Infobip after this opt-in was given, so it stays")
NOT_REMOVABLE = Rejected(
    "not_removable", "the person is also blocked on a channel where Infobip cannot remove it: name the channel"
)

Entry = Mapping[str, Any]


@dataclass(slots=True)
class Seen:
    """What follows from a person's entries: fates of changes, entries to remove, and entries that are missing."""

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    remove: list[Item] = field(default_factory=list)
    absent: list[Item] = field(default_factory=list)


def entries_of(body: Mapping[str, Any] | None, task: CustomerTask) -> list[Entry] | None:
    """Return the person's entries, or None if the body shows no list.

    {"results": [{"sender": "64350", "destination": "12022921994", "sourceType": "CUSTOM", "channel": "SMS",
     "accountKey": "8F07…", "createdDate": "2022-08-18T12:36:42.123Z"}], "paging": {…}}
    """
    results = body.get("results") if body else None
    if not isinstance(results, list):
        return None
    person = fold_destination(task.address["destination"])
    return [entry for entry in results if isinstance(entry, dict) and _destination(entry) == person]


def weigh(entries: Sequence[Entry], task: CustomerTask, connection: ConnectionSettings) -> Seen:
    """Say what follows from a person's entries for each of the task's changes."""
    seen, wrote = Seen(), connection.verify and task.tries > 0
    for change in task.changes:
        if change.action is Action.OPTOUT:
            if any(_place(entry) == read_place(change.slot) for entry in entries):
                seen.outcomes[change.id] = Applied()
            else:
                seen.absent.append(entry_of(task, change, connection))
    left = list(entries)
    # The widest first: what it takes away is in nobody's way any more.
    for change in sorted((one for one in task.changes if one.action is Action.OPTIN), key=_width):
        found = _removal(left, task, change)
        if isinstance(found, Rejected):
            seen.outcomes[change.id] = found
            continue
        left = [entry for entry in left if entry not in found]
        seen.remove += [Item(task, change, entry["destination"], properties_of(entry)) for entry in found]
        if not found:
            seen.outcomes[change.id] = Applied() if wrote else Unchanged()
    return seen


def _removal(entries: Sequence[Entry], task: CustomerTask, change: ClaimedChange) -> list[Entry] | Rejected:
    """Return the entries to remove for an opt-in, or why none may be removed.

    The newest word wins here as well. Of an entry that a call like ours made, the ledger knows since when it holds:
    its date at Infobip is only that of our call, which may have been late. Of any other the date decides.
    """
    given, own = from_micros(change.effective_at), Word(change.effective_at, change.action, change.id)
    found: list[Entry] = []
    for entry in entries:
        place, word = _place(entry), _word_of(entry, task)
        if word is None and _is_newer(entry, given) and _meets(change, place):
            return NEWER
        if word is not None and word.action is Action.OPTOUT and rank(word) > rank(own):
            continue
        if _covers(change, place) or (word is not None and word.action is Action.OPTIN and _meets(change, place)):
            found.append(entry)
        elif _meets(change, place):
            return INEXPRESSIBLE
    if any(entry.get("channel") not in (None, *REMOVE_CHANNELS) for entry in found):
        return NOT_REMOVABLE
    return found


def _word_of(entry: Entry, task: CustomerTask) -> Word | None:
    """Return the newest word about an entry's own slot, if the entry is one that our calls make."""
    return task.standing.get(blocked_text(_place(entry))) if entry.get("sourceType", OURS) == OURS else None


def _place(entry: Entry) -> Place:
    return Place(*(str(entry.get(name) or "") for name in Place._fields))


def _width(change: ClaimedChange) -> int:
    return sum(map(bool, read_place(change.slot) or ()))


def _covers(change: ClaimedChange, place: Place) -> bool:
    return (read_place(change.slot) or Place()).covers(place)


def _meets(change: ClaimedChange, place: Place) -> bool:
    return (read_place(change.slot) or Place()).meets(place)


def _destination(entry: Entry) -> str | None:
    there = entry.get("destination")
    return fold_destination(there) if isinstance(there, str) else None


def _is_newer(entry: Entry, given: datetime) -> bool:
    """Whether an entry was made after an opt-in was given; one whose date cannot be read may have been."""
    created = entry.get("createdDate")
    if created is None:
        return False
    try:
        return in_utc(read_time(str(created))) > given
    except UnusableTime as error:
        return error.code != "time_too_old"
