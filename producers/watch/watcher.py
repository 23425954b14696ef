"""Watching one place: each of its files is claimed in the ledger, imported, and moved away after the commit."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Protocol

from consent.errors import (
    STAYS,
    ConfigurationError,
    ImportUnderWay,
    LedgerError,
    SourceUnavailable,
    UnreadableNow,
    UnstableFile,
    UnusableInput,
    place_of,
)
from consent.files import path_text
from consent.ledger.intake.watched_files import WatchedFile, WatchedPlace
from consent.ledger.ledger import Ledger
from consent.ledger.queue.leases import is_dead, process_token
from consent.times import from_micros
from producers.files.archive import unpacked
from producers.files.sources import MANIFEST_ENDING, Manifest
from producers.ingest_file import ImportResult, ingest_file
from producers.watch.address import MARKER_ENDING, WatchAddress
from producers.watch.finished import DONE, FAILED, HELD
from producers.watch.place import FileGone, FoundFile, Place
from producers.watch.preparation import Reading, check_manifest

LEASE_SECONDS = 60.0
_RENEW_SECONDS = 10.0
_DAY_MICROS = 86_400_000_000


class Observer(Protocol):
    """What is told of a watcher's work; `file` is its name at the place."""

    def recorded(self, file: str, result: ImportResult) -> None:
        """Take note that its import is committed."""
        ...

    def failed(self, file: str, reason: str) -> None:
        """Take note that it cannot be used."""
        ...

    def note(self, message: str) -> None:
        """Say what a person should know."""
        ...


