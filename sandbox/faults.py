"""The faults that a test can order: what goes wrong, which call it concerns, and what that call is answered."""

import fnmatch
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sandbox.answers import Answer, Cut, Reply
from sandbox.rate import now

Stage = Literal["gate", "answer", "delay", "row", "token", "events"]
Kind = Literal[
    "latency",  # wait `delay` seconds, or at random up to `delay_to`
    "throttle",  # 429, with `retry_after` seconds if given
    "error",  # an error body with `code`, on `http_status`
    "busy",  # the customer is being changed by someone else (Capillary 521)
    "html",  # an HTML error page, on `http_status` (502)
    "empty",  # status 200, no body, and nothing was done
    "malformed",  # done, but the JSON of the reply breaks off
    "refuse",  # our credentials are refused, on `http_status` (401), by the token call too
    "expired_tokens",  # every token minted before now has expired
    "unknown",  # the customer, or the subscription, does not exist
    "warn",  # a row of `channel` and `priority` fails with a warning
    "drop",  # a row of `channel` and `priority`, or a destination named by `users`, vanishes without a word
    "ignore_events",  # done, but the `events` (or modes) sent, all if none is named, are left out without a word
    "commit_then_drop",  # done, but the connection ends without a reply
    "reset",  # not done, TCP reset
    "down",  # not done, the connection ends without a reply, the token call too
]

STAGES: dict[Kind, Stage] = {
    "down": "gate",  # the gate is passed by every call, the token call too
    "refuse": "gate",
    "latency": "delay",
    "expired_tokens": "token",
    "warn": "row",
    "drop": "row",
    "ignore_events": "events",
}
COMMITTING: frozenset[Kind] = frozenset({"malformed", "commit_then_drop"})


