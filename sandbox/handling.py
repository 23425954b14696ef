"""One call on its way through the sandbox."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from starlette.types import Receive, Scope

from sandbox.answers import Answer, Reply
from sandbox.call_log import Call
from sandbox.clock import now
from sandbox.faults import Fault, Victim
from sandbox.refused import Refused


@dataclass(frozen=True, slots=True)
class Target:
    """Who or what a call is about: `key` names it in state and call log, a fault may use any of `names`.

    `bucket` names the rate limit it falls under, where a provider has several.
    """

    key: str
    names: tuple[str, ...]
    bucket: str = ""


TargetT = TypeVar("TargetT", bound=Target)


@dataclass(slots=True)
class Handling(Generic[TargetT]):
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

    def finished(self, answer: Answer) -> Call:
        """Return the line of the call log, written when the answer is about to be given."""
        status, code = (answer.status, answer.code) if isinstance(answer, Reply) else (None, None)
        fault = self.fault.kind if self.fault else None
        return Call(self.received, now(), self.method, self.target.key, status, code, self.rows, fault)


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
