"""A connection is paused: opt-ins first, then all of it. Opt-outs go on as long as they may, and nothing is lost."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.company import Company, Row, company, fold


def rows(action: str, customers: range, minute: int = 0, channel: str = "EMAIL") -> list[Row]:
    """One row for each customer, as they said on that morning."""
    fixed = {"channel": channel, "priority": "BULK", "action": action, "org_unit_id": "-1"}
    moment = {"effective_at": f"2026-11-20T08:{minute:02}:00Z"}
    return [{"user_id": str(500_000_000 + one)} | fixed | moment for one in customers]


def bucket(shop: Company) -> dict[str, object]:
    """What `status` tells of the connection."""
    [connection] = shop.run("status")[1]["connections"]
    return connection


def test_opt_ins_are_paused_then_all_and_then_all_is_delivered(tmp_path: Path) -> None:
    """Each step is told where a person looks; the provider ends with the newest change of each slot."""
    with company(tmp_path) as shop:
        first = [*rows("OPTOUT", range(20)), *rows("OPTIN", range(10, 30), 1, "MOBILE")]
        shop.run("import", shop.write(first))
        code, paused, _ = shop.run("pause", "capillary", "--only", "optins", "--why", "welcome mails")
        assert (code, paused["paused"], paused["pause"]["only"]) == (0, True, "optins")

        code, _, stderr = shop.run("run")
        assert code == 4
        assert "opt-ins are paused by" in stderr
        assert "(welcome mails): `optrelay resume capillary --why …`" in stderr.replace("\n", " ")
        assert set(shop.held().items()) == set(fold(rows("OPTOUT", range(20))).items())
        assert (bucket(shop)["pending"], bucket(shop)["limited_by"]) == (20, "pause")

        newer = rows("OPTOUT", range(25, 30), 2, "MOBILE")
        assert shop.run("run", shop.write(newer, "newer.csv"))[0] == 4
        assert all(shop.held()[slot] == "OPTOUT" for slot in fold(newer))
        calls = shop.stats()

        assert shop.run("pause", "capillary", "--why", "maintenance")[0] == 0
        last = rows("OPTOUT", range(40, 45), 3)
        code, _, stderr = shop.run("run", shop.write(last, "last.csv"))
        assert code == 4
        assert "maintenance" in stderr
        assert shop.stats()["calls"] == calls["calls"]
        [late] = shop.run("deadlines")[1]["buckets"]
        assert late["paused"]["why"] == "maintenance"
        assert late["latest_restart"] is None  # they are historic: said long ago
        assert shop.run("status", "--check")[0] == 4

        assert len(shop.run("resume", "capillary", "--why", "done")[1]["resumed"]) == 1
        assert shop.run("run")[0] == 0
        assert shop.held() == fold([*first, *newer, *last])
        assert bucket(shop)["paused"] is None


def test_a_run_stops_within_seconds_and_a_pause_outlives_it(tmp_path: Path) -> None:
    """A run that is under way settles what it holds and ends; a killed one forgets nothing, not even the pause."""
    with company(tmp_path) as shop:
        shop.settings["CONNECTIONS__CAPILLARY__RATE"] = "10/second"
        changes = rows("OPTOUT", range(200))
        process = shop.start("run", shop.write(changes))
        while not shop.held():
            time.sleep(0.1)
        assert shop.run("pause", "capillary", "--why", "stop")[0] == 0
        messages = process.communicate(timeout=60)[1]
        assert process.returncode == 4
        assert "stop" in messages
        done = len(shop.held())
        assert done < 200
        report = shop.run("status", "latest")[1]
        assert (report["applied"], report["pending"]) == (done, 200 - done)

        process = shop.start("run")
        process.kill()
        process.communicate()
        assert shop.run("run")[0] == 4
        assert len(shop.held()) == done
        shop.settings["CONNECTIONS__CAPILLARY__RATE"] = "100000/second"
        assert shop.run("resume", "capillary", "--why", "go")[0] == 0
        assert shop.run("run")[0] == 0
        assert shop.held() == fold(changes)


def test_what_cannot_be_paused_is_refused(tmp_path: Path) -> None:
    """A mistyped name, bucket or direction pauses nothing; resuming what is not paused does nothing."""
    with company(tmp_path) as shop:
        refused = [
            ("pause", "capilary", "--why", "x"),
            ("pause", "capillary", "--bucket", "nothing", "--why", "x"),
            ("pause", "capillary", "--only", "optouts", "--why", "x"),
            ("pause", "capillary"),
            ("resume", "capilary", "--why", "x"),
        ]
        answers = [shop.run(*one) for one in refused]
        assert [(code, answer["exit_code"]) for code, answer, _ in answers] == [(2, 2)] * 5
        assert "those that are configured are capillary" in answers[0][1]["error"]
        code, answer, _ = shop.run("resume", "capillary", "--why", "x")
        assert (code, answer) == (0, {"resumed": [], "still_paused": []})
