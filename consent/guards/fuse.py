"""The fuse: when the answers turn into one permanent failure for many customers, the rest of their import is held."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class FuseRules(BaseModel):
    """How many permanent failures hold the rest of what they came from; 0 is never."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    in_a_row: int = Field(
        50, ge=0, le=10_000, description="different customers in a row with one failure of our request; 0: off"
    )
    share_from: int = Field(500, ge=0, description="customers with one failure from which their share counts; 0: off")
    share: float = Field(0.5, gt=0, le=1, description="… of the customers of the import who were answered")


class FuseState(StrEnum):
    """What a fuse lets through: all, nothing, opt-outs alone, nothing and the rest dies, all whatever is answered."""

    CLOSED = "closed"
    HELD = "held"
    OPTOUTS = "optouts"
    DYING = "dying"
    OFF = "off"


class FuseWay(StrEnum):
    """How a person goes on with a fuse that has tripped."""

    RESUME = "resume"
    OPTOUTS = "optouts"
    LET_DIE = "let-die"
    OFF = "off"


NOT_SENT = "not_sent"
"""The code of dead letters that a person let die without a call."""
