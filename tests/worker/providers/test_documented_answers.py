"""Whatever a page says that a provider may answer ends as it must: asked over HTTP, of the sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import pytest

from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import CustomerTask
from consent.outcome import Applied, PermanentFailure, Retry, Throttled, Unauthorized, Unavailable, Unchanged
from sandbox.server import running
from sandbox.settings import SandboxSettings
from tests.support.providers import capillary, gupshup, infobip
from tests.support.providers import documented_answers as documented
from tests.support.providers.checked_delivery import Delivered, deliver
from tests.support.providers.documented_answers import CAPILLARY, GUPSHUP, INFOBIP, Case
from worker.bootstrap import LoopThread
from worker.http.client import Sender
from worker.providers import PROVIDERS
from worker.providers.capillary.codes import CODES
from worker.providers.contract import Reply, Request
from worker.providers.gupshup.codes import MESSAGES

CASES = (*CAPILLARY, *INFOBIP, *GUPSHUP)
SUBSCRIPTION = {"subscriptionId": "ABC-123-DEF", "profile": {"profileId": "P"}, "events": ["DELIVERY"]}
WEBHOOK = {"webhook": {"notifyUrl": "https://hooks.example.com/infobip"}}
HOOK = {"id": "32595", "tag": "mine", "url": "https://hooks.example.com/old", "version": "2", "modes": "SENT"}
SANDBOX = {
    "capillary": {"rate": "off"},
    "infobip": {
        "blocklist_rate": "off",
        "blocklist_lag": 0,
        "profiles": [{"profileId": "P", **WEBHOOK}],
        "subscriptions": {"SMS": [SUBSCRIPTION]},
        "blocklist": [{"destinations": [{"to": "15550100002"}]}],
    },
    "gupshup": {
        "rate": "off",
        "apps": {"app-1": "sk_one"},
        "subscriptions": {"app-1": [HOOK, HOOK | {"id": "2", "tag": "taken"}]},
    },
}
CREDENTIALS: dict[str, dict[str, Any]] = {
    "Capillary": {"username": "demo.till", "password": "demo-password"},
    "Infobip": {"api_key": "demo-infobip-key"},
    "Gupshup": {"token": "sk_one"},
}
SPECIAL: dict[str, dict[str, Any]] = {documented.VERIFIED: {"verify": True}}
"""How the connection of some cases is configured beside that."""

TARGETS: dict[str, CustomerTask] = {
    documented.CUSTOMER: capillary.customer(capillary.change(1)),
    documented.THIRD_TRY: capillary.customer(capillary.change(1, attempts=2)),
    documented.BY_MOBILE: capillary.customer(capillary.change(1), address=capillary.BY_MOBILE),
    documented.RULE: infobip.rule({"action": "OPTIN", "events": "CLICK"}),
    documented.VERIFIED: infobip.rule({"action": "OPTIN", "events": "CLICK"}),
    documented.SAME_EVENT: infobip.rule({"action": "OPTIN", "events": "DELIVERY"}),
    documented.FOREIGN_EVENT: infobip.rule({"action": "OPTIN", "events": "BLOCK"}),
    documented.NO_PROFILE: infobip.rule({"action": "OPTIN", "profile_id": "absent"}),
    documented.NO_RULE: CustomerTask(
        2,
        infobip.SUBSCRIPTION | {"subscription_id": "GONE"},
        infobip.rule({"action": "OPTIN", "events": "CLICK"}).changes,
    ),
    documented.OUT: infobip.person(1),
    documented.IN: infobip.person(1, "OPTIN", destination="15550100002", effective_at="2999-01-01T00:00:00Z"),
    documented.NOT_THERE: infobip.person(1, "OPTIN"),
    documented.HOOK: gupshup.subscription({"action": "OPTOUT"}),
    documented.MODES: gupshup.subscription({"action": "OPTIN", "modes": "READ"}),
    documented.SAME_MODE: gupshup.subscription({"action": "OPTIN", "modes": "SENT"}),
    documented.URL: gupshup.subscription({"action": "OPTIN", "url": "https://hooks.example.com/new"}),
    documented.TAG: gupshup.subscription({"action": "OPTIN", "tag": "taken"}),
}


@dataclass
class Providers:
    """The three providers on this machine, and the calls that the product makes to them."""

    url: str
    http: httpx.Client
    loop: LoopThread
    senders: dict[str, Sender] = field(default_factory=dict)

    def deliver(self, case: Case) -> Delivered:
        """Deliver the case's change to a fresh provider that answers as the case says."""
        name = case.called.split()[0]
        control = "/_sandbox" if name == "Capillary" else f"/_sandbox/{name.lower()}"
        self.http.post(f"{control}/reset").raise_for_status()
        if case.order:
            self.http.post(f"{control}/faults", json=case.order).raise_for_status()
        known = {"provider": name.lower(), "base_url": self.url} | CREDENTIALS[name] | SPECIAL.get(case.called, {})
        connection = ConnectionSettings.model_validate(known)
        sender = self.sender(connection)

        def exchange(request: Request) -> Reply:
            return cast("Reply", self.loop.run(sender.send(request), timeout=10))

        return deliver(PROVIDERS[connection.provider], [TARGETS[case.called]], connection, exchange)

    def sender(self, connection: ConnectionSettings) -> Sender:
        """Return what sends the calls to a provider; one for each, so that nothing is connected twice."""
        name = connection.provider
        if name not in self.senders:
            self.senders[name] = Sender(connection, PROVIDERS[name].auth(connection, "x"), "x")
        return self.senders[name]


@pytest.fixture(scope="module")
def providers() -> Iterator[Providers]:
    """All three, as long as this file is asked."""
    with running(SandboxSettings.model_validate(SANDBOX)) as url, httpx.Client(base_url=url) as http:
        loop = LoopThread()
        found = Providers(url, http, loop)
        yield found
        for sender in found.senders.values():
            loop.run(sender.aclose(), timeout=5)
        loop.close()


def becomes(result: Delivered) -> str:
    """Say in words what became of the change."""
    outcome, health = result.outcomes[1], result.health[-1]
    match outcome:
        case Applied() | Unchanged():
            return documented.APPLIED if isinstance(outcome, Applied) else documented.UNCHANGED
        case PermanentFailure():
            return documented.DEAD
        case Retry(counts=True):
            return documented.AGAIN
    return {Throttled: documented.SLOWER, Unavailable: documented.UNAVAILABLE, Unauthorized: documented.STOPS}[
        type(health)
    ]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_documented_answer(providers: Providers, case: Case) -> None:
    """A documented status or message ends in the outcome that the vendor's page calls for, filed under its code."""
    result = providers.deliver(case)

    assert (becomes(result), result.codes[-1]) == (case.becomes, case.filed)
    if case.fault.get("retry_after"):
        assert result.health[-1] == Throttled(7)


def test_no_documented_code_is_forgotten() -> None:
    """Every code that the program knows of Capillary, and every message of Gupshup's, has a row in the table."""
    texts = {case.text.lower() for case in GUPSHUP}

    assert {case.code for case in CAPILLARY} >= {*CODES} - {91022}
    assert [text for text in MESSAGES if not any(one.startswith(text) for one in texts)] == []
