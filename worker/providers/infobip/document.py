"""A subscription as Infobip holds it, and what it holds of a change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from consent.change import Action
from consent.ledger.queue.tasks import ClaimedChange
from worker.providers.infobip.slots import FIELD, SETS, criterion, criterion_key, read_slot

Document = Mapping[str, Any]


def document_of(body: dict[str, Any] | None) -> Document | None:
    """Return the subscription that a body is, or None if it is none.

        {"subscriptionId": "ABC-123-DEF", "name": "Default group", "profile": {"profileId": "NOTIF-32395", …},
         "events": ["DELIVERY", {"event": "SEEN", "format": "…"}], "criteria": [{"applicationId": "production"}],
         "resources": ["1234"], "users": ["user1"]}

    (GET one subscription, Infobip's OpenAPI description.) The sets may be absent.
    """
    match body:
        case {"subscriptionId": str(), "profile": {"profileId": str()}, **rest}:
            return body if all(_is_set(rest.get(one)) for one in SETS) else None
        case _:
            return None


def listed(document: Document, kind: str) -> list[Any]:
    """Return the members of a set as they are."""
    return list(document.get(kind) or [])


def key_of(kind: str, item: Any) -> str:
    """Return the name by which a member is known, whichever form it has there."""
    if kind == "criteria":
        return criterion_key(item) if isinstance(item, dict) else ""
    if isinstance(item, dict):
        item = item.get("event")
    return str(item).upper() if kind == "events" else str(item)


def item_of(kind: str, key: str) -> Any:
    """Return a member in the form in which it is added."""
    return criterion(key) if kind == "criteria" else key


def field_of(document: Document, name: str) -> str | None:
    """Return what a field holds."""
    value = document.get("profile", {}).get("profileId") if name == "profile_id" else document.get(name)
    return value if isinstance(value, str) else None


def holds(document: Document, change: ClaimedChange) -> bool:
    """Say whether a subscription is as a change wants it."""
    kind, member = read_slot(change.slot)
    if kind == FIELD:
        return field_of(document, member) == change.details.get(member)
    there = member in {key_of(kind, item) for item in listed(document, kind)}
    return there is (change.action is Action.OPTIN)


def _is_set(value: Any) -> bool:
    return value is None or isinstance(value, list)
