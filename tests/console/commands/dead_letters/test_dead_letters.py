"""Dead letters: looking at them without seeing who they are about, and doing something about them."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tests.support.command_line import MEMORY, Cli, bury_all, settle_all, write

KEYS = ["id", "connection", "target", "slot", "action", "code", "reason", "attempts", "import", "line", "died_at"]


@pytest.fixture
def buried(cli: Cli, consents: str, url: str) -> Cli:
    """A ledger with three dead letters of two customers."""
    cli("import", consents)
    bury_all(url)
    return cli


def test_the_list_counts_by_reason_and_names_no_one(buried: Cli) -> None:
    """Reasons are counted; a customer's number is never whole on the screen."""
    answer = buried("dead-letters", "list")
    assert "Capillary cannot find this customer" in answer.out
    assert "user_id=…17" in answer.out
    assert "1001417" not in answer.out + answer.err


def test_json_has_the_promised_keys(buried: Cli) -> None:
    """Programs find the fixed keys, masked as well."""
    found = buried("dead-letters", "list", "--json").json
    assert [list(one)[: len(KEYS)] for one in found] == [KEYS] * 3
    assert {one["target"] for one in found} == {"user_id=…17", "user_id=…88"}


def test_reveal_shows_who_on_request(buried: Cli) -> None:
    """Only --reveal shows the person that a letter is about."""
    assert "user_id=1001417" in buried("dead-letters", "list", "--reveal").out


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        (("--code", "1012"), 3),
        (("--code", "8015"), 0),
        (("--connection", "Capillary"), 3),
        (("--import", "latest"), 3),
        (("--newer-than", "1h"), 3),
        (("--older-than", "2d"), 0),
    ],
)
def test_filters_say_which(buried: Cli, filters: tuple[str, ...], count: int) -> None:
    """Each filter means what it says."""
    assert len(buried("dead-letters", "list", "--json", *filters).json) == count


def test_show_tells_the_whole_story(buried: Cli) -> None:
    """One letter shows its origin, every call about it, and what replaying would do, but not the person."""
    number = buried("dead-letters", "list", "--json").json[0]["id"]
    answer = buried("dead-letters", "show", str(number))
    for part in ("consents.csv, line", "1012", "HTTP 400", "it would be delivered again"):
        assert part in answer.out
    assert "1001417" not in answer.out


def test_replay_must_be_told_which(buried: Cli) -> None:
    """Replaying everything by mistake is not possible."""
    assert buried("dead-letters", "replay").code == 2


def test_a_replay_that_finds_nothing_says_so(buried: Cli) -> None:
    """It said that 0 would be delivered again and 0 closed, and left open whether the filter was wrong."""
    answer = buried("dead-letters", "replay", "--code", "9999")
    assert (answer.code, "no dead letter like that can be replayed" in answer.out) == (0, True)
    assert "0 would" not in answer.out


def test_replay_without_anybody_to_ask_needs_yes(buried: Cli) -> None:
    """A script that does not say --yes replays nothing."""
    answer = buried("dead-letters", "replay", "--all")
    assert (answer.code, "give --yes" in answer.err) == (2, True)
    assert len(buried("dead-letters", "list", "--json").json) == 3


def test_a_dry_replay_changes_nothing(buried: Cli) -> None:
    """--dry-run says what would happen, and does not do it."""
    found = buried("dead-letters", "replay", "--all", "--dry-run", "--json").json
    assert (found["replayed"], found["dry_run"]) == (3, True)
    assert len(buried("dead-letters", "list", "--json").json) == 3


def test_replay_never_sends_an_overtaken_change(buried: Cli, url: str, tmp_path: Path) -> None:
    """A letter that a newer change has overtaken is closed; the others are delivered again, with who and why."""
    buried("import", write(tmp_path, "newer.csv", "1002888,EMAIL,TRANS,OPTOUT,2026-03-01T00:00:00Z"))
    settle_all(url)
    numbers = {one["target"]: one["id"] for one in buried("dead-letters", "list", "--json").json}
    found = buried("dead-letters", "replay", "--all", "--yes", "--why", "asked", "--who", "kim", "--json").json
    assert (found["replayed"], found["superseded"]) == (2, 1)
    assert settle_all(url) == 1
    assert buried("dead-letters", "list", "--json").json == []
    assert buried("dead-letters", "show", str(numbers["user_id=…17"])).code == 2  # it is no dead letter any more


