"""One fault a test can order: what goes wrong, for which customers, and for how long."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
