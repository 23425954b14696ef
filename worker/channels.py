"""The channels by which notices reach people, and the thread that sends them: no delivery waits for any of it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import httpx
import orjson
import structlog

from consent.errors import ConfigurationError, LedgerError
from consent.ledger.ledger import Ledger
from consent.ledger.telemetry.notices import Message
from consent.settings import Settings

SECONDS = 10.0
"""For how long one channel may take, all in all."""

_PREFIX, _APPRISE = "whsec_", "apprise+"
_SHORTEST, _LONGEST = 24, 64  # bytes of a secret; https://www.standardwebhooks.com asks for that
_FIRST_WAIT, _LONGEST_WAIT = 5.0, 600.0
_IDLE_SECONDS = 5.0
_REST_SECONDS = 60.0  # after an error that is not a receiver's
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_log = structlog.get_logger()


class Channel(Protocol):
    """Where messages go."""

    def send(self, message: Message) -> str:
        """Send a message; return why it was not taken, or nothing. No part of its address is told."""
        ...


@dataclass(frozen=True, slots=True)
class Webhook:
    """A receiver of signed webhooks, as https://www.standardwebhooks.com describes them."""

    url: str = field(repr=False)
    secret: bytes = field(repr=False)

    def send(self, message: Message) -> str:
        """Post it; any answer but 2xx counts as not taken."""
        headers = {"content-type": "application/json", **signature(self.secret, message)}
        return _asked("POST", self.url, content=message.body.encode(), headers=headers)


@dataclass(frozen=True, slots=True)
class AppriseChannel:
    """Mail, Slack, Teams, PagerDuty and others, by the library Apprise."""

    url: str = field(repr=False)

    def send(self, message: Message) -> str:
        """Hand it over; the library says only whether it was taken."""
        import apprise  # noqa: PLC0415 - an extra

        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it would log addresses
        target = apprise.Apprise()
        target.add(self.url)
        event = orjson.loads(message.body)
        title = f"optrelay: {event['type'].removeprefix('notice.')}"
        return "" if target.notify(title=title, body=event["data"]["words"]) else "Apprise could not send it"


def message_id(message: Message) -> str:
    """Return the id by which a receiver knows a message again that comes twice."""
    return f"msg_{message.at}_{message.id}"


def signature(secret: bytes, message: Message) -> dict[str, str]:
    """Return the headers that say which message this is, and prove who sent it."""
    name, now = message_id(message), str(int(time.time()))
    signed = hmac.digest(secret, f"{name}.{now}.{message.body}".encode(), hashlib.sha256)
    proof = f"v1,{base64.b64encode(signed).decode()}"
    return {"webhook-id": name, "webhook-timestamp": now, "webhook-signature": proof}


def channels_of(settings: Settings) -> Sequence[Channel]:
    """Return the channels of the settings, in their order; raise ConfigurationError, with the remedy."""
    return [_channel(one.get_secret_value(), settings) for one in settings.notify]


def _channel(url: str, settings: Settings) -> Channel:
    if url.startswith(_APPRISE):
        try:
            import apprise  # noqa: PLC0415 - an extra
        except ImportError:
            raise ConfigurationError(
                "OPTRELAY_NOTIFY names an address of Apprise: install `optrelay[notify]`"
            ) from None
        bare = url.removeprefix(_APPRISE)
        if apprise.Apprise.instantiate(bare) is None:
            raise ConfigurationError("OPTRELAY_NOTIFY: Apprise does not understand an address behind apprise+")
        return AppriseChannel(bare)
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        raise ConfigurationError("OPTRELAY_NOTIFY: an address cannot be read: look at its port and brackets") from None
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ConfigurationError("OPTRELAY_NOTIFY: an address begins with https:// or apprise+ (http:// on loopback)")
    if not parts.hostname:
        raise ConfigurationError("OPTRELAY_NOTIFY: an address names no host")
    return Webhook(url, _secret(settings.notify_secret.get_secret_value()))


