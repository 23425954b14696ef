"""API keys: who may post changes and how often.

Several keys are valid at a time, so that one can be replaced while the other still works.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import NamedTuple

from consent.connection import Rate
from consent.errors import ConfigurationError

NAMELESS = "default"
"""The name of a key that was given without one."""

_SHORTEST = 16
_BURST_SECONDS = 1.0


class Sender(NamedTuple):
    """Who sends: the name of the key, which may be logged, and the scope in which ids are unique: a digest of the key.

    Two keys are two senders, also if they have one name or none.
    """

    name: str
    scope: str


class _Key(NamedTuple):
    name: str
    digest: bytes


class ApiKeys:
    """The keys that are valid now. Nothing of a key is kept but its hash; its name may be logged."""

    def __init__(self, setting: str) -> None:
        """Read `name=key,name=key` or plain keys; raise ConfigurationError for one that can be guessed."""
        self._keys = [_key(part.strip()) for part in setting.split(",") if part.strip()]

    def __bool__(self) -> bool:
        """Whether there is any key."""
        return bool(self._keys)

    def sender(self, headers: Mapping[str, str]) -> Sender | None:
        """Return whose key a request shows, or None if it shows no valid one.

        Every key is compared in full, so that the time taken tells nothing about any of them.
        """
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        key = credentials if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        shown = sha256(key.strip().encode()).digest()
        found = None
        for one in self._keys:
            if hmac.compare_digest(shown, one.digest):
                found = Sender(one.name, sha256(b"in the name of " + one.digest).hexdigest())
        return found


class KeyRateLimit:
    """How often each key may ask, with a second's worth (at least one request) at once; kept by this process alone.

    The keys are those of the settings, so they are few. Several server processes each keep their own.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = rate.interval
        self._tolerance = max(0.0, _BURST_SECONDS - rate.interval)
        self._clock = clock
        self._next: dict[str, float] = {}

    def acquire(self, scope: str) -> float:
        """Take the turn of one request and return 0.0, or take none and return how many seconds to wait for one."""
        now = self._clock()
        due = max(self._next.get(scope, now), now)
        if due - now > self._tolerance:
            return due - now - self._tolerance
        self._next[scope] = due + self._interval
        return 0.0


def _key(setting: str) -> _Key:
    name, equals, key = setting.partition("=")
    if not equals or not name.strip() or not key.strip("= "):
        name, key = NAMELESS, setting  # a plain key, which may end in the = of base64
    if len(key) < _SHORTEST:
        message = f"OPTRELAY_API_KEYS: a key needs {_SHORTEST} characters at least: `openssl rand -hex 24` makes one"
        raise ConfigurationError(message)
    return _Key(name.strip(), sha256(key.strip().encode()).digest())
