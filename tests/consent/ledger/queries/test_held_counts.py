"""How many slots a held file would change, also where it says several things of one slot."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consent.change import Action
from consent.ledger.ledger import Ledger
from consent.ledger.review import effects
from tests.support.examples import examples
from tests.support.ledgers import change_of, emptied, imported, recorded

Row = tuple[str, str, int]
rows = st.lists(st.tuples(st.sampled_from("12345"), st.sampled_from(Action), st.integers(0, 3)), max_size=8)
WAYS = (None, Action.OPTIN, Action.OPTOUT)


def changed(before: Sequence[Row], after: Sequence[Row], only: Action | None) -> int:
    """The rule, said again: the newest of each person, on a tie the opt-out, if it is newer and says something else."""
    held: dict[str, Row] = {}
    for row in before:
        held[row[0]] = max(held.get(row[0], row), row, key=_rank)
    best: dict[str, Row] = {}
    for row in (one for one in after if only in (None, one[1])):
        best[row[0]] = max(best.get(row[0], row), row, key=_rank)
    return sum(
        who not in held or (_rank(row) > _rank(held[who]) and row[1] != held[who][1]) for who, row in best.items()
    )


def _rank(row: Row) -> tuple[int, bool]:
    return row[2], row[1] == Action.OPTOUT


@pytest.mark.parametrize("apart", [0, 50_000])
@settings(
    max_examples=examples(60, share=8), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(before=rows, after=rows)
def test_slots_are_counted_whatever_is_said_of_each(
    ledger: Ledger, apart: int, before: list[Row], after: list[Row]
) -> None:
    """One thing or several of one slot, of some or of all; by ranking those alone, or everything."""
    with emptied(ledger), pytest.MonkeyPatch.context() as patch:
        patch.setattr(effects, "RANKED_APART", apart)
        imported(ledger, *(change_of(who, action, minute, reason="before") for who, action, minute in before))
        file = recorded(ledger, *(change_of(who, action, minute) for who, action, minute in after))

        found = ledger.database.read(lambda tx: effects.slots_changed(tx, file, *WAYS))

    assert found == [changed(before, after, only) for only in WAYS]
