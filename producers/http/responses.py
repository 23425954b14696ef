"""The JSON that is answered, as types: the endpoints build it, mypy checks it, and FastAPI describes it to clients.

The endpoints answer with finished responses, so nothing is validated at run time; the tests hold them to these types.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from consent.change import Action
from consent.outcome import State

_exact = with_config(ConfigDict(extra="forbid"))
_Count = Annotated[int, Field(ge=0)]
_Counts = dict[str, _Count]
_Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


@_exact
class Result(TypedDict):
    """What became of one change."""

    status: Literal["accepted", "duplicate", "rejected"]
    id: Annotated[str | None, Field(description="for GET /v1/changes/{id}; null if rejected")]
    code: Annotated[str | None, Field(description="why it was rejected")]
    message: Annotated[str | None, Field(description="why it was rejected, and what to do")]
    ids: NotRequired[Annotated[list[str], Field(description="all of them, where a change names several slots")]]
    field: NotRequired[Annotated[str, Field(description="the field at fault")]]


@_exact
class Results(TypedDict):
    """What became of each change, in the order in which they were sent."""

    results: Annotated[list[Result], Field(min_length=1)]


@_exact
class Problem(TypedDict):
    """Why a request was not served (RFC 9457)."""

    type: str
    title: str
    status: int
    code: Annotated[str, Field(description="for programs: it never changes")]
    detail: Annotated[str, Field(description="for people: what to do")]
    results: NotRequired[list[Result]]


Origin = TypedDict("Origin", {"import": str, "kind": str, "name": str, "number": int | None})
_exact(Origin)


@_exact
class ChangeState(TypedDict):
    """What became of one change, and where it came from; no address."""

    id: str
    state: State
    superseded_by: Annotated[str | None, Field(description="the id of the newer change of the same slot")]
    code: Annotated[str | None, Field(description="why it is dead, or why the last try failed")]
    reason: str | None
    connection: str
    slot: str
    action: Action
    effective_at: _Time
    recorded_at: _Time
    settled_at: _Time | None
    attempts: _Count
    discarded: Annotated[bool, Field(description="a person has put this dead letter away")]
    origin: Origin


@_exact
class Outcome(ChangeState):
    """A change as it was when it came into its state."""

    at: Annotated[_Time, Field(description="when it came into this state; also of those that are pending again")]


@_exact
class Outcomes(TypedDict):
    """Outcomes in the order in which they became visible."""

    changes: list[Outcome]
    cursor: Annotated[str, Field(description="for the next request's `after`")]
    more: Annotated[bool, Field(description="there are more already")]


ImportReport = TypedDict(
    "ImportReport",
    {
        "import": str,
        "name": NotRequired[str],
        "state": NotRequired[str],
        "sealed": bool,
        "seconds": NotRequired[float],
        "rows": _Count,
        "accepted": _Count,
        "rejected": _Count,
        "duplicates": _Count,
        "applied": _Count,
        "unchanged": _Count,
        "superseded": _Count,
        "dead": _Count,
        "pending": _Count,
        "withdrawn": _Count,
        "calls": _Count,
        "reject_codes": NotRequired[_Counts],
        "dead_codes": NotRequired[_Counts],
        "reject_reasons": NotRequired[dict[str, str]],
        "dead_reasons": NotRequired[dict[str, str]],
        "discarded": NotRequired[_Count],
        "held": NotRequired[_Count],
        "feed": NotRequired[str | None],
        "guards": NotRequired[list[dict[str, Any]]],
        "waiting": NotRequired[_Counts],
        "stopped": NotRequired[dict[str, Any]],
    },
)
ImportReport.__doc__ = "As `optrelay status IMPORT --json` prints it."


@_exact
class Contact(TypedDict):
    """Whether one person may be contacted; if not, why, and of an opt-out since when and where it stands."""

    allowed: bool
    code: Annotated[str | None, Field(description="opted_out, unknown, or why the names cannot be understood")]
    reason: str | None
    since: str | None
    connection: str | None
    state: Annotated[str | None, Field(description="how far the opt-out has come: pending, held, dead, applied, …")]


@_exact
class Contactable(TypedDict):
    """Whether people may be contacted, in the order in which they were asked about."""

    check: Annotated[int, Field(description="its number in the ledger's record of checks")]
    allowed: _Count
    stopped: _Count
    results: list[Contact]


@_exact
class HeldImport(TypedDict("_HeldImport", {"import": str})):
    """An import of which something is held: why, and how many slots it would change, wholly or in part."""

    name: str
    feed: str | None
    held_at: str
    optins: _Count
    optouts: _Count
    slots: dict[str, int]
    guards: list[dict[str, Any]]


@_exact
class TrippedFuse(TypedDict("_TrippedFuse", {"import": str | None})):
    """What a fuse holds in a bucket: the rest of an import or of an event source, or all of it (`origin` is null)."""

    fuse: str
    connection: str
    bucket: str
    origin: str | None
    name: str
    state: Literal["closed", "held", "optouts", "dying", "off"]
    code: str
    reason: str
    held_at: str
    optins: _Count
    optouts: _Count
    at_least: Annotated[bool, Field(description="there are more than 50,000 held, which are not all counted")]
    first_due_at: Annotated[
        str | None, Field(description="from when on the first of its opt-outs is late; with at_least maybe earlier")
    ]


@_exact
class Held(TypedDict):
    """The imports that guards hold, and what fuses hold."""

    held: list[HeldImport]
    fuses: list[TrippedFuse]


@_exact
class FusesReset(TypedDict):
    """What came of a decision about fuses; `done` is null if none holds it in another way."""

    done: Literal["resume", "optouts", "let-die", "off"] | None
    fuses: list[TrippedFuse]


@_exact
class Decided(TypedDict("_Decided", {"import": str})):
    """What came of a decision; `done` is null if nothing is held."""

    done: Literal["approved", "withdrawn"] | None
    changes: _Count
    slots: _Count


@_exact
class PauseState(TypedDict):
    """What is paused (`bucket` is null for all of the connection), opt-ins alone or all of it, since when and why."""

    connection: str
    bucket: str | None
    only: Literal["optins"] | None
    since: str
    who: str
    why: str


@_exact
class Pauses(TypedDict):
    """What is paused now."""

    pauses: list[PauseState]


@_exact
class Paused(TypedDict):
    """The pause that holds; `done` is null if it held before. Moments are ISO 8601."""

    done: Literal["paused"] | None
    pause: PauseState
    opt_outs_waiting: _Count
    first_deadline: str | None


@_exact
class Resumed(TypedDict):
    """The pauses that have ended; `done` is null if there was none."""

    done: Literal["resumed"] | None
    resumed: list[PauseState]


@_exact
class BackTo(TypedDict):
    """How many slots go back to each state."""

    opted_in: _Count
    opted_out: _Count
    never_said: Annotated[_Count, Field(description="nothing was known of them before: they are opted out")]
    earlier_value: _Count


@_exact
class BackBy(TypedDict("_BackBy", {"import": str})):
    """How many slots go back to a state that one import had said of them."""

    state: Literal["opted_in", "opted_out", "earlier_value"]
    name: Annotated[str, Field(description="the import's file or source")]
    slots: _Count


@_exact
class Undone(TypedDict("_Undone", {"import": str})):
    """What undoing an import did, or would do, slot by slot, as `optrelay undo --json` prints it."""

    dry_run: bool
    undone_by: Annotated[str | None, Field(description="the import that undoes it; null if there is nothing to undo")]
    undone: _Count
    same: Annotated[_Count, Field(description="slots that held the same before")]
    overtaken: Annotated[_Count, Field(description="slots about which something was said later; they stay")]
    repeated: Annotated[_Count, Field(description="those of them of which a later import says the same again")]
    opted_out: Annotated[_Count, Field(description="slots that the import opted out; they stay so")]
    were_in: Annotated[_Count, Field(description="those of them that opt_in_again would opt in again")]
    no_value: Annotated[_Count, Field(description="slots without an earlier value")]
    repeated_by: Annotated[_Counts, Field(description="the imports that say the same again")]
    back_to: Annotated[BackTo, Field(description="what the undone slots go back to")]
    back_to_by: Annotated[list[BackBy], Field(description="the same by import: of each state the first twenty")]
    cannot_undo: Annotated[list[str], Field(description="the first of those that stay, without names")]


@_exact
class Alive(TypedDict):
    """The process lives and answers."""

    status: Literal["ok"]


@_exact
class Ready(TypedDict):
    """Whether changes can be recorded, and how ledger and broker are."""

    status: Literal["ready", "not ready"]
    ledger: str
    broker: str
