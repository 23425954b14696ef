"""An exported change is the change that was read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.providers import PROVIDERS
from worker.providers.capillary.row import CHANNELS, IDENTIFIERS, PRIORITIES, SOURCES

_TEXT = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=12).map(lambda t: f"x{t}")
_NUMBERS = st.integers(1, 2**53).map(str)
_VALUES = {"mobile": _NUMBERS, "email": _TEXT.map(lambda text: f"{text}@example.com")}
_CUSTOMERS = st.one_of(
    st.fixed_dictionaries({"user_id": _NUMBERS}),
    *[
        st.fixed_dictionaries(
            {
                "identifier_name": st.just(name),
                "identifier_value": _VALUES.get(name, _TEXT),
                "source": st.sampled_from(SOURCES),
            },
            optional={"source_account_id": _TEXT},
        )
        for name in IDENTIFIERS
    ],
)
_PLACES = st.fixed_dictionaries(
    {"channel": st.sampled_from(CHANNELS), "priority": st.sampled_from(PRIORITIES)},
    optional={"account_id": _TEXT, "org_unit_id": _NUMBERS},
)
_DETAILS = st.fixed_dictionaries(
    {}, optional={"reason": _TEXT, "campaign_id": _NUMBERS, "source_name": st.sampled_from(SOURCES), "scope": _TEXT}
)


@given(_CUSTOMERS, _PLACES, _DETAILS)
def test_columns_of_a_change_mean_the_same_change(
    customer: dict[str, str], place: dict[str, str], details: dict[str, str]
) -> None:
    """Whatever a row said, the export of its change says the same of the same customer."""
    capillary = PROVIDERS["capillary"]
    row = capillary.row.model_validate({**customer, **place, **details, "action": "OPTOUT"})
    (one,) = row.changes().slots
    back = capillary.export(row.changes().address, one.slot, one.details)
    filled = {name: value for name, value in back.items() if value}
    again = capillary.row.model_validate({**filled, "action": "OPTOUT"})
    assert (again.changes().address, again.changes().slots) == (row.changes().address, row.changes().slots)
