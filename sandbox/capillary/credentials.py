"""Who may call: a till with its password, or the bearer of a token that has not expired."""

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping

from sandbox.answers import Reply, json_reply
from sandbox.calls import Refused
from sandbox.capillary.replies import MESSAGES
from sandbox.capillary.settings import CapillarySettings
from sandbox.faults import Faults, Victim
from sandbox.rate import now

_TOKEN_HEADERS = (b"x-cap-api-oauth-token", b"cap-api-access-token")


class Credentials:
    """The one account of the sandbox and the tokens minted for it."""

    def __init__(self, settings: CapillarySettings, faults: Faults) -> None:
        self._settings = settings
        self._faults = faults
        self._basic = basic_header(settings.username, settings.password)
        self._minted: dict[str, float] = {}

    def clear(self) -> None:
        """Forget every token."""
        self._minted.clear()

    def counts(self) -> dict[str, int]:
        """Return how many tokens were minted."""
        return {"tokens": len(self._minted)}

    def check(self, headers: Mapping[bytes, bytes], names: tuple[str, ...], *, write: bool) -> None:
        """Refuse with 401 a call without a valid header; with 1061 half a pair of attribution headers."""
        token = next((headers[name] for name in _TOKEN_HEADERS if name in headers), None)
        known = headers.get(b"authorization") == self._basic if token is None else self._fresh(token, names, write)
        if not known:
            raise Refused(401)
        attributed = b"x-cap-api-attribution-lookup" in headers
        if attributed and b"x-cap-api-attribution-lookup-type" not in headers:
            raise Refused(1061)

    def mint(self, body: bytes) -> Reply:
        """Answer a token call; the documented token is a JWT, this one is an opaque text (INVENTED)."""
        if not self._knows(body):
            # INVENTED: the shape of the refusal.
            error = {"status": False, "code": 401, "message": MESSAGES[401]}
            return json_reply(401, {"data": None, "errors": [error]}, 401)
        token = secrets.token_urlsafe(32)
        self._minted[token] = now()
        return json_reply(200, {"data": {"accessToken": token, "ttlSeconds": self._settings.token_ttl}, "errors": None})

    def _knows(self, body: bytes) -> bool:
        try:
            given = json.loads(body)
        except ValueError:
            return False
        wanted = {"key": self._settings.oauth_key, "secret": self._settings.oauth_secret}
        return isinstance(given, dict) and wanted.items() <= given.items()

    def _fresh(self, token: bytes, names: tuple[str, ...], write: bool) -> bool:  # noqa: FBT001
        minted = self._minted.get(token.decode("latin-1"))
        if minted is None or now() >= minted + self._settings.token_ttl:
            return False
        return self._faults.bite("token", Victim(names, write, token_minted=minted)) is None


def basic_header(username: str, password: str) -> bytes:
    """Return the Authorization header of a till: the password goes in as its MD5 digest in hexadecimal (documented)."""
    digest = hashlib.md5(password.encode(), usedforsecurity=False).hexdigest()
    return b"Basic " + base64.b64encode(f"{username}:{digest}".encode())
