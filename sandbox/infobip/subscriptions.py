"""The calls for subscriptions and their profiles."""

from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from sandbox.answers import Reply, json_reply
from sandbox.calls import Call, Pending, Refused, Target, read_body
from sandbox.infobip.register import Subscription, Subscriptions
from sandbox.infobip.requests import (
    CHANNELS,
    Checker,
    Profile,
    SubscriptionUpdate,
    event_name,
    json_object,
    paged,
    read_id,
    read_profile,
    read_update,
)
from sandbox.infobip.settings import InfobipSettings
from sandbox.provider import Provider
from sandbox.rate import now

_SIZES = (20, 100)
Called = Call[Target]


class SubscriptionCalls:
    """What is done with each call; INVENTED: of two writes at once the later one wins, and none is refused."""

    def __init__(self, infobip: Provider[Target], settings: InfobipSettings, register: Subscriptions) -> None:
        self._infobip = infobip
        self._settings = settings
        self._register = register
        self._pending = Pending(infobip.call_log)

    async def list(self, call: Called) -> Reply:
        """List the subscriptions of a channel."""
        channel, query = self._channel(call), parse_qs(call.scope["query_string"].decode("latin-1"))
        async with self._infobip.slowly(call):
            found = self._register.found(channel, query)
            return json_reply(HTTPStatus.OK, paged(found, query, _SIZES, self._register.shown))

    async def create(self, call: Called) -> Reply:
        """Create a subscription whose id the caller chose."""
        channel = self._channel(call)
        subscription_id, update = self._read_new(json_object(await read_body(call.receive)), channel)
        call.rows = 1
        with self._pending.write((f"{channel}/{subscription_id}",)):
            async with self._infobip.slowly(call):
                self._check_new(channel, subscription_id, update)
                written = self._write(call, channel, subscription_id, update)
        # INVENTED: that Location is a path and not a whole URL.
        location = f"/subscriptions/1/subscription/{channel}/{subscription_id}"
        return replace(json_reply(HTTPStatus.CREATED, self._register.ids(written)), location=location)

    async def show(self, call: Called) -> Reply:
        """Read one subscription back."""
        channel = self._channel(call)
        async with self._infobip.slowly(call):
            return json_reply(HTTPStatus.OK, self._register.shown(self._existing(call, channel)))

    async def update(self, call: Called) -> Reply:
        """Update a subscription; the reply has its ids and nothing else."""
        channel = self._channel(call)
        checker = Checker()
        update = self._update(_with_id_only(json_object(await read_body(call.receive))), channel, checker)
        checker.conclude()
        call.rows = 1
        with self._pending.write((call.target.key,)):
            async with self._infobip.slowly(call):
                existing = self._existing(call, channel)
                self._check_profile(update)
                written = self._write(call, channel, existing.subscription_id, update)
        return json_reply(HTTPStatus.OK, self._register.ids(written))

    async def remove(self, call: Called) -> Reply:
        """Remove a subscription, and answer with the ids it had."""
        channel = self._channel(call)
        with self._pending.write((call.target.key,)):
            async with self._infobip.slowly(call):
                existing = self._existing(call, channel)
                self._register.remove(channel, existing.subscription_id)
        return json_reply(HTTPStatus.OK, self._register.ids(existing))

    async def list_profiles(self, call: Called) -> Reply:
        """List the profiles, newest first."""
        query = parse_qs(call.scope["query_string"].decode("latin-1"))
        newest_first = list(reversed(self._register.profiles.values()))
        return json_reply(HTTPStatus.OK, paged(newest_first, query, _SIZES, _shown))

    async def create_profile(self, call: Called) -> Reply:
        """Create a profile. INVENTED: the reply shows all of it but its credentials."""
        profile = _profile(json_object(await read_body(call.receive)))
        if profile.profile_id in self._register.profiles:
            raise Refused(HTTPStatus.CONFLICT, "A profile with this ID already exists")  # INVENTED
        self._register.profiles[profile.profile_id] = profile
        return json_reply(HTTPStatus.CREATED, profile.sent)

    async def show_profile(self, call: Called) -> Reply:
        """Read one profile back."""
        profile = self._register.profiles.get(call.scope["path_params"]["profile_id"])
        if profile is None:
            raise Refused(HTTPStatus.NOT_FOUND)
        return json_reply(HTTPStatus.OK, profile.sent)

    def seed_profile(self, sent: dict[str, Any]) -> None:
        """Put a profile there without a call."""
        profile = _profile(sent)
        self._register.profiles[profile.profile_id] = profile

    def seed(self, channel: str, sent: dict[str, Any]) -> None:
        """Put a subscription there without a call, in place of what has its id."""
        subscription_id, update = self._read_new(sent, self._check_channel(channel))
        self._check_profile(update)
        self._register.write(channel, subscription_id, update, now(), keep=False)

    def _read_new(self, sent: dict[str, Any], channel: str) -> tuple[str, SubscriptionUpdate]:
        checker = Checker()
        subscription_id = read_id(sent, checker)
        update = self._update(sent, channel, checker)
        checker.conclude()
        return subscription_id, update

    def _check_new(self, channel: str, subscription_id: str, update: SubscriptionUpdate) -> None:
        # Only a client of Infobip's tells that it expects a 409 here.
        if self._register.held(channel, subscription_id):
            raise Refused(HTTPStatus.CONFLICT)
        self._check_profile(update)

    def _check_channel(self, channel: str) -> str:
        # INVENTED: that a channel there is not is refused with 400.
        if channel not in CHANNELS[self._settings.channels]:
            raise Refused(HTTPStatus.BAD_REQUEST, violations={"channel": ["unsupported channel"]})
        return channel

    def _channel(self, call: Called) -> str:
        return self._check_channel(call.scope["path_params"]["channel"])

    def _existing(self, call: Called, channel: str) -> Subscription:
        held = self._register.held(channel, call.scope["path_params"]["subscription_id"])
        if held is None:
            raise Refused(HTTPStatus.NOT_FOUND)
        return held

    def _update(self, sent: dict[str, Any], channel: str, checker: Checker) -> SubscriptionUpdate:
        return read_update(sent, channel, checker, refuse_unknown=self._settings.unknown_event == "refuse")

    def _check_profile(self, update: SubscriptionUpdate) -> None:
        if update.brings_profile or update.profile.profile_id in self._register.profiles:
            return
        missing = self._settings.missing_profile
        found = {"profile.profileId": ["profile does not exist"]} if missing == 400 else None  # noqa: PLR2004
        raise Refused(missing, violations=found)

    def _write(self, call: Called, channel: str, subscription_id: str, update: SubscriptionUpdate) -> Subscription:
        ignored = self._infobip.ignored(call, channel)
        done = replace(update, events=[event for event in update.events if not ignored(event_name(event))])
        keep = self._settings.omitted == "keep"
        return self._register.write(channel, subscription_id, done, now(), keep=keep)


def _with_id_only(sent: dict[str, Any]) -> dict[str, Any]:
    # Documented: an update names a profile. INVENTED: what else it says of the profile is ignored.
    profile = sent.get("profile")
    return sent | {"profile": {"profileId": profile.get("profileId")}} if isinstance(profile, dict) else sent


def _profile(sent: dict[str, Any]) -> Profile:
    checker = Checker()
    profile = read_profile(sent, checker)
    checker.conclude()
    return profile


def _shown(profile: Profile) -> dict[str, Any]:
    return profile.sent
