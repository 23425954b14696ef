"""Watch places for files: record each in the ledger until a signal ends it, or say when the last ones came."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from consent.change import Bucket
from consent.errors import ConfigurationError, LedgerUnavailable, SourceUnavailable
from consent.ledger.ledger import Ledger
from consent.settings import Settings
from console.commands.run.input_files import intake_models
from console.exit_codes import ExitCode
from console.ledger_access import reading_ledger, writing_ledger
from console.local.delivery import run_folder
from console.local.notifier import notifier
from console.local.signals import Stop
from console.ui.screen import Screen, table
from console.ui.text import counted
from producers.ingest_file import ImportResult
from producers.options import IngestOptions
from producers.watch.address import EXAMPLE, WatchAddress, read_watch_address
from producers.watch.place import LocalFolder, Place
from producers.watch.preparation import Reading
from producers.watch.remote import RemotePlace, open_sftp, open_store
from producers.watch.watcher import Watcher, watch
from worker.notices import FILE_MISSING

_ONCE_SECONDS = 1.0
_OVERDUE_SECONDS = 60.0


def addresses_of(settings: Settings, given: Sequence[str]) -> list[WatchAddress]:
    """Return the places that are named, or else those of the settings; raise ConfigurationError if there is none."""
    texts = list(given) or [one.get_secret_value() for one in settings.watch]
    if not texts:
        raise ConfigurationError(f"there is no place to watch: name a folder, like {EXAMPLE}, or set OPTRELAY_WATCH")
    return [read_watch_address(text) for text in texts]


def watch_places(settings: Settings, screen: Screen, given: Sequence[str], *, once: bool) -> ExitCode:
    """Record files until a signal comes; the file in hand is finished. Returns the exit code.

    With `once` it looks twice and ends: 1 if a file could not be used or a row was rejected, 5 if a place could not.
    """
    addresses = addresses_of(settings, given)
    stop = Stop()
    with ExitStack() as stack:
        ledger = stack.enter_context(writing_ledger(settings))
        wake = stack.enter_context(notifier(settings, screen.note, "files are"))
        watchers = [stack.enter_context(_watcher(settings, ledger, one)) for one in addresses]
        observers = [_Observer(screen, ledger, wake, watcher.place.shown) for watcher in watchers]
        stack.enter_context(stop.on_signals())
        for watcher, observer in zip(watchers, observers, strict=True):
            watcher.observer, watcher.stop = observer, stop
        stack.enter_context(_looked_after(settings, ledger, watchers, screen))
        if once:
            return _look_twice(screen, watchers, observers)
        for watcher in watchers:
            screen.note(
                f"watching {watcher.place.shown}{_ready_when(watcher.address)}; SIGTERM or Ctrl-C ends it after the "
                "file in hand"
            )
        watch(watchers, stop)
    screen.print_json(_totals(observers))
    return stop.code


def _ready_when(place: WatchAddress) -> str:
    """Say how long a file waits, where it does: else a person who puts one there sees nothing happen."""
    return f", where a file is read once it has not changed for {place.age:g} s" if place.ready == "stable" else ""


def check_places(settings: Settings, screen: Screen, given: Sequence[str]) -> ExitCode:
    """Say when the last file of each place came; return 1 if one is overdue."""
    shown = table("place", "pattern", "last file", "expected by", "overdue")
    found: list[dict[str, object]] = []
    with ExitStack() as stack:
        ledger = stack.enter_context(reading_ledger(settings))
        for address in addresses_of(settings, given):
            watcher = stack.enter_context(_watcher(settings, ledger, address))
            latest, overdue, expect = watcher.latest(), watcher.is_overdue(), address.expect
            by = None if expect is None else f"{expect.at:%H:%M} + {expect.grace:g} s, {expect.zone}"
            last = None if latest is None else f"{latest:%Y-%m-%dT%H:%M:%SZ}"
            shown.add_row(address.shown, address.pattern, last or "none", by or "", "yes" if overdue else "")
            facts: dict[str, object] = {"place": address.shown, "pattern": address.pattern, "last_file_at": last}
            found.append(facts | {"expected": by, "overdue": overdue})
    screen.show(shown)
    screen.print_json(found)
    return ExitCode.IMPERFECT if any(one["overdue"] for one in found) else ExitCode.WELL


def place_of(settings: Settings, address: WatchAddress) -> Place:
    """Return the place of an address, not connected yet."""
    if address.scheme == "file":
        return LocalFolder(Path(address.path))
    rejects = run_folder(settings).absolute() / "rejects" / quote(address.shown, safe="@:")
    return RemotePlace(address, rejects, open_sftp if address.scheme == "sftp" else open_store)


def arrivals(settings: Settings, ledger: Ledger) -> Iterator[tuple[WatchAddress, float | None, bool]]:
    """Say of each place of the settings when its last file came (seconds since 1970), and whether one is overdue.

    The ledger says so: no place is connected. Raises LedgerUnavailable.
    """
    for address in addresses_of(settings, ()) if settings.watch else ():
        with _watcher(settings, ledger, address) as watcher:
            latest = watcher.latest()
            yield address, None if latest is None else latest.timestamp(), watcher.is_overdue()


@contextmanager
def _looked_after(settings: Settings, ledger: Ledger, watchers: Sequence[Watcher], screen: Screen) -> Iterator[None]:
    """Look each minute, in a thread, and at the end whether a file is overdue; notices tell of it."""
    ended = threading.Event()

    def look() -> None:
        for one in watchers:
            place = f"{FILE_MISSING}:{one.address.shown} {one.address.pattern}"
            message = f"the file expected at {one.address.shown} has not come: `optrelay watch --check`"
            try:
                found = {place: (FILE_MISSING, message)} if one.is_overdue() else {}
                ledger.notices.observe((FILE_MISSING,), found, tell=bool(settings.notify), within=place)
            except LedgerUnavailable as error:
                screen.note(str(error))

    def look_again() -> None:
        look()
        while not ended.wait(_OVERDUE_SECONDS):
            look()

    thread = threading.Thread(target=look_again, name="overdue", daemon=True)
    if any(one.address.expect for one in watchers):
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.ident is not None:
            thread.join(_OVERDUE_SECONDS)
            look()


@contextmanager
def _watcher(settings: Settings, ledger: Ledger, address: WatchAddress) -> Iterator[Watcher]:
    defaults = {name: connection.defaults for name, connection in settings.connections.items()}
    options = IngestOptions(
        feed=address.feed,
        connection=address.connection,
        timezone=address.timezone,
        sheet_memory=settings.sheet_memory_mb,
        guards=settings.guards,
        guards_by_connection=settings.guards_by_connection,
    )
    place = place_of(settings, address)
    reading = Reading(intake_models(settings), defaults, options, settings.feeds)
    try:
        yield Watcher(address, place, ledger, reading, _Observer(Screen(), ledger, lambda _: None, place.shown))
    finally:
        place.close()


def _look_twice(screen: Screen, watchers: Sequence[Watcher], observers: Sequence[_Observer]) -> ExitCode:
    """Look, look again a moment later, for a file counts as finished when two looks find it the same, and end."""
    away = False
    for turn in range(2):
        for watcher in watchers:
            try:
                watcher.look()
            except SourceUnavailable as error:
                away = True
                screen.error(str(error))
        time.sleep(0 if turn else min([_ONCE_SECONDS, *(one.address.poll for one in watchers)]))
    screen.print_json(_totals(observers))
    bad = any(one.failures or one.rejected for one in observers)
    return ExitCode.UNABLE if away else ExitCode.IMPERFECT if bad else ExitCode.WELL


@dataclass(slots=True)
class _Observer:
    """Says what becomes of the files of one place, counts them, and wakes the workers."""

    screen: Screen
    ledger: Ledger
    wake: Callable[[Iterable[Bucket]], None]
    place: str
    files: int = 0
    failures: int = 0
    rejected: int = 0
    imports: list[str] = field(default_factory=list)

    def recorded(self, file: str, result: ImportResult) -> None:
        """Say it, and wake the workers of what is due."""
        self.files += 1
        self.rejected += result.rejected
        for note in result.notes:
            self.note(f"{file}: {note}")
        if result.already_known:
            self.note(f"{file}: these bytes were recorded before, as import {result.import_id}")
        else:
            self.imports.append(result.import_id)
            parts = (
                f"{result.recorded:,} accepted",
                f"{result.rejected:,} rejected",
                counted(result.duplicates, "duplicate"),
            )
            self.note(f"{file}: import {result.import_id}, {', '.join(parts)}")
        self.wake(self.ledger.queries.pending_by_bucket())

    def failed(self, file: str, reason: str) -> None:
        """Say it."""
        self.failures += 1
        self.screen.error(f"{self.place}: {file} cannot be used: {_without_its_name(reason, file)}")

    def note(self, message: str) -> None:
        """Say something, and which place it is about."""
        self.screen.note(f"{self.place}: {message}" if not message.startswith(self.place) else message)


def _without_its_name(reason: str, file: str) -> str:
    """Return a reason that does not begin with the path of the file that has been named already."""
    path, colon, rest = reason.partition(": ")
    return rest if colon and path.rpartition("/")[2] == file else reason


def _totals(observers: Sequence[_Observer]) -> dict[str, object]:
    return {
        "files": sum(one.files for one in observers),
        "failed": sum(one.failures for one in observers),
        "rejected": sum(one.rejected for one in observers),
        "imports": [import_id for one in observers for import_id in one.imports],
    }
