"""Which feed a file belongs to, and the mapping that a rejects file carries along so that it needs none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePath

from consent.errors import ConfigurationError, UnusableHeader, UnusableInput
from consent.feed import Feed
from producers.options import IngestOptions
from producers.parsing.columns import FALLBACK_TIME, MAPPING, OWN, plain

HeaderReader = Callable[[IngestOptions], Sequence[str]]
"""Reads a file's header as options say; [] if it has none as they read it."""


def with_its_feed(
    file: str, options: IngestOptions, feeds: Mapping[str, Feed], header_of: HeaderReader
) -> IngestOptions:
    """Return the options with what the mapping of a rejects file, `--feed`, or the one feed that fits the file says.

    Raises ConfigurationError if there is no such feed; UnusableHeader if several fit, or a rejects file's mapping was
    damaged.
    """
    names = header_of(options)
    if (carried := next((name for name in names if is_mapping(name)), None)) is not None:
        return options.with_feed(_read_mapping(carried, file), options.feed)
    if options.feed:
        return options.with_feed(feed_named(options.feed, feeds), options.feed)
    if any(name.strip().lower() in OWN for name in names):
        return options  # a rejects file without a mapping: its columns are ours
    fitting = [
        name for name, feed in feeds.items() if _fits(feed, file, lambda feed: header_of(options.with_feed(feed)))
    ]
    if len(fitting) > 1:
        raise UnusableHeader(
            f"{file} fits the feeds {' and '.join(sorted(fitting))}: choose one with --feed, or give them other file "
            "patterns or headers"
        )
    return options.with_feed(feeds[fitting[0]], fitting[0]) if fitting else options


def sheet_of(file: str, options: IngestOptions, feeds: Mapping[str, Feed]) -> str | None:
    """Return which sheet of a workbook is meant, None for its first; its header is not known before one is read.

    The options say it, else the feed that they name, else the feeds that its name fits. Raises ConfigurationError if
    there is no such feed, UnusableHeader if feeds name different sheets.
    """
    if options.sheet is not None:
        return options.sheet
    if options.feed:
        return feed_named(options.feed, feeds).sheet or None
    fitting = {name: feed.sheet for name, feed in feeds.items() if feed.file and _has_name(feed, file)}
    if len({*fitting.values()}) > 1:
        raise UnusableHeader(
            f"{file} fits the feeds {' and '.join(sorted(fitting))}, which read different sheets: choose one with "
            "--feed, or give them other file patterns"
        )
    return next(iter(fitting.values()), "") or None


def feed_named(name: str, feeds: Mapping[str, Feed]) -> Feed:
    """Return a feed by its name; raise ConfigurationError if there is none."""
    if (found := feeds.get(name)) is not None:
        return found
    known = ", ".join(sorted(feeds)) or "none is configured"
    raise ConfigurationError(
        f"there is no feed {name!r} (known: {known}): `optrelay map FILE` writes one into optrelay.toml"
    )


def _fits(feed: Feed, file: str, header_of: Callable[[Feed], Sequence[str]]) -> bool:
    """Whether a file has a name and a header of a feed; a feed that names neither fits none by itself."""
    if not (feed.file or feed.header):
        return False
    if feed.file and not _has_name(feed, file):
        return False
    try:
        return not feed.header or {*map(plain, feed.header)} <= {*map(plain, header_of(feed))}
    except (UnusableInput, ConfigurationError):
        return False


def reading_its_header(names: Sequence[str], feeds: Mapping[str, Feed]) -> str:
    """Return a remedy for a file that no feed fits by name, though one is made for its header; "" if there is none."""
    has = {*map(plain, names)}
    made = [name for name, feed in feeds.items() if feed.file and feed.header and {*map(plain, feed.header)} <= has]
    if not made:
        return ""
    name, patterns = made[0], " or ".join(map(repr, feeds[made[0]].file))
    return (
        f" The feed {name} is made for a header like this one, but for files that are called {patterns}: give --feed "
        f"{name}, or add this file's name to `file` of the feed in optrelay.toml."
    )


def _has_name(feed: Feed, file: str) -> bool:
    name = PurePath(file).name.lower()
    return any(fnmatchcase(name, pattern.lower()) for pattern in feed.file)


def is_mapping(name: str) -> bool:
    """Whether a header's name is the mapping that a rejects file carries along."""
    return name.strip().lower().startswith(MAPPING)


def mapping_column(options: IngestOptions, columns: Mapping[str, str]) -> str:
    """Return the name of the column that carries a file's mapping in its rejects file; "" where it needs none.

    `columns` are the file's own names, by ours.
    """
    if not any(options.as_feed().stated()):
        return ""
    found = {theirs: ours for ours, theirs in columns.items() if ours != FALLBACK_TIME}
    carried = options.as_feed().model_copy(update={"columns": found}).stated()
    return f"{MAPPING} {json.dumps(carried, ensure_ascii=False, sort_keys=True)}"


_CARRIED = frozenset({"connection", "columns", "constants", "values", "time_format", "timezone", "region"})
"""What a mapping may say: what `IngestOptions.as_feed` tells of the meaning of a row, and nothing else."""


def _read_mapping(column: str, file: str) -> Feed:
    try:
        found = Feed.model_validate_json(column.strip()[len(MAPPING) :])
    except ValueError:
        found = None
    if found is not None and found.model_fields_set <= _CARRIED:  # no file may switch guards off, or hide its rows
        return found
    raise UnusableHeader(
        f"{file}: its column {MAPPING} says how its rows are to be understood, and was changed: restore the "
        "column's name, or remove the column and give --feed or --map"
    )
