"""What a call to Capillary names and sends: a customer, by id or by identifiers, and a write's body."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from sandbox.calls import Refused, Target

# Older documentation of the lookup calls.
SOURCES = frozenset(
    {"FACEBOOK", "WEB_ENGAGE", "WECHAT", "INSTORE", "MARTJACK", "TMALL", "TAOBAO"}
    | {"JD", "ECOMMERCE", "WEBSITE", "LINE", "MOBILE_APP"}
)
_SOURCES_WITH_ACCOUNTS = frozenset({"WECHAT", "FACEBOOK", "MOBILE_APP", "LINE"})
_IDENTIFIERS = frozenset({"mobile", "email", "externalId", "cardExternalId", "cardNumber"})


@dataclass(frozen=True, slots=True)
class Customer(Target):
    """A customer, who may be unknown by any of the `names`.

    INVENTED: the key of a lookup is `email=a@example.com`; source and account do not tell customers apart, and a
    customer named once by id and once by identifier counts as two.
    """

    lookup: bool = False

    @property
    def not_found(self) -> int:
        """The code for a customer that does not exist."""
        return 8015 if self.lookup else 1012


def customer_by_id(user_id: str) -> Customer:
    """Return the customer of this path segment."""
    return Customer(user_id, (user_id,))


def customer_by_lookup(query: bytes) -> Customer:
    """Return the customer these query parameters name, whether or not they are valid."""
    given = _parameters(query)
    name, value = given.get("identifierName", ""), given.get("identifierValue", "")
    key = f"{name}={value}"
    return Customer(key, (key, *value.split(",")), lookup=True)


def check_path(customer: Customer) -> None:
    """Refuse a user id that is not a number (documented as long)."""
    if not customer.key.isdecimal():
        raise Refused(400, "Invalid path parameter.")


def check_lookup(query: bytes) -> None:
    """Refuse query parameters that cannot name a customer."""
    given = _parameters(query)
    if given.get("source") not in SOURCES:
        raise Refused(400, "source")
    if given["source"] in _SOURCES_WITH_ACCOUNTS and not given.get("accountId"):
        raise Refused(8045)
    names = given.get("identifierName", "").split(",")
    values = given.get("identifierValue", "").split(",")
    if not _IDENTIFIERS.issuperset(names):
        raise Refused(8013)
    if len(names) != len(values) or not all(values):
        raise Refused(400, "identifierValue")


def _parameters(query: bytes) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}


_PRINTED = {
    "channel": ("MOBILE", "EMAIL", "wechat", "whatsapp", "ios", "android", "line"),
    "priority": ("TRANS", "BULK"),
    "type": ("OPTIN", "OPTOUT"),
    "sourceName": tuple(SOURCES),
}
_AS_PRINTED = {field: {word: word.upper() for word in printed} for field, printed in _PRINTED.items()}
_IN_UPPER_CASE = {field: {word.upper(): word.upper() for word in printed} for field, printed in _PRINTED.items()}
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
