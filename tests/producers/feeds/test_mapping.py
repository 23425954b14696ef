"""A feed turns another system's rows into ours: columns, constants, values and times, and nothing is guessed."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consent.errors import ConfigurationError, UnusableHeader
from consent.feed import Feed
from consent.times import from_micros, to_micros
from producers.files.prepare import prepare
from producers.files.sources import SourceFile, source_files
from producers.options import IngestOptions
from tests.support.memory_ledger import ROWS, MemoryLedger, file_of, take_in

CRM = Feed.model_validate(
    {
        "columns": {"Contact": "user_id", "Opted out": "action", "When": "effective_at"},
        "set": {"channel": "EMAIL"},
        "values": {"Opted out": {"ja": "OPTOUT", "nein": "skip"}},
        "time_format": "%d.%m.%Y",
        "timezone": "Europe/Berlin",
    }
)
HEADER = "Contact;Opted out;When;user_id\n"


def taken(path: Path, text: str, feed: Feed = CRM, options: IngestOptions | None = None) -> MemoryLedger:
    """Import a file as a feed."""
    ledger = MemoryLedger()
    take_in(file_of(path, text), ledger, replace(options or IngestOptions(), feed="crm"), feeds={"crm": feed})
    return ledger


def test_a_row_is_read_as_the_feed_says(tmp_path: Path) -> None:
    """The feed's columns alone count: `user_id` of another system is another number."""
    ledger = taken(tmp_path / "x.csv", HEADER + "7; JA ;20.11.2026;999\n8;nein;20.11.2026;998\n")

    [change] = ledger.changes
    assert (change.address, change.slot, change.action.value) == ({"user_id": "7"}, "EMAIL", "OPTOUT")
    assert change.effective_at == to_micros(datetime(2026, 11, 19, 23, tzinfo=UTC))
    assert change.own_time
    assert ledger.imports["import-1"].progress.checkpoint.skipped == 1


def test_a_value_that_is_not_named_is_rejected(tmp_path: Path) -> None:
    """`vielleicht` is no yes and no no; the message names the column as the file calls it, and no cell."""
    ledger = taken(tmp_path / "x.csv", HEADER + "7;vielleicht;20.11.2026;\n8;ja;2026-11-20;\n9;;20.11.2026;\n")

    assert ledger.codes == [
        (2, "Opted out", "unknown_value"),
        (3, "When", "unreadable_time"),
        (4, "Opted out", "missing_field"),
    ]
    assert not any("vielleicht" in reject.message for reject in ledger.rejects)


@pytest.mark.parametrize(
    "values",
    [
        {"Opted out": {"ja": "OPTOUT"}, "opted_out": {"ja": "skip"}},
        {"Opted out": {"ja": "OPTOUT"}, "action": {"ja": "skip"}},
        {"Opted out": {"ja": "OPTOUT", "JA ": "skip"}},
    ],
)
def test_a_value_has_one_meaning(tmp_path: Path, values: dict[str, dict[str, str]]) -> None:
    """A column is known by several names and a cell by several spellings: two meanings are refused, none is chosen."""
    with pytest.raises(ConfigurationError, match="once"):
        taken(tmp_path / "x.csv", HEADER + "7;ja;20.11.2026;\n", CRM.model_copy(update={"values": values}))


def test_totals_at_the_end_and_titles_at_the_top_are_no_rows(tmp_path: Path) -> None:
    """They are counted as skipped, even if they do not fit the header; blank lines at the end are nothing."""
    feed = CRM.model_copy(update={"skip_top": 2, "skip_end": 1})
    ledger = taken(tmp_path / "x.csv", f"Report\n\n{HEADER}7;ja;20.11.2026;\nTotal: 1\n\n\n", feed)

    assert ledger.users == ["7"]
    assert ledger.rejects == []
    assert ledger.imports["import-1"].progress.checkpoint.skipped == 1


def test_the_whole_column_settles_the_order_of_day_and_month(tmp_path: Path) -> None:
    """One 20th tells for the 5th; if no row tells, nothing is recorded."""
    feed = CRM.model_copy(update={"time_format": "auto"})
    ledger = taken(tmp_path / "x.csv", HEADER + "7;ja;05.11.2026;\n8;ja;20.11.2026;\n", feed)

    assert [from_micros(change.effective_at).day for change in ledger.changes] == [4, 19]  # midnight in Berlin
    with pytest.raises(UnusableHeader, match="--time-format"):
        taken(tmp_path / "y.csv", HEADER + "7;ja;05.11.2026;\n8;ja;06.11.2026;\n", feed)


def test_a_filter_column_is_none_of_ours(tmp_path: Path) -> None:
    """It says which rows count, and cannot mean anything else."""
    feed = CRM.model_copy(update={"values": CRM.values | {"user_id": {"web": "keep", "*": "skip"}}})
    ledger = taken(tmp_path / "x.csv", HEADER + "7;ja;20.11.2026;web\n8;ja;20.11.2026;shop\n", feed)

    assert ledger.users == ["7"]
    odd = CRM.model_copy(update={"values": {"user_id": {"web": "OPTIN"}}})
    with pytest.raises(ConfigurationError, match="keep"):
        taken(tmp_path / "y.csv", HEADER, odd)


