"""The exports of other systems that are recognised by their header: `presets.toml`, which is data and no code."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from producers.parsing.columns import plain

Kind = Literal["email", "phone", "any"]


class Person(BaseModel):
    """The column that names a person, and as what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str
    kind: Kind


class Preset(BaseModel):
    """A known export: its columns, what they mean, and where that is described.

    `header` are columns that it has and `without` columns that it has not. `documented` says whether a page describes
    the file itself; `checked` is the day on which `origin` was read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    header: tuple[str, ...]
    person: Person
    origin: str
    checked: str
    documented: bool
    note: str = ""
    without: tuple[str, ...] = ()
    columns: dict[str, str] = {}
    constants: dict[str, str] = Field({}, alias="set")
    values: dict[str, dict[str, str]] = {}
    timezone: str = ""


@cache
def presets() -> dict[str, Preset]:
    """Return every preset by name."""
    text = files(__package__).joinpath("presets.toml").read_text(encoding="utf-8")
    return {name: Preset.model_validate(one) for name, one in tomllib.loads(text).items()}


def preset_of(names: Sequence[str]) -> str | None:
    """Return the name of the preset that fits a header best, None if none fits or two fit as well."""
    have = {plain(name) for name in names}
    fitting = {
        name: len(one.header) + len(one.without)
        for name, one in presets().items()
        if {*map(plain, one.header)} <= have and not {*map(plain, one.without)} & have
    }
    best = [name for name, count in fitting.items() if count == max(fitting.values())]
    return best[0] if len(best) == 1 else None
