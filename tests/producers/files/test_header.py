"""A header is understood generously, and refused helpfully."""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable
from pathlib import Path

import pytest

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError, UnusableHeader
from consent.row import ConsentRow
from producers.options import IngestOptions, parse_maps
from producers.parsing.columns import KNOWN, plain, vocabulary
from tests.support.memory_ledger import MemoryLedger, PersonRow, csv_of, take_in


class _AppRow(ConsentRow):
    app_id: str
    shoe_size: int = 0


def refused(tmp_path: Path, header: str, options: IngestOptions | None = None) -> str:
    """Import a file with this header, which must be refused before anything is recorded; return the message."""
    ledger = MemoryLedger()
    with pytest.raises(UnusableHeader) as caught:
        take_in(csv_of(tmp_path / "x.csv", ["7,SMS,OPTOUT"], header), ledger, options)
    assert not ledger.imports
    return str(caught.value)


def test_a_first_line_that_is_too_long_is_named_as_such(tmp_path: Path) -> None:
    """It may be a JSON object of many megabytes: a message about quotes would not help."""
    assert "JSON may have 8 MiB" in refused(tmp_path, '{"user_id": "7", "note": "' + "a" * 9_000_000 + '"}')


@pytest.mark.parametrize(
    "header",
    ["userId,Channel,ACTION", "User ID, channel ,Action", "user-id,CHANNEL,action", '"USER_ID","channel","action"'],
)
def test_names_are_known_in_any_spelling(tmp_path: Path, header: str) -> None:
    """Case, spaces, underscores and hyphens do not matter, and the providers' camelCase is understood."""
    ledger = MemoryLedger()

    take_in(csv_of(tmp_path / "x.csv", ["7,SMS,OPTOUT"], header), ledger)

    assert ledger.users == ["7"]


def test_a_name_of_megabytes_is_looked_up_quickly() -> None:
    """The header of a damaged file, or of what an archive hides, may have no end: it took seconds to refuse it."""
    name, known = "0" * 2_000_000, vocabulary([PersonRow])

    def seconds(do: Callable[[str], object]) -> float:
        return min(timeit.repeat(lambda: do(name), timer=time.process_time, number=1, repeat=5))

    assert seconds(known.find) < 10 * seconds(str.split)


def test_no_two_columns_of_ours_look_alike() -> None:
    """A spelling leads to one column only."""
    assert len({plain(name) for name in KNOWN}) == len(KNOWN)


def test_a_map_leads_their_name_to_ours(tmp_path: Path) -> None:
    """A file that no one can change is read all the same."""
    ledger = MemoryLedger()
    options = IngestOptions(maps=parse_maps(["Kunden-Nr=user_id", "Art=userId"][:1]))

    take_in(csv_of(tmp_path / "x.csv", ["7,SMS,OPTOUT"], "kunden nr,channel,action"), ledger, options)

    assert ledger.users == ["7"]


def test_a_map_must_be_written_and_meant_well(tmp_path: Path) -> None:
    """Each kind of slip is told apart: its form, a column that is not ours, a column that is not theirs."""
    with pytest.raises(ConfigurationError, match="their=ours"):
        parse_maps(["phone"])
    with pytest.raises(ConfigurationError, match="did you mean channel"):
        refused(tmp_path, "user_id,channel,action", IngestOptions(maps={"user_id": "chanel"}))
    message = refused(tmp_path, "user_id,channel,action", IngestOptions(maps={"phone": "user_id"}))
    assert "--map names 'phone', which its header lacks" in message


def test_a_column_twice_is_refused_by_both_its_names(tmp_path: Path) -> None:
    """No one can say which of two would count."""
    message = refused(tmp_path, "userId,user_id,channel,action")

    assert "'userId' and 'user_id'" in message


def test_a_header_without_an_action_says_what_it_found_and_what_it_may_have_meant(tmp_path: Path) -> None:
    """The message names the file, the lack, the likeness and the way out."""
    message = refused(tmp_path, "user_id,channel,actoin")

    assert message.startswith(str(tmp_path / "x.csv"))
    for part in ("lacks action", "user_id, channel", "did you mean action? `", "--map"):
        assert part in message


def test_a_header_that_no_provider_can_use_is_refused(tmp_path: Path) -> None:
    """An action alone names no one."""
    assert "user_id and channel (for crm)" in refused(tmp_path, "tag,url,action")


