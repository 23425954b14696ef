"""The Gupshup sandbox: its paths, which calls it admits, and what it holds."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from http import HTTPStatus

from pydantic import TypeAdapter
from starlette.routing import Route
from starlette.types import Scope, Send
from typing_extensions import override

from sandbox.answers import Reply
from sandbox.calls import Endpoint, Refused
from sandbox.faults import COMMON_KINDS, Fault, chosen_code
from sandbox.gupshup import replies
from sandbox.gupshup.register import Register
from sandbox.gupshup.replies import error_reply
from sandbox.gupshup.requests import check_version, read_update
from sandbox.gupshup.settings import GupshupSettings, Seeds
from sandbox.gupshup.subscriptions import Called, Place, SubscriptionCalls
from sandbox.provider import Provider
from sandbox.rate import Rate, SlidingLog, now

_SEEDS: TypeAdapter[Seeds] = TypeAdapter(Seeds)


Acts = Mapping[str, Callable[[Called], Awaitable[Reply]]]


class Gupshup(Provider[Place]):
    """One partner at Gupshup, its apps and their subscriptions, and the calls made to it.

    INVENTED: the order of the checks (faults, method, credentials, rate, form, existence, version, tag), and that
    the calls for one subscription share the app's rate with the calls for all of them.
    """

    kinds = COMMON_KINDS | {"ignore_events"}
    torn = b'{"status":"success","subscription":{"active":true,"appId":"65'

    def __init__(self, settings: GupshupSettings) -> None:
        super().__init__(settings)
        self.settings = settings
        self.register = Register()
        rate = Rate.parse(settings.rate)
        self._logs: dict[str, SlidingLog] = defaultdict(lambda: SlidingLog(rate, slack=settings.slack))
        self._put_seeds(settings.subscriptions)

    def counts(self) -> dict[str, int]:
        """Return what the sandbox holds, in numbers."""
        return self.register.counts()

    def reset(self) -> None:
        """Forget everything but what the settings say is there from the start."""
        for part in (self.faults, self.call_log, self.register, self._logs):
            part.clear()
        self._put_seeds(self.settings.subscriptions)

    def seed(self, body: bytes) -> int:
        """Put subscriptions into the state, in place of what has the same id."""
        return self._put_seeds(_SEEDS.validate_json(body))

    def by_method(self, acts: Acts) -> Callable[[Called, Send], Awaitable[None]]:
        """Return what answers a call by what its method asks for."""

        async def answering(call: Called, send: Send) -> None:
            await self.serve(call, partial(self._proper, acts), send)

        return answering

    async def _proper(self, acts: Acts, call: Called) -> Reply:
        act = acts.get(call.method)
        if act is None:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED)
        self._check_token(call)
        self.admit(call, self._logs[call.target.app_id])
        return await act(call)

    def _check_token(self, call: Called) -> None:
        token = call.headers.get(b"authorization", b"").decode("latin-1")
        if token in self.settings.unassociated:
            raise Refused(HTTPStatus.BAD_REQUEST, replies.NOT_ASSOCIATED)
        # INVENTED: that the token of another app is refused like a wrong one.
        if not token or self.settings.apps.get(call.target.app_id) != token:
            raise Refused(HTTPStatus.UNAUTHORIZED)

    def _put_seeds(self, seeds: Seeds) -> int:
        try:
            for app_id, several in seeds.items():
                for form in several:
                    update = read_update(form, self.settings, new=True)
                    check_version(update.fields["modes"], update.fields["version"], self.settings)
                    self.register.create(app_id, update, now(), form.get("id"))
        except Refused as refused:
            raise ValueError(f"a seed is not valid: {refused.detail}") from None
        return sum(map(len, seeds.values()))

    @override
    def refusal(self, refused: Refused) -> Reply:
        return error_reply(refused.code, refused.detail)

    @override
    def throttled(self, fault: Fault | None = None) -> Reply:
        return error_reply(HTTPStatus.TOO_MANY_REQUESTS)

    @override
    def error(self, fault: Fault, target: Place) -> Reply:
        code = chosen_code(fault, {"refuse": 401, "unknown": 400})
        reply = error_reply(code, fault.message or "")
        return replace(reply, status=fault.http_status or reply.status)


def routes(gupshup: Gupshup) -> list[Route]:
    """Return the routes; a method that is not allowed is refused by the sandbox itself, in Gupshup's words."""
    some, all_of_app = (
        SubscriptionCalls(gupshup, gupshup.settings, gupshup.register),
        "/partner/app/{app_id}/subscription",
    )
    on_all = gupshup.by_method({"GET": some.list, "POST": some.create, "DELETE": some.remove_all})
    on_one = gupshup.by_method({"GET": some.show, "PUT": some.update, "DELETE": some.remove})
    return [
        Route(all_of_app, Endpoint(_app, on_all)),
        Route(f"{all_of_app}/{{subscription_id}}", Endpoint(_subscription, on_one)),
    ]


def _app(scope: Scope) -> Place:
    app_id = scope["path_params"]["app_id"]
    return Place(app_id, (app_id,), app_id, app_id=app_id)


def _subscription(scope: Scope) -> Place:
    app_id, subscription_id = scope["path_params"]["app_id"], scope["path_params"]["subscription_id"]
    key = f"{app_id}/{subscription_id}"
    return Place(key, (key, subscription_id, app_id), app_id, app_id, subscription_id)