class Fault(BaseModel):
    """A fault in force until it is cleared, `next` times or for `seconds`, whichever ends first.

    `users` are customer ids or shell patterns (none: everyone); `on` says which calls; `probability` is drawn per
    call from a generator started with `seed`; `commit` overrides whether the change is made before the fault bites;
    `envelope` is which of its two error bodies Infobip uses.
    A row fault counts rows, every other fault counts calls.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    users: tuple[str, ...] = ()
    on: Literal["any", "read", "write"] = "any"
    next: int | None = Field(None, ge=1)
    seconds: float | None = Field(None, gt=0)
    probability: float = Field(1.0, gt=0, le=1)
    seed: int | None = None
    delay: float = Field(0.0, ge=0)
    delay_to: float | None = Field(None, ge=0)
    code: int | None = None
    message: str | None = None
    http_status: int | None = Field(None, ge=200, le=599)
    retry_after: int | None = Field(None, ge=0)
    channel: str | None = None
    priority: str | None = None
    commit: bool | None = None
    events: tuple[str, ...] = ()
    envelope: Literal["classic", "api"] | None = None

    @model_validator(mode="after")
    def _an_error_names_its_code(self) -> Self:
        if self.kind == "error" and self.code is None:
            raise ValueError("an error fault needs its code")
        return self

    @property
    def stage(self) -> Stage:
        """Where in a call this fault bites."""
        return STAGES.get(self.kind, "answer")

    @property
    def commits(self) -> bool:
        """Whether the change is made before this fault bites."""
        return self.kind in COMMITTING if self.commit is None else self.commit


class Names:
    """A set of names given as exact names and shell patterns (`404*`); a name belongs when either fits."""

    def __init__(self, patterns: Iterable[str]) -> None:
        wanted = tuple(patterns)
        globs = [fnmatch.translate(pattern) for pattern in wanted if any(mark in pattern for mark in "*?[")]
        self._exact = frozenset(wanted)
        self._glob = re.compile("|".join(globs)) if globs else None

    def __bool__(self) -> bool:
        return bool(self._exact)

    def holds_any(self, names: Iterable[str]) -> bool:
        """Tell whether any of these names of one customer belongs to the set."""
        return any(name in self._exact or self._fits(name) for name in names)

    def _fits(self, name: str) -> bool:
        return self._glob is not None and self._glob.match(name) is not None


@dataclass(frozen=True, slots=True)
class Victim:
    """What a fault is matched against: the names of the customer, read or write, and for row faults the row."""

    names: tuple[str, ...]
    write: bool
    channel: str = ""
    priority: str = ""
    token_minted: float = 0.0


@dataclass(slots=True)
class _Armed:
    fault: Fault
    users: Names
    chance: random.Random
    armed_at: float = field(default_factory=now)
    bites: int = 0

    def spent(self, at: float) -> bool:
        fault = self.fault
        if fault.next is not None and self.bites >= fault.next:
            return True
        return fault.seconds is not None and at >= self.armed_at + fault.seconds

    def bite(self, victim: Victim) -> bool:
        bitten = self._concerns(victim) and self.chance.random() < self.fault.probability
        self.bites += bitten
        return bitten

    def _concerns(self, victim: Victim) -> bool:
        fault = self.fault
        return (
            fault.on in ("any", "write" if victim.write else "read")
            and (not self.users or self.users.holds_any(victim.names))
            and (fault.channel is None or fault.channel.upper() == victim.channel)
            and (fault.priority is None or fault.priority.upper() == victim.priority)
            and (fault.stage != "token" or victim.token_minted <= self.armed_at)
        )


class Faults:
    """Faults in the order they were ordered; the first that concerns a call bites it."""

    def __init__(self) -> None:
        self._ordered: list[_Armed] = []
        self._live: list[_Armed] = []

    def add(self, fault: Fault) -> None:
        """Put a fault in force from now on."""
        # A test repeats its run by naming the seed; nothing here guards a secret.
        armed = _Armed(fault, Names(fault.users), random.Random(fault.seed))  # noqa: S311
        self._ordered.append(armed)
        self._live.append(armed)

    def clear(self) -> None:
        """Lift every fault."""
        self._ordered.clear()
        self._live.clear()

    def bite(self, stage: Stage, victim: Victim) -> Fault | None:
        """Return the fault that bites this victim at this stage, and count the bite; None when it goes unharmed."""
        found = self._bitten(stage, victim)
        return found.fault if found else None

    def pause(self, victim: Victim) -> tuple[float, bool]:
        """Return the seconds a call is to be delayed, and whether the change is made before the delay."""
        found = self._bitten("delay", victim)
        if found is None:
            return 0.0, False
        fault = found.fault
        upper = fault.delay if fault.delay_to is None else fault.delay_to
        return found.chance.uniform(fault.delay, upper), fault.commits

    def table(self) -> list[dict[str, Any]]:
        """Return every fault ordered since the last clearing, with how often it bit and whether it is spent."""
        at = now()
        return [
            armed.fault.model_dump(exclude_defaults=True) | {"bites": armed.bites, "spent": armed.spent(at)}
            for armed in self._ordered
        ]

    def _bitten(self, stage: Stage, victim: Victim) -> _Armed | None:
        if not self._live:
            return None
        at = now()
        self._live = [armed for armed in self._live if not armed.spent(at)]
        return next((armed for armed in self._live if armed.fault.stage == stage and armed.bite(victim)), None)


# INVENTED: the texts of the broken replies; only their kind matters.
_HTML_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"

COMMON_KINDS: frozenset[Kind] = frozenset(
    (
        *("latency", "throttle", "error", "refuse", "unknown", "html"),
        *("empty", "malformed", "commit_then_drop", "reset", "down"),
    )
)
"""The faults every provider can suffer."""
HIGHEST_HTTP_STATUS = 599


def broken(fault: Fault, torn: bytes) -> Answer | None:
    """Return the answer to a call that gets no proper reply, `torn` being JSON that breaks off, or else None."""
    match fault.kind:
        case "html":
            return Reply(fault.http_status or 502, _HTML_PAGE, content_type=b"text/html")
        case "empty":
            return Reply(fault.http_status or 200)
        case "malformed":
            return Reply(fault.http_status or 200, torn)
        case "commit_then_drop" | "down":
            return Cut(reset=False)
        case "reset":
            return Cut(reset=True)
        case _:
            return None


def chosen_code(fault: Fault, defaults: dict[Kind, int]) -> int:
    """Return the provider's code of an error a fault asks for, or the one that this kind of fault has by default."""
    given = fault.code or (fault.http_status if fault.kind == "refuse" else None)
    return given or defaults.get(fault.kind, 500)


def as_http_status(code: int) -> int:
    """Return the code where it can be an HTTP status, and 400 where it cannot (INVENTED)."""
    return code if code <= HIGHEST_HTTP_STATUS else 400
