"""What is remembered of one row serves the next: and says exactly what understanding each row by itself would."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent.change import ConsentChange
from consent.row import ConsentRow, RowChanges, SlotChange
from consent.times import to_micros
from producers.parsing import row_parser
from producers.parsing.columns import read_header, vocabulary
from producers.parsing.row_parser import ParseContext, RawRecord, RowCache, parse_record
from tests.support.examples import examples
from tests.support.memory_ledger import PersonRow
from worker.providers import PROVIDERS

CAPILLARY = {
    "user_id": ["", "7", "007", "x", " 8 ", "387006417.0"],
    "identifier_name": ["", "email", "Mobile", "externalId", "fax"],
    "identifier_value": ["", "ann@example.com", "9.19E+11", "+44 (0)7700 900123", "\u200b447700900123", "07700900123"],
    "channel": ["EMAIL", "sms", "FAX"],
    "priority": ["BULK", ""],
    "action": ["OPTOUT", "opt-in", "maybe"],
    "reason": ["", "nightly"],
}
INFOBIP = {
    "destination": ["", "+1 (202) 555-0100", "12025550100", "07700 900123", "'ann@Example.com", "unknown"],
    "channel": ["", "SMS", "EMAIL"],
    "subscription_id": ["", "", "sub-1"],
    "events": ["", "", "BLOCK"],
    "action": ["OPTOUT", "OPTIN", ""],
}
PERSON = {"user_id": ["", "7", "8"], "channel": ["SMS", "PIGEON"], "priority": ["", "1", "11"], "action": ["OPTIN"]}
COMMON = {
    "effective_at": [
        "",
        "2026-11-20T08:00:00Z",
        "2026-11-20T09:00:00",
        "2026-11-20T08:00:00+05:30",
        "soon",
        "2999-01-01",
        "2026-10-25T02:10:00",
        "1795112000830",
    ],
    "change_id": ["", "", "a", "b" * 300],
    "_effective_at": ["", "", "2026-11-19T08:00:00Z", "late"],
}
MODELS: dict[str, tuple[type[ConsentRow], dict[str, list[str]]]] = {
    "capillary": (PROVIDERS["capillary"].row, CAPILLARY),
    "infobip": (PROVIDERS["infobip"].row, INFOBIP),
    "capillary in Britain": (PROVIDERS["capillary"].row.in_region("GB"), CAPILLARY),
    "infobip in Britain": (PROVIDERS["infobip"].row.in_region("GB"), INFOBIP),
    "crm": (PersonRow, PERSON),
}


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=examples(60), deadline=None)
@given(data=st.data(), since=st.sampled_from([None, to_micros(datetime(2026, 11, 18, tzinfo=UTC))]))
def test_rows_are_understood_as_if_each_were_the_first(name: str, data: st.DataObject, since: int | None) -> None:
    """Whichever rows came before, a row's changes or fault are its own, to the last detail."""
    model, cells = MODELS[name]
    columns = data.draw(st.permutations(list(cells | COMMON)))
    header = read_header(columns, vocabulary([model]), "x.csv")
    latest = to_micros(datetime(2026, 11, 22, tzinfo=UTC))
    context = ParseContext({name: model}, {}, name, since, ZoneInfo("Europe/Berlin"), latest)
    each = [st.sampled_from((cells | COMMON)[column]) for column in columns]
    rows = data.draw(st.lists(st.tuples(*each), min_size=1, max_size=25))
    rows += data.draw(st.lists(st.sampled_from(rows), max_size=10))
    cache = RowCache(context, header)

    for line, row in enumerate(rows, 2):
        fields = {column: row[index].strip() for index, column in header.columns if row[index].strip()}

        assert cache.parse(row, line) == parse_record(RawRecord(fields, line), context, header.ours)


def test_what_two_providers_read_differently_is_not_taken_for_the_same() -> None:
    """A column that names the target for one connection may mean something else for another."""

    class OtherRow(PersonRow):
        """A row whose slot is the customer."""

        names_target = frozenset()

        def changes(self) -> RowChanges:
            """Name the customer's channel."""
            return RowChanges({"user_id": self.user_id}, (SlotChange(f"{self.user_id} {self.channel}", {}),))

    rows: dict[str, type[ConsentRow]] = {"crm": PersonRow, "other": OtherRow}
    header = read_header(["connection", "user_id", "channel", "action"], vocabulary(rows.values()), "x.csv")
    now = to_micros(datetime(2026, 11, 22, tzinfo=UTC))
    cache = RowCache(ParseContext(rows, {}, None, now, UTC, now), header)

    found = [cache.parse(["other", user, "SMS", "OPTOUT"], 2) for user in "12"]

    assert [one[0].slot for one in found if isinstance(one, tuple)] == ["1 SMS", "2 SMS"]


def test_a_row_like_an_earlier_one_keeps_all_that_was_known_of_that() -> None:
    """Every wide opt-in of a file but the first lost the mark by which the ledger looks for narrower opt-outs."""
    one = ConsentChange(**{field.name: object() for field in fields(ConsentChange)})

    assert row_parser._with(one, one.address, one.effective_at, one.change_id, one.line) == one
