"""An opt-out that waits in the ledger is already stopped by the suppression check."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.support.company import Row, company


def row(customer: int, action: str, day: int) -> Row:
    """A customer's word about promotional mail."""
    since = f"2026-11-{day}T08:30:00Z"
    return {"user_id": str(customer), "channel": "EMAIL", "priority": "BULK", "action": action, "effective_at": since}


def test_an_opt_out_that_waits_in_the_ledger_is_already_stopped(tmp_path: Path) -> None:
    """Ann opted out, and the provider has not been told; Bob's opt-out is in a file that is held; Cat opted in."""
    ann, bob, cat = 387006001, 387006002, 387006003
    with company(tmp_path) as shop:
        shop.settings["GUARDS__OFF"] = ""
        others = range(387007000, 387007030)
        shop.run("run", shop.write([row(n, "OPTOUT", 20) for n in others], "monday-1.csv"))
        wrong = [*(row(n, "OPTIN", 21) for n in others), row(bob, "OPTOUT", 21)]
        assert shop.run("import", shop.write(wrong, "monday-2.csv"))[0] == 3
        shop.run("import", shop.write([row(ann, "OPTOUT", 22), row(cat, "OPTIN", 22)], "tuesday.csv"))
        audience = tmp_path / "audience.csv"
        audience.write_text(
            "user_id,name\n" + "".join(f"{n},{name}\n" for n, name in zip((ann, bob, cat), "abc", strict=True))
        )

        code, found, _ = shop.run("scrub", audience, "--channel", "EMAIL", "--output", tmp_path / "clean.csv")

        assert (code, found["clean"], found["states"]) == (0, 1, {"pending": 1, "held": 1})
        assert list(csv.reader((tmp_path / "clean.csv").read_text().splitlines())) == [
            ["user_id", "name"],
            [str(cat), "c"],
        ]
        assert not {key for key in shop.held() if key[0] in (str(ann), str(bob))}
