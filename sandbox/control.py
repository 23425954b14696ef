"""The control paths: order faults, look at what is held, start afresh. The real providers have nothing like them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sandbox.call_log import CallLog
from sandbox.faults import Fault, Faults, Kind

T = TypeVar("T")
_LINES_AT_ONCE = 500


def page(items: Sequence[T], asked: Mapping[str, str]) -> tuple[Sequence[T], int | None]:
    """Return `limit` items (1000) from position `offset` (0), and the offset of the next page if there is one."""
    start, count = int(asked.get("offset", "0")), int(asked.get("limit", "1000"))
    if start < 0 or count < 1:
        raise ValueError("offset starts at 0 and limit at 1")
    following = start + count
    return items[start:following], following if following < len(items) else None


async def lines(items: Sequence[T], as_json: Callable[[T], Any]) -> AsyncIterator[str]:
    """Give every item as one line of JSON, some hundreds at a time, so that calls are answered in between."""
    for start in range(0, len(items), _LINES_AT_ONCE):
        yield "".join(f"{json.dumps(as_json(item))}\n" for item in items[start : start + _LINES_AT_ONCE])
        await asyncio.sleep(0)


_ORDER: TypeAdapter[list[Fault]] = TypeAdapter(list[Fault])


class Held(Protocol):
    """The state of a provider, customer by customer (elsewhere: target by target)."""

    def keys(self) -> list[str]:
        """Return the customers, in a stable order."""

    def rows(self, key: str) -> list[dict[str, Any]]:
        """Return the rows of one customer."""


class Service(Protocol):
    """What every provider offers to the control paths."""

    faults: Faults
    call_log: CallLog

    @property
    def kinds(self) -> frozenset[Kind]:
        """Return the faults it can suffer."""

    @property
    def held_as(self) -> str:
        """Return what its state is a list of."""

    @property
    def register(self) -> Held:
        """Return the state."""

    def counts(self) -> dict[str, int]:
        """Return what is held, in numbers."""

    def reset(self) -> None:
        """Forget everything."""


def routes(service: Service, prefix: str) -> list[Route]:
    """Return the control paths of one provider, all below the prefix."""
    control = _Control(service)
    return [
        Route(f"{prefix}/faults", _guarded(control.order), methods=["POST"]),
        Route(f"{prefix}/faults", control.faults, methods=["GET"]),
        Route(f"{prefix}/faults", control.lift, methods=["DELETE"]),
        Route(f"{prefix}/reset", control.reset, methods=["POST"]),
        Route(f"{prefix}/stats", _guarded(control.stats), methods=["GET"]),
        Route(f"{prefix}/state", _guarded(control.state), methods=["GET"]),
        Route(f"{prefix}/calls", _guarded(control.calls), methods=["GET"]),
    ]


def seeding(put: Callable[[bytes], int], prefix: str) -> Route:
    """Return the control path that puts what it is sent into the state, without a call, and tells how much it was."""

    async def seed(request: Request) -> Response:
        return JSONResponse({"seeded": put(await request.body())})

    return Route(f"{prefix}/seed", _guarded(seed), methods=["POST"])


class _Control:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def order(self, request: Request) -> Response:
        """Put one fault, or a list of them, in force beside those already ordered."""
        given = json.loads(await request.body())
        ordered = _ORDER.validate_python(given if isinstance(given, list) else [given])
        if foreign := {fault.kind for fault in ordered} - self._service.kinds:
            raise ValueError(f"this provider does not suffer {', '.join(sorted(foreign))}")
        for fault in ordered:
            self._service.faults.add(fault)
        return await self.faults(request)

    async def faults(self, _request: Request) -> Response:
        """Return the faults ordered, how often each bit, and whether it is spent."""
        return JSONResponse({"faults": self._service.faults.table()})

    async def lift(self, request: Request) -> Response:
        """Lift every fault."""
        self._service.faults.clear()
        return await self.faults(request)

    async def reset(self, _request: Request) -> Response:
        """Forget everything."""
        self._service.reset()
        return JSONResponse({"reset": True})

    async def stats(self, request: Request) -> Response:
        """Return the counts, and the worst window if its length in seconds is given."""
        asked = request.query_params
        counts = self._service.counts() | self._service.call_log.stats(int(asked.get("users", "10")))
        if "window" in asked:
            counts["worst_window"] = self._service.call_log.worst_window(float(asked["window"]))
        return JSONResponse(counts)

    async def state(self, request: Request) -> Response:
        """Return the rows of one customer, a page of customers, or all of them as lines of JSON."""
        register = self._service.register
        keys = register.keys()
        if (user := request.query_params.get("user")) is not None:
            keys = [user]
        if request.query_params.get("format") == "ndjson":
            return StreamingResponse(
                lines(keys, lambda key: {"user": key, "rows": register.rows(key)}),
                media_type="application/x-ndjson",
            )
        shown, following = page(keys, request.query_params)
        return JSONResponse({self._service.held_as: {key: register.rows(key) for key in shown}, "next": following})

    async def calls(self, request: Request) -> Response:
        """Return a page of the calls, of one customer if asked, or all of them as lines of JSON."""
        calls = self._service.call_log.calls(request.query_params.get("user"))
        if request.query_params.get("format") == "ndjson":
            return StreamingResponse(lines(calls, lambda call: call.as_json()), media_type="application/x-ndjson")
        shown, following = page(calls, request.query_params)
        return JSONResponse({"calls": [call.as_json() for call in shown], "next": following})


def _guarded(
    endpoint: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (ValidationError, ValueError) as error:
            return JSONResponse({"error": str(error)}, status_code=400)

    return guarded
