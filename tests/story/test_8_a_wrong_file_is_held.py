"""A file that would opt people in again is held until a person approves it, or a part of it."""

from __future__ import annotations

import json
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
    """Forty people opted out and five in. An old export, the wrong way round, opts thirty in again and the five out.

    It is held, and approved for its opt-outs alone; then it turns out to be all wrong, and is withdrawn and undone.
    """
    with company(tmp_path) as shop:
        monday = [*rows("OPTOUT", 20, range(387006000, 387006040)), *rows("OPTIN", 20, range(387007000, 387007005))]
        shop.run("run", shop.write(monday, "monday-1.csv"))
        before = shop.held()
        wrong = [*rows("OPTIN", 21, range(387006000, 387006030)), *rows("OPTOUT", 21, range(387007000, 387007005))]

        code, found, _ = shop.run("run", shop.write(wrong, "monday-2.csv"), "--move")

        assert (code, found["pending"], found["held"], found["applied"]) == (3, 35, 35, 0)
        assert [one["guard"] for one in found["guards"]] == ["resurrects"]
        assert "387006" not in str(found["guards"])
        assert (tmp_path / "held" / "monday-2.csv").is_file()
        code, [held], _ = shop.run("held")
        assert (code, held["slots"]) == (3, {"all": 35, "optins": 30, "optouts": 5})

        why = ("--why", "CRM says the opt-ins are an old export")
        code, _, stderr = shop.run("approve", held["import"], *why, "--expect", "35", "--only", "optouts")
        assert (code, "5 slots now" in stderr) == (2, True)
        code, done, _ = shop.run("approve", held["import"], *why, "--expect", "5", "--only", "optouts")
        assert (code, done["changes"]) == (0, 5)
        shop.run("run")
        assert set(shop.held().values()) == {"OPTOUT"}

        assert shop.run("withdraw", held["import"], *why)[0] == 0
        code, done, _ = shop.run("undo", held["import"], "--why", "so are the opt-outs", "--opt-in-again")
        assert (code, done["undone"]) == (0, 5)
        shop.run("run")

        assert shop.held() == before
        code, found, _ = shop.run("status", held["import"])
        assert (code, found["applied"], found["withdrawn"]) == (0, 5, 30)
        assert_balanced(found)
        assert shop.run("held")[0] == 0


def test_a_guard_is_switched_off_for_one_file_and_says_why(tmp_path: Path) -> None:
    """A person knows that the people in it want the news again; without a reason nothing is recorded."""
    with company(tmp_path) as shop:
        shop.run("import", shop.write(rows("OPTOUT", 20, range(387006000, 387006030)), "monday.csv"))
        again = shop.write(rows("OPTIN", 21, range(387006000, 387006030)), "campaign.csv")
        assert shop.run("run", again, "--guard-off", "resurrects")[0] == 2
        assert shop.run("run", again, "--guard-off", "resurrect", "--why", "they signed up again")[0] == 2

        code, found, stderr = shop.run("run", again, "--guard-off", "resurrects", "--why", "they signed up again")

        assert (code, found["applied"]) == (0, 30), stderr
        assert set(shop.held().values()) == {"OPTIN"}


def test_a_feed_has_limits_of_its_own(tmp_path: Path) -> None:
    """What holds a file of one feed holds none of another."""
    config = tmp_path / "optrelay.toml"
    config.write_text(
        '[feeds.strict]\nfile = "strict-*.csv"\nguards = { resurrects_most = 0 }\n[feeds.lax]\nfile = "lax-*.csv"\n'
    )
    with company(tmp_path) as shop:
        shop.settings["CONFIG"] = str(config)
        shop.run("import", shop.write(rows("OPTOUT", 20, range(387006000, 387006003)), "lax-1.csv"))

        again = rows("OPTIN", 21, range(387006000, 387006002))
        lax, _, stderr = shop.run("import", shop.write(again[:1], "lax-2.csv"))
        strict, found, _ = shop.run("import", shop.write(again[1:], "strict-2.csv"))

        assert (lax, strict) == (0, 3), stderr
        assert [one["guard"] for one in found["guards"]] == ["resurrects"]


