"""The files of a command, looked over and ready to be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from consent.errors import STAYS, ConfigurationError, UnreadableNow, UnusableInput, place_of
from consent.files import path_text
from consent.guards.rules import Guard
from consent.ledger.ledger import Ledger
from consent.ledger.queries.imports import ImportReport
from consent.row import ConsentRow
from consent.settings import Settings
from consent.times import from_micros
from console.ui.screen import Screen
from producers.files.archive import unpacked
from producers.files.file import PreparedFile
from producers.files.prepare import prepare
from producers.files.sources import source_files
from producers.ingest_file import ImportResult
from producers.options import IngestOptions
from worker.providers import provider_of


@dataclass(slots=True)
class FileResult:
    """What became of one file of a command.

    It was recorded, or is known (its bytes were recorded before); it is busy (another process records it now), or
    unusable for a `reason`. `path` is where it is, None if it is no file of its own; `moved_to` is where it went.
    """

    file: str
    state: Literal["recorded", "known", "busy", "unusable"]
    import_id: str | None = None
    reason: str | None = None
    path: Path | None = None
    moved_to: Path | None = None
    rejects_file: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as an object of the list `files`."""
        moved = None if self.moved_to is None else path_text(self.moved_to)
        found = {"file": self.file, "state": self.state, "import": self.import_id, "reason": self.reason}
        return found | {"moved_to": moved}

    def is_held(self, ledger: Ledger) -> bool:
        """Whether a guard holds its import as a whole."""
        found = None if self.import_id is None else ledger.queries.report(self.import_id)
        return found is not None and found.state == "held"


@dataclass(slots=True)
class ReadyFiles:
    """The files of a command that can be read, and why the others cannot."""

    usable: list[PreparedFile] = field(default_factory=list)
    unusable: list[FileResult] = field(default_factory=list)

    def note_unusable(self, name: str, error: UnusableInput, path: Path | None) -> None:
        """Note why a file cannot be used; one that may be used later stays where it is."""
        path = None if isinstance(error, STAYS) else path
        self.unusable.append(FileResult(name, "unusable", reason=str(error), path=path))


@dataclass(frozen=True, slots=True)
class InputFiles:
    """The files of a command, and how they are to be read; `move` says that each goes into a folder afterwards.

    Guards that are `guards_off` hold none of them; `why` says why. They correct the import that they
    replace, if they do.
    """

    files: Sequence[str]
    options: IngestOptions
    move: bool = False
    guards_off: Sequence[str] = ()
    why: str = ""
    replaces: str | None = None

    @contextmanager
    def ready(self, settings: Settings) -> Iterator[ReadyFiles]:
        """Look over every file before anything of any is recorded; give those that can be read, and the others.

        Raises ConfigurationError.
        """
        rows = intake_models(settings, allow_domains=self.options.allow_domains)
        defaults = {name: connection.defaults for name, connection in settings.connections.items()}
        ready, options = ReadyFiles(), replace(self._guarded(settings), sheet_memory=settings.sheet_memory_mb)
        with source_files(self.files, on_unusable=ready.note_unusable) as sources, ExitStack() as stack:
            for source in sources:
                try:
                    files = stack.enter_context(unpacked(source, options, settings.feeds))
                    ready.usable += [prepare(one, options, rows, defaults, settings.feeds) for one in files]
                except UnusableInput as error:
                    ready.note_unusable(source.name, error, source.given)
                except (ConfigurationError, OSError):
                    raise
                except Exception as error:
                    if len(sources) == 1:
                        raise
                    reason = f"{source.name}: optrelay failed on this file, please report it: {place_of(error)}"
                    ready.note_unusable(source.name, UnreadableNow(reason), None)  # the others are read all the same
            if self.options.rejects_path is not None and (count := max(len(sources), len(ready.usable))) > 1:
                raise ConfigurationError(f"--rejects names one file, but {count} are read: leave it out")
            if (path := self.options.rejects_path) is not None and (path.is_dir() or not path.parent.is_dir()):
                what = "is a folder" if path.is_dir() else "lies in a folder that is not there"
                raise ConfigurationError(f"--rejects: {path_text(path)} {what}: name a file that can be written")
            yield ready

    def _guarded(self, settings: Settings) -> IngestOptions:
        """Return the options with the guards of the settings, but those that the command switches off."""
        if self.guards_off and settings.four_eyes:
            raise ConfigurationError("--guard-off does not go with OPTRELAY_FOUR_EYES: let another person approve it")
        if (self.guards_off or self.replaces) and not self.why.strip():
            raise ConfigurationError("--guard-off and --replaces need --why: it is all that the audit log will tell")
        if self.replaces and self.options.stream:
            raise ConfigurationError("--replaces does not go with --stream: the file is needed whole")
        if Guard.OVERRULING_OPTINS in self.guards_off:
            message = "is about events and holds no file: OPTRELAY_GUARDS__OFF switches it off"
            raise ConfigurationError(f"--guard-off: {Guard.OVERRULING_OPTINS} {message}")
        try:
            rules = settings.guards.without(self.guards_off)
            others = {name: one.without(self.guards_off) for name, one in settings.guards_by_connection.items()}
        except ValueError:
            raise ConfigurationError(f"--guard-off is one of {', '.join(Guard)}") from None
        return replace(self.options, guards=rules, guards_by_connection=others, replaces=self.replaces)


