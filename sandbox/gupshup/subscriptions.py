"""The calls for the subscriptions of an app."""

from dataclasses import dataclass, replace
from http import HTTPStatus

from sandbox.answers import Reply, json_reply
from sandbox.calls import Call, Pending, Refused, Target, read_body
from sandbox.gupshup import replies
from sandbox.gupshup.register import Register, Subscription
from sandbox.gupshup.requests import SubscriptionUpdate, check_version, read_form, read_update
from sandbox.gupshup.settings import GupshupSettings
from sandbox.provider import Provider
from sandbox.rate import now


@dataclass(frozen=True, slots=True)
class Place(Target):
    """A subscription of an app, or all of the app's when it names none."""

    app_id: str = ""
    subscription_id: str = ""


Called = Call[Place]


class SubscriptionCalls:
    """What is done with each call; INVENTED: of two writes at once the later one wins, and none is refused."""

    def __init__(self, gupshup: Provider[Place], settings: GupshupSettings, register: Register) -> None:
        self._gupshup = gupshup
        self._settings = settings
        self._register = register
        self._pending = Pending(gupshup.call_log)

    async def list(self, call: Called) -> Reply:
        """List the subscriptions of the app."""
        async with self._gupshup.slowly(call):
            found = [one.shown() for one in self._register.of(call.target.app_id)]
        return json_reply(HTTPStatus.OK, {"status": "success", "subscriptions": found})

    async def show(self, call: Called) -> Reply:
        """Read one subscription back."""
        async with self._gupshup.slowly(call):
            return _success(self._owned(call))

    async def create(self, call: Called) -> Reply:
        """Create a subscription, whose id Gupshup chooses."""
        update = await self._read(call, new=True)
        async with self._gupshup.slowly(call):
            self._check(call, update, None)
            return _success(self._register.create(call.target.app_id, self._kept(call, update), now()))

    async def update(self, call: Called) -> Reply:
        """Change the fields that were sent, and answer with the whole subscription."""
        update = await self._read(call, new=False)
        with self._pending.write((call.target.key,)):
            async with self._gupshup.slowly(call):
                before = self._owned(call)
                self._check(call, update, before)
                return _success(self._register.update(before, self._kept(call, update), now()))

    async def remove(self, call: Called) -> Reply:
        """Remove a subscription."""
        with self._pending.write((call.target.key,)):
            async with self._gupshup.slowly(call):
                self._register.remove(self._owned(call))
        return Reply(HTTPStatus.NO_CONTENT)

    async def remove_all(self, call: Called) -> Reply:
        """Remove every subscription of the app, as irrevocably as documented."""
        async with self._gupshup.slowly(call):
            for one in self._register.of(call.target.app_id):
                self._register.remove(one)
        return Reply(HTTPStatus.NO_CONTENT)

    async def _read(self, call: Called, *, new: bool) -> SubscriptionUpdate:
        form = read_form(call.headers, await read_body(call.receive))
        call.rows = 1
        return read_update(form, self._settings, new=new)

    def _owned(self, call: Called) -> Subscription:
        held = self._register.held(call.target.subscription_id)
        if held is None:
            raise Refused(HTTPStatus.BAD_REQUEST, replies.NO_SUBSCRIPTION)
        if held.app_id != call.target.app_id:
            raise Refused(HTTPStatus.FORBIDDEN, replies.NOT_OWNER)
        return held

    def _check(self, call: Called, update: SubscriptionUpdate, before: Subscription | None) -> None:
        fields = (before.fields if before else {}) | update.fields
        check_version(fields["modes"], fields["version"], self._settings)
        others = [one for one in self._register.of(call.target.app_id) if one is not before]
        if any(one.fields["tag"] == fields["tag"] for one in others):
            raise Refused(HTTPStatus.BAD_REQUEST, replies.DUPLICATE_TAG)

    def _kept(self, call: Called, update: SubscriptionUpdate) -> SubscriptionUpdate:
        ignored = self._gupshup.ignored(call)
        if update.modes is None:
            return update
        return replace(
            update, fields=update.fields | {"modes": frozenset(one for one in update.modes if not ignored(one))}
        )


def _success(subscription: Subscription) -> Reply:
    return json_reply(HTTPStatus.OK, {"status": "success", "subscription": subscription.shown()})