def test_history_keeps_who_and_why(buried: Cli, url: str) -> None:
    """A letter that died again still tells who replayed it, and why."""
    number = str(buried("dead-letters", "list", "--json").json[0]["id"])
    buried("dead-letters", "replay", number, "--yes", "--why", "asked the shop", "--who", "kim")
    bury_all(url)
    assert "replayed by kim: asked the shop" in buried("dead-letters", "show", number).out


def test_discard_needs_a_reason_and_keeps_the_letter(buried: Cli) -> None:
    """No one puts letters away without saying why, and they stay to be seen."""
    assert buried("dead-letters", "discard", "--all", "--yes").code == 2
    assert buried("dead-letters", "discard", "--all", "--yes", "--why", " ").code == 2
    assert buried("dead-letters", "discard", "--all", "--yes", "--why", "left us", "--json").json["discarded"] == 3
    assert buried("dead-letters", "list", "--json").json == []
    assert len(buried("dead-letters", "list", "--discarded", "--json").json) == 3


def test_what_was_discarded_is_not_looked_for(buried: Cli) -> None:
    """The report goes on counting it as dead, and sends no one to a list on which it does not stand."""
    assert "see `optrelay dead-letters list --import" in buried("status", "latest").out
    [one, *_] = [letter["id"] for letter in buried("dead-letters", "list", "--json").json]
    buried("dead-letters", "discard", str(one), "--yes", "--why", "left us")
    assert "; 1 of them discarded; see `optrelay dead-letters list --import" in buried("status", "latest").out
    buried("dead-letters", "discard", "--all", "--yes", "--why", "left us")

    answer, found = buried("status", "latest"), buried("status", "latest", "--json").json

    assert "; discarded, so nothing is left to do" in answer.out
    assert "dead-letters list" not in answer.out
    assert (found["dead"], found["discarded"]) == (3, 3)


def test_export_is_taken_back_as_it_is(buried: Cli, tmp_path: Path) -> None:
    """The export, unmended, is known to the last row; fixed, its rows are new ones."""
    answer = buried("dead-letters", "export", "--output", "dead.csv")
    assert (answer.code, stat.S_IMODE((tmp_path / "dead.csv").stat().st_mode)) == (0, 0o600)
    os.utime(tmp_path / "dead.csv", (0, 0))  # no one writes it any more
    again = buried("import", "dead.csv", "--json").json
    assert (again["rows"], again["duplicates"], again["rejected"]) == (3, 3, 0)
    fixed = (tmp_path / "dead.csv").read_text().replace("1001417", "1001500")
    (tmp_path / "fixed.csv").write_text(fixed)
    os.utime(tmp_path / "fixed.csv", (0, 0))
    assert buried("import", "fixed.csv", "--json").json["accepted"] == 2


def test_letters_of_rows_with_ids_are_taken_back_as_they_are(cli: Cli, url: str, tmp_path: Path) -> None:
    """A person who imports an export by mistake must not send a second time what a person has not looked at."""
    header = "user_id,channel,priority,action,effective_at,change_id,reason"
    rows = ("7,EMAIL,BULK,OPTOUT,2026-01-02T00:00:00Z,A-1,=cmd", "8,EMAIL,BULK,OPTOUT,,A-2,", "9,EMAIL,BULK,OPTIN,,,")
    cli("import", write(tmp_path, "named.csv", *rows, header=header))
    bury_all(url)
    cli("dead-letters", "export", "--output", "dead.csv")
    os.utime(tmp_path / "dead.csv", (1_760_000_000, 1_760_000_000))

    predicted = cli("import", "dead.csv", "--dry-run", "--json").json
    again = cli("import", "dead.csv", "--json").json

    assert (again["rows"], again["duplicates"], again["pending"]) == (3, 3, 0)
    assert (predicted["duplicates"], predicted["pending"]) == (3, 0)


def test_an_export_of_nothing_asks_for_nothing(cli: Cli, consents: str) -> None:
    """It said to fix a file that held no letter."""
    cli("import", consents)
    answer = cli("dead-letters", "export", "--output", "dead.csv")
    assert (answer.code, answer.err.strip()) == (0, "0 dead letters written to dead.csv, which has its header alone")
    assert "--why is missing: why; kept in the history" in cli("dead-letters", "discard", "1").err


