"""The files of a command, looked over and ready to be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from consent.errors import ConfigurationError
from consent.row import ConsentRow
from consent.settings import Settings
from producers.files.file import PreparedFile, prepare
from producers.files.sources import source_files
from producers.options import IngestOptions
from worker.providers import provider_of


@dataclass(frozen=True, slots=True)
class InputFiles:
    """The files of a command, and how they are to be read."""

    files: Sequence[str]
    options: IngestOptions

    @contextmanager
    def ready(self, settings: Settings) -> Iterator[list[PreparedFile]]:
        """Look over every file before anything of any is recorded; give them ready to be read.

        Raises UnusableInput and ConfigurationError.
        """
        rows = row_models(settings)
        defaults = {name: connection.defaults for name, connection in settings.connections.items()}
        with source_files(self.files) as sources:
            if self.options.rejects_path is not None and len(sources) > 1:
                raise ConfigurationError(f"--rejects names one file, but {len(sources)} are read: leave it out")
            yield [prepare(source, self.options, rows, defaults) for source in sources]


def row_models(settings: Settings) -> dict[str, type[ConsentRow]]:
    """Return the row model of each connection; raise ConfigurationError if none is configured."""
    if not settings.connections:
        raise ConfigurationError(
            "no connection is configured: set OPTRELAY_CONNECTIONS__CAPILLARY__BASE_URL, …__USERNAME and "
            "…__PASSWORD, or write them into optrelay.toml; `optrelay demo` needs none"
        )
    return {
        name: provider_of(connection).row.in_region(connection.region)
        for name, connection in settings.connections.items()
    }


def file_time_note(file: PreparedFile, since: datetime | None) -> list[str]:
    """Return what to say of a file whose rows hold `since` for no other reason than that it is the file's own time."""
    if not file.undated or since is None:
        return []
    moment = f"{since:%Y-%m-%d %H:%M:%S} UTC"
    words = f"no column says since when its rows hold: it is since {moment}, the file's own time"
    return [f"{words}; --effective-at says it otherwise"]


def repeated_note(file: PreparedFile, recorded_since: datetime | None) -> str:
    """Return what to do if people have said anew what a file says whose bytes were recorded before.

    It is "" unless nothing but the file's own time tells since when its rows hold, and that time is a later one now.
    """
    now = file.context.effective_at
    if not file.undated or now is None or recorded_since is None or now <= recorded_since:
        return ""
    now += timedelta(microseconds=-now.microsecond % 1_000_000)  # whole seconds, and not before what is recorded
    return (
        f"; its rows hold since {recorded_since:%Y-%m-%d %H:%M:%S} UTC, the file's own time then. "
        f"If people have said the same again since, give --effective-at {now:%Y-%m-%dT%H:%M:%SZ}"
    )
