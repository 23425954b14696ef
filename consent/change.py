"""A consent change: one opt-in or opt-out for one slot of one target; and a bucket, the rate limit it falls under."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple


class Action(StrEnum):
    """What a person can choose for a slot."""

    OPTIN = "OPTIN"
    OPTOUT = "OPTOUT"

    @classmethod
    def _missing_(cls, value: object) -> Action | None:
        """Find it in other spellings too, like opt-out, as rows and events write it."""
        written = value.upper().replace("-", "").replace("_", "") if isinstance(value, str) else ""
        return cls.__members__.get(written)


class Origin(StrEnum):
    """Where a change came from: a bulk file, or a single event."""

    BULK = "bulk"
    EVENT = "event"


class Lane(IntEnum):
    """How urgent a change is; a smaller number is delivered first."""

    EVENT_OPTOUT = 0
    BULK_OPTOUT = 1
    EVENT_OPTIN = 2
    BULK_OPTIN = 3


_LANES = {
    (Action.OPTOUT, Origin.EVENT): Lane.EVENT_OPTOUT,
    (Action.OPTOUT, Origin.BULK): Lane.BULK_OPTOUT,
    (Action.OPTIN, Origin.EVENT): Lane.EVENT_OPTIN,
    (Action.OPTIN, Origin.BULK): Lane.BULK_OPTIN,
}


def lane_of(action: Action, origin: Origin) -> Lane:
    """Return the lane that a change travels in."""
    return _LANES[action, origin]


@dataclass(slots=True)
class ConsentChange:
    """One opt-in or opt-out for one slot, with the time since when it holds.

    It is not frozen, because a frozen one takes several times as long to make; no code alters one.

    * `address` names the target as its provider knows it: the only part that names a person.
    * `slot` is the smallest thing inside the target that can be in or out; `value` tells changes apart where it holds
      more than in or out; `details` are further parameters of the provider.
    * `bucket` names the rate limit of the connection that the target's calls fall under ("": it has only one).
    * `effective_at` is since when it holds, in microseconds since 1970-01-01 UTC.
    * `own_time` is False if `effective_at` does not come from the sender, but from a file's clock or the receipt.
    * `sender` is the scope in which `change_id` is unique; `line` is the row's physical line, or the event's number.
    * `sent_by` names the API key that an event came by ("": its source has one sender alone).
    * `overlaps` says that an opt-in of a wide slot of its connection lifts the opt-outs of narrower ones.
    * `recorded_as` is the public id under which the ledger has the change already, unless it has been altered since.
    """

    connection: str
    address: Mapping[str, str] = field(repr=False)
    slot: str
    action: Action
    effective_at: int
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)
    change_id: str | None = None
    line: int | None = None
    bucket: str = ""
    value: str = ""
    own_time: bool = True
    sender: str = ""
    recorded_as: str | None = None
    overlaps: bool = False
    sent_by: str = ""


class Bucket(NamedTuple):
    """A connection, and the name of the limit within it ("" where the connection has only one)."""

    connection: str
    name: str = ""

    def __str__(self) -> str:
        """Write it as it is written in keys and messages."""
        return f"{self.connection}/{self.name}" if self.name else self.connection


def read_bucket(text: str) -> Bucket:
    """Read what `str` of a bucket wrote."""
    connection, _, name = text.partition("/")
    return Bucket(connection, name)
