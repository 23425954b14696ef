"""A feed: a file that comes again, and how its columns, values and times are to be understood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from consent.guards.rules import GuardRules
from consent.identifiers.phones import read_region
from consent.time_formats import check_format
from consent.times import read_zone


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _text(value: object) -> object:
    """Return a value as a cell would hold it: TOML has numbers and booleans, a CSV file has text."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else value


def _time_format(value: object) -> object:
    if isinstance(value, str) and value:
        check_format(value)
    return value


def _zone(value: object) -> object:
    if isinstance(value, str) and value:
        read_zone(value)
    return value


_Text = Annotated[str, BeforeValidator(_text)]
_Texts = Annotated[tuple[str, ...], BeforeValidator(_several)]


class Feed(BaseModel):
    """One feed, as `[feeds.NAME]` of optrelay.toml says it.

    `file` and `header` choose it for a file; everything else is what the options of a command would say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    file: _Texts = Field((), description="patterns of file names, like `unsubscribed_*.csv`; empty: any name")
    header: _Texts = Field((), description="columns that a file must have to be this feed's; empty: any")
    connection: str = Field("", description="for rows that name none")
    columns: dict[str, str] = Field({}, description="the file's columns and ours; the file's others mean nothing then")
    constants: dict[str, _Text] = Field({}, alias="set", description="our columns that every row has, and their value")
    values: dict[str, dict[str, _Text]] = Field(
        {}, description="by column: what its cells mean; `skip` leaves the row out, `keep` takes the cell as it is"
    )
    time_format: Annotated[str, BeforeValidator(_time_format)] = Field(
        "", description="like `%d.%m.%Y %H:%M`, or `epoch`, `epoch_ms`, `excel`, `auto`; empty: ISO 8601"
    )
    timezone: Annotated[str, BeforeValidator(_zone)] = Field(
        "", description="for times that name no zone, like Europe/Berlin; empty: UTC"
    )
    region: Annotated[str, BeforeValidator(read_region)] = Field(
        "", description="the country of numbers without a country code; empty: the connection's"
    )
    delimiter: str = Field("", description="one character, or tab, semicolon, comma or pipe; empty: detected")
    encoding: str = Field("", description="like utf-8 or cp1252; empty: detected")
    sheet: str = Field("", description="the sheet of a workbook; empty: its first")
    skip_top: int = Field(0, ge=0, le=1000, description="lines before the header")
    skip_end: int = Field(0, ge=0, le=1000, description="lines at the end that are no rows, such as totals")
    guards: GuardRules | None = Field(None, description="limits of [guards](guards.md), where this feed has others")

    def stated(self) -> Mapping[str, Any]:
        """Return what was said of it, by the names of optrelay.toml, without what was not."""
        return self.model_dump(by_alias=True, exclude_defaults=True, mode="json")
