"""From a file to one that is ready to be read: it is inspected, its feed is found, and its header is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import PurePath
from types import MappingProxyType

from consent.errors import ConfigurationError, UnreadableFile, UnusableHeader, UnusableInput
from consent.feed import Feed
from consent.row import ConsentRow
from consent.time_formats import AUTO
from consent.times import UnusableTime, to_micros
from producers.feeds.mapping import row_mapping, settled_format
from producers.files.encoding import scan
from producers.files.file import Columns, PreparedFile
from producers.files.inspect import Inspection, inspect_file, last_line
from producers.files.lines import PushBackLines
from producers.files.ndjson import read_names
from producers.files.rows import parse_delimiter, read_first_row
from producers.files.sheet.rows import SheetReader, last_row
from producers.files.sources import Manifest, SourceFile
from producers.options import IngestOptions
from producers.parsing.columns import (
    MAPPING,
    OWN,
    Header,
    Vocabulary,
    lacking_columns,
    plain,
    read_header,
    refuse_misspelt_time,
    vocabulary,
)
from producers.parsing.row_parser import ParseContext, parse_context


def prepare(
    file: SourceFile,
    options: IngestOptions,
    rows: Mapping[str, type[ConsentRow]],
    defaults: Mapping[str, Mapping[str, str]],
    feeds: Mapping[str, Feed] = MappingProxyType({}),
) -> PreparedFile:
    """Inspect a file, find its feed, and read its header; nothing is recorded yet.

    `rows` holds the row model of each connection, `defaults` what fills empty columns, by connection. Raises
    UnreadableFile, UnstableFile or UnusableHeader for the file, ConfigurationError for the options.
    """
    inspection, options, columns = _inspected(file, options, rows, feeds)
    if options.region:
        rows = {name: model.in_region(options.region) for name, model in rows.items()}
    known = vocabulary(rows.values(), options.maps, only_maps=options.only_maps)
    context = parse_context(rows, defaults, options.connection, inspection.modified_at, options.timezone or UTC)
    context = replace(context, or_give=", or give --effective-at")
    if options.effective_at is not None:
        context = _holding_since(options.effective_at, context)
    columns = columns or _read_columns(inspection, options, known)
    try:
        header = read_header(columns.names, known, file.name)
        found = _with_mapping(PreparedFile(inspection, options, columns, header, context), known)
        lacking = context.lacking(found.row_header.ours.keys())
        if all(lacking.values()):
            raise lacking_columns(lacking, found.row_header, known, file.name)
        if context.given is None and "effective_at" not in header.ours:
            refuse_misspelt_time(header, known, file.name)
    except UnusableHeader as error:
        sheet = inspection.sheet
        made = "" if options.feed or options.maps else reading_its_header(columns.names, feeds)
        raise UnusableHeader(f"{error}{sheet.instead(known.find) if sheet else ''}{made}") from None
    if context.effective_at is None and not header.has_time:
        clock = "has no modification time" if file.spooled else "has a modification time that cannot be right"
        raise UnreadableFile(f"{file.name} {clock}: add a column effective_at, or give --effective-at")
    return replace(
        found,
        context=replace(
            context, defaults={name: values for name, values in context.defaults.items() if name in lacking}
        ),
        undated=context.given is None and not header.has_time,
        manifest_rows=_promised_rows(inspection, columns.header_lines),
        zoneless=found.lacks_zone(),
    )


def _holding_since(given: datetime, context: ParseContext) -> ParseContext:
    """Return a context whose rows without a time hold since the --effective-at; raise ConfigurationError."""
    try:
        since = to_micros(given, context.zone)
    except UnusableTime as error:
        raise ConfigurationError(f"--effective-at: {error.message}") from None
    if since > context.last_moment:
        raise ConfigurationError("--effective-at lies in the future: give the time when people made their choice")
    return replace(context, effective_at=since, given=since)


def _promised_rows(found: Inspection, header_lines: int) -> int | None:
    """Return how many rows the manifest beside a file promises, if it has one; raises UnreadableFile."""
    manifest = Manifest.beside(found.file)
    if manifest is None:
        return None
    manifest.check_digest(found.sha256)
    manifest.check_most(found.lines - header_lines)
    return manifest.rows


def look_at(file: SourceFile, options: IngestOptions, rows: Mapping[str, type[ConsentRow]]) -> PreparedFile:
    """Return a file of which only names and cells are known: no change can be made of it yet.

    Raises UnusableInput for the file, ConfigurationError for the options.
    """
    inspection = inspect_file(file, options.encoding, options.patience)
    columns = _read_columns(inspection, options, vocabulary(rows.values()))
    context = parse_context(rows, {}, None, None, options.timezone or UTC)
    return _without_end(PreparedFile(inspection, options, columns, Header(tuple(columns.names), ()), context))


def _inspected(
    file: SourceFile, options: IngestOptions, rows: Mapping[str, type[ConsentRow]], feeds: Mapping[str, Feed]
) -> tuple[Inspection, IngestOptions, Columns | None]:
    """Inspect a file; return the options with what its feed says, and its columns if they were read as these say."""
    inspection = inspect_file(file, options.encoding, options.patience)
    read: list[tuple[IngestOptions, Columns]] = []

    def header_of(candidate: IngestOptions) -> list[str]:
        seen = inspection
        if candidate.encoding and candidate.encoding != options.encoding and inspection.sheet is None:
            seen = replace(inspection, encoding=scan(candidate.encoding).encoding)
        try:
            columns = _read_columns(
                seen, candidate, vocabulary(rows.values(), candidate.maps, only_maps=candidate.only_maps)
            )
        except UnusableInput:
            return []
        read.append((candidate, columns))
        return columns.names

    found = with_its_feed(file.name, options, feeds, header_of)
    if found.encoding != options.encoding:
        inspection = inspect_file(file, found.encoding, found.patience)
    return inspection, found, next((columns for candidate, columns in read if candidate is found), None)


def _with_mapping(file: PreparedFile, known: Vocabulary) -> PreparedFile:
    """Return a file with the mapping of its feed, and with the end of its rows."""
    file, options = _without_end(file), file.options
    if options.time_format == AUTO:
        options = replace(options, time_format=settled_format(file.times(), file.name))
        file = replace(file, options=options)
    if not (options.constants or options.values or options.time_format):
        return file  # its rows stand in our columns as they are
    return replace(file, mapping=row_mapping(file.header.names, file.header.columns, options, known, file.name))


def _without_end(file: PreparedFile) -> PreparedFile:
    if not file.options.skip_end:
        return file
    with file.inspection.open() as text:
        last = last_line if file.inspection.sheet is None else last_row
        return replace(file, last_line=last(text, file.options.skip_end))


def _read_columns(inspection: Inspection, options: IngestOptions, known: Vocabulary) -> Columns:
    """Find out by its content how a file names its columns: in a header, or in each record."""
    name = inspection.file.name
    delimiter = parse_delimiter(options.delimiter) if options.delimiter else None
    with inspection.open() as text:
        if inspection.sheet is not None:
            lines = PushBackLines(text)
            names = SheetReader(lines, inspection.sheet).first(options.skip_top)
            return Columns("sheet", names, lines.line, delimiter or ",")
        lines = PushBackLines(text, options.skip_top)
        if _is_ndjson(lines.peek().removeprefix("\ufeff"), name):
            names = list(_record_names(inspection, options.skip_top))
            return Columns("ndjson", names, options.skip_top, delimiter or ",")
        names, delimiter = read_first_row(lines, delimiter, known, name)
        return Columns("csv", names, lines.line, delimiter)


def _is_ndjson(first_line: str, file: str) -> bool:
    """Whether a text whose first line is this one holds JSON lines; raise UnreadableFile if it is one JSON array."""
    if _BEGINS_ARRAY.match(first_line):
        raise UnreadableFile(f"{file} is one JSON array: write one object a line, as `jq -c '.[]'` does")
    return _BEGINS_OBJECT.match(first_line) is not None


_BEGINS_OBJECT = re.compile(r'\s*\{\s*(?:["}]|$)')
_BEGINS_ARRAY = re.compile(r"\s*\[\s*(?:\{|$)")


@lru_cache(maxsize=4)
def _record_names(inspection: Inspection, skip_top: int) -> tuple[str, ...]:
    """Return the names of a file's records, which takes reading it all; the choice of a feed asks for them again."""
    with inspection.open() as text:
        return tuple(read_names(PushBackLines(text, skip_top), inspection.file.name))


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
    if (carried := next((name for name in names if _is_mapping(name)), None)) is not None:
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
    if feed.file and not has_name(feed, file):
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


def has_name(feed: Feed, file: str) -> bool:
    """Whether a file's name is one of those that a feed is for."""
    name = PurePath(file).name.lower()
    return any(fnmatchcase(name, pattern.lower()) for pattern in feed.file)


def _is_mapping(name: str) -> bool:
    return name.strip().lower().startswith(MAPPING)


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
