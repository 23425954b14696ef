"""What can become of a change, named by what happens next."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """Where a change stands in the ledger; every accepted change is in exactly one state."""

    PENDING = "pending"
    APPLIED = "applied"
    UNCHANGED = "unchanged"
    SUPERSEDED = "superseded"
    DEAD = "dead"
    HELD = "held"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Applied:
    """The provider confirmed that it holds what the change says."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The provider already held what the change says, so nothing was written."""


@dataclass(frozen=True, slots=True)
class PermanentFailure:
    """The provider will never take this change as it is: it becomes a dead letter, with code and reason.

    `ours` says that it is about what we send to everybody alike (the account, the form of the request) and not about
    one customer: then few of them in a row say that the rest will fare no better.
    """

    code: str
    reason: str
    ours: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Retry:
    """It may work another time.

    `counts` says whether the answer was about this change (then attempts are limited) or only about the provider's
    health (then they are not). `after` is how many seconds the provider asked to wait.
    `witnessed` says that the provider was asked what it holds and answered well, and that this change was not in it: so
    it is this change that fails.
    """

    code: str
    reason: str
    counts: bool
    after: float | None = None
    witnessed: bool = False


Outcome = Applied | Unchanged | PermanentFailure | Retry


@dataclass(frozen=True, slots=True)
class Healthy:
    """The connection works, whatever its answer says about the changes."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """The connection asked for fewer calls, for `after` seconds if it named a time."""

    after: float | None = None


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The connection could not be reached or could not answer."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """The connection refused our credentials or our right to call it: a person must fix that."""

    reason: str


Health = Healthy | Throttled | Unavailable | Unauthorized
