"""Since when a word holds: what the row says, and never "now"."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from consent.errors import ConfigurationError, UnreadableFile
from consent.times import from_micros
from producers.files.sources import SourceFile
from producers.options import IngestOptions, parse_zone
from tests.support.memory_ledger import MemoryLedger, csv_of, take_in

GIVEN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def since(file: SourceFile, options: IngestOptions | None = None) -> list[datetime]:
    """Import a file; return since when its changes hold."""
    ledger = MemoryLedger()
    take_in(file, ledger, options)
    return [from_micros(change.effective_at) for change in ledger.changes]


def test_a_row_without_a_time_holds_since_the_file_was_written(tmp_path: Path) -> None:
    """An old file that is imported late says nothing new."""
    file = csv_of(tmp_path / "x.csv", ["7,SMS,OPTOUT,"])
    written = datetime.fromtimestamp(file.path.stat().st_mtime, UTC)

    (moment,) = since(file)

    assert abs(moment - written) < timedelta(milliseconds=1)


def test_the_cell_comes_before_the_rejects_fallback_and_the_argument(tmp_path: Path) -> None:
    """The nearer word wins: the row's own, the one that its rejects file kept, the one given for the whole file."""
    header = "user_id,channel,action,effective_at,_effective_at"
    lines = ["1,SMS,OPTOUT,2026-01-01T10:00:00Z,2026-02-02", "2,SMS,OPTOUT,,2026-02-02", "3,SMS,OPTOUT,,"]

    assert since(csv_of(tmp_path / "x.csv", lines, header), IngestOptions(effective_at=GIVEN)) == [
        datetime(2026, 1, 1, 10, tzinfo=UTC),
        datetime(2026, 2, 2, tzinfo=UTC),
        GIVEN,
    ]


def test_a_time_without_a_zone_is_read_in_the_zone_of_the_file(tmp_path: Path) -> None:
    """Summer time included."""
    file = csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,2026-07-01T10:00"], "user_id,channel,action,effective_at")

    assert since(file, IngestOptions(timezone=ZoneInfo("Europe/Berlin"))) == [datetime(2026, 7, 1, 8, tzinfo=UTC)]
    with pytest.raises(ConfigurationError, match="is no time zone"):
        parse_zone("Atlantis/Centre")