def test_a_file_must_keep_what_its_manifest_promises(tmp_path: Path) -> None:
    """One with fewer lines or another digest is refused; one whose rows cannot all be read is held."""
    with company(tmp_path) as shop:
        path = shop.write(rows("OPTOUT", 20, range(387006000, 387006003)))
        manifest = tmp_path / "nightly.csv.manifest.json"
        for promise, message in (
            ({"rows": 4}, "3 rows at most, and its manifest says 4"),
            ({"sha256": "0" * 64}, "another sha256"),
            ({}, "neither rows nor sha256"),
            ([], "no JSON object"),
            ({"rows": True}, "a number"),
        ):
            manifest.write_text(json.dumps(promise))
            code, _, stderr = shop.run("import", path)
            assert (code, message in stderr) == (2, True), stderr
        manifest.write_text(json.dumps({"rows": 2}))

        code, found, _ = shop.run("run", path)

        assert (code, [one["guard"] for one in found["guards"]]) == (3, ["manifest"])
        assert shop.held() == {}


def test_a_mistaken_file_is_undone_and_corrected_in_one_step(tmp_path: Path) -> None:
    """A file opts three in who had opted out; one of them opts out by himself since. The corrected one opts one in."""
    with company(tmp_path) as shop:
        shop.run("import", shop.write(rows("OPTOUT", 20, range(387006000, 387006003)), "monday.csv"))
        _, wrong, _ = shop.run("run", shop.write(rows("OPTIN", 21, range(387006000, 387006003)), "tuesday.csv"))
        shop.run("import", shop.write(rows("OPTOUT", 22, range(387006002, 387006003)), "clicks.csv"))
        fixed = shop.write(rows("OPTIN", 21, range(387006000, 387006001)), "fixed.csv")
        instead = ("--replaces", wrong["import"])
        assert shop.run("run", fixed, *instead)[0] == 2  # it must say why

        code, found, stderr = shop.run("run", fixed, *instead, "--why", "two of the three had not agreed")

        assert code == 0, stderr
        assert (found["accepted"], found["duplicates"]) == (1, 0)
        held = {user: action for (user, _, _), action in shop.held().items()}
        assert held == {"387006000": "OPTIN", "387006001": "OPTOUT", "387006002": "OPTOUT"}
        assert shop.run("undo", wrong["import"], "--why", "again")[1]["undone"] == 0


def test_a_withdrawn_or_undone_file_says_how_it_is_recorded_after_all(tmp_path: Path) -> None:
    """A file was withdrawn, for good; it turns out to be right. The same bytes are told how, and go in when asked."""
    with company(tmp_path) as shop:
        shop.run("import", shop.write(rows("OPTOUT", 20, range(387006000, 387006030)), "monday.csv"))
        again = shop.write(rows("OPTIN", 21, range(387006000, 387006030)), "campaign.csv")
        _, held, _ = shop.run("import", again)
        shop.run("withdraw", held["import"], "--why", "an old export")

        code, found, stderr = shop.run("run", again)

        assert (code, "30 of its changes were withdrawn" in stderr, "--replaces" in stderr) == (0, True, True), stderr
        assert "withdrawn" in found["files"][0]["reason"]
        assert set(shop.held().values()) == {"OPTOUT"}
        instead = ("--replaces", held["import"], "--why", "it was right")
        code, found, stderr = shop.run("import", again, *instead)
        assert (code, found["held"]) == (3, 30), stderr  # the guards look at it as at any other
        shop.run("approve", found["import"], "--why", "checked with CRM")
        shop.run("run")
        assert set(shop.held().values()) == {"OPTIN"}
        shop.run("undo", found["import"], "--why", "it was wrong")
        _, _, stderr = shop.run("import", again, *instead)
        assert f"it was undone. To record it after all, give --replaces {found['import']}" in stderr


