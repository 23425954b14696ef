"""What a provider is: pure translations, from changes to requests and from replies to outcomes.

Sending, rate limits, time limits, retries, the circuit breaker and settling exist once, elsewhere: a provider does no
input or output, keeps no state and reads no clock. docs/adding-a-provider.md builds one, file by file.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from consent.connection import ConnectionSettings, Rate
from consent.ledger.queue.overlaps import Overlap
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from consent.outcome import Health, Healthy, Outcome
from consent.row import ConsentRow

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class Request:
    """One call to a provider, and the changes that its reply decides.

    `path` is sent as it is: what comes from a row must be quoted in it. `params` are quoted by the sender.

    `purpose` is the provider's own word for why the call is made (for example write, alone, readback): it comes back
    with the reply, so that a reply can be read without other memory, and it stands in the history of a dead letter.
    `template` is the path without what comes from a row, like `/customers/{user_id}`: it is what traces show.
    `memo` comes back as well, for what earlier replies of the same series showed; it is never sent. What may name a
    person is not in the repr.
    """

    method: str
    path: str = field(repr=False)
    tasks: tuple[CustomerTask, ...] = field(repr=False)
    changes: tuple[ClaimedChange, ...] = field(repr=False)
    purpose: str = "write"
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    json: Any = field(default=None, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    memo: Any = field(default=None, repr=False)
    template: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What claimed customer tasks need: series of requests, and outcomes for changes that no request can carry.

    A series is sent in order, different series side by side; all requests that touch one target stand in one series.
    No change of the tasks is in two requests, or in a request and in `outcomes`. A task that is in neither is given
    back untouched and is due again at once: so a provider may take only as many of them as it can serve soon. `health`
    is for a bucket that cannot be called at all, such as an app without a token.
    """

    series: tuple[tuple[Request, ...], ...]
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    health: Health = field(default_factory=Healthy)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, whatever it was: `text` may be anything, without a byte order mark before it.

    `retry_after` is in seconds.
    """

    status: int
    text: str = field(repr=False)
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How often calls may be made in a bucket, how many targets one call can carry, and what people call the bucket.

    `name` tells the bucket from the others of the same connection, like `app 42` ("" where there are no others).
    """

    rate: Rate
    targets_per_call: int = 1
    name: str = ""


@dataclass(frozen=True, slots=True)
class CallEstimate:
    """How many calls tasks need if all goes well: `least` where nothing has to be written, `most` where all of it has.

    Retries come on top.
    """

    least: int = 0
    most: int = 0

    def __add__(self, other: CallEstimate) -> CallEstimate:
        """Return what both need."""
        return CallEstimate(self.least + other.least, self.most + other.most)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reply means: an outcome per change id, further requests for the rest, and the connection's health.

    Every change of the request is in exactly one of `outcomes` and the changes of `further`; those requests belong to
    the same series, before its remaining ones. `code` is what the attempt is filed under.
    """

    health: Health
    outcomes: Mapping[int, Outcome]
    further: tuple[Request, ...] = ()
    code: str = "200"


class NoToken(Exception):
    """Raised by an auth that has no token; `refused` says whether the provider refused our key."""

    def __init__(self, *, refused: bool) -> None:
        super().__init__()
        self.refused = refused


@dataclass(frozen=True, slots=True)
class HeaderAuth:
    """Credentials that are the header `Authorization`, and known without asking anyone.

    `value` returns the header for a request, in plain printable text; it raises NoToken if there is none.
    """

    value: Callable[[Request], str] = field(repr=False)


def basic_auth(user: str, password: str) -> HeaderAuth:
    """Return a user name and a password as HTTP Basic has them (RFC 7617, in UTF-8)."""
    header = f"Basic {b64encode(f'{user}:{password}'.encode()).decode('ascii')}"
    return HeaderAuth(lambda _: header)


class Provider(Protocol):
    """What the package of a provider offers, in the folder that carries its name.

    Each has the same files: `row` (columns, slots and the way back), `requests`, `responses`, `codes` (the error table
    and how a reply is classified), `auth`, and `__init__` (the object with the names below).
    """

    name: str
    row: type[ConsentRow]

    def rate_limit(self, bucket: str, connection: ConnectionSettings) -> RateLimit:
        """Return the limit of one of the connection's buckets, and how much one call can carry."""
        ...

    def overlap(self, bucket: str) -> Overlap | None:
        """Return how slots of a target in this bucket overlap, None if each write touches its own slot alone.

        Where they do, the ledger compares their changes before it hands out a task, gives the newest of each of the
        target's slots in `CustomerTask.newest_by_slot`, and forgets what it believed of them once a call is made.
        """
        ...

    def plan(self, tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> Plan:
        """Turn customer tasks into as few requests as the provider allows."""
        ...

    def estimate_calls(self, tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> CallEstimate:
        """Predict how many calls customer tasks need: those that `plan` returns, and those that follow from them."""
        ...

    def read(self, request: Request, reply: Reply, connection: ConnectionSettings) -> Answer:
        """Return what a reply means for each change of its request; raise nothing, whatever the body holds."""
        ...

    def witness(self, task: CustomerTask, connection: ConnectionSettings) -> Request | None:
        """Return a harmless read about a customer, None if there is none: it shows whether the connection works.

        It is used to tell a fault of the connection from a refusal of one customer (docs/resilience.md). Its purpose is
        `WITNESS`, it has no changes, and `read` answers it with Healthy only if the provider itself showed what was
        asked.
        """
        ...

    def export(self, address: Mapping[str, str], slot: str, details: Mapping[str, Any]) -> dict[str, str]:
        """Turn what the ledger holds of a change back into columns of a row that means the same."""
        ...

    def auth(self, connection: ConnectionSettings, name: str = "<NAME>") -> HeaderAuth | httpx.Auth:
        """Return the authentication of a connection's requests; raise ConfigurationError if credentials are missing.

        One that has to ask for a token first is an `httpx.Auth`, which costs each call more. `name` is the
        connection's, for the message that says which variables to set.
        """
        ...
