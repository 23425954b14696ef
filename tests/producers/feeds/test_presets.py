"""Known exports are recognised by their header; every preset is whole, and says where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from consent.feed import Feed
from consent.row import ConsentRow
from consent.times import from_micros
from producers.feeds.draft import FeedDraft
from producers.feeds.look import FileLook
from producers.feeds.presets import preset_of, presets
from producers.files.prepare import look_at
from producers.options import IngestOptions
from tests.support.memory_ledger import MemoryLedger, file_of, take_in
from worker.providers import PROVIDERS

INFOBIP: dict[str, type[ConsentRow]] = {"infobip": PROVIDERS["infobip"].row}


def lines(*records: Mapping[str, Any]) -> str:
    """Return records as JSON lines."""
    return "".join(f"{json.dumps(record)}\n" for record in records)


def profile(email: str, *, can_receive: bool, updated: str | None) -> Mapping[str, Any]:
    """Return a profile of Klaviyo's API."""
    suppression = [] if can_receive else [{"reason": "USER_SUPPRESSED", "timestamp": updated}]
    found = {"can_receive_email_marketing": can_receive, "last_updated": updated, "suppression": suppression}
    return {"type": "profile", "attributes": {"email": email, "subscriptions": {"email": {"marketing": found}}}}


EXPORTS = {
    "mailchimp-unsubscribed": (
        '"Email Address","First Name",MEMBER_RATING,OPTIN_TIME,UNSUB_TIME,UNSUB_REASON\n'
        'ann@example.com,Ann,2,"2020-01-05 08:00:00","2026-11-20 08:30:00","not asked for"\n'
    ),
    "mailchimp-cleaned": (
        '"Email Address","First Name",OPTIN_TIME,CLEAN_TIME\n'
        'ann@example.com,Ann,"2020-01-05 08:00:00","2026-11-20 08:30:00"\n'
    ),
    "mailchimp-subscribed": (
        '"Email Address","First Name",OPTIN_TIME,CONFIRM_TIME,LAST_CHANGED\n'
        'ann@example.com,Ann,"2026-11-20 08:00:00","2026-11-20 08:30:00","2026-11-21 08:30:00"\n'
    ),
    "hubspot-contacts": "Record ID,Email,Unsubscribed from all email\n501,ann@example.com,true\n502,bob@example.com,\n",
    "hubspot-unsubscribes": (
        "Email,Portal Bounce,Portal Unsubscribe,Portal Spam Report,Global Bounce\nann@example.com,,TRUE,FALSE,\n"
        "bob@example.com,TRUE,FALSE,FALSE,\n"
    ),
    "sendgrid-unsubscribes": "email,created\nann@example.com,1795163400\n",
    "sendgrid-spam-reports": "email,ip,created\nann@example.com,192.0.2.7,1795163400\n",
    "braze-segment": (
        "user_id,email,unsubscribed_from_emails_at,country\n9,ann@example.com,2026-11-20T08:30:00Z,DE\n8,bob@example.com,,DE\n"
    ),
    "salesforce-unsubs": (
        "ClientID,SendID,SubscriberKey,EmailAddress,SubscriberID,ListID,EventDate,EventType,BatchID\n"
        "1,2,K,ann@example.com,3,4,11/20/2026 2:30:00 AM,Unsubscribe,5\n"
    ),
    "infobip-do-not-contact": (
        "Contact information,Sender,Source,Channel,Account,Added\n"
        "ann@example.com,news@example.com,Manual,EMAIL,main,2026-11-20T08:30:00Z\n"
    ),
    "klaviyo-profiles": lines(
        profile("ann@example.com", can_receive=False, updated="2026-11-20T08:30:00+00:00"),
        profile("bob@example.com", can_receive=True, updated=None),
    ),
    "moengage-events": lines(
        {
            "event_code": "MOE_EMAIL_UNSUBSCRIBE",
            "event_uuid": "1",
            "event_time": 1795163400,
            "email_id": "ann@example.com",
        },
        {"event_code": "MOE_EMAIL_OPEN", "event_uuid": "2", "event_time": 1795163401, "email_id": "bob@example.com"},
        {"event_code": "SMS_SENT", "event_uuid": "3", "event_time": 1795163401, "email_id": None},
    ),
    "clevertap-events": lines(
        {
            "ts": 20261120083000,
            "eventName": "Channel Unsubscribed",
            "profile": {"objectId": "o1", "email": "ann@example.com"},
            "eventProps": {"Subscription Type": "Profile level"},
        },
        {
            "ts": 20261120083001,
            "eventName": "Notification Viewed",
            "profile": {"objectId": "o2", "email": "bob@example.com"},
        },
    ),
    "webengage-users": (
        "user_id,we_email,we_email_opt_in,we_phone,we_sms_opt_in\n"
        "1,ann@example.com,false,+12025550104,true\n2,bob@example.com,true,,\n3,cleo@example.com,,,\n"
    ),
}
"""Written by us, in the form that each preset's origin describes."""


def test_every_preset_has_an_export_here() -> None:
    """One that is never read would be a guess."""
    assert EXPORTS.keys() == presets().keys()


@pytest.mark.parametrize("name", sorted(EXPORTS))
def test_an_export_is_recognised_and_read(tmp_path: Path, name: str) -> None:
    """Of each export one person is opted out (or in), and the rows that say nothing are left out."""
    source = file_of(tmp_path / "x.csv", EXPORTS[name])
    file = look_at(source, IngestOptions(), INFOBIP)
    draft = FeedDraft(
        FileLook(file.header.names, list(file.rows()), lambda place: (cells[place] for cells in file.rows())),
        INFOBIP,
        {},
        IngestOptions(),
    )
    while questions := draft.questions():
        for question in questions:
            assert question.default is not None, question
            draft.answer(question, question.default)
    ledger = MemoryLedger()
    take_in(source, ledger, IngestOptions(feed="it"), rows=INFOBIP, feeds={"it": draft.feed()})

    assert draft.preset_name == name
    [change] = ledger.changes
    assert change.address == {"destination": "ann@example.com"}
    assert change.action.value == ("OPTIN" if name == "mailchimp-subscribed" else "OPTOUT")
    if "effective_at" in draft.feed().columns.values():
        assert from_micros(change.effective_at).isoformat() == "2026-11-20T08:30:00+00:00"
    assert ledger.rejects == []


def test_presets_say_where_they_come_from() -> None:
    """Origin, day of the check, and what is not documented."""
    for name, preset in presets().items():
        assert preset.origin, name
        assert date(2026, 11, 1) <= date.fromisoformat(preset.checked) <= date(2099, 1, 1)
        assert preset.documented or preset.note, name


def test_a_file_of_ours_is_no_export() -> None:
    """Nor is one whose header fits nothing."""
    assert preset_of(["user_id", "channel", "priority", "action", "effective_at"]) is None
    assert preset_of(["email", "name"]) is None
    assert Feed().stated() == {}
