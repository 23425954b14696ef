"""A file that would opt people in again is held until a person approves it, or a part of it."""

from __future__ import annotations

from pathlib import Path

from tests.support.company import Row, assert_balanced, company


def rows(action: str, day: int, customers: range) -> list[Row]:
    """One row for each customer."""
    since = f"2026-11-{day}T08:30:00Z"
    return [
        {"user_id": str(n), "channel": "EMAIL", "priority": "BULK", "action": action, "effective_at": since}
        for n in customers
    ]


def test_a_file_that_would_opt_people_in_again(tmp_path: Path) -> None:
    """Forty people opted out. An old export opts thirty of them in again, and opts five others out."""
    with company(tmp_path) as shop:
        shop.settings["GUARDS__OFF"] = ""
        shop.run("run", shop.write(rows("OPTOUT", 20, range(387006000, 387006040)), "monday-1.csv"))
        wrong = [*rows("OPTIN", 21, range(387006000, 387006030)), *rows("OPTOUT", 21, range(387007000, 387007005))]

        code, found, _ = shop.run("run", shop.write(wrong, "monday-2.csv"))

        assert (code, found["pending"], found["held"], found["applied"]) == (3, 35, 35, 0)
        assert [one["guard"] for one in found["guards"]] == ["resurrects"]
        assert "387006" not in str(found["guards"])
        code, [held], _ = shop.run("held")
        assert (code, held["slots"]) == (3, {"all": 35, "optins": 30, "optouts": 5})

        why = ("--why", "CRM says the opt-ins are an old export")
        code, _, said = shop.run("approve", held["import"], *why, "--expect", "35", "--only", "optouts")
        assert (code, "5 slots now" in said) == (2, True)
        code, done, _ = shop.run("approve", held["import"], *why, "--expect", "5", "--only", "optouts")
        assert (code, done["changes"]) == (0, 5)
        shop.run("run")

        assert set(shop.held().values()) == {"OPTOUT"}
        assert len(shop.held()) == 45
        assert shop.run("withdraw", held["import"], *why)[0] == 0
        code, found, _ = shop.run("status", held["import"])
        assert (code, found["applied"], found["withdrawn"]) == (0, 5, 30)
        assert_balanced(found)
        assert shop.run("held")[0] == 0


def test_a_mistaken_file_is_undone_and_corrected_in_one_step(tmp_path: Path) -> None:
    """A file opts three in who had opted out; one of them opts out by himself since. The corrected one opts one in."""
    with company(tmp_path) as shop:
        shop.run("run", shop.write(rows("OPTOUT", 20, range(387006000, 387006003)), "monday.csv"))
        _, wrong, _ = shop.run("run", shop.write(rows("OPTIN", 21, range(387006000, 387006003)), "tuesday.csv"))
        shop.run("run", shop.write(rows("OPTOUT", 22, range(387006002, 387006003)), "clicks.csv"))
        fixed = shop.write(rows("OPTIN", 21, range(387006000, 387006001)), "fixed.csv")
        instead = ("--replaces", wrong["import"])
        assert shop.run("run", fixed, *instead)[0] == 2  # it must say why

        code, found, said = shop.run("run", fixed, *instead, "--why", "two of the three had not agreed")

        assert code == 0, said
        assert (found["accepted"], found["duplicates"]) == (1, 0)
        held = {user: action for (user, _, _), action in shop.held().items()}
        assert held == {"387006000": "OPTIN", "387006001": "OPTOUT", "387006002": "OPTOUT"}
        assert shop.run("undo", wrong["import"], "--why", "again")[1]["undone"] == 0
