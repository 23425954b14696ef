"""The Infobip sandbox: who may call, at what rate, and what is held."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any, Literal

from starlette.types import Send
from typing_extensions import override

from sandbox.answers import Reply
from sandbox.clock import now
from sandbox.faults import EVERYWHERE, Fault, chosen_code
from sandbox.handling import Handling, Target
from sandbox.infobip.blocklist import Blocklist
from sandbox.infobip.blocklisting import Blocklisting
from sandbox.infobip.envelopes import error_reply
from sandbox.infobip.register import Subscriptions
from sandbox.infobip.seeds import Seeds, plant, seeds_of
from sandbox.infobip.settings import InfobipSettings
from sandbox.infobip.subscribing import Subscribing
from sandbox.provider import Provider
from sandbox.rate import Rate, SlidingLog
from sandbox.refused import Refused

Called = Handling[Target]
Acts = Mapping[str, Callable[[Called], Awaitable[Reply]]]
Scope = Literal["subscriptions:manage", "blocklist:manage"]
SUBSCRIPTIONS = "subscriptions"
BLOCKLISTS = "blocklists"


class Infobip(Provider[Target]):
    """One account at Infobip, its subscriptions, profiles and blocklist, and the calls made to it.

    INVENTED: the order of the checks (faults, method, credentials, scope, rate, channel, body, existence), and that
    all calls of one kind share one rate.
    """

    kinds = EVERYWHERE | {"drop", "ignore_events"}
    torn = b'{"subscriptionId":"ABC-123-DEF","profile":{"profileId":"NOT'

    def __init__(self, settings: InfobipSettings) -> None:
        super().__init__(settings)
        self.settings = settings
        self.subscriptions = Subscriptions()
        self.blocklist = Blocklist(settings.blocklist_lag)
        self._key = f"App {settings.api_key}".encode()
        self._logs = {
            SUBSCRIPTIONS: SlidingLog(Rate.parse(settings.subscription_rate), slack=settings.slack),
            BLOCKLISTS: SlidingLog(Rate.parse(settings.blocklist_rate), slack=settings.slack),
        }
        self.subscribing = Subscribing(self, settings, self.subscriptions)
        self.blocklisting = Blocklisting(self, self.blocklist)
        self._plant(seeds_of(self.settings))

    @property
    def register(self) -> "Infobip":
        """The state: this service shows subscriptions and blocklist as one."""
        return self

    def keys(self) -> list[str]:
        """Return every subscription as `SMS/ID`, then every blocked destination as `blocklist/<destination>`."""
        return self.subscriptions.keys() + self.blocklist.keys()

    def rows(self, key: str) -> list[dict[str, Any]]:
        """Return the subscription of this key, or the blocklist entries of this destination."""
        if key.startswith("blocklist/"):
            return self.blocklist.rows(key, now())
        row = self.subscriptions.row(key)
        return [] if row is None else [row]

    def counts(self) -> dict[str, int]:
        """Return what the sandbox holds, in numbers."""
        return self.subscriptions.counts() | self.blocklist.counts()

    def reset(self) -> None:
        """Forget everything but what the settings say is there from the start."""
        for part in (self.faults, self.call_log, self.subscriptions, self.blocklist):
            part.clear()
        for log in self._logs.values():
            log.clear()
        self._plant(seeds_of(self.settings))

    def seed(self, body: bytes) -> int:
        """Put profiles, subscriptions and blocklist groups into the state; a subscription that is there is replaced."""
        return self._plant(Seeds.model_validate_json(body))

    def by_method(self, acts: Acts, scope: Scope) -> Callable[[Called, Send], Awaitable[None]]:
        """Return what answers a call by what its method asks for, if the key has the scope."""

        async def answering(call: Called, send: Send) -> None:
            await self.serve(call, partial(self._proper, acts, scope), send)

        return answering

    async def _proper(self, acts: Acts, scope: Scope, call: Called) -> Reply:
        act = acts.get(call.method)
        if act is None:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED)
        if call.headers.get(b"authorization") != self._key:
            raise Refused(HTTPStatus.UNAUTHORIZED)
        if scope not in self.settings.scopes:
            raise Refused(HTTPStatus.FORBIDDEN)
        self.admit(call, self._logs[call.target.bucket])
        return await act(call)

    def _plant(self, seeds: Seeds) -> int:
        return plant(seeds, self.subscribing, self.blocklist)

    @override
    def refusal(self, refused: Refused) -> Reply:
        return error_reply(refused.code, self.settings.envelope, refused.detail, refused.violations)

    @override
    def throttled(self, fault: Fault | None = None) -> Reply:
        envelope = (fault and fault.envelope) or self.settings.throttled_envelope
        return error_reply(HTTPStatus.TOO_MANY_REQUESTS, envelope)

    @override
    def error(self, fault: Fault, target: Target) -> Reply:
        code = chosen_code(fault, {"refuse": 401, "unknown": 404})
        reply = error_reply(code, fault.envelope or self.settings.envelope, fault.message or "")
        return replace(reply, status=fault.http_status or reply.status)