@dataclass(slots=True)
class Watcher:
    """One place, and who watches it. `stop` says that no further file is to be begun."""

    address: WatchAddress
    place: Place
    ledger: Ledger
    reading: Reading
    observer: Observer
    stop: Callable[[], bool] = lambda: False
    _token: str = field(default_factory=lambda: f"{process_token()} {secrets.token_hex(8)}")
    _noted: set[str] = field(default_factory=set)

    @property
    def files(self) -> WatchedPlace:
        """The place's files as the ledger knows them."""
        return self.ledger.watched_place(self.address.shown)

    def look(self) -> int:
        """Look once, and read every file that is ready, the oldest first; return how many were recorded or failed.

        Raises SourceUnavailable and LedgerError; what is claimed then is taken up again later.
        """
        listed = {one.name: one for one in self.place.list()}
        meant = {name: one for name, one in listed.items() if self.address.means(name)}
        now, done = self.ledger.now(), 0
        known = self.files.look([(name, one.version) for name, one in meant.items()], now)
        self._tell_of_odd_names(listed)
        for file in sorted(meant.values(), key=lambda one: (one.modified or 0.0, one.name)):
            entry = known.get(file.name)
            if self.stop() or entry is None:
                continue
            if entry.state in ("recorded", "failed"):
                self._put_away(file, entry)
            elif self._is_ready(file, entry, listed, now):
                done += self._take(file, entry)
        return done

    def _tell_of_odd_names(self, listed: Iterable[str]) -> None:
        for name in filter(self.address.misses, listed):
            where = f"{self.address.shown}/{path_text(name)}"
            self._note_once(f"{where} is not read, because its name is no text that can be printed: rename it")

    def is_overdue(self) -> bool:
        """Whether no file came when one was expected. Raises LedgerUnavailable."""
        expect, now = self.address.expect, from_micros(self.ledger.now())
        return expect is not None and expect.is_overdue(self.latest(), now)

    def latest(self) -> datetime | None:
        """Return when the newest file came that this address means. Raises LedgerUnavailable."""
        mine = (at for name, at in self.files.arrivals() if fnmatchcase(name, self.address.pattern))
        return next(map(from_micros, mine), None)

    def _is_ready(self, file: FoundFile, entry: WatchedFile, listed: Mapping[str, FoundFile], now: int) -> bool:
        """Whether its writer is done with a file; `now` is when this look began, in microseconds."""
        match self.address.ready:
            case "marker":
                return file.name + MARKER_ENDING in listed
            case "manifest":
                return file.name + MANIFEST_ENDING in listed
            case "stable":
                seen = (now - entry.seen_at) / 1e6
                old = now / 1e6 - file.modified if file.modified is not None else 0.0  # a server's clock may be wrong
                return entry.state == "claimed" or (seen > 0 and max(old, seen) >= self.address.age)

    def _take(self, file: FoundFile, entry: WatchedFile) -> int:
        """Read a file if no other watcher does; return how many were recorded or failed."""
        now = self.ledger.now()
        dead = {holder for number, holder in self.files.holders().items() if number == entry.number and is_dead(holder)}
        if not self.files.claim(entry.number, self._token, now=now, until=self._until(), dead=dead):
            return 0
        try:
            with self._renewed(entry):
                return self._read(file, entry)
        except (FileGone, ImportUnderWay, UnstableFile) as error:
            self.files.release(entry.number, self._token, self.ledger.now())
            if isinstance(error, ImportUnderWay):
                self.observer.note(str(error))
        except (ConfigurationError, UnreadableNow, OSError) as error:  # the file is not what is wrong: it stays
            self._note_once(f"{file.name} waits: {error.strerror if isinstance(error, OSError) else error}")
            self.files.release(entry.number, self._token, self.ledger.now())
        except SourceUnavailable:
            self.files.release(entry.number, self._token, self.ledger.now())
            raise
        return 0

    def _read(self, file: FoundFile, entry: WatchedFile) -> int:
        try:
            with (
                self.place.fetched(file) as source,
                unpacked(source, self.reading.options, self.reading.feeds) as members,
            ):
                prepared = [self.reading.prepare(one) for one in members]
                if self.address.ready == "manifest":
                    check_manifest(
                        Manifest.of_text(self.place.text(file.name + MANIFEST_ENDING), source.name), source, prepared
                    )
                results = [ingest_file(one, self.ledger.intake) for one in prepared]
        except STAYS:
            raise
        except UnusableInput as error:
            return self._fail(file, entry, str(error))
        except (OSError, FileGone, ConfigurationError, ImportUnderWay, LedgerError, SourceUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - one file on which our code fails stops no other
            return self._fail(file, entry, f"optrelay failed on this file, please report it: {place_of(error)}")
        first = next((one.import_id for one in results if self._is_held(one.import_id)), results[0].import_id)
        if not self.files.settle(entry.number, self._token, "recorded", now=self.ledger.now(), import_id=first):
            return 0
        for result in results:
            self.observer.recorded(file.name, result)
            self._move_rejects(file, result)
        self._put_away(file, replace(entry, state="recorded", import_id=first))
        return 1

    def _move_rejects(self, file: FoundFile, result: ImportResult) -> None:
        if result.rejects_file is None or result.already_known:
            return
        where = path_text(result.rejects_file)
        if self.address.after != "leave":
            where = self.place.move_rejects(result.rejects_file, put=self.address.put_rejects)
        self.observer.note(f"{file.name}: {result.rejected:,} rejected; fix them in {where}, and import that")

    def _fail(self, file: FoundFile, entry: WatchedFile, reason: str) -> int:
        if not self.files.settle(entry.number, self._token, "failed", now=self.ledger.now(), reason=reason):
            return 0
        self.observer.failed(file.name, reason)
        self._put_away(file, replace(entry, state="failed", reason=reason))
        return 1

    def _put_away(self, file: FoundFile, entry: WatchedFile) -> None:
        """Move or delete a file that is settled; if that fails it is tried again later, and it is not read again."""
        if self.address.after == "leave":
            return
        try:
            if self.address.after == "delete" and entry.state == "recorded":
                self.place.delete(file.name)
            else:
                reason = (entry.reason or "no reason was kept") if entry.state == "failed" else ""
                self.place.move(file, self._folder(file, entry), reason)
            for ending in (MARKER_ENDING, MANIFEST_ENDING):
                if self.address.ready != "stable":
                    self.place.delete(file.name + ending)
        except FileGone:
            pass
        except (SourceUnavailable, ConfigurationError) as error:
            self._note_once(f"{file.name} cannot be moved away and stays where it is, but is not read again: {error}")
            return
        self.files.finish(entry.number)

    def _folder(self, file: FoundFile, entry: WatchedFile) -> str:
        """Return where a file belongs; one whose import a guard holds is kept apart until someone has looked at it."""
        if entry.state == "failed":
            return FAILED
        if not self._is_held(entry.import_id or ""):
            return DONE
        self.observer.note(f"{file.name} is held as import {entry.import_id}: `optrelay held` says why")
        return HELD

    def _is_held(self, import_id: str) -> bool:
        found = self.ledger.queries.report(import_id)
        return found is not None and found.state == "held"

    def _note_once(self, message: str) -> None:
        if message not in self._noted:
            self._noted.add(message)
            self.observer.note(message)

    def _until(self) -> int:
        return self.ledger.now() + int(LEASE_SECONDS * 1e6)

    @contextmanager
    def _renewed(self, entry: WatchedFile) -> Iterator[None]:
        """Prolong the claim of a file while it is read."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(_RENEW_SECONDS):
                with suppress(LedgerError):
                    self.files.renew(entry.number, self._token, self._until())

        thread = threading.Thread(target=renew, name="watched file", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def watch(watchers: Sequence[Watcher], stop: Callable[[], bool], wait: Callable[[float], object] = time.sleep) -> None:
    """Look at every place again and again until `stop` says so; a place that cannot be used now stops no other."""
    due = dict.fromkeys(range(len(watchers)), 0.0)
    missing: dict[int, datetime] = {}
    lost: set[int] = set()
    while not stop():
        for number, watcher in enumerate(watchers):
            if time.monotonic() < due[number] or stop():
                continue
            due[number] = time.monotonic() + watcher.address.poll
            try:
                watcher.look()
                _tell_missing(number, watcher, missing)
            except (SourceUnavailable, LedgerError) as error:
                if number not in lost:
                    watcher.observer.note(f"{error}; trying again until it can be used, nothing is lost")
                lost.add(number)
                continue
            if number in lost:
                lost.discard(number)
                watcher.observer.note(f"{watcher.address.shown} can be used again")
        wait(0.2)


def _tell_missing(number: int, watcher: Watcher, missing: dict[int, datetime]) -> None:
    """Say once for each deadline that no file came."""
    if watcher.address.expect is None or not watcher.is_overdue():
        return
    deadline = watcher.address.expect.deadline(datetime.now(UTC))
    if missing.get(number) != deadline:
        missing[number] = deadline
        watcher.observer.note(f"file_missing: no file came to {watcher.address.shown} by {deadline:%Y-%m-%d %H:%M %Z}")