def _secret(text: str) -> bytes:
    with suppress(binascii.Error):
        found = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        if text.startswith(_PREFIX) and _SHORTEST <= len(found) <= _LONGEST:
            return found
    raise ConfigurationError(
        "OPTRELAY_NOTIFY_SECRET signs webhooks: whsec_ and 24 to 64 bytes in base64; "
        "`echo whsec_$(openssl rand -base64 32)` makes one"
    )


def _asked(method: str, url: str, **request: object) -> str:
    """Make one request; return why it did not work, or nothing. An answer may drip: the whole of it has a limit."""

    async def ask() -> str:
        async with httpx.AsyncClient(timeout=SECONDS) as client, client.stream(method, url, **request) as answer:  # type: ignore[arg-type]
            return "" if answer.is_success else f"the receiver answered {answer.status_code}"

    async def in_time() -> str:
        async with asyncio.timeout(SECONDS):
            return await ask()

    try:
        return asyncio.run(in_time())
    except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
        return f"the receiver could not be reached: {type(error).__name__}"


def _try_to_send(channel: Channel, message: Message) -> str:
    """Return why a channel did not take a message, or nothing; an error of its library is told by its type."""
    try:
        return channel.send(message)
    except Exception as error:  # noqa: BLE001 - whatever a channel's library raises, the others must not suffer
        return f"the channel broke: {type(error).__name__}"


@dataclass(slots=True)
class NoticeSender:
    """Sends what stands in the outbox, in a thread of its own, until the process ends."""

    settings: Settings
    ledger: Ledger
    _thread: threading.Thread | None = None
    _due: threading.Event = field(default_factory=threading.Event)
    _pid: int = 0

    def wake(self, *, heartbeat: bool = True) -> None:
        """Let the thread send what there is, and say that something delivers; it is started if it does not run."""
        if not (self.settings.notify or self.settings.heartbeat_url.get_secret_value()):
            return
        if self._thread is None or self._pid != os.getpid() or not self._thread.is_alive():
            self._pid, self._due = os.getpid(), threading.Event()
            self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
            self._thread.start()
        if heartbeat:
            self._due.set()

    def _run(self) -> None:
        while True:
            if self._due.wait(_IDLE_SECONDS):
                self._due.clear()
                ping(self.settings)
            try:
                self.drain(time.monotonic() + _LONGEST_WAIT)
            except (LedgerError, ConfigurationError) as error:
                _log.warning("notices.unsent", reason=str(error))
                time.sleep(_REST_SECONDS)

    def drain(self, ends: float) -> int:
        """Send what is due, until this moment of the monotonic clock; return how many messages every channel took.

        Raises LedgerUnavailable and ConfigurationError.
        """
        channels = channels_of(self.settings)
        sent, ill = 0, dict[int, str]()
        while channels and time.monotonic() < ends:
            if (message := self.ledger.notices.take(2 * SECONDS * (1 + len(channels)))) is None:
                break
            sent += self._send(message, channels, ill)
        return sent

    def _send(self, message: Message, channels: Sequence[Channel], ill: dict[int, str]) -> bool:
        """Send a message to each channel that has not taken it; return whether all have.

        A channel that has just failed is not asked again with the next message: it would hold up the others each time.
        `ill` keeps these, with why.
        """
        done, reason = set(message.done), ""
        for number, channel in enumerate(channels):
            if number in done:
                continue
            why = ill.get(number) or _try_to_send(channel, message)
            if why:
                reason = ill.setdefault(number, why)
            else:
                done.add(number)
        whole = len(done) >= len(channels)
        wait = 0.0 if whole else min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(message.tries - 1, 10))
        self.ledger.notices.note_sent(message, done, all_of_them=whole, reason=reason, wait=wait)
        if reason:
            _log.warning("notice.unsent", id=message_id(message), reason=reason, tries=message.tries)
        return whole


def ping(settings: Settings, end: str = "") -> None:
    """Ask the heartbeat's address, with /fail behind it if something failed: a dead man's switch (healthchecks)."""
    url = settings.heartbeat_url.get_secret_value()
    if url and (why := _asked("GET", url.rstrip("/") + end)):
        _log.warning("heartbeat.unsent", reason=why)
