"""The three calls about people on the blocklist: make entries, look for one person's, remove entries.

All from Infobip's OpenAPI description of /platform/1/blocklists: POST and DELETE are answered 202 without a body and
done later; a DELETE removes only entries all of whose properties it lists; GET shows the entries there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from consent.ledger.work import ClaimedChange, CustomerTask
from consent.settings import ConnectionSettings
from worker.providers.contract import Request

BLOCK, LOOKUP, UNBLOCK = "block", "lookup", "unblock"
"""Why a call is made."""

PATH = "/platform/1/blocklists"
PAGE = 1000
"""Entries that one look shows at most: far more than one person can have."""

Properties = tuple[tuple[str, str], ...]
"""What an entry says beside its destination, by Infobip's names: a call lists it once for many destinations."""


class Place(NamedTuple):
    """One destination in a body, and the target that it is there for."""

    task: CustomerTask
    destination: str
    properties: Properties


@dataclass(frozen=True, slots=True)
class Search:
    """What a row of lookups knows: whom it still asks about (the first one now), and what it has found.

    `found` are the entries to remove, `absent` the targets whose entry has to be made again.
    """

    waiting: tuple[CustomerTask, ...]
    found: tuple[Place, ...] = ()
    absent: tuple[CustomerTask, ...] = ()


def block(tasks: Iterable[CustomerTask], connection: ConnectionSettings) -> Request:
    """Return the call that makes an entry for each of the targets."""
    account = {"accountKey": connection.account_key} if connection.account_key else {}
    return write(
        "POST",
        BLOCK,
        [Place(task, task.address["destination"], properties_of({**task.address, **account})) for task in tasks],
    )


def write(method: str, purpose: str, places: Iterable[Place]) -> Request:
    """Return the call that makes or removes these entries; its memo tells which place of the body is whose."""
    groups: dict[Properties, list[Place]] = {}
    for place in places:
        groups.setdefault(place.properties, []).append(place)
    body = [
        {"destinations": [{"to": place.destination} for place in group], **dict(properties)}
        for properties, group in groups.items()
    ]
    tasks = _each_once(place.task for group in groups.values() for place in group)
    memo = tuple(tuple(group) for group in groups.values())
    return Request(method, PATH, tasks, _changes(tasks), purpose, json={"blocklist": body}, memo=memo)


def lookup(search: Search, connection: ConnectionSettings) -> Request:
    """Return the call that shows one person's entries; the others of the row wait for their turn or for its end."""
    address = search.waiting[0].address
    params = {name: address[name] for name in ("destination", "channel", "sender") if name in address}
    if connection.account_key:
        params["accountKey"] = connection.account_key
    tasks = _each_once([*search.waiting, *search.absent, *(place.task for place in search.found)])
    return Request("GET", PATH, tasks, _changes(tasks), LOOKUP, {**params, "size": str(PAGE)}, memo=search)


def properties_of(entry: Mapping[str, Any]) -> Properties:
    """Return what a DELETE has to list of an entry."""
    names = ("accountKey", "channel", "sender", "sourceType")
    return tuple((name, entry[name]) for name in names if isinstance(entry.get(name), str))


def _each_once(tasks: Iterable[CustomerTask]) -> tuple[CustomerTask, ...]:
    return tuple({task.target_id: task for task in tasks}.values())


def _changes(tasks: Sequence[CustomerTask]) -> tuple[ClaimedChange, ...]:
    return tuple(change for task in tasks for change in task.changes)
