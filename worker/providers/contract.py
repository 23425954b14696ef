"""What a provider is: two pure translations, from changes to requests and from replies to outcomes.

Sending, pacing, timing, retrying, breaking and settling exist once, elsewhere; a provider does no input or output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from consent.change import Action
from consent.outcome import Health, Outcome
from consent.rate import Rate
from consent.row import ConsentRow
from consent.settings import ConnectionSettings


@dataclass(frozen=True, slots=True)
class ClaimedChange:
    """The newest word of one slot, held by a stroke: what must be told to the provider."""

    id: int
    import_id: str
    slot: str
    action: Action
    effective_at: int
    details: Mapping[str, Any]
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class CustomerTask:
    """A target under lease, with its changes that are due, oldest first."""

    target_key: bytes
    address: Mapping[str, str]
    changes: tuple[ClaimedChange, ...]
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One call to a provider, and the changes that its reply will tell about.

    `purpose` is the provider's own word for why the call is made (for example write, alone, readback): it comes back
    with the reply, so that the reading of a reply needs no other memory.
    """

    method: str
    path: str
    tasks: tuple[CustomerTask, ...]
    changes: tuple[ClaimedChange, ...]
    purpose: str = "write"
    params: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, whatever it was: the body may be anything, and `retry_after` is in seconds."""

    status: int
    text: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reply means: an outcome per change id, further requests for the rest, and the connection's health.

    Every change of the request is in exactly one of `outcomes` and the changes of `further`. `code` is what the
    attempt is filed under.
    """

    health: Health
    outcomes: Mapping[int, Outcome]
    further: tuple[Request, ...] = ()
    code: str = "200"


class Provider(Protocol):
    """One module with these names is a provider."""

    name: str
    row: type[ConsentRow]
    default_rate: Rate

    def plan(self, tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> list[list[Request]]:
        """Turn customer tasks into series of requests: a series is sent in order, different series side by side.

        All requests that touch one target stand in one series.
        """
        ...

    def read(self, request: Request, reply: Reply, connection: ConnectionSettings) -> Answer:
        """Say what a reply means for each change of its request."""
        ...

    def auth(self, connection: ConnectionSettings) -> httpx.Auth:
        """Return what signs the requests of a connection; raise ConfigurationError if credentials are missing."""
        ...
