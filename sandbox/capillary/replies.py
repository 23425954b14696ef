"""Capillary's replies: the codes and sentences of its errors, and the bodies of its successes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sandbox.answers import Reply, json_reply
from sandbox.capillary.register import Entry, Held
from sandbox.capillary.requests import Row, Slot, Update
from sandbox.faults import as_http_status

# Sources: the update-subscription-details page (1012, 1000), the API status codes page (400 to 1064), the older
# code tables (8011 to 8065, 91022), the bulk getCustomers page (8109).
MESSAGES = {
    400: "Invalid input. Please check request body parameters or input xml/json.",
    401: "Authentication failed. Please check username and password.",
    403: "V2 is not enabled for the org.",
    405: "The operation is not supported for the resource.",
    415: "Unsupported media type.",
    461: "Search Engine is busy or unable to respond. Please try after some time.",
    500: "All requests have failed due to errors",
    503: "Authorization status is unavailable.",
    521: "Multiple actions are running for the same customer. Please try after some time.",
    1000: "Customer Subscriptions could not be added",
    1012: "Cannot find customer for provided mobile/external-id/e-mail/id",
    1061: "X-CAP-API-ATTRIBUTION-LOOKUP-TYPE header required with X-CAP-API-ATTRIBUTION-LOOKUP header.",
    8013: "Invalid identifier",  # INVENTED text, documented code
    8015: "Customer not found for given identifiers",
    8045: "Account id is missing for the source",  # INVENTED text, documented code
    8109: "Customer is deleted after PII delete request",
    91022: "Failed to update subscription for {channel} channel and priority {priority}.",
}


def sentence(code: int, detail: str = "") -> str:
    """Return the text that goes with a code, and the detail behind it."""
    return f"{MESSAGES.get(code, 'Invented by the sandbox')} {detail}".rstrip()


def refusal(code: int, message: str, http_status: int) -> Reply:
    """Return the error body of the v2 API: `{"warnings": [], "errors": [{status, message, code}]}`."""
    error = {"status": False, "message": message, "code": code}
    return json_reply(http_status, {"warnings": [], "errors": [error]}, code)


def http_status(code: int, statuses: Mapping[int, int]) -> int:
    """Return the HTTP status line that goes with a body code.

    INVENTED: only the body codes are documented. A code that can be an HTTP status is one (521 and 461 too); the
    four- and five-digit codes come with 400. `told` overrides it code by code.
    """
    return statuses.get(code, as_http_status(code))


_ECHOED = ("channel", "accountId", "priority", "type", "orgUnitId", "sourceName")
_ECHOED_IN_OLD_SAMPLE = ("channel", "accountId", "priority", "type")
# Documented: MOBILE is 1. INVENTED: the other numbers.
_CHANNEL_IDS = {"MOBILE": 1, "EMAIL": 2, "WECHAT": 3, "WHATSAPP": 4, "IOS": 5, "ANDROID": 6, "LINE": 7}


def echo(update: Update, done: Sequence[Row], failed: Sequence[Row], *, legacy: bool) -> dict[str, Any]:
    """Return the reply to a write: the rows that were done as they were sent, a warning for each that failed.

    INVENTED: that a failed row is absent from the echo; no sample of a partial failure is known.
    """
    envelope = update.envelope
    return {
        "scope": envelope.scope,
        "subscriptions": [_echoed(row, legacy=legacy) for row in done],
        "campaignId": envelope.campaign_id,
        "communicationId": envelope.communication_id,
        "reason": envelope.reason,
        "warnings": [_warning(row.slot_update.slot) for row in failed],
    }


def read_back(held: Held) -> dict[str, Any]:
    """Return the subscriptions of a customer: MOBILE as SMS, without account, org unit or source, as documented.

    INVENTED: one row per slot ever written, so two org units give two rows that look alike.
    """
    rows = [_read_row(entry) for entry in held.newest.values()]
    return {"subscriptions": rows, "campaignId": 0, "communicationId": 0, "warnings": []}


def change_log(held: Held) -> dict[str, Any]:
    """Return the status change log of a customer. INVENTED: every write is in it, oldest first."""
    return {"data": [_logged(entry) for entry in held.written], "warnings": [], "errors": []}


def _echoed(row: Row, *, legacy: bool) -> dict[str, Any]:
    sent = row.sent
    if not legacy:
        return {name: sent[name] for name in _ECHOED if name in sent}
    return {name: sent[name] for name in _ECHOED_IN_OLD_SAMPLE} | {"channel": _sms_for_mobile(sent["channel"])}


def _warning(slot: Slot) -> dict[str, Any]:
    message = MESSAGES[91022].format(channel=slot.channel, priority=slot.priority)
    return {"status": False, "message": message, "code": 91022}


def _read_row(entry: Entry) -> dict[str, str]:
    slot = entry.slot_update.slot
    return {"channel": _sms_for_mobile(slot.channel), "priority": slot.priority, "type": entry.slot_update.action}


def _sms_for_mobile(channel: str) -> str:
    return "SMS" if channel.upper() == "MOBILE" else channel


def _logged(entry: Entry) -> dict[str, Any]:
    slot = entry.slot_update.slot
    return {
        "orgUnitId": slot.org_unit_id,
        "source": entry.slot_update.source_name or "INSTORE",
        "accountId": slot.account_id,
        "orgSourceId": -1,
        "commChannelId": _CHANNEL_IDS[slot.channel],
        "commChannelType": slot.channel.lower(),
        "communicationCategoryId": -1,
        "priority": slot.priority,
        "status": entry.slot_update.action == "OPTIN",
        "addedBy": -1,
        "addedOn": datetime.fromtimestamp(entry.at, UTC).date().isoformat(),
        "reason": entry.envelope.reason,
    }
