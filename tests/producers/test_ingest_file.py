"""An import may be interrupted anywhere, and is gone on with as if nothing had happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent.errors import UnreadableFile, UnstableFile
from consent.imports import Checkpoint
from consent.times import from_micros
from producers.files.inspect import inspect_file
from producers.files.sources import SourceFile
from producers.options import IngestOptions
from tests.support.examples import examples
from tests.support.memory_ledger import MemoryLedger, csv_of, file_of, take_in

GOOD, BAD, RAGGED, UNCLOSED, BLANK = "{n},SMS,OPTOUT,", "{n},PIGEON,OPTOUT,", "{n}", '{n},SMS,OPTOUT,"oops', ""


class _Interrupt:
    """Presses Ctrl-C when the given chunk comes by."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, number: int) -> None:
        if number == self._number:
            raise KeyboardInterrupt


def lines_of(shapes: list[str]) -> list[str]:
    """Return a numbered row of each of these shapes."""
    return [shape.format(n=n) for n, shape in enumerate(shapes)]


def whole(folder: Path, lines: list[str]) -> tuple[list[str], list[tuple[int, str | None, str]], str]:
    """Import a file without interruption; return who was recorded, what was refused, and the rejects file."""
    ledger = MemoryLedger()
    file = csv_of(folder / "whole.csv", lines)
    take_in(file, ledger)
    path = file.rejects_path
    return ledger.users, ledger.codes, path.read_text() if path.exists() else ""


@settings(max_examples=examples(60), deadline=None)
@given(
    shapes=st.lists(st.sampled_from([GOOD, GOOD, BAD, RAGGED, UNCLOSED, BLANK]), max_size=14),
    chunk_rows=st.integers(1, 4),
    interruptions=st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=3),
)
def test_any_interruption_and_resumption_records_what_an_undisturbed_import_does(
    shapes: list[str], chunk_rows: int, interruptions: list[tuple[int, bool]]
) -> None:
    """Whether Ctrl-C comes before or after a chunk is recorded: no row is lost or doubled anywhere."""
    with TemporaryDirectory() as name:
        folder, ledger = Path(name), MemoryLedger()
        file = csv_of(folder / "x.csv", lines_of(shapes))
        options = IngestOptions(chunk_rows=chunk_rows)
        for chunk, before in interruptions:
            ledger.undisturbed()
            setattr(ledger, "before_accept" if before else "after_accept", _Interrupt(ledger._accepts + chunk))
            _try(file, ledger, options)
        ledger.undisturbed()

        take_in(file, ledger, options)

        path = file.rejects_path
        found = ledger.users, ledger.codes, path.read_text() if path.exists() else ""
        assert _timeless(found) == _timeless(whole(folder, lines_of(shapes)))
        assert len(ledger.due) == len(ledger.changes)


def _try(file: SourceFile, ledger: MemoryLedger, options: IngestOptions) -> None:
    try:
        take_in(file, ledger, options)
    except KeyboardInterrupt:
        return


def _timeless(found: tuple[list[str], list[tuple[int, str | None, str]], str]) -> tuple[object, ...]:
    users, codes, rejects = found
    return users, codes, [line.split(",")[:3] for line in rejects.splitlines()]


def test_an_interrupted_import_lets_nothing_become_due(tmp_path: Path) -> None:
    """Half a file opts no one in or out; the checkpoint is the last chunk that was recorded."""
    ledger = MemoryLedger()
    file = csv_of(tmp_path / "x.csv", [f"{n},SMS,OPTOUT," for n in range(10)])
    ledger.before_accept = _Interrupt(3)

    with pytest.raises(KeyboardInterrupt):
        take_in(file, ledger, IngestOptions(chunk_rows=3))

    assert ledger.due == []
    assert ledger.imports["import-1"].progress.checkpoint == Checkpoint(6, 7, 0, 6)


def test_a_streamed_import_lets_each_chunk_become_due_at_once(tmp_path: Path) -> None:
    """With --stream what was recorded before an interruption is under way."""
    ledger = MemoryLedger()
    file = csv_of(tmp_path / "x.csv", [f"{n},SMS,OPTOUT," for n in range(10)])
    ledger.before_accept = _Interrupt(3)

    with pytest.raises(KeyboardInterrupt):
        take_in(file, ledger, IngestOptions(chunk_rows=3, stream=True))
    assert len(ledger.due) == 6

    ledger.undisturbed()
    result = take_in(file, ledger, IngestOptions(chunk_rows=3, stream=True))
    assert (len(ledger.due), result.resumed_at, result.recorded) == (10, 6, 4)
    assert ledger.calls == ["finish_reading", "release"]


