"""Each kind of target of each provider, with replies that mean the same at all of them.

A new provider starts here: one `Subject` for each kind of target, and every case of the suite is asked of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import CustomerTask
from tests.support.providers import capillary, gupshup, infobip
from tests.support.providers.checked_delivery import ReplyTo
from worker.providers import PROVIDERS
from worker.providers.contract import Provider, Reply, Request


@dataclass(frozen=True)
class Subject:
    """What the suite needs to know of one kind of target.

    `well` pretends a provider that takes everything; `partly` one that takes all but the change number 2, and says so;
    `silently` one that answers success and loses the change number 2; `never` one that says that the target is not
    there. `taken` are bodies, beside the usual one, that the vendor documents as a success. `of` is the provider, if it
    is not registered under the name.
    """

    name: str
    connection: ConnectionSettings
    tasks: tuple[CustomerTask, ...]
    well: Callable[[], ReplyTo]
    partly: Callable[[], ReplyTo] | None = None
    silently: Callable[[], ReplyTo] | None = None
    never: Reply | None = None
    taken: frozenset[str] = field(default_factory=frozenset)
    of: Provider | None = None

    @property
    def provider(self) -> Provider:
        """The provider, as it is registered."""
        return self.of or PROVIDERS[self.name.split(":", maxsplit=1)[0]]

    @property
    def ids(self) -> set[int]:
        """All changes of the case."""
        return {change.id for task in self.tasks for change in task.changes}


def reply(body: Any, status: int = 200, retry_after: float | None = None) -> Reply:
    """Return a reply with a body of JSON, or of text."""
    return Reply(status, body if isinstance(body, str) else json.dumps(body), retry_after)


def _capillary(lost: str = "", *, named: bool = False) -> ReplyTo:
    def reply_to(request: Request) -> Reply:
        sent = (request.json or {}).get("subscriptions", [])
        kept = [row for row in sent if row["channel"] != lost]
        failed = [capillary.row_failed(row["channel"], row["priority"]) for row in sent if row["channel"] == lost]
        return reply(capillary.rows(*kept, warnings=failed if named else []))

    return reply_to


class _Subscription:
    """Infobip's subscription, which holds what is written but for one event."""

    def __init__(self, lost: str = "") -> None:
        self.there = infobip.document()
        self.lost = lost

    def __call__(self, request: Request) -> Reply:
        if request.method == "GET":
            return reply(self.there)
        kept = [event for event in request.json["events"] if event != self.lost]
        self.there = self.there | request.json | {"events": kept}
        return reply(infobip.IDS_ONLY)


def _picky_subscription() -> ReplyTo:
    there = _Subscription()

    def reply_to(request: Request) -> Reply:
        if request.method == "PUT" and "SEEN" in request.json["events"]:
            path = f"events[{request.json['events'].index('SEEN')}]"
            return reply(infobip.classic("BAD_REQUEST", **{path: ["unsupported event"]}), 400)
        return there(request)

    return reply_to


def _blocklist(blocked: tuple[str, ...] = (), refused: str = "") -> ReplyTo:
    def reply_to(request: Request) -> Reply:
        if request.method == "GET":
            asked = request.params["destination"]
            return reply(infobip.shown(*(infobip.entry(one) for one in blocked if one == asked)))
        listed = [one["to"] for one in request.json["blocklist"][0]["destinations"]]
        if refused in listed:
            path = f"blocklist[0].destinations[{listed.index(refused)}].to"
            return reply(infobip.classic("BAD_REQUEST", **{path: ["size must be between 1 and 255"]}), 400)
        return reply("", 202)

    return reply_to


def _gupshup(ignored: str = "", *, bad_url: bool = False) -> ReplyTo:
    there = gupshup.shown()["subscription"]

    def reply_to(request: Request) -> Reply:
        form = dict(request.form or {})
        if bad_url and "url" in form:
            return reply(gupshup.error("Invalid URL Passed"), 400)
        changed: dict[str, Any] = {name: form[name] for name in ("tag", "url") if name in form and name != ignored}
        if "modes" in form:
            changed["modes"] = [mode for mode in form["modes"].split(",") if mode != ignored]
        if "active" in form:
            changed["active"] = form["active"] == "true"
        there.update(changed)
        return reply({"status": "success", "subscription": there})

    return reply_to


_EVENTS = {"action": "OPTIN", "events": "CLICK|SEEN|INBOUND_MESSAGE"}
_PEOPLE = tuple(f"1555010{n:04}" for n in (1, 2, 3))
_HOOK = {"tag": "mine", "url": "https://hooks.example.com/other"}

SUBJECTS = (
    Subject(
        "capillary",
        capillary.CONNECTION,
        (capillary.customer(capillary.change(1), capillary.change(2, "MOBILE"), capillary.change(3, "line")),),
        _capillary,
        lambda: _capillary("MOBILE", named=True),
        lambda: _capillary("MOBILE"),
        reply(capillary.failure(1012)),
    ),
    Subject(
        "infobip:subscription",
        infobip.CONNECTION,
        (infobip.rule(_EVENTS),),
        _Subscription,
        _picky_subscription,
        lambda: _Subscription("SEEN"),  # no event of SMS
        reply(infobip.classic("NOT_FOUND"), 404),
    ),
    Subject(
        "infobip:blocklist opt-outs",
        infobip.CONNECTION,
        tuple(infobip.person(n) for n in (1, 2, 3)),
        _blocklist,
        lambda: _blocklist(refused=_PEOPLE[1]),
        taken=frozenset({"", "{}"}),
    ),
    Subject(
        "infobip:blocklist opt-outs, verified",
        infobip.VERIFYING,
        tuple(infobip.person(n, tries=1) for n in (1, 2, 3)),
        lambda: _blocklist(_PEOPLE),
        silently=lambda: _blocklist((_PEOPLE[0], _PEOPLE[2])),
    ),
    Subject(
        "infobip:blocklist opt-ins",
        infobip.CONNECTION,
        tuple(infobip.person(n, "OPTIN") for n in (1, 2, 3)),
        lambda: _blocklist(_PEOPLE),
        lambda: _blocklist(_PEOPLE, refused=_PEOPLE[1]),
    ),
    Subject(
        "gupshup:fields",
        gupshup.CONNECTION,
        (gupshup.subscription({"action": "OPTIN", **_HOOK}, {"action": "OPTOUT"}),),
        _gupshup,
        lambda: _gupshup(bad_url=True),
        lambda: _gupshup("url"),
        reply(gupshup.error("Subscription Does Not Exist"), 400),
    ),
    Subject(
        "gupshup:modes",
        gupshup.CONNECTION,
        (gupshup.subscription({"action": "OPTIN", "modes": "READ|FAILED|DELETED"}),),
        _gupshup,
        silently=lambda: _gupshup("FAILED"),
        never=reply(gupshup.error("Not Subscription Owner"), 403),
    ),
)
