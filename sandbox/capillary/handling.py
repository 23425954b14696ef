"""One call on its way through the sandbox."""

from dataclasses import dataclass, field

from starlette.types import Receive, Scope

from sandbox.answers import Answer, Reply
from sandbox.capillary.customer import Customer
from sandbox.capillary.refusal import Refused
from sandbox.clock import now
from sandbox.fault import Fault
from sandbox.faults import Victim
from sandbox.journal import Call


@dataclass(slots=True)
class Handling:
    """A call, what is known of it so far, and the fault that bit it."""

    scope: Scope
    receive: Receive
    customer: Customer
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
        return Victim(self.customer.names, self.write, channel, priority)

    def finished(self, answer: Answer) -> Call:
        """Return the line of the journal, written when the answer is about to be given."""
        status, code = (answer.status, answer.code) if isinstance(answer, Reply) else (None, None)
        fault = self.fault.kind if self.fault else None
        return Call(self.received, now(), self.method, self.customer.key, status, code, self.rows, fault)


def check_media(headers: dict[bytes, bytes]) -> None:
    """Refuse with 415 what is not JSON, or does not accept JSON in return."""
    accepted = headers.get(b"accept", b"*/*")
    if not headers.get(b"content-type", b"").startswith(b"application/json"):
        raise Refused(415)
    if b"application/json" not in accepted and b"*/*" not in accepted and b"application/*" not in accepted:
        raise Refused(415)


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
