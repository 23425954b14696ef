"""Writing a request for httpx and authenticating it, with no more work than that takes.

httpx parses and quotes a whole URL for each request, which costs a sixth of a call (see docs/performance.md). Here the
address is parsed once, and each request names its target beside it: the `target` extension that httpx documents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import httpx
import orjson

from worker.providers.contract import Request


class Writer:
    """Writes the requests of one connection: same address, same headers."""

    def __init__(self, url: httpx.URL, headers: Mapping[str, str]) -> None:
        self._url = url
        self._before = url.raw_path.decode("ascii").rstrip("/")
        # Capillary answers 415 to what does not say that it is JSON, even where there is no body.
        self._json_headers = self._with_type(headers, "application/json")
        self._form_headers = self._with_type(headers, "application/x-www-form-urlencoded")

    def write(self, request: Request) -> httpx.Request:
        """Return the request to send; raise ValueError if its path is not quoted."""
        query = f"?{urlencode(request.params)}" if request.params else ""
        target = f"{self._before}{request.path}{query}"
        if not _QUOTED.fullmatch(target):
            raise ValueError("a path that is not quoted")
        body = _body(request)
        headers = (self._json_headers if request.form is None else self._form_headers).copy()
        if body or request.method not in _WITHOUT_BODY:
            headers["Content-Length"] = str(len(body))
        extensions = {"target": target.encode("ascii")}
        stream = httpx.ByteStream(body)
        written = httpx.Request(request.method, self._url, headers=headers, stream=stream, extensions=extensions)
        written.read()  # else the transport would have to wait for what is there already
        return written

    def _with_type(self, headers: Mapping[str, str], content_type: str) -> httpx.Headers:
        written = httpx.Headers(headers)
        written.setdefault("Host", self._url.netloc.decode("ascii"))
        written["Content-Type"] = content_type
        return written


_QUOTED = re.compile(r"[!-~]+")
_WITHOUT_BODY = {"GET", "HEAD", "DELETE"}


def _body(request: Request) -> bytes:
    if request.form is not None:
        return urlencode(request.form).encode("ascii")
    if request.json is None:
        return b""
    try:
        return orjson.dumps(request.json)
    except orjson.JSONEncodeError:  # a whole number beyond 64 bits, in what a provider told us to send back
        return json.dumps(request.json, ensure_ascii=False, allow_nan=False).encode("utf-8")


class AuthFlow:
    """One request's way through an `httpx.Auth`: what to send first, and what to send after each reply.

    httpx makes an asynchronous generator of every flow, which costs a call as much as writing it does; here only a flow
    that says itself that it waits is one.
    """

    def __init__(self, auth: httpx.Auth, request: httpx.Request) -> None:
        self._waits = type(auth).async_auth_flow is not httpx.Auth.async_auth_flow
        self._flow: Any = auth.async_auth_flow(request) if self._waits else auth.auth_flow(request)

    async def after(self, response: httpx.Response | None) -> httpx.Request | None:
        """Return what is to be sent after a reply, at first after none; None once nothing is."""
        try:
            sent: httpx.Request = await self._flow.asend(response) if self._waits else self._flow.send(response)
        except (StopIteration, StopAsyncIteration):
            return None
        return sent

    async def aclose(self) -> None:
        """End it, wherever it is."""
        if self._waits:
            await self._flow.aclose()
        else:
            self._flow.close()
