"""What a provider is: two pure translations, from changes to requests and from replies to outcomes.

Sending, pacing, timing, retrying, breaking and settling exist once, elsewhere; a provider does no input or output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from consent.connection import ConnectionSettings, Rate
from consent.ledger.queue.overlaps import Overlap
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from consent.outcome import Health, Outcome, Well
from consent.row import ConsentRow


@dataclass(frozen=True, slots=True)
class Request:
    """One call to a provider, and the changes that its reply will tell about.

    `path` is sent as it is: whatever comes from a row must be quoted in it. `params` are quoted by whoever sends.

    `purpose` is the provider's own word for why the call is made (for example write, alone, readback): it comes back
    with the reply, so that the reading of a reply needs no other memory. `memo` comes back as well, for what earlier
    replies of the same series told; it is never sent. What may name a person is not in the repr.
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


@dataclass(frozen=True, slots=True)
class Plan:
    """What claimed customer tasks need: series of requests, and outcomes for changes that no request can carry.

    A series is sent in order, different series side by side; all requests that touch one target stand in one series.
    No change of the tasks is in two requests, or in a request and in `outcomes`. A task that is in neither is given
    back untouched and is due again at once: so a provider may take only as many of them as it can serve soon. `health`
    tells of a bucket that cannot be called at all.
    """

    series: tuple[tuple[Request, ...], ...]
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    health: Health = field(default_factory=Well)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, whatever it was: the body may be anything, and `retry_after` is in seconds."""

    status: int
    text: str = field(repr=False)
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """How often calls may be made in a bucket, how many targets one call can carry, and what people call it.

    `name` tells the bucket from its neighbours in the same connection ("" where it has none).
    """

    rate: Rate
    targets_per_call: int = 1
    name: str = ""


@dataclass(frozen=True, slots=True)
class Calls:
    """How many calls tasks need if all goes well: `least` where nothing has to be written, `most` where all of it has.

    What must be tried again, or looked at once more, comes on top.
    """

    least: int = 0
    most: int = 0

    def __add__(self, other: Calls) -> Calls:
        """Return what both need."""
        return Calls(self.least + other.least, self.most + other.most)


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


SHORTEST_PAUSE = 1.0
"""A second: a provider that asks us to slow down and names no time at all does not want the same call at once."""


def pause(asked: float | None, usual: float) -> float:
    """Return the seconds to wait when told to slow down: what was asked for, or as long as usual if nothing was."""
    return usual if asked is None else max(asked, SHORTEST_PAUSE)


class Provider(Protocol):
    """One module with these names is a provider."""

    name: str
    row: type[ConsentRow]

    def pace(self, bucket: str, connection: ConnectionSettings) -> Pace:
        """Return the limit of one of the connection's buckets, and how much one call can carry."""
        ...

    def overlap(self, bucket: str) -> Overlap | None:
        """Return how slots of a target in this bucket overlap, None if each write touches its own slot alone.

        Where they do, the ledger holds their words against each other before it hands out a task, tells in
        `CustomerTask.standing` what the target's slots say, and forgets what it believed of all of them.
        """
        ...

    def plan(self, tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> Plan:
        """Turn customer tasks into as few requests as the provider allows."""
        ...

    def calls(self, tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> Calls:
        """Foretell how many calls customer tasks need, the first of each as `plan` makes it and what it leads to."""
        ...

    def read(self, request: Request, reply: Reply, connection: ConnectionSettings) -> Answer:
        """Say what a reply means for each change of its request."""
        ...

    def witness(self, task: CustomerTask, connection: ConnectionSettings) -> Request | None:
        """Return a harmless read about a customer, None if there is none: it shows whether the connection works.

        Its purpose is `WITNESS`, it has no changes, and `read` answers it with Well only if the provider itself
        showed what was asked for.
        """
        ...

    def columns(self, address: Mapping[str, str], slot: str, details: Mapping[str, Any]) -> dict[str, str]:
        """Turn what the ledger holds of a change back into columns of a row that means the same."""
        ...

    def auth(self, connection: ConnectionSettings, name: str = "<NAME>") -> httpx.Auth:
        """Return what signs the requests of a connection; raise ConfigurationError if credentials are missing.

        `name` is the connection's, for the message that tells which variables to set.
        """
        ...
