"""One call on its way through the sandbox: what it is about, whether it is refused, and what is in flight beside it."""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from starlette.types import Receive, Scope, Send

from sandbox.answers import Answer, Reply
from sandbox.call_log import CallLog, CallRecord
from sandbox.faults import Fault, Victim
from sandbox.rate import now


class Refused(Exception):
    """The call is answered with this code and nothing is changed: an ordinary reply, raised early.

    What the detail and the violations (a sentence or more per field) become is for each provider to say.
    """

    def __init__(self, code: int, detail: str = "", violations: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.violations = violations or {}


class Throttled(Exception):
    """The call came too early by this many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds:.3f} s too early")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Target:
    """What a call is about: `key` names it in state and call log, a fault may use any of `names`.

    `bucket` names the rate limit it falls under, where a provider has several.
    """

    key: str
    names: tuple[str, ...]
    bucket: str = ""


TargetT = TypeVar("TargetT", bound=Target)


@dataclass(slots=True)
class Call(Generic[TargetT]):
    """A call, what is known of it so far, and the fault that bit it."""

    scope: Scope
    receive: Receive
    target: TargetT
    received: float = field(default_factory=now)
    rows: int = 0
    fault: Fault | None = None

    @property
    def method(self) -> str:
        """The HTTP method."""
        return str(self.scope["method"])

    @property
    def write(self) -> bool:
        """Whether the call means to change something."""
        return self.method != "GET"

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The headers by lower-case name."""
        return dict(self.scope["headers"])

    def victim(self, channel: str = "", priority: str = "") -> Victim:
        """Return what a fault is matched against."""
        return Victim(self.target.names, self.write, channel, priority)

    def finished(self, answer: Answer) -> CallRecord:
        """Return the line of the call log, written when the answer is about to be given."""
        status, code = (answer.status, answer.code) if isinstance(answer, Reply) else (None, None)
        fault = self.fault.kind if self.fault else None
        return CallRecord(self.received, now(), self.method, self.target.key, status, code, self.rows, fault)


async def read_body(receive: Receive) -> bytes:
    """Return the whole body; Refused with 400 when the caller goes away in the middle."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "The caller went away.")
        body += message["body"]
        more = message["more_body"]
    return body


class Pending:
    """How many writes of each target are in flight; two at once are counted, and refused with `code` if given."""

    def __init__(self, call_log: CallLog, code: int | None = None) -> None:
        self._call_log = call_log
        self._code = code
        self._in_flight: Counter[str] = Counter()

    @contextmanager
    def write(self, keys: Collection[str]) -> Iterator[None]:
        """Hold the targets while a write of them is in flight."""
        busy = [key for key in keys if key in self._in_flight]
        for key in busy:
            self._call_log.overlapped(key)
        if busy and self._code:
            raise Refused(self._code)
        self._in_flight.update(keys)
        try:
            yield
        finally:
            self._release(keys)

    def _release(self, keys: Collection[str]) -> None:
        for key in keys:
            self._in_flight[key] -= 1
            if not self._in_flight[key]:
                del self._in_flight[key]


class Endpoint(Generic[TargetT]):
    """A bare ASGI application that names the target of a call: the hot path makes no request object."""

    def __init__(
        self, naming: Callable[[Scope], TargetT], answering: Callable[[Call[TargetT], Send], Awaitable[None]]
    ) -> None:
        self._naming = naming
        self._answering = answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the call over."""
        await self._answering(Call(scope, receive, self._naming(scope)), send)