def test_an_unreadable_fallback_refuses_its_row(tmp_path: Path) -> None:
    """What a person wrote into _effective_at is checked like any other time."""
    ledger = MemoryLedger()
    header = "user_id,channel,action,_effective_at"

    take_in(csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,soon"], header), ledger)

    assert ledger.codes == [(2, "_effective_at", "unreadable_time")]


def test_a_clock_that_is_a_little_fast_is_forgiven(tmp_path: Path) -> None:
    """Up to five minutes."""
    soon = (datetime.now(UTC) + timedelta(seconds=200)).isoformat()
    late = (datetime.now(UTC) + timedelta(seconds=900)).isoformat()
    ledger = MemoryLedger()
    lines = [f"1,SMS,OPTOUT,{soon}", f"2,SMS,OPTOUT,{late}"]

    take_in(csv_of(tmp_path / "x.csv", lines, "user_id,channel,action,effective_at"), ledger)

    assert ledger.users == ["1"]
    assert ledger.codes == [(3, "effective_at", "from_the_future")]


def test_an_argument_from_the_future_is_refused_at_once(tmp_path: Path) -> None:
    """A whole file that would win for ever is a slip of the hand."""
    options = IngestOptions(effective_at=datetime.now(UTC) + timedelta(days=1))

    with pytest.raises(ConfigurationError, match="future"):
        since(csv_of(tmp_path / "x.csv", []), options)


def test_standard_input_needs_a_time_from_somewhere(tmp_path: Path) -> None:
    """What has no modification time gets none made up."""
    file = csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,"])
    spool = SourceFile(file.path, str(tmp_path / "stdin"), spooled=True)

    with pytest.raises(UnreadableFile, match="--effective-at"):
        since(spool)

    assert since(spool, IngestOptions(effective_at=GIVEN)) == [GIVEN]


def test_standard_input_with_a_time_column_refuses_only_the_rows_that_leave_it_empty(tmp_path: Path) -> None:
    """A row without a time and without any default is one bad row."""
    ledger = MemoryLedger()
    lines = ["1,SMS,OPTOUT,2026-01-01", "2,SMS,OPTOUT,"]
    file = csv_of(tmp_path / "x.csv", lines, "user_id,channel,action,effective_at")

    take_in(SourceFile(file.path, str(tmp_path / "stdin"), spooled=True), ledger)

    assert ledger.users == ["1"]
    assert ledger.codes == [(3, "effective_at", "missing_field")]


DATED = "user_id,channel,action,effective_at"
UNUSABLE = [-1, 0, 86_400, 946_684_800, 1_432_735_084_800]
"""Before 1970, 1970, the next day, 2000-01-01, and milliseconds that were taken for seconds: the year 47371."""


def written_at(file: SourceFile, seconds: float) -> SourceFile:
    """Set the file's own time."""
    os.utime(file.path, (seconds, seconds))
    return file


@pytest.mark.parametrize("seconds", [*UNUSABLE, pytest.param(time.time() + 7_200, id="ahead")])
def test_a_file_whose_clock_was_wrong_does_not_date_its_rows(tmp_path: Path, seconds: float) -> None:
    """Every opt-out of a file written in 1970 would be older than any opt-in and be dropped, with exit code 0."""
    file = written_at(csv_of(tmp_path / "x.csv", ["7,SMS,OPTOUT,"]), seconds)

    with pytest.raises(UnreadableFile, match="--effective-at"):
        since(file)

    assert since(file, IngestOptions(effective_at=GIVEN)) == [GIVEN]


@pytest.mark.parametrize("seconds", [*UNUSABLE, pytest.param(time.time() + 7_200, id="ahead")])
def test_rows_that_say_their_time_need_no_clock(tmp_path: Path, seconds: float) -> None:
    """An opt-out with a time of its own must not wait because the file's clock was wrong."""
    ledger = MemoryLedger()
    file = csv_of(tmp_path / "x.csv", ["1,SMS,OPTOUT,2026-01-01", "2,SMS,OPTOUT,"], DATED)

    take_in(written_at(file, seconds), ledger)

    assert ledger.users == ["1"]
    assert ledger.codes == [(3, "effective_at", "missing_field")]


def test_rejects_of_a_clock_that_ran_ahead_can_be_imported_with_a_time(tmp_path: Path) -> None:
    """People whose rows a wrong clock rejected stay subscribed, because no option overrules `_effective_at`."""
    ahead, header = (datetime.now(UTC) + timedelta(hours=2)).isoformat(), "user_id,channel,action,_effective_at"
    lines = [f"1,SMS,OPTOUT,{ahead}", "2,SMS,OPTOUT,1970-01-01T00:00:00+00:00", "3,SMS,OPTOUT,2026-02-02"]
    file, ledger = csv_of(tmp_path / "x.csv", lines, header), MemoryLedger()

    take_in(file, ledger)
    assert ledger.codes == [(2, "_effective_at", "from_the_future"), (3, "_effective_at", "time_too_old")]
    assert all("--effective-at" in reject.message for reject in ledger.rejects)

    assert since(file, IngestOptions(effective_at=GIVEN)) == [GIVEN, GIVEN, datetime(2026, 2, 2, tzinfo=UTC)]


def test_an_hour_that_came_twice_refuses_its_rows_and_no_others(tmp_path: Path) -> None:
    """A person who opted out 40 minutes after the opt-in stays opted in, if 02:10 is taken for the earlier one."""
    ledger = MemoryLedger()
    moments = ["2026-10-25T01:50:00", "2026-10-25T02:10:00", "2026-10-25T03:10:00", "2026-03-29T02:30:00"]
    file = csv_of(tmp_path / "x.csv", [f"{row},SMS,OPTOUT,{at}" for row, at in enumerate(moments)], DATED)

    take_in(file, ledger, IngestOptions(timezone=ZoneInfo("Europe/Berlin")))

    assert ledger.users == ["0", "2"]
    assert ledger.codes == [(3, "effective_at", "ambiguous_time"), (5, "effective_at", "no_such_time")]


def test_a_told_time_is_read_as_strictly(tmp_path: Path) -> None:
    """It would hold for every row of the file."""
    given = datetime(2026, 10, 25, 2, 10, tzinfo=UTC).replace(tzinfo=None)

    with pytest.raises(ConfigurationError, match="--effective-at: the clocks were put back"):
        since(csv_of(tmp_path / "x.csv", []), IngestOptions(effective_at=given, timezone=ZoneInfo("Europe/Berlin")))
