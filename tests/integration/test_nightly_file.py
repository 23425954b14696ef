"""The main job on real parts: a file, a ledger, a broker, four worker processes, a provider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.company import Company, assert_balanced, company, fold, shuffled_rows


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Company]:
    """A company whose provider takes a few milliseconds for each call."""
    with company(tmp_path, latency=(0.0, 0.01)) as one:
        yield one


def test_a_shuffled_file_ends_in_the_newest_words(shop: Company) -> None:
    """10,000 rows of 2,500 customers, by four processes.

    no two calls for a customer at once; and the same file again calls nobody.
    """
    rows = shuffled_rows(10_000, 2_500)
    path = shop.write(rows)

    code, found, said = shop.run("run", path, "--workers", "4")

    assert code == 0, said
    assert shop.held() == fold(rows)
    assert_balanced(found)
    stats = shop.stats()
    customers = len({row["user_id"] for row in rows})
    assert stats["calls"] == found["calls"] == customers
    assert stats["overlaps"] == 0

    code, again, said = shop.run("run", path)

    assert code == 0, said
    assert shop.stats()["calls"] == customers
    assert again["import"] == found["import"]


@pytest.mark.proof
def test_the_same_words_in_another_file_call_nobody(shop: Company) -> None:
    """Yesterday's rows in today's file are duplicates; the same wishes said later are unchanged."""
    rows = [row | {"action": "OPTOUT", "effective_at": "2026-11-20T08:00:00+00:00"} for row in shuffled_rows(400, 100)]
    shop.run("run", shop.write(rows))
    calls = shop.stats()["calls"]

    _, duplicates, _ = shop.run("run", shop.write(rows[::-1], "reversed.csv"))
    later = [row | {"effective_at": "2026-11-21T08:00:00+00:00"} for row in rows]
    _, unchanged, _ = shop.run("run", shop.write(later, "later.csv"))

    assert duplicates["duplicates"] == 400
    assert unchanged["unchanged"] == unchanged["accepted"] > 0
    assert shop.stats()["calls"] == calls
