"""An exported change is the change that was read."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from worker.providers.infobip import INFOBIP
from worker.providers.infobip.row import InfobipRow

_TEXT = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=12).map(lambda t: f"x{t}")
_LISTS = st.lists(_TEXT, min_size=1, max_size=3).map("|".join)
_RULES = st.fixed_dictionaries(
    {"subscription_id": _TEXT, "channel": st.sampled_from(["SMS", "EMAIL"]), "events": _LISTS},
    optional={"users": _LISTS, "resources": _LISTS, "name": _TEXT, "profile_id": _TEXT}
    | {"application_id": _TEXT, "entity_id": _TEXT, "calls_configuration_id": _TEXT},
)
_PEOPLE = st.fixed_dictionaries(
    {"destination": st.integers(10**6, 10**7 - 1).map(lambda last: f"1202{last}")},
    optional={"channel": st.sampled_from(["SMS", "EMAIL"]), "sender": _TEXT},
)


@given(_RULES | _PEOPLE)
def test_columns_of_a_change_mean_the_same_change(cells: dict[str, Any]) -> None:
    """Whatever a row said, the export of each of its changes says the same of the same target."""
    row = InfobipRow.model_validate({**cells, "action": "OPTIN"})
    for slot_change in row.changes().slots:
        back = INFOBIP.export(row.changes().address, slot_change.slot, slot_change.details)
        again = InfobipRow.model_validate({**back, "action": "OPTIN"})

        assert (again.changes().address, again.changes().slots) == (row.changes().address, (slot_change,))
