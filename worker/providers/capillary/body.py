"""What the body of a Capillary reply says, whatever it holds: nothing here trusts the shape of what came."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from worker.providers.capillary.codes import LONGEST_CODE, MEANINGS, ROW_FAILED, Next
from worker.providers.json_body import without_mark

_ROW_NAMED = re.compile(r"failed to update subscription for (\S+) channel and priority (\w+)", re.IGNORECASE)


class Echo(NamedTuple):
    """A row that a reply shows, in folded spelling; what it does not tell is None."""

    channel: str
    priority: str
    type: str
    account: str | None
    org_unit: str | None


@dataclass(frozen=True, slots=True)
class Body:
    """What a body says: codes about the whole request, rows that failed, rows that are in.

    `is_json` tells an object from anything else, `is_capillary` one that has Capillary's own lists. A failed row is
    named by its folded channel and priority, or by None where the text names none.
    """

    is_json: bool = False
    is_capillary: bool = False
    codes: tuple[int, ...] = ()
    failed: tuple[tuple[str, str] | None, ...] = ()
    partial: bool = False
    echoes: tuple[Echo, ...] = ()


def parse_body(text: str) -> Body:
    """Read a body, which most customers share with many others, as it does not name them (see `_parse`)."""
    text = without_mark(text)
    return _parse_again(text) if len(text) <= _SHORT else _parse(text)


def _parse(text: str) -> Body:
    """Read a body; one that is no JSON object says nothing.

    Full success (seed page; the customer is not named in it):

        {"scope": {…}, "subscriptions": [{"channel": "EMAIL", "accountId": "01", "priority": "BULK", "type": "OPTOUT",
         "orgUnitId": 200031782, "sourceName": "FACEBOOK"}, …], "campaignId": -1, …, "warnings": []}

    Silent loss (older documentation: four rows sent, three returned; MOBILE has become SMS, the org unit is gone):

        {"subscriptions": [{"channel": "SMS", "accountId": "123", "priority": "TRANS", "type": "OPTIN"}, …],
         "warnings": []}

    Failure (seed page), and a row that failed (91022 is documented; its place among the warnings is our inference):

        {"warnings": [],
         "errors": [{"status": false, "message": "All requests have failed due to errors", "code": 500}]}
        {"warnings": [{"status": false, "code": 91022,
                       "message": "Failed to update subscription for EMAIL channel and priority BULK."}]}
    """
    body = _object(text)
    if body is None:
        return Body()
    errors = [*_faults(body.get("errors")), *_bare(body)]
    faults = [*errors, *_faults(body.get("warnings"))]
    codes = [_code(fault) for fault in errors]
    return Body(
        is_json=True,
        is_capillary=bool({"errors", "warnings", "subscriptions"} & body.keys()),
        codes=tuple(code for code in codes if not _about_rows(code)),
        failed=tuple(_named(fault) for fault in faults if _code(fault) == ROW_FAILED),
        partial=any(_about_rows(code) for code in codes),
        echoes=tuple(_echoes(body.get("subscriptions"))),
    )


_SHORT = 1000  # characters
_parse_again = lru_cache(maxsize=256)(_parse)


@lru_cache(maxsize=256)  # there are few, and two are compared for every change
def folded(channel: str) -> str:
    """Return a channel in the one spelling that compares: Capillary answers SMS where MOBILE was sent."""
    name = channel.strip().casefold()
    return "mobile" if name == "sms" else name


def _object(text: str) -> dict[str, Any] | None:
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _leniently(text)
    return body if isinstance(body, dict) else None


def _leniently(text: str) -> dict[str, Any] | None:
    """Read what is JSON but for half a character or a NaN somewhere: its codes count all the same."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _faults(listed: Any) -> list[Any]:
    faults = listed if isinstance(listed, list) else [listed] if listed else []
    return [fault for fault in faults if not (isinstance(fault, dict) and fault.get("status") is True)]


def _bare(body: dict[str, Any]) -> list[Any]:
    return [body] if body.get("status") is False and "code" in body else []


def _code(fault: Any) -> int:
    code = fault.get("code") if isinstance(fault, dict) else None
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) <= LONGEST_CODE:
        return int(code)
    return code if type(code) is int else 0


def _about_rows(code: int) -> bool:
    return code in MEANINGS and MEANINGS[code].next is Next.ROWS


def _named(fault: Any) -> tuple[str, str] | None:
    match = _ROW_NAMED.search(str(fault.get("message")))
    return (folded(match[1]), match[2].casefold()) if match else None


def _echoes(listed: Any) -> Iterator[Echo]:
    for row in listed if isinstance(listed, list) else []:
        if not isinstance(row, dict):
            continue
        channel, priority, kind = row.get("channel"), row.get("priority"), row.get("type")
        if isinstance(channel, str) and isinstance(priority, str) and isinstance(kind, str):
            told = (_told(row.get("accountId")), _told(row.get("orgUnitId")))
            yield Echo(folded(channel), priority.strip().casefold(), kind.strip().upper(), *told)


def _told(value: Any) -> str | None:
    return str(value).strip() if isinstance(value, (str, int)) else None