def test_a_file_without_a_header_shows_none_of_its_values(tmp_path: Path) -> None:
    """The first row of a headerless file is someone's data, so the message keeps it back."""
    message = refused(tmp_path, "+15550100,ann@example.com,STOPPED")

    assert "15550100" not in message
    assert "ann@example.com" not in message
    assert "add a line with the names" in message


def test_a_broken_or_endless_header_is_refused(tmp_path: Path) -> None:
    """A quote that is never closed leaves no header to read."""
    assert "no header" in refused(tmp_path, 'user_id,"channel,action')
    assert "line 3: this is no header" in refused(tmp_path, '\n\nuser_id,"channel,action')


def test_a_header_may_span_lines(tmp_path: Path) -> None:
    """A spreadsheet breaks lines in the cells of a header; the rows behind it keep their lines' numbers."""
    ledger = MemoryLedger()

    take_in(csv_of(tmp_path / "x.csv", ["7,SMS,OPTOUT", "8,PIGEON,OPTOUT"], '\n"user\n_id",channel,action'), ledger)

    assert ledger.users == ["7"]
    assert [line for line, _, _ in ledger.codes] == [5]


def test_an_unknown_column_is_ignored_and_reported(tmp_path: Path) -> None:
    """A person learns of a misspelt optional column before wondering why it had no effect."""
    ledger = MemoryLedger()

    result = take_in(csv_of(tmp_path / "x.csv", ["7,SMS,OPTOUT,moved,x"], "user_id,channel,action,reson,crm"), ledger)

    assert ledger.users == ["7"]
    assert result.notes[0].endswith("did you mean reason?")
    assert "'crm'" in result.notes[1]


def test_a_providers_own_columns_are_known(tmp_path: Path) -> None:
    """A new provider's columns need no list beside its row model."""
    ledger = MemoryLedger()
    file = csv_of(tmp_path / "x.csv", ["7,SMS,OPTOUT,42"], "user_id,channel,action,shoeSize")

    result = take_in(file, ledger, IngestOptions(connection="crm"), {"crm": PersonRow, "apps": _AppRow})

    assert result.notes == []


def test_a_connections_defaults_fill_what_the_file_leaves_empty(tmp_path: Path) -> None:
    """A default stands in for a column or a cell, and never for what a row says itself."""
    ledger = MemoryLedger()
    connections = {"crm": ConnectionSettings(defaults={"Channel": "EMAIL", "action": "OPTOUT"})}

    take_in(csv_of(tmp_path / "x.csv", ["7,", "8,SMS"], "user_id,channel"), ledger, connections=connections)

    assert [(change.slot, change.action) for change in ledger.changes] == [("EMAIL", "OPTOUT"), ("SMS", "OPTOUT")]


@pytest.mark.parametrize("name", ["chanel", "effective_at", "connection", "_line"])
def test_a_default_for_what_cannot_have_one_is_a_wrong_setting(tmp_path: Path, name: str) -> None:
    """A time, a connection or an unknown column has no default."""
    connections = {"crm": ConnectionSettings(defaults={name: "x"})}

    with pytest.raises(ConfigurationError, match="cannot have a default"):
        take_in(csv_of(tmp_path / "x.csv", []), MemoryLedger(), connections=connections)


def test_the_connection_is_the_rows_or_the_arguments_or_the_only_one(tmp_path: Path) -> None:
    """A cell comes first; a name that is not configured refuses its row only."""
    ledger = MemoryLedger()
    rows: dict[str, type[ConsentRow]] = {"crm": PersonRow, "other": PersonRow}
    lines = ["7,SMS,OPTOUT,Other", "8,SMS,OPTOUT,", "9,SMS,OPTOUT,unknown"]

    take_in(csv_of(tmp_path / "x.csv", lines, "user_id,channel,action,connection"), ledger, IngestOptions("CRM"), rows)

    assert [(change.connection, change.address["user_id"]) for change in ledger.changes] == [
        ("other", "7"),
        ("crm", "8"),
    ]
    assert ledger.codes == [(4, "connection", "unknown_connection")]


def test_several_connections_and_no_word_of_which_is_a_wrong_argument(tmp_path: Path) -> None:
    """No one guesses whose customers these are."""
    file = csv_of(tmp_path / "x.csv", [])

    with pytest.raises(UnusableHeader, match="give --connection"):
        take_in(file, MemoryLedger(), rows={"crm": PersonRow, "other": PersonRow})
    with pytest.raises(ConfigurationError, match="no connection 'elsewhere'"):
        take_in(file, MemoryLedger(), IngestOptions("elsewhere"))
