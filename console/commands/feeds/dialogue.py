"""The dialogue of `optrelay map`: a file is looked at, what is ambiguous is asked, and a feed is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePath
from typing import Any

import typer

from consent.errors import ConfigurationError
from consent.feed import Feed
from consent.files import path_text
from consent.identifiers.masking import masked
from consent.settings import Settings, load_settings, toml_file
from console.commands.run.dry_run import dry_run
from console.commands.run.input_files import InputFiles, row_models
from console.exit_codes import ExitCode
from console.ui.screen import Screen, table
from producers.feeds.draft import LOOKED_AT, FeedDraft
from producers.feeds.look import FileLook
from producers.feeds.questions import Question
from producers.feeds.settings_file import feed_as_toml, write_feed
from producers.feeds.words import has_name, is_coded, tells_channel
from producers.files.archive import unpacked
from producers.files.file import PreparedFile
from producers.files.prepare import look_at
from producers.files.sources import source_files
from producers.options import IngestOptions
from producers.parsing.columns import refuse_values

_SAMPLES = 3
_VARIES = re.compile(r"(?<![^\W_])(?=[a-f]*\d)(?=\d*[a-f])[\da-f]{4,}(?![^\W_])|\d[\d.:_-]*\d|\d", re.IGNORECASE)
"""What differs from one file of a feed to the next: digits, and the hexadecimal ids in the names of exports."""


@dataclass(frozen=True, slots=True)
class MapRequest:
    """What the command was told: the file, what its options say of it, and how to go on."""

    file: str
    given: IngestOptions
    name: str
    pattern: str
    yes: bool = False
    replace: bool = False


def map_to_feed(settings: Settings, screen: Screen, asked: MapRequest) -> ExitCode:
    """Look at a file, settle its feed, write it, and show what the file would do; raise ConfigurationError."""
    models = row_models(settings)
    with source_files((asked.file,)) as sources:
        if len(sources) != 1:
            raise ConfigurationError(f"{path_text(asked.file)} means {len(sources)} files: name one")
        if asked.given.connection:
            settings.connection(asked.given.connection.lower())
        with unpacked(sources[0], replace(asked.given, sheet_memory=settings.sheet_memory_mb)) as files:
            file = look_at(files[0], asked.given, models)
            refuse_values(file.header.names, path_text(file.name))
            draft = FeedDraft(_look(file), models, _defaults(settings), asked.given)
            _refuse_cover(file, draft)
            _show(screen, file, draft)
            still_open = _settle(screen, draft, asked)
    pattern = asked.pattern or _VARIES.sub("*", PurePath(file.name).name)
    feed = None if still_open else draft.feed().model_copy(update={"file": (pattern,)})
    return _finish(screen, asked, draft, feed, still_open)


def _defaults(settings: Settings) -> dict[str, Mapping[str, str]]:
    return {name: one.defaults for name, one in settings.connections.items()}


def _look(file: PreparedFile) -> FileLook:
    rows = [[cell.strip() for cell in cells] for cells in islice(file.rows(), LOOKED_AT)]
    return FileLook(file.header.names, rows, lambda place: (cells[place] for cells in file.rows()))


def _refuse_cover(file: PreparedFile, draft: FeedDraft) -> None:
    """Raise ConfigurationError for a sheet that names no one, if the workbook has others and no one has chosen."""
    sheet, look, given = file.inspection.sheet, draft.look, draft.given
    if sheet is None or given.sheet or given.maps or any(look.kind(name) != "any" for name in look.named):
        return
    if remedy := sheet.instead(lambda name: has_name(name, "address", "mobile", "customer", "out", "in")):
        raise ConfigurationError(f"{path_text(file.name)}: no column holds addresses or telephone numbers.{remedy}")


def _show(screen: Screen, file: PreparedFile, draft: FeedDraft) -> None:
    listed = table("column", "samples", "looks like", title=path_text(file.name))
    for name, cells in _samples(draft.look).items():
        listed.add_row(name, "   ".join(cells), draft.look.describe(name))
    screen.show(listed)
    for note in file.notes:
        screen.note(note)
    if draft.preset is not None:
        known = "" if draft.preset.documented else "; its columns are known from exports, not from its documentation"
        screen.show(f"It looks like {draft.preset.title}{known}.")


def _samples(look: FileLook) -> dict[str, list[str]]:
    """Return some cells of each column, masked: they may name persons. Times show their form, a yes or no is whole."""
    return {
        name: [_sample(look, name, cell) for cell in dict.fromkeys(look.filled(name)[:_SAMPLES])] for name in look.named
    }


def _sample(look: FileLook, name: str, cell: str) -> str:
    if look.holds_times(name):
        return re.sub(r"\d", "9", cell)
    if is_coded([cell]) or tells_channel("", [cell]):
        return cell
    return masked({"": cell}).removeprefix("=")


def _settle(screen: Screen, draft: FeedDraft, asked: MapRequest) -> list[Question]:
    """Answer the questions: by a person, or by what is likeliest with --yes; return those that stay open."""
    while questions := draft.questions():
        unanswered = []
        for question in questions:
            if asked.yes and question.sure and question.default is not None:
                if question.unasked not in {None, question.default}:
                    screen.note(f"{question.text} --yes takes {question.unasked}; otherwise say {question.option}")
                draft.answer(question, question.unasked or question.default)
            elif screen.as_json:
                unanswered.append(question)
            else:
                _ask(screen, draft, question)
        if unanswered:
            return unanswered
    return []


def _ask(screen: Screen, draft: FeedDraft, question: Question) -> None:
    while True:
        screen.show(question.text)
        for number, option in enumerate(question.options, 1):
            screen.show(f"  {number:>2}  {option}")
        text = _typed(">", question.option, default=question.default or "", show_default=question.default is not None)
        try:
            return draft.answer(question, text)
        except ValueError as error:
            screen.error(str(error))


def _typed(text: str, option: str, **how: Any) -> str:
    """Return what a person types; raise ConfigurationError with the option that says the same if none is there."""
    try:
        return str(typer.prompt(text, prompt_suffix=" ", **how))
    except typer.Abort as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise
        typer.echo()  # the question stands on a line of its own
        raise ConfigurationError(
            f"there is no one to ask: say {option}; `--json` lists all that is open. Nothing was written"
        ) from None


def _finish(
    screen: Screen,
    asked: MapRequest,
    draft: FeedDraft,
    feed: Feed | None,
    still_open: list[Question],
) -> ExitCode:
    name = asked.name or draft.preset_name or ""
    if feed is not None and not name:
        proposed = _plain(_VARIES.sub("", PurePath(asked.file).name.partition(".")[0]).strip("-_ "))
        name = "" if screen.as_json else _ask_name(screen, proposed)
    name = _plain(name)
    written = False
    if feed is not None and name:
        screen.show(feed_as_toml(name, feed))
        if asked.yes or (
            not screen.as_json and typer.confirm(f"Write it into {path_text(toml_file())}?", default=True)
        ):
            write_feed(toml_file(), name, feed, replace=asked.replace)
            written = True
            screen.show(f"written into {path_text(toml_file())}; `optrelay run {asked.file}` reads it from now on")
            for note in _notes(asked, feed):
                screen.note(note)
    if screen.as_json:
        screen.print_json(
            {
                **_as_json(draft, name, feed, still_open, written=written),
                "notes": _notes(asked, feed) if feed else [],
            }
        )
        return ExitCode.WELL if written or not asked.yes else ExitCode.USAGE
    if not written:
        screen.show("nothing was written")
        return ExitCode.WELL
    again = IngestOptions(feed=name, effective_at=asked.given.effective_at)
    return dry_run(load_settings(), screen, InputFiles((asked.file,), again))


def _notes(asked: MapRequest, feed: Feed) -> list[str]:
    """Say that a pattern which no one has chosen fits one name only: the next file may be called otherwise."""
    [pattern] = feed.file
    if asked.pattern or "*" in pattern:
        return []
    like = f"{PurePath(pattern).stem}*{PurePath(pattern).suffix}"
    return [f"only files called {pattern} are of this feed; for others give --pattern, like {like!r}"]


def _ask_name(screen: Screen, proposed: str) -> str:
    while (name := _typed("What is the feed's name?", "--name NAME", default=proposed or None)).strip().isdecimal():
        screen.error(f"{name.strip()} is a number, and there are no options to pick from: type a name, like crm")
    return name


def _plain(name: str) -> str:
    return re.sub(r"[^\w-]+", "-", name.strip().lower()).strip("-")


def _as_json(
    draft: FeedDraft, name: str, feed: Feed | None, still_open: list[Question], *, written: bool
) -> dict[str, Any]:
    preset = draft.preset
    facts = ("title", "origin", "checked", "documented", "note")
    return {
        "name": name or None,
        "preset": {"name": draft.preset_name, **preset.model_dump(include=set(facts))} if preset else None,
        "columns": _samples(draft.look),
        "questions": [
            {"key": one.key, "question": one.text, "options": list(one.options), "default": one.default}
            | {"say": one.option}
            for one in still_open
        ],
        "feed": feed.stated() if feed else None,
        "written": written,
    }
