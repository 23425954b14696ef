"""A first look: a file goes in, the provider holds what people said, and everything is accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.company import assert_balanced, company

HEADER = "user_id,channel,priority,action,effective_at\n"


@pytest.mark.fresh
def test_an_opt_out_in_a_file_reaches_the_provider(tmp_path: Path) -> None:
    """Ann opted out of promotional mail this morning; after the run Capillary holds that."""
    with company(tmp_path) as shop:
        (tmp_path / "nightly.csv").write_text(HEADER + "387006417,EMAIL,BULK,OPTOUT,2026-11-20T08:30:00Z\n")

        code, found, _ = shop.run("run", "nightly.csv")

        assert code == 0
        assert shop.held() == {("387006417", "EMAIL", "BULK"): "OPTOUT"}
        assert (found["rows"], found["applied"], found["calls"]) == (1, 1, 1)
        assert_balanced(found)


def test_of_two_changes_the_newer_one_counts(tmp_path: Path) -> None:
    """Ann opted in yesterday and out today. The file says it in the wrong order; only the opt-out is ever sent."""
    with company(tmp_path) as shop:
        (tmp_path / "nightly.csv").write_text(
            HEADER
            + "387006417,EMAIL,BULK,OPTOUT,2026-11-20T08:30:00Z\n"
            + "387006417,EMAIL,BULK,OPTIN,2026-11-19T17:05:00Z\n"
        )

        code, found, _ = shop.run("run", "nightly.csv")

        assert code == 0
        assert shop.held() == {("387006417", "EMAIL", "BULK"): "OPTOUT"}
        assert (found["applied"], found["superseded"], found["calls"]) == (1, 1, 1)


def test_an_old_file_found_late_undoes_nothing(tmp_path: Path) -> None:
    """Last week's opt-in turns up after this week's opt-out: it is superseded and no API call is made."""
    with company(tmp_path) as shop:
        (tmp_path / "new.csv").write_text(HEADER + "387006417,EMAIL,BULK,OPTOUT,2026-11-20T08:30:00Z\n")
        (tmp_path / "old.csv").write_text(HEADER + "387006417,EMAIL,BULK,OPTIN,2026-11-13T08:30:00Z\n")
        shop.run("run", "new.csv")

        code, found, _ = shop.run("run", "old.csv")

        assert code == 0
        assert (found["superseded"], found["calls"]) == (1, 0)
        assert shop.held() == {("387006417", "EMAIL", "BULK"): "OPTOUT"}


def test_the_same_file_twice_is_one_file(tmp_path: Path) -> None:
    """Someone runs the nightly job a second time: nothing is recorded and no API call is made."""
    with company(tmp_path) as shop:
        (tmp_path / "nightly.csv").write_text(HEADER + "387006417,EMAIL,BULK,OPTOUT,2026-11-20T08:30:00Z\n")
        _, first, _ = shop.run("run", "nightly.csv")

        code, second, stderr = shop.run("run", "nightly.csv")

        assert code == 0
        assert second["import"] == first["import"]
        assert "recorded before" in stderr
        assert shop.stats()["calls"] == 1
