"""Who may post changes: API keys, several at a time so that one can be replaced while the other still works."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

from consent.errors import ConfigurationError

NAMELESS = "default"
"""The name of a key that was given without one."""

_SHORTEST = 16


class Sender(NamedTuple):
    """Who sends: the name of the key, which may be logged, and in whose name ids are unique: a digest of the key.

    Two keys are two senders, also if they have one name or none.
    """

    name: str
    scope: str


class _Key(NamedTuple):
    name: str
    digest: bytes


class ApiKeys:
    """The keys that are valid now. Nothing of a key is kept but its hash; its name may be logged."""

    def __init__(self, told: str) -> None:
        """Read `name=key,name=key` or plain keys; raise ConfigurationError for one that can be guessed."""
        self._keys = [_key(part.strip()) for part in told.split(",") if part.strip()]

    def __bool__(self) -> bool:
        """Whether there is any key."""
        return bool(self._keys)

    def sender(self, headers: Mapping[str, str]) -> Sender | None:
        """Return whose key a request shows, or None if it shows no valid one.

        Every key is compared in full, so that the time taken tells nothing about any of them.
        """
        shown = sha256(_shown(headers).encode()).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(shown, key.digest):
                found = Sender(key.name, sha256(b"in the name of " + key.digest).hexdigest())
        return found


def _key(told: str) -> _Key:
    name, equals, key = told.partition("=")
    if not equals or not name.strip() or not key.strip("= "):
        name, key = NAMELESS, told  # a plain key, which may end in the = of base64
    if len(key) < _SHORTEST:
        message = f"OPTRELAY_API_KEYS: a key needs {_SHORTEST} characters at least: `openssl rand -hex 24` makes one"
        raise ConfigurationError(message)
    return _Key(name.strip(), sha256(key.strip().encode()).digest())


def _shown(headers: Mapping[str, str]) -> str:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    return headers.get("x-api-key", "").strip()
