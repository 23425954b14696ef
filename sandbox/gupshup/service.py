"""The Gupshup sandbox: who may call, at what rate, and what is held."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus

from pydantic import TypeAdapter
from starlette.types import Send
from typing_extensions import override

from sandbox.answers import Reply
from sandbox.clock import now
from sandbox.faults import EVERYWHERE, Fault, chosen_code
from sandbox.gupshup import texts
from sandbox.gupshup.form import check_version, read_update
from sandbox.gupshup.register import Register
from sandbox.gupshup.settings import GupshupSettings, Seeds
from sandbox.gupshup.texts import error_reply
from sandbox.handling import Handling, Target
from sandbox.provider import Provider
from sandbox.rate import Rate, SlidingLog
from sandbox.refused import Refused

_SEEDS: TypeAdapter[Seeds] = TypeAdapter(Seeds)


@dataclass(frozen=True, slots=True)
class Place(Target):
    """A subscription of an app, or all of the app's when it names none."""

    app_id: str = ""
    subscription_id: str = ""


Called = Handling[Place]
Acts = Mapping[str, Callable[[Called], Awaitable[Reply]]]


class Gupshup(Provider[Place]):
    """One partner at Gupshup, its apps and their subscriptions, and the calls made to it.

    INVENTED: the order of the checks (faults, method, credentials, rate, form, existence, version, tag), and that
    the calls for one subscription share the app's rate with the calls for all of them.
    """

    kinds = EVERYWHERE | {"ignore_events"}
    torn = b'{"status":"success","subscription":{"active":true,"appId":"65'

    def __init__(self, settings: GupshupSettings) -> None:
        super().__init__(settings)
        self.settings = settings
        self.register = Register()
        rate = Rate.parse(settings.rate)
        self._logs: dict[str, SlidingLog] = defaultdict(lambda: SlidingLog(rate, slack=settings.slack))
        self._plant(settings.subscriptions)

    def counts(self) -> dict[str, int]:
        """Return what the sandbox holds, in numbers."""
        return self.register.counts()

    def reset(self) -> None:
        """Forget everything but what the settings say is there from the start."""
        for part in (self.faults, self.call_log, self.register, self._logs):
            part.clear()
        self._plant(self.settings.subscriptions)

    def seed(self, body: bytes) -> int:
        """Put subscriptions into the state, in place of what has the same id."""
        return self._plant(_SEEDS.validate_json(body))

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
            raise Refused(HTTPStatus.BAD_REQUEST, texts.NOT_ASSOCIATED)
        # INVENTED: that the token of another app is refused like a wrong one.
        if not token or self.settings.apps.get(call.target.app_id) != token:
            raise Refused(HTTPStatus.UNAUTHORIZED)

    def _plant(self, seeds: Seeds) -> int:
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