def intake_models(settings: Settings, *, allow_domains: bool = False) -> dict[str, type[ConsentRow]]:
    """Return the row model of each connection for what comes in; raise ConfigurationError if none is configured.

    Whole e-mail domains are refused unless `allow_domains`, or the connection, allows them.
    """
    connections = settings.connections
    return {
        name: model if allow_domains or connections[name].allow_domains else model.without_domains()
        for name, model in row_models(settings).items()
    }


def row_models(settings: Settings) -> dict[str, type[ConsentRow]]:
    """Return the row model of each connection; raise ConfigurationError if none is configured."""
    if not settings.connections:
        raise ConfigurationError(
            "no connection is configured: set OPTRELAY_CONNECTIONS__CAPILLARY__BASE_URL, …__USERNAME and "
            "…__PASSWORD, or write them into optrelay.toml; `optrelay sandbox` serves a stand-in to try it with"
        )
    return {
        name: provider_of(connection).row.in_region(connection.region)
        for name, connection in settings.connections.items()
    }


def file_time_note(file: PreparedFile, since: int | None) -> list[str]:
    """Return what to say of a file whose rows hold `since` for no other reason than that it is the file's own time."""
    if not file.undated or since is None:
        return []
    moment = f"{from_micros(since):%Y-%m-%d %H:%M:%S} UTC"
    message = f"no column says since when its rows hold: it is since {moment}, the file's own time"
    return [f"{message}; --effective-at says it otherwise"]


def repeated_note(file: PreparedFile, recorded_since: int | None) -> str:
    """Return what to do if people have said anew what a file says whose bytes were recorded before.

    It is "" unless nothing but the file's own time tells since when its rows hold, and that time is a later one now.
    """
    now = file.context.effective_at
    if not file.undated or now is None or recorded_since is None or now <= recorded_since:
        return ""
    now += -now % 1_000_000  # whole seconds, and not before what is recorded
    return (
        f"; its rows hold since {from_micros(recorded_since):%Y-%m-%d %H:%M:%S} UTC, the file's own time then. "
        f"If people have said the same again since, give --effective-at {from_micros(now):%Y-%m-%dT%H:%M:%SZ}"
    )


def given_up_note(report: ImportReport) -> str:
    """Return how to record bytes after all whose import was withdrawn, wholly or in part, or undone; "" if neither."""
    gone = [f"{report.withdrawn:,} of its changes were withdrawn"] if report.withdrawn else []
    gone += ["it was undone"] if report.undone_at is not None else []
    if not gone and report.state != "withdrawn":
        return ""
    what = " and ".join(gone or ["it was withdrawn"])
    return f"; {what}. To record it after all, give --replaces {report.import_id} --why TEXT"


def sure_to_be_called(files: Sequence[PreparedFile]) -> set[str]:
    """Return the default connections of files whose rows name none."""
    silent = (file.context.connection for file in files if "connection" not in file.row_header.ours)
    return {name for name in silent if name is not None}


def show_notes(screen: Screen, file: PreparedFile, result: ImportResult, given_up: str | None) -> None:
    """Show what is to be said of one file that was recorded, or is known."""
    name = file.inspection.file.name
    for note in [*result.notes, *([] if result.already_known else file_time_note(file, result.since))]:
        screen.note(f"{name}: {note}")
    if result.already_known:
        before = f"{name}: these bytes were recorded before, as import {result.import_id}; nothing was recorded"
        screen.note(f"{before}{f'; {given_up}' if given_up else repeated_note(file, result.since)}")
    elif result.resumed_at:
        screen.note(f"{name}: went on behind the {result.resumed_at:,} rows that an earlier attempt had recorded")
    elif not result.recorded + result.duplicates + result.rejected + result.skipped:
        screen.note(f"{name}: the file has a header and no rows; if there should be rows, export it again")
