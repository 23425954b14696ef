"""The guards of files and their rules: when one is held until a person approves it, though it could be delivered.

They look at what a file would do once it has been read whole, before anything of it is merged: at the people that it
would opt in again, at its size beside the earlier files of its feed, and at what it lacks. Opt-outs by event are never
held; opt-ins by event are by one guard of their own. Each guard can be switched off and has limits of its own, for all
files, a connection or a feed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

REMEMBERED = 8
"""Earlier files of a feed that a file is compared with."""


class Guard(StrEnum):
    """What may be wrong with a file as a whole."""

    RESURRECTS = "resurrects"
    UNDATED_OPTINS = "undated_optins"
    MASS_OPTOUT = "mass_optout"
    EMPTY = "empty"
    SHRUNKEN = "shrunken"
    SWOLLEN = "swollen"
    REJECTS = "rejects"
    HEADER = "header"
    MANIFEST = "manifest"
    FAILED = "guard_failed"
    OVERRULING_OPTINS = "overruling_optins"


class GuardRules(BaseModel):
    """The limits of the guards; a share is a part of 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    off: str = Field("", description="guards that are switched off, with commas, such as `header,rejects`")
    full: bool = Field(default=False, description="each file holds everyone, not only what is new since the last one")
    resurrects_from: int = Field(25, ge=1, description="opt-ins over opt-outs that hold a file, if they are the share")
    resurrects_share: float = Field(0.01, ge=0, le=1, description="the share of the connection's standing opt-outs")
    resurrects_most: int = Field(500, ge=0, description="opt-ins over opt-outs, beyond which a file is always held")
    undated_optins: int = Field(
        1, ge=1, description="opt-ins over opt-outs, with no time of their own, that hold a file"
    )
    optouts_from: int = Field(1_000, ge=0, description="opt-outs beyond which a file may be held")
    optouts_share: float = Field(0.2, ge=0, le=1, description="… if they are more than this share of the known slots")
    optouts_factor: float = Field(5.0, ge=1, description="… and more than so many times those of the earlier files")
    known_slots: int = Field(10_000, ge=0, description="slots that a connection has before opt-outs hold a file")
    earlier_files: int = Field(
        4, ge=1, le=REMEMBERED, description="files of a feed before a file is compared with them"
    )
    shrunken: float = Field(0.5, ge=0, le=1, description="a full file with less than this share of the usual rows")
    swollen: float = Field(5.0, ge=1, description="a file with more than so many times the usual rows")
    swollen_from: int = Field(10_000, ge=0, description="rows beyond which a file can be swollen")
    rejects_from: int = Field(20, ge=0, description="rejected rows beyond which a file may be held")
    rejects_share: float = Field(0.05, ge=0, le=1, description="… if they are more than this share of its rows")
    overruling_from: int = Field(
        25, ge=0, description="opt-outs that the opt-ins of one sender of events may overrule within an hour"
    )
    overruling_share: float = Field(0.01, ge=0, le=1, description="… more, if at most this share of those that stand")

    @field_validator("off")
    @classmethod
    def _are_guards(cls, value: str) -> str:
        for name in filter(None, (part.strip() for part in value.split(","))):
            if name not in set(Guard):
                raise ValueError(f"there is no guard {name!r}; the guards are {', '.join(Guard)}")
        return value

    @property
    def switched_off(self) -> frozenset[str]:
        """The guards that hold no file."""
        return frozenset(filter(None, (part.strip() for part in self.off.split(","))))

    def overruled_by(self, other: GuardRules | None) -> GuardRules:
        """Return these rules with what another source of settings says instead (None: nothing).

        A guard that is off stays so.
        """
        if other is None:
            return self
        stated = {name: getattr(other, name) for name in other.model_fields_set}
        return self.model_copy(update=stated).without(sorted(self.switched_off))

    def without(self, guards: Sequence[str]) -> GuardRules:
        """Return these rules with some guards switched off; raises ValueError if one is none."""
        return GuardRules.model_validate(self.model_dump() | {"off": ",".join(sorted({*self.switched_off, *guards}))})


@dataclass(frozen=True, slots=True)
class ImportGuards:
    """The rules for one file, which its import keeps: those for all, and those of connections that have others.

    `feed` names what it is compared with, `columns` are those that it uses, and `is_rejects` says that it is a rejects
    file which is imported again: its size says nothing. `manifest_rows` is what its manifest promises. In connections
    that are `overlapping` an opt-in of a wide slot lifts the opt-outs of narrower ones.
    """

    feed: str
    rules: GuardRules = field(default_factory=GuardRules)
    by_connection: Mapping[str, GuardRules] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    is_rejects: bool = False
    manifest_rows: int | None = None
    overlapping: tuple[str, ...] = ()

    def of(self, connection: str) -> GuardRules:
        """Return the rules of a connection."""
        return self.by_connection.get(connection, self.rules)

    def as_text(self) -> str:
        """Return it as JSON, for `from_text`."""
        by_connection = {name: one.model_dump(exclude_defaults=True) for name, one in self.by_connection.items()}
        rules = self.rules.model_dump(exclude_defaults=True)
        facts: dict[str, Any] = {
            "columns": self.columns,
            "is_rejects": self.is_rejects,
            "manifest_rows": self.manifest_rows,
        }
        if self.overlapping:
            facts["overlapping"] = self.overlapping
        return json.dumps({"feed": self.feed, "rules": rules, "by_connection": by_connection} | facts)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what `as_text` wrote."""
        stored = json.loads(text)
        by_connection = {name: GuardRules(**one) for name, one in stored["by_connection"].items()}
        rules, columns = GuardRules(**stored["rules"]), tuple(stored["columns"])
        overlapping = tuple(stored.get("overlapping", ()))
        return cls(
            stored["feed"], rules, by_connection, columns, stored["is_rejects"], stored["manifest_rows"], overlapping
        )


GuardsOf = Callable[[str], GuardRules]
"""Tells the rules of a connection, by its name."""


_REJECTS = re.compile(r"(\.\d+|\.again(-\d+)?)*\.rejects\.csv$")
_AT = re.compile("@|%(?:25)*40|\uff20|\ufe6b")
"""What divides an e-mail address: itself, escaped as in a URL, or as wide or small as East Asian scripts write it."""


def feed_of(name: str) -> str:
    """Return what files of this name have in common, whatever their dates and numbers; rejects are of their parent.

    A feed is a label of metrics, so it names no person: digits and addresses are left out.
    """
    last = _REJECTS.sub("", name.rsplit("/", 1)[-1])
    return re.sub(r"\d+", "#", without_addresses(last))


def without_addresses(label: str) -> str:
    """Return `optouts-ann@example.com.csv` as `…@….csv`: only the ending stays of a label with an address.

    Which words before the @ are no name, no rule can tell.
    """
    if _AT.search(label) is None:
        return label
    ending = re.search(r"\.\w+$", _AT.split(label)[-1])
    return f"…@…{ending[0] if ending else ''}"
