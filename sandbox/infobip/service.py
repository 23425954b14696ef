"""The Infobip sandbox: its paths, which calls it admits, what it holds, and what it holds from the start."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.routing import Route
from starlette.types import Scope, Send
from typing_extensions import override

from sandbox.answers import Reply
from sandbox.calls import Call, Endpoint, Refused, Target
from sandbox.faults import COMMON_KINDS, Fault, chosen_code
from sandbox.infobip.blocklist import VIEWABLE, Blocklist, BlocklistCalls, read_groups
from sandbox.infobip.register import Subscriptions
from sandbox.infobip.replies import error_reply
from sandbox.infobip.settings import InfobipSettings
from sandbox.infobip.subscriptions import SubscriptionCalls
from sandbox.provider import Provider
from sandbox.rate import Rate, SlidingLog, now


class Seeds(BaseModel):
    """Profiles, subscriptions by channel and blocklist groups, each as it would be sent to POST."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profiles: tuple[dict[str, Any], ...] = ()
    subscriptions: dict[str, tuple[dict[str, Any], ...]] = Field({})
    blocklist: tuple[dict[str, Any], ...] = ()


def seeds_of(settings: InfobipSettings) -> Seeds:
    """Return what the settings say is there from the start."""
    return Seeds(profiles=settings.profiles, subscriptions=settings.subscriptions, blocklist=settings.blocklist)


def put_seeds(seeds: Seeds, subscription_calls: SubscriptionCalls, blocklist: Blocklist) -> int:
    """Put these into the state, in place of what has the same id, and return how many they were."""
    try:
        for sent in seeds.profiles:
            subscription_calls.seed_profile(sent)
        for channel, several in seeds.subscriptions.items():
            for sent in several:
                subscription_calls.seed(channel, sent)
        wanted = read_groups(list(seeds.blocklist), VIEWABLE, sourced=True) if seeds.blocklist else []
    except Refused as refused:
        raise ValueError(f"a seed is not valid: {refused.code} {refused.detail} {dict(refused.violations)}") from None
    blocklist.add(wanted, now(), lag=0)
    return len(seeds.profiles) + sum(map(len, seeds.subscriptions.values())) + len(wanted)


Called = Call[Target]
Acts = Mapping[str, Callable[[Called], Awaitable[Reply]]]
ApiScope = Literal["subscriptions:manage", "blocklist:manage"]
SUBSCRIPTIONS = "subscriptions"
BLOCKLISTS = "blocklists"


class Infobip(Provider[Target]):
    """One account at Infobip, its subscriptions, profiles and blocklist, and the calls made to it.

    INVENTED: the order of the checks (faults, method, credentials, scope, rate, channel, body, existence), and that
    all calls of one kind share one rate.
    """

    kinds = COMMON_KINDS | {"drop", "ignore_events"}
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
        self.subscription_calls = SubscriptionCalls(self, settings, self.subscriptions)
        self.blocklist_calls = BlocklistCalls(self, self.blocklist)
        self._put_seeds(seeds_of(self.settings))

    @property
    def register(self) -> "Infobip":
        """The state: the service shows subscriptions and blocklist as one."""
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
        self._put_seeds(seeds_of(self.settings))

    def seed(self, body: bytes) -> int:
        """Put profiles, subscriptions and blocklist groups into the state; a subscription that is there is replaced."""
        return self._put_seeds(Seeds.model_validate_json(body))

    def by_method(self, acts: Acts, scope: ApiScope) -> Callable[[Called, Send], Awaitable[None]]:
        """Return what answers a call by what its method asks for, if the key has the scope."""

        async def answering(call: Called, send: Send) -> None:
            await self.serve(call, partial(self._proper, acts, scope), send)

        return answering

    async def _proper(self, acts: Acts, scope: ApiScope, call: Called) -> Reply:
        act = acts.get(call.method)
        if act is None:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED)
        if call.headers.get(b"authorization") != self._key:
            raise Refused(HTTPStatus.UNAUTHORIZED)
        if scope not in self.settings.scopes:
            raise Refused(HTTPStatus.FORBIDDEN)
        self.admit(call, self._logs[call.target.bucket])
        return await act(call)

    def _put_seeds(self, seeds: Seeds) -> int:
        return put_seeds(seeds, self.subscription_calls, self.blocklist)

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


def routes(infobip: Infobip) -> list[Route]:
    """Return the routes; a method that is not allowed is refused by the sandbox itself, in Infobip's words."""
    some, blocking = infobip.subscription_calls, infobip.blocklist_calls
    manage: Final = "subscriptions:manage"
    on_channel = infobip.by_method({"GET": some.list, "POST": some.create}, manage)
    on_one = infobip.by_method({"GET": some.show, "PUT": some.update, "DELETE": some.remove}, manage)
    on_profiles = infobip.by_method({"GET": some.list_profiles, "POST": some.create_profile}, manage)
    on_profile = infobip.by_method({"GET": some.show_profile}, manage)
    on_blocklist = infobip.by_method(
        {"GET": blocking.show, "POST": blocking.block, "DELETE": blocking.unblock}, "blocklist:manage"
    )
    return [
        Route("/subscriptions/1/subscription/{channel}", Endpoint(_channel, on_channel)),
        Route("/subscriptions/1/subscription/{channel}/{subscription_id}", Endpoint(_subscription, on_one)),
        Route("/subscriptions/1/profiles", Endpoint(_profile, on_profiles)),
        Route("/subscriptions/1/profiles/{profile_id}", Endpoint(_profile, on_profile)),
        Route("/platform/1/blocklists", Endpoint(_blocklist, on_blocklist)),
    ]


def _channel(scope: Scope) -> Target:
    channel = scope["path_params"]["channel"]
    return Target(channel, (channel,), SUBSCRIPTIONS)


def _subscription(scope: Scope) -> Target:
    channel, subscription_id = scope["path_params"]["channel"], scope["path_params"]["subscription_id"]
    key = f"{channel}/{subscription_id}"
    return Target(key, (key, subscription_id, channel), SUBSCRIPTIONS)


def _profile(scope: Scope) -> Target:
    key = "/".join(["profiles", *scope["path_params"].values()])
    return Target(key, (key,), SUBSCRIPTIONS)


def _blocklist(_scope: Scope) -> Target:
    return Target(BLOCKLISTS, (BLOCKLISTS,), BLOCKLISTS)
