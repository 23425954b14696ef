"""The command `feeds`: each feed of the settings with its mapping, its last files, and whether one is overdue."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from consent.errors import ConfigurationError
from consent.feed import Feed
from consent.files import path_text
from consent.ledger.ledger import Ledger
from consent.ledger.queries.imports import FeedFile
from consent.settings import Settings
from consent.times import from_micros
from console.commands.watch.watch import arrivals
from console.exit_codes import ExitCode
from console.ledger_access import ledger_if_any
from console.ui.screen import Screen, table
from producers.watch.address import WatchAddress

_HISTORY = 20
_MEANING = ("columns", "set", "values")


@dataclass(frozen=True, slots=True)
class FeedOverview:
    """A feed, its newest files, and the watched places that read their files by it; `overdue` of one of them."""

    name: str
    feed: Feed
    files: Sequence[FeedFile]
    places: Sequence[WatchAddress]
    overdue: bool

    @property
    def expected(self) -> list[str]:
        """By when its files are to come, as the places say."""
        found = (place.expect for place in self.places)
        return [f"{one.at:%H:%M} + {one.grace:g} s, {one.zone}" for one in found if one is not None]

    def as_json(self) -> dict[str, Any]:
        """Return it for a program; `feed` is as optrelay.toml says it."""
        return {
            "name": self.name,
            "feed": self.feed.stated(),
            "last_file_at": _moment(self.files[0]) if self.files else None,
            "files": [_file_json(one) for one in self.files],
            "places": [place.shown for place in self.places],
            "expected": self.expected,
            "overdue": self.overdue,
        }


def show_feeds(settings: Settings, screen: Screen, name: str | None) -> ExitCode:
    """Print all feeds, or one with its mapping and history; return 1 if a file of them is overdue.

    Raises ConfigurationError if there is no feed of this name.
    """
    if name is not None and name not in settings.feeds:
        known = ", ".join(sorted(settings.feeds)) or "none is configured"
        raise ConfigurationError(f"there is no feed {name!r} (known: {known}): `optrelay map FILE` writes one")
    names = sorted(settings.feeds) if name is None else [name]
    with ledger_if_any(settings) as ledger:
        overviews = _overviews(settings, ledger, names)
    if name is not None:
        _show_one(screen, overviews[0])
    elif overviews:
        _show_all(screen, overviews)
    else:
        screen.show("no feed is configured: `optrelay map FILE` asks what a file means, and writes one")
    found = [one.as_json() for one in overviews]
    screen.print_json(found if name is None else found[0])
    return ExitCode.IMPERFECT if any(one.overdue for one in overviews) else ExitCode.WELL


def _overviews(settings: Settings, ledger: Ledger | None, names: Sequence[str]) -> list[FeedOverview]:
    """Look at feeds; a place belongs to a feed that its address names, one without a name to none."""
    watched = [] if ledger is None else list(arrivals(settings, ledger))
    return [
        FeedOverview(
            name,
            settings.feeds[name],
            [] if ledger is None else ledger.queries.feed_files(name, _HISTORY),
            [address for address, _, _ in watched if address.feed == name],
            any(overdue for address, _, overdue in watched if address.feed == name),
        )
        for name in names
    ]


def _show_all(screen: Screen, overviews: Sequence[FeedOverview]) -> None:
    shown = table(
        "feed", "files", "connection", "last file", "rows", "rejected", "expected by", right=("rows", "rejected")
    )
    for one in overviews:
        last = one.files[0] if one.files else None
        counts = ("", "") if last is None else (f"{last.rows:,}", f"{last.rejected:,}")
        by = "; ".join(one.expected) + (" (overdue)" if one.overdue else "")
        chosen = ", ".join(one.feed.file) or ("by its header" if one.feed.header else "by --feed")
        came = "none" if last is None else f"{_moment(last)} {PurePath(path_text(last.name)).name}"
        shown.add_row(one.name, chosen, one.feed.connection, came, *counts, by)
    screen.show(shown)


def _show_one(screen: Screen, one: FeedOverview) -> None:
    settings = one.feed.stated()
    facts = table("setting", "value", title=f"Feed {one.name}")
    for setting, value in settings.items():
        if setting not in _MEANING:
            facts.add_row(setting, ", ".join(value) if isinstance(value, list) else _text(value))
    for place in one.places:
        facts.add_row("watched", f"{place.shown} {place.pattern}")
    for by in one.expected:
        facts.add_row("expected by", by + (" (overdue)" if one.overdue else ""))
    screen.show(facts)
    _show_meaning(screen, settings)
    _show_files(screen, one.files)


def _show_meaning(screen: Screen, settings: Any) -> None:
    shown = table("column of the file", "value", "means")
    for theirs, ours in settings.get("columns", {}).items():
        shown.add_row(theirs, "", ours)
    for column, values in settings.get("values", {}).items():
        for value, ours in values.items():
            shown.add_row(column, value or "(empty)", ours)
    for ours, value in settings.get("set", {}).items():
        shown.add_row("(every row)", "", f"{ours} = {value}")
    if shown.row_count:
        screen.show(shown)


def _show_files(screen: Screen, files: Sequence[FeedFile]) -> None:
    if not files:
        screen.show("no file of it was recorded yet")
        return
    shown = table(
        "file", "came", "state", "rows", "rejected", "left out", "import", right=("rows", "rejected", "left out")
    )
    for one in files:
        counts = (f"{count:,}" for count in (one.rows, one.rejected, one.skipped))
        shown.add_row(path_text(one.name), _moment(one), one.state, *counts, one.import_id)
    screen.show(shown)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _moment(file: FeedFile) -> str:
    return f"{from_micros(file.started_at):%Y-%m-%dT%H:%M:%SZ}"


def _file_json(file: FeedFile) -> dict[str, Any]:
    return {
        "import": file.import_id,
        "name": path_text(file.name),
        "at": _moment(file),
        "state": file.state,
        "rows": file.rows,
        "rejected": file.rejected,
        "skipped": file.skipped,
    }
