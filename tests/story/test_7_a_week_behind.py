"""A week's backlog says on its first day which opt-outs will be late, and what would help."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.company import company


def test_a_backlog_of_a_week_says_so_on_its_first_day(tmp_path: Path) -> None:
    """At 18 calls an hour 3,000 opt-outs of this morning take a week; Gmail wants them honoured within 48 hours."""
    morning = datetime.now(UTC) - timedelta(hours=1)
    fields = {
        "channel": "EMAIL",
        "priority": "BULK",
        "action": "OPTOUT",
        "effective_at": f"{morning:%Y-%m-%dT%H:%M:%SZ}",
    }
    rows = [{"user_id": str(387006000 + n)} | fields for n in range(3_000)]
    with company(tmp_path) as shop:
        shop.settings["CONNECTIONS__CAPILLARY__RATE"] = "18/hour"
        file = shop.write(rows, "unsubscribed.csv")
        _, foreseen, _ = shop.run("run", "--dry-run", file)
        shop.run("import", file)
        code, answer, _ = shop.run("deadlines", "--check")
        [bucket] = answer["buckets"]
        [rule] = bucket["rules"]
        in_time = rule["open"] - rule["at_risk"]

        assert code == 1
        assert (rule["rule"], rule["open"], rule["breached"]) == ("gmail-48h", 3_000, 0)
        assert 46 * 18 <= in_time <= 47 * 18
        assert 3_000 / (47 * 60) <= bucket["needs_calls_per_minute"] <= 3_000 / (46 * 60 + 40)
        assert datetime.fromisoformat(bucket["finish_at"]) > morning + timedelta(days=6)
        assert abs(foreseen["deadlines"][0]["at_risk"] - bucket["at_risk"]) <= 20

        shop.settings["CONNECTIONS__CAPILLARY__RATE"] = "72/hour"
        code, answer, _ = shop.run("deadlines", "--check", "--verify")

        assert (code, answer["wrong_counts"], answer["buckets"][0]["at_risk"]) == (0, 0, 0)
        assert datetime.fromisoformat(answer["buckets"][0]["latest_restart"]) > datetime.now(UTC)
