"""Since when the rows of a file hold, what is said of it, and which times are refused."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.command_line import Cli, settle_all, write

UNDATED = "user_id,channel,priority,action"


def test_since_when_rows_without_a_time_hold_is_said(cli: Cli, consents: str, tmp_path: Path) -> None:
    """No one should have to guess that it is the file's own time, which copying a file may change."""
    file = write(tmp_path, "bare.csv", "1,EMAIL,BULK,OPTOUT", header=UNDATED)
    message = "no column says since when its rows hold: it is since 2025-10-09 08:53:20 UTC, the file's own time"
    assert message in cli("import", file, "--dry-run").err
    assert message in cli("import", file).err
    assert "no column says" not in cli("import", file, "--effective-at", "2026-01-01").err
    assert "no column says" not in cli("import", consents).err


def test_the_same_rows_at_a_later_time_can_be_sent(cli: Cli, tmp_path: Path) -> None:
    """Out, in, and out again with the very bytes of the first file: that nothing was recorded comes with a remedy."""
    out = write(tmp_path, "out.csv", "1,EMAIL,BULK,OPTOUT", header=UNDATED)
    cli("import", out)
    os.utime(out, (1_760_000_000, 1_760_086_400))
    remedy = "--effective-at 2025-10-10T08:53:20Z"

    predicted, again = cli("import", out, "--dry-run"), cli("import", out)
    answer = cli("import", out, *remedy.split(), "--json")

    assert remedy in predicted.err
    assert "its rows hold since 2025-10-09 08:53:20 UTC" in again.err
    assert again.err.count(remedy) == 1
    assert (answer.json["accepted"], answer.json["duplicates"]) == (1, 0)
    assert remedy not in cli("import", out, *remedy.split()).err


def test_a_time_column_that_is_misspelt_is_not_ignored(cli: Cli, tmp_path: Path) -> None:
    """Ignored, it would let every row hold since the file was written, and old changes overrule newer ones."""
    header = "user_id,channel,priority,action,efective_at"
    file = write(tmp_path, "typo.csv", "1,EMAIL,BULK,OPTOUT,2026-01-01T00:00:00Z", header=header)
    answer = cli("import", file)
    assert answer.code == 2
    assert "did you mean effective_at?" in answer.err
    assert cli("import", file, "--effective-at", "2026-01-01").code == 0


@pytest.mark.parametrize(
    "column", ["effective_to", "effective_date", "effective_until", "not_effective_at", "created_at"]
)
def test_another_time_is_not_taken_for_a_misspelt_one(cli: Cli, tmp_path: Path, column: str) -> None:
    """What may be another thing altogether is ignored, and told, as any column that is not known."""
    header = f"user_id,channel,priority,action,{column}"
    file = write(tmp_path, "more.csv", "1,EMAIL,BULK,OPTOUT,2026-01-01T00:00:00Z", header=header)
    answer = cli("import", file)
    assert (answer.code, f"column '{column}' is not known and is ignored" in answer.err) == (0, True)


def test_fixed_rows_are_not_read_with_a_misspelt_time(cli: Cli, tmp_path: Path) -> None:
    """A rejects file holds its file's moment beside the original columns: a row's own one may not get lost again."""
    header = "user_id,channel,priority,action,efective_at"
    file = write(tmp_path, "typo.csv", "1,FAX,BULK,OPTOUT,2026-01-01T00:00:00Z", header=header)
    assert cli("import", file, "--map", "efective_at=effective_at").code == 1
    rejects = Path(f"{file}.rejects.csv")
    fixed = rejects.read_text().replace("FAX", "EMAIL")
    rejects.write_text(re.sub(r'"_mapping [^\n]*}"', "_note", fixed))  # as an earlier version wrote it
    answer = cli("import", str(rejects))
    assert (answer.code, "did you mean effective_at?" in answer.err) == (2, True)
    rejects.write_text(fixed)
    assert cli("import", str(rejects)).code == 0
    assert cli("history", "user_id=1", "--json").json[0]["slots"][0]["since"].startswith("2026-01-01T00:00:00")


@pytest.mark.parametrize("seconds", [0, 1_432_735_084_800, 4_000_000_000])
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_file_of_a_wrong_clock_is_refused_with_the_remedy(
    cli: Cli, tmp_path: Path, seconds: int, more: tuple[str, ...]
) -> None:
    """Exit code 0 would tell that opt-outs were recorded which any older opt-in beats; 70 would tell nothing."""
    name = write(tmp_path, "undated.csv", "7,EMAIL,BULK,OPTOUT", header="user_id,channel,priority,action")
    os.utime(tmp_path / name, (seconds, seconds))

    answer = cli("import", name, *more)
    assert (answer.code, "give --effective-at" in answer.err) == (2, True)
    assert cli("import", name, "--effective-at", "2026-11-20", *more).code == 0


@pytest.mark.parametrize("given", ["1795112000830", "20261120112233Z", "1970-01-01", "2026-11-20+05:30"])
def test_a_told_time_that_is_no_time_is_refused(cli: Cli, consents: str, given: str) -> None:
    """It would date every row of the file."""
    answer = cli("import", consents, "--effective-at", given)
    assert (answer.code, "--effective-at: " in answer.err) == (2, True)


def test_an_export_that_stamps_its_time_says_what_it_did_not_send(cli: Cli, url: str, tmp_path: Path) -> None:
    """A nightly dump calls no one; its note says how to send its opt-outs, and the same file then sends them."""
    rows = [f"{number},EMAIL,BULK,OPTOUT,2026-01-02T00:00:00Z" for number in range(1_001, 2_101)]
    cli("import", write(tmp_path, "monday.csv", *rows))
    settle_all(url)
    now = f"{datetime.now(UTC) + timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"
    later = [row.replace("2026-01-02T00:00:00Z", now) for row in rows]
    tuesday = write(tmp_path, "tuesday.csv", *later)
    message = "1,100 opt-outs unchanged only because"

    predicted = cli("import", tuesday, "--dry-run")
    done = cli("import", tuesday)
    again = cli("import", tuesday, "--reassert", "always", "--json")

    assert message in predicted.out
    assert message in done.out
    assert "`--reassert always` sends them" in done.out
    assert (again.json["pending"], again.json["stamped"]) == (1_100, 0)
