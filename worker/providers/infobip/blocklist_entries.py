"""What the blocklist shows of one person, and what an opt-in may remove of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from consent.change import from_micros
from consent.ledger.work import CustomerTask
from consent.outcome import Rejected
from worker.providers.infobip.blocklist_calls import Place, properties_of
from worker.providers.infobip.row import REMOVE_CHANNELS

OURS = "CUSTOM"
"""The source of entries made by calls like ours; MO, URL_OPT_OUT and CAMPAIGN come from the persons themselves."""

NEWER = Rejected("newer_optout", "an opt-out was recorded at Infobip after this opt-in was given, so it stays")
NOT_REMOVABLE = Rejected(
    "not_removable", "the person is also blocked on a channel where Infobip cannot remove it: name the channel"
)

Entry = Mapping[str, Any]


def entries_of(body: Mapping[str, Any] | None, task: CustomerTask) -> list[Entry] | None:
    """Return the entries that are the target's, or None if the body shows no list.

        {"results": [{"sender": "64350", "destination": "12022921994", "sourceType": "CUSTOM", "channel": "SMS",
         "accountKey": "8F07…", "createdDate": "2022-08-18T12:36:42.123Z"}], "paging": {…}}

    A target without channel or sender means all of them.
    """
    results = body.get("results") if body else None
    if not isinstance(results, list):
        return None
    return [entry for entry in results if isinstance(entry, dict) and _is_about(entry, task.address)]


def removal(entries: Sequence[Entry], task: CustomerTask) -> list[Place] | Rejected:
    """Return the entries to remove for an opt-in, or why none may be removed.

    The newest word wins here as well: what was recorded after the opt-in was given stays, unless it is an entry of
    exactly this target that a call like ours made, because ours may have been late.
    """
    given = from_micros(task.changes[0].effective_at)
    if any(_is_newer(entry, given) and not _is_own(entry, task.address) for entry in entries):
        return NEWER
    if any(entry.get("channel") not in (None, *REMOVE_CHANNELS) for entry in entries):
        return NOT_REMOVABLE
    return [Place(task, entry["destination"], properties_of(entry)) for entry in entries]


def _is_about(entry: Entry, address: Mapping[str, str]) -> bool:
    there = entry.get("destination")
    if not isinstance(there, str) or there.lstrip("+").casefold() != address["destination"].casefold():
        return False
    return all(entry.get(name) == address[name] for name in ("channel", "sender") if name in address)


def _is_own(entry: Entry, address: Mapping[str, str]) -> bool:
    same = all(entry.get(name) == address.get(name) for name in ("channel", "sender"))
    return same and entry.get("sourceType", OURS) == OURS


def _is_newer(entry: Entry, given: datetime) -> bool:
    try:
        created = datetime.fromisoformat(str(entry.get("createdDate")))
        return (created if created.tzinfo else created.replace(tzinfo=UTC)) > given
    except (ValueError, OverflowError):
        return False
