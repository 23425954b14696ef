"""Capillary's OAuth token: minted once for all calls, kept until shortly before it expires, renewed once when refused.

It stands apart because it is an `httpx.Auth`: where calls carry a password, a look at the ledger loads no httpx.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NoReturn

import httpx
from pydantic import BaseModel, Field, ValidationError

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from worker.providers.contract import NoToken
from worker.providers.endpoint import is_header_name, variable

MARGIN = 0.1
"""The last part of a token's life in which it is not used: a call that is under way must not lose it."""

REFUSAL_SECONDS = 5.0
"""How long a refused key is not tried again, so that many calls at once make one refused mint and not many."""

_BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class _Data(BaseModel):
    access_token: str = Field(alias="accessToken", pattern=r"^[\x21-\x7e]+$")
    seconds: float = Field(alias="ttlSeconds", gt=0, allow_inf_nan=False, default=60.0)


class _Minted(BaseModel):
    data: _Data


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    ends: float


class TokenAuth(httpx.Auth):
    """Puts the access token into the header that the connection names (docs.capillarytech.com/reference/oauth)."""

    requires_response_body = True

    def __init__(self, base_url: httpx.URL, connection: ConnectionSettings, name: str = "<NAME>") -> None:
        if not is_header_name(connection.oauth_header):
            raise ConfigurationError(f"{variable(name, 'OAUTH_HEADER')} is not the name of an HTTP header")
        self._url = str(base_url).rstrip("/") + "/v3/oauth/token/generate"
        self._credentials = {"key": connection.oauth_key, "secret": connection.oauth_secret.get_secret_value()}
        self._header = connection.oauth_header
        self._token: _Token | None = None
        self._refused_until = 0.0
        self._minting = asyncio.Lock()

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Put the token into a request; on 401 send it once more with a new token."""
        for _ in range(2):
            async with self._minting:
                token = self._usable()
                if token is None:
                    asked_at = time.monotonic()
                    minted = yield self._mint()
                    await minted.aread()
                    token = self._token = self._read(minted, asked_at)
            request.headers[self._header] = token.text
            response = yield request
            if response.status_code != HTTPStatus.UNAUTHORIZED:
                return
            self._forget(token)

    def _usable(self) -> _Token | None:
        if time.monotonic() < self._refused_until:
            raise NoToken(refused=True)
        return self._token if self._token and time.monotonic() < self._token.ends else None

    def _forget(self, token: _Token) -> None:
        if self._token is token:
            self._token = None

    def _mint(self) -> httpx.Request:
        return httpx.Request("POST", self._url, json=self._credentials, headers={"Accept": "application/json"})

    def _read(self, minted: httpx.Response, asked_at: float) -> _Token:
        """Read a mint's reply: `{"data": {"accessToken": "…", "ttlSeconds": 300}, "errors": null}`."""
        if minted.is_client_error and minted.status_code not in _BUSY:
            self._refuse()
        if not minted.is_success:
            raise NoToken(refused=False)
        try:
            data = _Minted.model_validate_json(_text(minted)).data
        except ValidationError:
            self._reject_foreign(minted)
        return _Token(data.access_token, asked_at + data.seconds * (1 - MARGIN))

    def _reject_foreign(self, minted: httpx.Response) -> NoReturn:
        """Tell a success that holds errors (our key is wrong) from one that is not Capillary's (a gateway's page)."""
        if _has_errors(minted):
            self._refuse()
        raise NoToken(refused=False)

    def _refuse(self) -> NoReturn:
        self._refused_until = time.monotonic() + REFUSAL_SECONDS
        raise NoToken(refused=True)


def _text(minted: httpx.Response) -> str:
    """Return a mint's reply, in the encoding of JSON whatever its header says, and without a byte order mark."""
    return minted.content.removeprefix(codecs.BOM_UTF8).decode(errors="replace")


def _has_errors(minted: httpx.Response) -> bool:
    try:
        body: Any = json.loads(_text(minted))
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and bool(body.get("errors"))
