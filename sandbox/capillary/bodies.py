"""The bodies of Capillary's successful replies."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sandbox.capillary.refusal import MESSAGES
from sandbox.capillary.register import Entry, Held
from sandbox.capillary.update import Row, Slot, Update

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