def test_the_same_bytes_again_record_nothing_whatever_their_name_and_time(tmp_path: Path) -> None:
    """A nightly file that came twice is known."""
    ledger = MemoryLedger()
    first = take_in(csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,"]), ledger)

    again = take_in(file_of(tmp_path / "y.csv", (tmp_path / "x.csv").read_bytes(), age=99_999), ledger)

    assert (first.already_known, again.already_known) == (False, True)
    assert again.import_id == first.import_id
    assert (len(ledger.changes), ledger.calls) == (1, ["finish_reading", "release"])


def test_an_import_that_was_read_but_not_released_is_only_released(tmp_path: Path) -> None:
    """A crash between the last row and the release costs nothing."""
    ledger = MemoryLedger()
    file = csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,"])
    release = ledger.publish
    ledger.publish = _Interrupt(0).__call__  # type: ignore[method-assign,assignment]
    with pytest.raises(TypeError):
        take_in(file, ledger)
    ledger.publish = release  # type: ignore[method-assign]

    result = take_in(file, ledger)

    assert result.already_known
    assert [change.address["user_id"] for change in ledger.due] == ["1"]


@pytest.mark.parametrize(
    "options",
    [
        IngestOptions(effective_at=datetime(2026, 1, 1, tzinfo=UTC)),
        IngestOptions(timezone=ZoneInfo("Europe/Berlin")),
        IngestOptions(maps={"reason": "change_id"}),
        IngestOptions(encoding="latin-1"),
        IngestOptions(delimiter=","),
    ],
)
def test_the_same_bytes_with_another_meaning_are_another_import(tmp_path: Path, options: IngestOptions) -> None:
    """An option that changes what rows say makes a new import of them."""
    ledger = MemoryLedger()
    file = csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,"])

    assert take_in(file, ledger).import_id != take_in(file, ledger, options).import_id


def test_the_only_connection_means_the_same_whether_it_is_named_or_not(tmp_path: Path) -> None:
    """--connection crm adds nothing where crm is the only one."""
    ledger = MemoryLedger()
    file = csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,"])

    assert take_in(file, ledger).import_id == take_in(file, ledger, IngestOptions(connection="crm")).import_id


def test_a_resumed_import_keeps_the_time_of_its_first_attempt(tmp_path: Path) -> None:
    """A copy with a newer modification time gives its second half no newer change."""
    ledger = MemoryLedger()
    file = csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,", "2,SMS,OPTOUT,"])
    ledger.before_accept = _Interrupt(2)
    with pytest.raises(KeyboardInterrupt):
        take_in(file, ledger, IngestOptions(chunk_rows=1))
    ledger.undisturbed()

    take_in(file_of(file.path, file.path.read_bytes(), age=60), ledger, IngestOptions(chunk_rows=1))

    first, second = ledger.changes
    assert first.effective_at == second.effective_at


def test_a_file_that_grows_while_it_is_read_is_not_trusted(tmp_path: Path) -> None:
    """What was recorded of it never becomes due, and a file that grows for ever is not read for ever."""
    ledger = MemoryLedger()
    file = csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,", "2,SMS,OPTOUT,"])

    def grow(_: int) -> None:
        with file.path.open("a") as stream:
            stream.write("3,SMS,OPTOUT,\n")

    ledger.after_accept = grow
    with pytest.raises(UnstableFile):
        take_in(file, ledger, IngestOptions(chunk_rows=1))

    assert (ledger.users, ledger.due, ledger.calls) == (["1"], [], [])


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_a_file_that_is_replaced_after_the_look_is_not_trusted(tmp_path: Path, name: str) -> None:
    """The bytes that were surveyed are the bytes that are read, or none are."""
    ledger = MemoryLedger()
    found = inspect_file(csv_of(tmp_path / name, ["1,SMS,OPTOUT,"]))
    file_of(tmp_path / name, "something else", age=5)

    with pytest.raises(UnstableFile):
        found.confirm()
    with pytest.raises(UnstableFile), found.open():
        pass
    (tmp_path / name).unlink()
    with pytest.raises(UnstableFile):
        found.confirm()
    with pytest.raises(UnreadableFile):
        take_in(SourceFile(tmp_path / name, name), ledger)


def test_progress_is_told_for_each_chunk(tmp_path: Path) -> None:
    """A bar can be drawn from rows, lines and rejects so far."""

    class _Seen:
        def __init__(self) -> None:
            self.steps: list[tuple[int, ...]] = []

        def reading(self, records: int, line: int, total_lines: int, rejected: int) -> None:
            self.steps.append((records, line, total_lines, rejected))

        def releasing(self, changes: int) -> None:
            self.steps.append((changes,))

    seen = _Seen()
    file = csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,", "2,X,OPTOUT,", "3,SMS,OPTOUT,"])

    take_in(file, MemoryLedger(), IngestOptions(chunk_rows=2), on_progress=seen)

    assert seen.steps == [(2, 3, 4, 1), (3, 4, 4, 1), (2,)]


def test_an_import_tells_the_ledger_what_it_is(tmp_path: Path) -> None:
    """Name, size, lines and default time go on record."""
    ledger = MemoryLedger()
    file = csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,"])

    take_in(file, ledger)

    source = ledger.imports["import-1"].source
    assert (source.kind, source.name, source.size) == ("csv", str(file.path), file.path.stat().st_size)
    assert (source.total_lines, source.stream) == (2, False)
    assert source.default_effective_at is not None
    assert datetime.now(UTC) - from_micros(source.default_effective_at) > timedelta(minutes=59)
