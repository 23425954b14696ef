"""What is said of a row that cannot be parsed: a code, the column under its own name, a remedy, and never a value."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field
from pydantic_core import PydanticCustomError

from consent.row import ConsentRow, Identifier, RowChanges, SlotChange
from consent.times import to_micros
from producers.parsing.error_messages import RowError
from producers.parsing.row_parser import RawRecord, parse_context, parse_record
from worker.providers.capillary.row import CapillaryRow

NOW = to_micros(datetime(2026, 11, 20, 8, 30, tzinfo=UTC))
SECRET = "kim-4711@example.com"
GOOD = {"action": "OPTOUT", "user_id": "7", "effective_at": "2026-11-19T08:00:00Z"}


class _Row(ConsentRow):
    """A row with one column of each kind that can be wrong."""

    user_id: Identifier
    channel: Literal["SMS", "EMAIL"] = "SMS"
    priority: Annotated[int, Field(ge=1, le=9)] = 1
    tags: Annotated[tuple[str, ...], Field(max_length=2)] = ()
    code: str = ""

    remedies: ClassVar[dict[str, str]] = {"channel": "write SMS or EMAIL"}

    def changes(self) -> RowChanges:
        """The user's channel and nothing more, but a code that no one takes."""
        return RowChanges({"user_id": self.user_id}, (SlotChange(self.channel, {}),))

    def model_post_init(self, _context: object) -> None:
        """Refuse one code as a provider's rule would."""
        if self.code:
            raise PydanticCustomError("unusable_value", "this code is used up: leave it empty")


def error_of(fields: dict[str, object], columns: dict[str, str] | None = None, **context: object) -> RowError:
    """What is wrong with a row that differs in these fields from a good one; None leaves a field out."""
    merged = {name: value for name, value in {**GOOD, **fields}.items() if value is not None}
    given = parse_context({"crm": _Row}, {}, None, context.get("effective_at"), UTC)  # type: ignore[arg-type]
    found = parse_record(RawRecord(merged, 2), given, columns or {name: name for name in merged})
    assert isinstance(found, RowError)
    assert SECRET not in found.message
    return found


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"user_id": None}, ("missing_field", "user_id", "this is needed and is empty: fill it")),
        ({"action": SECRET}, ("unknown_value", "action", "this is not one of the values that it may have: write")),
        ({"channel": SECRET}, ("unknown_value", "channel", "that it may have: write SMS or EMAIL")),
        ({"priority": SECRET}, ("not_a_number", "priority", "this is not a number: write digits only")),
        ({"priority": "12"}, ("out_of_range", "priority", "this number is out of range: at most 9")),
        ({"priority": "0"}, ("out_of_range", "priority", "this number is out of range: at least 1")),
        ({"user_id": SECRET * 20}, ("too_long", "user_id", "this is too long: at most 255 characters")),
        ({"tags": ["a", "b", "c"]}, ("too_long", "tags", "at most 2 members in one list: put the others into a row")),
        ({"user_id": "9.19E+11"}, ("damaged_number", "user_id", "a spreadsheet has rounded this number")),
        ({"effective_at": SECRET}, ("unreadable_time", "effective_at", "write the time as ISO 8601")),
        ({"effective_at": "1970-01-01"}, ("time_too_old", "effective_at", "a time before 2000-01-02")),
        ({"effective_at": "2999-01-01T00:00:00Z"}, ("from_the_future", "effective_at", "300 seconds in the future")),
        ({"effective_at": None}, ("missing_field", "effective_at", "fill effective_at")),
        ({"connection": "erp"}, ("unknown_connection", "connection", "name one of the configured connections (crm)")),
        ({"code": "x"}, ("unusable_value", None, "this code is used up: leave it empty")),
    ],
)
def test_each_error_has_a_code_a_column_and_a_remedy(
    fields: dict[str, object], expected: tuple[str, str | None, str]
) -> None:
    """A message never repeats what stands in the cell: it may name a person."""
    code, column, message = expected

    found = error_of(fields)

    assert (found.code, found.column) == (code, column)
    assert message in found.message


def test_an_empty_cell_has_one_remedy() -> None:
    """Two stood behind each other: "fill it: write one of"."""
    context = parse_context({"crm": CapillaryRow}, {}, None, NOW, UTC)

    found = parse_record(RawRecord({"action": "OPTOUT", "user_id": "7", "channel": "EMAIL"}, 2), context)

    remedy = "write TRANS for transactional or BULK for promotional messages"
    assert found == RowError("missing_field", f"this is needed and is empty: {remedy}", "priority")


def test_a_column_is_named_as_its_file_names_it() -> None:
    """A person looks for `Kunde` in the file, not for `user_id`."""
    names = {"action": "Aktion", "user_id": "Kunde", "effective_at": "Datum"}

    assert error_of({"user_id": "1E+5"}, names).column == "Kunde"
    assert error_of({"effective_at": "1900-01-01"}, names).column == "Datum"


def test_the_first_column_of_the_file_comes_first_and_the_others_are_told_too() -> None:
    """All that is wrong can be fixed at once."""
    wrong = {"action": SECRET, "user_id": SECRET * 20, "priority": "x"}

    forward = error_of(wrong, {"action": "action", "user_id": "user_id", "priority": "priority"})
    backward = error_of(wrong, {"priority": "priority", "user_id": "user_id", "action": "action"})

    assert (forward.column, backward.column) == ("action", "priority")
    assert [part.partition(":")[0] for part in forward.message.split("; also ")[1:]] == ["user_id", "priority"]
    assert "; also " not in error_of({"action": SECRET}).message


def test_a_row_without_a_time_may_use_the_one_of_its_file() -> None:
    """Only a row that has neither is rejected."""
    context = parse_context({"crm": _Row}, {}, None, NOW, UTC)

    found = parse_record(RawRecord({"action": "OPTOUT", "user_id": "7"}, 2), context)

    assert not isinstance(found, RowError)
    assert [change.effective_at for change in found] == [NOW]
    assert error_of({"effective_at": None}).code == "missing_field"