def test_export_overwrites_nothing(buried: Cli, tmp_path: Path) -> None:
    """People's data never land in a file that others may read already."""
    (tmp_path / "dead.csv").write_text("mine")
    assert buried("dead-letters", "export", "--output", "dead.csv").code == 2
    assert (tmp_path / "dead.csv").read_text() == "mine"


def test_export_to_standard_output_is_plain_csv(buried: Cli) -> None:
    """Another program can read the export."""
    rows = list(csv.DictReader(io.StringIO(buried("dead-letters", "export").out)))
    assert [row["_code"] for row in rows] == ["1012"] * 3
    assert list(rows[0])[:3] == ["connection", "action", "effective_at"]


def test_an_unknown_id_is_named(buried: Cli) -> None:
    """An id that is no dead letter is said, and nothing is done."""
    answer = buried("dead-letters", "replay", "999", "--yes")
    assert (answer.code, "no such dead letter: 999" in answer.err) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("list", "--json"), marks=pytest.mark.proof),
        pytest.param(("list",), marks=pytest.mark.proof),
        pytest.param(("export",), marks=pytest.mark.proof),
        pytest.param(("replay", "--all", "--dry-run"), marks=pytest.mark.proof),
        pytest.param(("discard", "--all"), marks=pytest.mark.proof),
    ],
)
@pytest.mark.usefixtures("buried")
def test_many_letters_fill_no_memory(url: str, arguments: tuple[str, ...]) -> None:
    """100,000 letters took 324 MB, so a night that a provider refused could not be looked at in a small container."""
    multiply_letters(url, 40_000)
    more = ("--why", "test data", "--yes") if arguments[0] == "discard" else ()

    done = subprocess.run(
        [sys.executable, "-c", MEMORY, "dead-letters", *arguments, *more], capture_output=True, text=True, check=True
    )

    assert len(done.stdout) > 20
    assert int(done.stderr.rpartition("MORE")[2]) < 35 * 1024  # KiB, half of them for what any command takes
    if arguments == ("list", "--json"):
        assert len(json.loads(done.stdout)) == 40_000
    if arguments == ("export",):
        assert len(done.stdout.splitlines()) == 40_001


def multiply_letters(url: str, count: int) -> None:
    """Make so many dead letters of the ones that are there."""
    columns = "import_id, line, slot, action, value, effective_at, details, origin, recorded_at, state, code, reason"
    engine = create_engine(url)
    with engine.begin() as tx:
        (have,) = tx.execute(text("SELECT count(*) FROM dead_letters")).one()
        tx.execute(
            text(
                f"INSERT INTO changes (dedupe_key, target_id, settled_at, attempts, {columns}) "
                "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :more) "
                f"SELECT randomblob(16), target_id, settled_at + n, attempts, {columns} "
                "FROM n, (SELECT * FROM changes WHERE id = (SELECT min(change_id) FROM dead_letters))"
            ),
            {"more": count - have},
        )
        tx.execute(text("INSERT OR IGNORE INTO dead_letters SELECT id FROM changes WHERE state = 'dead'"))
    engine.dispose()


@pytest.mark.parametrize(("person", "count"), [("user_id=1002888", 1), ("User ID= 1001417", 2), ("user_id=1002889", 0)])
def test_a_person_is_found_in_any_spelling(buried: Cli, person: str, count: int) -> None:
    """Columns name a person as `history` takes them; no one else's letter is meant, also where there is none."""
    assert len(buried("dead-letters", "list", "--person", person, "--json").json) == count
    answer = buried("dead-letters", "discard", "--person", person, "--why", "asked for", "--yes", "--json")
    assert (answer.code, answer.json["discarded"]) == (0, count)
    assert len(buried("dead-letters", "list", "--json").json) == 3 - count


@pytest.mark.parametrize("names", [("channel=EMAIL",), ("shoe_size=7",), ("1002888",), ("user_id=",)])
def test_what_names_no_person_means_no_letter(buried: Cli, names: tuple[str, ...]) -> None:
    """It is refused, and nothing is done."""
    given = [part for name in names for part in ("--person", name)]
    assert buried("dead-letters", "discard", *given, "--why", "asked for", "--yes").code == 2
    assert len(buried("dead-letters", "list", "--json").json) == 3
