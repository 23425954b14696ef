"""How a file is to be read: the options that a command gives, and what a feed says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from consent.errors import ConfigurationError
from consent.feed import Feed
from consent.guards.rules import GuardRules
from consent.reassert import Reassert
from consent.times import read_zone
from producers.parsing.columns import plain

CHUNK_ROWS = 10_000
SHEET_MEMORY_MB = 512
PATIENCE_SECONDS = 30.0
"""How long a file may still be written to before it is refused."""


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """The options of a command about its files.

    `maps` leads a file's column names to ours (`only_maps`: its others mean nothing), `constants` gives our columns a
    value in every row, and `values` says by column what its cells mean. `time_format` is that of `effective_at`,
    `region` the country of numbers without a country code, `skip_top` and `skip_end` count lines that are no rows, and
    `allow_domains` takes whole e-mail domains, `feed` names the feed that says all this, if one does. `effective_at`
    holds for rows without a time (one without a zone is read in `timezone`), `stream` lets changes be delivered as they
    are read, `chunk_rows` are recorded in one transaction, `rejects_path` is where rejected rows go, `patience` is for
    how many seconds a file may still change, and `reassert` says which opt-outs are sent though they are confirmed,
    None where the settings do. `sheet` names a workbook's sheet, and `sheet_memory` is how many megabytes reading it
    may take. `guards` check the file, those of some connections by other rules. It `replaces` an import that was
    undone, None for most.
    """

    connection: str | None = None
    maps: Mapping[str, str] = field(default_factory=dict)
    effective_at: datetime | None = None
    timezone: ZoneInfo | None = None
    encoding: str | None = None
    delimiter: str | None = None
    stream: bool = False
    chunk_rows: int = CHUNK_ROWS
    rejects_path: Path | None = None
    patience: float = PATIENCE_SECONDS
    reassert: Reassert | None = None
    sheet: str | None = None
    sheet_memory: int = SHEET_MEMORY_MB
    feed: str = ""
    guards: GuardRules | None = None
    replaces: str | None = None
    guards_by_connection: Mapping[str, GuardRules] = field(default_factory=dict)
    only_maps: bool = False
    constants: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    time_format: str = ""
    region: str = ""
    skip_top: int = 0
    skip_end: int = 0
    allow_domains: bool = False

    def with_feed(self, feed: Feed, name: str = "") -> IngestOptions:
        """Return these options with what a feed says of all that they leave open, and with the rules of its guards."""
        rules, own_values = self.guards, {plain(name) for name in self.values}
        return replace(
            self,
            feed=name,
            guards=rules and rules.overruled_by(feed.guards),
            guards_by_connection={of: one.overruled_by(feed.guards) for of, one in self.guards_by_connection.items()},
            connection=self.connection or feed.connection or None,
            maps={**feed.columns, **self.maps},
            only_maps=self.only_maps or bool(feed.columns),
            constants={**feed.constants, **self.constants},
            values={
                **{name: table for name, table in feed.values.items() if plain(name) not in own_values},
                **self.values,
            },
            time_format=self.time_format or feed.time_format,
            timezone=self.timezone or (read_zone(feed.timezone) if feed.timezone else None),
            region=self.region or feed.region,
            delimiter=self.delimiter or feed.delimiter or None,
            encoding=self.encoding or feed.encoding or None,
            sheet=self.sheet or feed.sheet or None,
            skip_top=self.skip_top or feed.skip_top,
            skip_end=self.skip_end or feed.skip_end,
        )

    def as_feed(self) -> Feed:
        """Return what these options say of the meaning of a row: what its rejects file carries along."""
        return Feed(
            connection=self.connection or "",
            columns=dict(self.maps),
            constants=dict(self.constants),
            values={name: dict(table) for name, table in self.values.items()},
            time_format=self.time_format,
            timezone=str(self.timezone or ""),
            region=self.region,
        )


def parse_maps(arguments: Iterable[str]) -> dict[str, str]:
    """Read `their=ours` arguments; raise ConfigurationError for one of another form."""
    pairs = {argument: argument.rpartition("=") for argument in arguments}
    for argument, (their, _, ours) in pairs.items():
        if not their.strip() or not ours.strip():
            raise ConfigurationError(
                f"--map is written their=ours, for example --map phone=destination, not {argument!r}"
            )
    return {their.strip(): ours.strip() for their, _, ours in pairs.values()}


def parse_constants(arguments: Iterable[str]) -> dict[str, str]:
    """Read `our=value` arguments; raise ConfigurationError for one of another form."""
    pairs = {argument: argument.partition("=") for argument in arguments}
    for argument, (ours, _, value) in pairs.items():
        if not ours.strip() or not value.strip():
            raise ConfigurationError(f"--set is written our=value, for example --set action=OPTOUT, not {argument!r}")
    return {ours.strip(): value.strip() for ours, _, value in pairs.values()}


def parse_values(arguments: Iterable[str]) -> dict[str, dict[str, str]]:
    """Read `column:value=ours,value=ours` arguments, by column; raise ConfigurationError for one of another form."""
    found: dict[str, dict[str, str]] = {}
    for argument in arguments:
        column, mark, _ = argument.partition("=")[0].rpartition(":")
        pairs = [pair.partition("=") for pair in argument[len(column + mark) :].split(",")]
        if any(not equals or not ours.strip() for _, equals, ours in pairs):
            raise ConfigurationError(
                "--values is written column:value=ours, several with commas, for example "
                f"--values 'Opted out:TRUE=OPTOUT,FALSE=skip', not {argument!r}"
            )
        meanings = {theirs.strip(): ours.strip() for theirs, _, ours in pairs}
        found.setdefault(column.strip() or "action", {}).update(meanings)
    return found


def parse_zone(argument: str | None) -> ZoneInfo | None:
    """Read a `--timezone`, None if it is left out or empty; raise ConfigurationError if there is no such zone."""
    try:
        return read_zone(argument) if argument else None
    except ValueError as error:
        raise ConfigurationError(f"--timezone {error}") from None
