"""Unsubscribe tokens: what a link will change, encrypted and signed: it names no person and cannot be forged."""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from consent.errors import ConfigurationError

_SHORTEST = 32
_LONGEST_TOKEN = 4096
_FORM = re.compile(r"[A-Za-z0-9_-]+")
_ID_BYTES = 9


@dataclass(frozen=True, slots=True)
class Link:
    """What a token says: the columns of the change, and until when it may be used (seconds since 1970)."""

    id: str
    fields: Mapping[str, str] = field(repr=False)
    expires: int


class Expired(Exception):
    """A token that was good once."""


class Forged(Exception):
    """A token that was not made here, or not with any secret that is still valid."""


class Tokens:
    """Makes and reads tokens. The first secret makes new ones; the others still read what they made.

    A token is a Fernet token (AES-128-CBC and HMAC-SHA256) without its padding. One secret makes one key.
    """

    def __init__(self, setting: str, clock: Callable[[], float] = time.time) -> None:
        """Read secrets that are separated by commas; raise ConfigurationError for one that can be guessed."""
        parts = [part.strip() for part in setting.split(",") if part.strip()]
        if any(len(part) < _SHORTEST for part in parts):
            message = f"OPTRELAY_TOKEN_SECRET: a secret needs {_SHORTEST} characters: `openssl rand -hex 32` makes one"
            raise ConfigurationError(message)
        self._boxes = MultiFernet([_box(part) for part in parts]) if parts else None
        self._clock = clock

    def __bool__(self) -> bool:
        """Whether there is any secret."""
        return self._boxes is not None

    def make(self, fields: Mapping[str, str], seconds: float) -> str:
        """Return a new token for these columns, valid for so many seconds; raise ConfigurationError if it cannot."""
        if self._boxes is None:
            raise ConfigurationError("set OPTRELAY_TOKEN_SECRET, for example to what `openssl rand -hex 32` prints")
        content = {"i": secrets.token_urlsafe(_ID_BYTES), "e": int(self._clock() + seconds), "f": dict(fields)}
        return self._boxes.encrypt(json.dumps(content, separators=(",", ":")).encode()).decode().rstrip("=")

    def read(self, token: str) -> Link:
        """Return what a token says; raise Expired or Forged."""
        if self._boxes is None or len(token) > _LONGEST_TOKEN or not _FORM.fullmatch(token):
            raise Forged
        try:
            content = json.loads(self._boxes.decrypt(token + "=" * (-len(token) % 4)))
        except InvalidToken:
            raise Forged from None
        if content["e"] < self._clock():
            raise Expired
        return Link(content["i"], content["f"], content["e"])


def _box(secret: str) -> Fernet:
    # A secret may be any text; the derivation makes of it a key that is used for nothing else.
    key = HKDF(SHA256(), 32, salt=None, info=b"optrelay unsubscribe token").derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(key))