def test_with_four_eyes_the_command_line_opts_no_one_in(tmp_path: Path) -> None:
    """It proves no name: it approves nothing, switches no guard off, and undoes no opt-out. Withdrawing is safe."""
    with company(tmp_path) as shop:
        shop.settings["FOUR_EYES"] = "true"
        monday = shop.write(rows("OPTOUT", 20, range(387006000, 387006030)), "monday.csv")
        _, outs, _ = shop.run("import", monday)
        again = shop.write(rows("OPTIN", 21, range(387006000, 387006030)), "campaign.csv")
        why = ("--why", "they signed up again")
        _, held, _ = shop.run("import", again)

        refused = [
            shop.run("approve", held["import"], *why),
            shop.run("run", again, "--guard-off", "resurrects", *why),
            shop.run("undo", outs["import"], "--opt-in-again", *why),
        ]

        assert [code for code, *_ in refused] == [2, 2, 2]
        assert all("FOUR_EYES" in message for *_, message in refused)
        assert shop.run("undo", outs["import"], "--opt-in-again", "--dry-run")[0] == 0
        assert shop.run("withdraw", held["import"], *why)[0] == 0
        shop.run("run")
        assert set(shop.held().values()) == {"OPTOUT"}


LIMIT = 50
"""So many customers in a row are enough."""

UNDER_WAY = 100
"""So many calls may be under way meanwhile, at the connection's CONCURRENCY."""


def opted_out(first: int, count: int) -> list[Row]:
    """One opt-out for each customer."""
    since = "2026-11-20T08:30:00Z"
    return [
        {"user_id": str(n), "channel": "EMAIL", "priority": "BULK", "action": "OPTOUT", "effective_at": since}
        for n in range(first, first + count)
    ]


def test_a_wrong_account_holds_the_rest_of_its_file_and_no_other(tmp_path: Path) -> None:
    """Four hundred customers, and Capillary knows no such account: fifty die, and those who are asked at that moment.

    Another file of the same connection is delivered meanwhile. The account is fixed, the file resumed, and what died is
    replayed: everyone is opted out.
    """
    with company(tmp_path) as shop:
        shop.settings["CONNECTIONS__CAPILLARY__CONCURRENCY"] = str(UNDER_WAY)
        wrong, right = opted_out(510_000_000, 400), opted_out(520_000_000, 40)
        shop.fault(kind="error", users=["510*"], code=8011)

        code, both, stderr = shop.run("run", shop.write(wrong, "shops.csv"), shop.write(right, "web.csv"))

        assert code == 3, stderr
        shops, web = both["imports"]
        assert (web["applied"], web["sealed"]) == (40, True)
        assert LIMIT <= shops["dead"] <= LIMIT + 2 * UNDER_WAY
        assert shops["held"] == shops["pending"] == 400 - shops["dead"]
        assert shops["accepted"] == shops["dead"] + shops["pending"]
        calls = shop.stats()["calls"]

        code, [held], _ = shop.run("held")
        assert (code, held["import"], held["code"], held["optouts"]) == (3, shops["import"], "8011", shops["pending"])
        assert "510" not in held["reason"]
        assert "fuse" in {one["kind"] for one in shop.run("notices")[1]}
        assert (shop.run("run")[0], shop.stats()["calls"]) == (3, calls)

        shop.fix()
        code, done, _ = shop.run("reset-fuse", shops["import"], "--why", "the account id is corrected")
        assert (code, [one["import"] for one in done["fuses"]]) == (0, [shops["import"]])
        assert shop.run("run")[0] == 0
        shop.run("dead-letters", "replay", "--import", shops["import"], "--why", "the account id is corrected", "--yes")
        assert shop.run("run")[0] == 0

        code, found, _ = shop.run("status", shops["import"])
        assert (code, found["applied"]) == (0, 400)
        assert_balanced(found)
        assert len(shop.held()) == 440
        assert (shop.run("held")[0], shop.run("notices")[1]) == (0, [])