OPTINS = CRM.model_copy(update={"values": {"Opted out": {"nein": "OPTIN", "ja": "OPTOUT"}}})


def test_an_optin_needs_a_time_of_its_own(tmp_path: Path) -> None:
    """The file's time would make an old opt-in newer than an opt-out; for the opt-out it does no harm."""
    ledger = taken(tmp_path / "x.csv", HEADER + "7;nein;;\n8;ja;;\n9;nein;20.11.2026;\n", OPTINS)

    assert ledger.codes == [(2, "When", "missing_field")]
    assert ledger.users == ["8", "9"]
    timeless = OPTINS.model_copy(update={"columns": {"Contact": "user_id", "Opted out": "action"}})
    with pytest.raises(UnusableHeader, match="--effective-at"):
        taken(tmp_path / "y.csv", HEADER + "7;nein;;\n", timeless)
    given = IngestOptions(effective_at=datetime(2026, 11, 1, tzinfo=UTC))
    assert taken(tmp_path / "z.csv", HEADER + "7;nein;;\n", timeless, given).users == ["7"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"constants": {"action": "OPTOUT", "channel": "EMAIL"}}, "sets action"),
        ({"constants": {"effective_at": "2026-11-20"}}, "cannot be set"),
        ({"constants": {"chanel": "EMAIL"}}, "did you mean channel"),
        ({"values": {"Opt-out": {"ja": "OPTOUT"}}}, "Opt-out"),
        ({"columns": {"Kontakt": "user_id"}}, "lacks"),
        ({"connection": "nowhere"}, "no connection"),
    ],
)
def test_a_feed_that_contradicts_the_file_is_refused(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    """Nothing is recorded, and the message says what to change."""
    with pytest.raises((ConfigurationError, UnusableHeader), match=message):
        taken(tmp_path / "x.csv", HEADER + "7;ja;20.11.2026;\n", CRM.model_copy(update=changed))


def test_a_rejects_file_carries_its_mapping(tmp_path: Path) -> None:
    """It is fixed in the file's own words and imported without any option; what is rejected again goes the same way."""
    ledger = MemoryLedger()
    path = tmp_path / "x.csv"
    bad = HEADER + "7;vielleicht;20.11.2026;\n8;ja;2026-11-20;\n"
    first = take_in(file_of(path, bad), ledger, IngestOptions(feed="crm"), feeds={"crm": CRM})
    assert first.rejects_file is not None
    fixed = first.rejects_file.read_text().replace("vielleicht", "ja")
    file_of(first.rejects_file, fixed)
    with source_files([str(first.rejects_file)]) as [source]:
        again = take_in(source, ledger)

    assert (again.recorded, again.rejected) == (1, 1)
    assert again.rejects_file is not None
    [left] = csv.DictReader(again.rejects_file.read_text().splitlines(), delimiter=";")
    assert (left["_column"], left["Contact"], left["When"]) == ("When", "8", "2026-11-20")
    assert sum(name.startswith("_mapping ") for name in left) == 1
    assert again.rejects_file.name == "x.csv.again.rejects.csv"
    take_in(file_of(again.rejects_file, again.rejects_file.read_text().replace("2026-11-20;", "20.11.2026;")), ledger)
    assert ledger.users == ["7", "8"]


def test_a_damaged_mapping_is_refused(tmp_path: Path) -> None:
    """A column name that a person has changed by mistake must not change what rows mean."""
    text = '_line,"_mapping {""columns"": {",user_id,channel,action\n2,,7,SMS,OPTOUT\n'
    with pytest.raises(UnusableHeader, match="_mapping"):
        take_in(file_of(tmp_path / "x.csv.rejects.csv", text), MemoryLedger())


@pytest.mark.parametrize(
    "forged", ['{""guards"": {}}', '{""skip_end"": 999}', '{""delimiter"": "";""}', '{""file"": ""*""}', '{""set"": 1}']
)
def test_a_forged_mapping_is_refused(tmp_path: Path, forged: str) -> None:
    """No file may switch guards off, nor hide rows of its own."""
    text = f'_line,"_mapping {forged}",user_id,channel,action\n2,,7,SMS,OPTOUT\n'
    with pytest.raises(UnusableHeader, match="_mapping"):
        take_in(file_of(tmp_path / "x.csv.rejects.csv", text), MemoryLedger())


def test_a_rejected_optin_without_a_time_is_not_dated_by_its_rejects_file(tmp_path: Path) -> None:
    """Imported as it is, it is rejected again; --effective-at dates it, and opt-outs keep the file's time."""
    feed = CRM.model_copy(update={"values": {"Opted out": {"ja": "OPTIN", "nein": "OPTOUT"}}})
    ledger = MemoryLedger()
    rows = HEADER + "7;ja;;\n8;vielleicht;;\n9;nein;31.31.2026;\n"
    first = take_in(file_of(tmp_path / "x.csv", rows), ledger, IngestOptions(feed="crm"), feeds={"crm": feed})
    assert first.rejects_file is not None
    fixed = first.rejects_file.read_text().replace("vielleicht", "ja").replace("31.31.2026", "")

    with source_files([str(file_of(first.rejects_file, fixed).path)]) as [rejects]:
        take_in(rejects, ledger)
    assert ledger.users == ["9"]
    assert ledger.changes[0].effective_at == first.since

    since = datetime(2026, 11, 1, tzinfo=UTC)
    with source_files([str(first.rejects_file)]) as [rejects]:
        take_in(rejects, ledger, IngestOptions(effective_at=since))
    assert {change.address["user_id"]: from_micros(change.effective_at) for change in ledger.changes}["7"] == since


def source(tmp_path: Path, name: str = "x.csv") -> SourceFile:
    """A file that has the columns of the feed."""
    return file_of(tmp_path / name, HEADER + "7;ja;20.11.2026;\n")


def test_a_changed_mapping_is_another_import_and_takes_nothing_back(tmp_path: Path) -> None:
    """The same bytes that mean something else are read again; what says the same is a duplicate."""
    ledger, path = MemoryLedger(), tmp_path / "x.csv"
    text = HEADER + "7;ja;20.11.2026;\n8;nein;20.11.2026;\n"
    first = take_in(file_of(path, text), ledger, IngestOptions(feed="crm"), feeds={"crm": CRM})
    renamed = take_in(file_of(path, text), ledger, IngestOptions(feed="x"), feeds={"x": CRM})
    second = take_in(file_of(path, text), ledger, IngestOptions(feed="crm"), feeds={"crm": OPTINS})

    assert (first.recorded, first.skipped) == (1, 1)
    assert renamed.already_known
    assert (second.already_known, second.recorded, second.duplicates) == (False, 1, 1)


def test_a_feed_is_chosen_by_name_and_header(tmp_path: Path) -> None:
    """By both where both are given; two that fit are refused with their names; a stranger's file fits none."""
    by_name = CRM.model_copy(update={"file": ("x*.csv",)})
    by_header = CRM.model_copy(update={"header": ("opted OUT", "When")})
    both = CRM.model_copy(update={"file": ("y*.csv",), "header": ("Opted out",)})

    def chosen(name: str, **feeds: Feed) -> str:
        return prepare(source(tmp_path, name), IngestOptions(), ROWS, {}, feeds).options.feed

    assert chosen("x1.csv", a=by_name, b=both) == "a"
    assert chosen("Y1.csv", a=by_name, b=both) == "b"
    assert chosen("z.csv", c=by_header, d=CRM) == "c"
    with pytest.raises(UnusableHeader, match="fits the feeds a and c"):
        chosen("x1.csv", a=by_name, c=by_header)
    with pytest.raises(ConfigurationError, match="known: a"):
        prepare(source(tmp_path), IngestOptions(feed="b"), ROWS, {}, {"a": by_name})


def test_a_file_of_another_name_is_told_the_feed_for_its_header(tmp_path: Path) -> None:
    """Tomorrow's file has another name than the one that was mapped: the remedy is the feed, not to map it again."""
    named = CRM.model_copy(update={"file": ("monday.csv",), "header": ("Opted out", "When")})

    with pytest.raises(
        UnusableHeader, match=r"feed crm is made for a header like this .*'monday.csv': give --feed crm"
    ):
        prepare(source(tmp_path, "tuesday.csv"), IngestOptions(), ROWS, {}, {"crm": named})


def test_an_empty_cell_that_is_known_is_named(tmp_path: Path) -> None:
    """A list that begins with nothing looks like a fault of ours."""
    feed = CRM.model_copy(update={"values": {"Opted out": {"": "skip", "ja": "OPTOUT"}}})
    ledger = taken(tmp_path / "x.csv", HEADER + "7;perhaps;20.11.2026;\n", feed)

    (reject,) = ledger.rejects
    assert "(it knows: ja, an empty cell)" in reject.message


@pytest.mark.parametrize("header", ["Contact;Opted out;When;Status;Status", "Contact;Opted out;When;status;STATUS"])
def test_a_column_whose_values_count_is_one(tmp_path: Path, header: str) -> None:
    """Two systems' columns are both called Status; the first says who is left out, and the other one was meant."""
    feed = CRM.model_copy(update={"values": {**CRM.values, "Status": {"active": "keep", "gone": "skip"}}})
    with pytest.raises(UnusableHeader, match="the values of 'Status', which is the name of several columns"):
        taken(tmp_path / "x.csv", f"{header}\n7;ja;20.11.2026;gone;active\n", feed)
