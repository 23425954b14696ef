"""The body of a write: read, checked field by field, and turned into updates of slots."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from sandbox.capillary.customer import SOURCES
from sandbox.refused import Refused

_PRINTED = {
    "channel": ("MOBILE", "EMAIL", "wechat", "whatsapp", "ios", "android", "line"),
    "priority": ("TRANS", "BULK"),
    "type": ("OPTIN", "OPTOUT"),
    "sourceName": tuple(SOURCES),
}
_AS_PRINTED = {field: {word: word.upper() for word in words} for field, words in _PRINTED.items()}
_IN_UPPER_CASE = {field: {word.upper(): word.upper() for word in words} for field, words in _PRINTED.items()}
_LONG = 2**63
_DEFAULT_SCOPE = {"scope": "USER", "subScope": "NONE"}


class Slot(NamedTuple):
    """The key of a subscription of one customer; channel and priority in upper case.

    The source name is not part of it: it is kept beside the row. INVENTED, for no page states the key.
    """

    channel: str
    account_id: str
    priority: str
    org_unit_id: int


@dataclass(frozen=True, slots=True)
class SlotUpdate:
    """What one row of a write sets, in or out."""

    slot: Slot
    action: str
    source_name: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a write, understood and as it was sent."""

    slot_update: SlotUpdate
    sent: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a write says about all its rows."""

    reason: str
    campaign_id: int
    communication_id: int
    scope: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Update:
    """One write of one customer."""

    envelope: Envelope
    rows: tuple[Row, ...]


def read_update(body: bytes, *, ignore_case: bool) -> Update:
    """Read a write; Refused with 400 and the name of the field when a part is missing or of the wrong kind."""
    whole = _json_object(body)
    rows = whole.get("subscriptions")
    if not isinstance(rows, list) or not rows:
        raise Refused(400, "subscriptions")
    return Update(_envelope(whole), tuple(_row(row, ignore_case=ignore_case) for row in rows))


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        whole = json.loads(body)
    except ValueError:
        raise Refused(400, "The body is not JSON.") from None
    if not isinstance(whole, dict):
        raise Refused(400, "The body is not an object.")
    return whole


def _envelope(whole: dict[str, Any]) -> Envelope:
    # INVENTED: what an absent optional field is echoed as.
    return Envelope(
        reason=_optional(whole, "reason", _is_text, ""),
        campaign_id=_optional(whole, "campaignId", _is_long, -1),
        communication_id=_optional(whole, "communicationId", _is_long, -1),
        scope=_optional(whole, "scope", _is_scope, _DEFAULT_SCOPE),
    )


def _row(sent: Any, *, ignore_case: bool) -> Row:
    if not isinstance(sent, dict):
        raise Refused(400, "subscriptions")
    slot = Slot(
        channel=_word(sent, "channel", ignore_case=ignore_case),
        account_id=_required(sent, "accountId", _is_text),
        priority=_word(sent, "priority", ignore_case=ignore_case),
        org_unit_id=_required(sent, "orgUnitId", _is_long),
    )
    named = sent.get("sourceName") is not None
    source = _word(sent, "sourceName", ignore_case=ignore_case) if named else None
    return Row(SlotUpdate(slot, _word(sent, "type", ignore_case=ignore_case), source), sent)


def _word(row: dict[str, Any], field: str, *, ignore_case: bool) -> str:
    text = _required(row, field, _is_text)
    word = _IN_UPPER_CASE[field].get(text.upper()) if ignore_case else _AS_PRINTED[field].get(text)
    if word is None:
        raise Refused(400, field)
    return word


def _required(row: dict[str, Any], field: str, fits: Callable[[Any], bool]) -> Any:
    value = row.get(field)
    if not fits(value):
        raise Refused(400, field)
    return value


def _optional(whole: dict[str, Any], field: str, fits: Callable[[Any], bool], absent: Any) -> Any:
    return absent if whole.get(field) is None else _required(whole, field, fits)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_long(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -_LONG <= value < _LONG


def _is_scope(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key, ""), str) for key in _DEFAULT_SCOPE)
