"""One file for every provider: each ends with the newest changes, by the fewest calls, within its limit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.company import Row, assert_balanced, fold
from tests.support.providers.three_providers import (
    APPS,
    BATCH,
    BLOCKED,
    RATES,
    MixedCompany,
    hook_at_first,
    hooks_in_the_end,
    mixed_company,
    mixed_rows,
    people_in_the_end,
    rule_at_first,
    rules_in_the_end,
)

LOOKED_UP_TOGETHER = 5
"""People whose entries go in one DELETE, after a look for each of them."""


@pytest.mark.proof
@pytest.mark.pace
def test_a_mixed_file(tmp_path: Path) -> None:
    """5,000 rows for two clusters of Capillary, one account at Infobip and three apps at Gupshup.

    What the providers hold in the end is what a count by other means says, no call was one too many, and no one was
    called faster than they allow.
    """
    with mixed_company(tmp_path) as shop:
        rows = mixed_rows()

        code, found, stderr = shop.run("run", shop.write(rows), timeout=60)

        assert code == 0, stderr
        assert (len(rows), found["rejected"], found["dead"]) == (5_000, 0, 0)
        assert_balanced(found)
        assert_everything_held(shop, rows)
        assert found["calls"] == assert_fewest_calls(shop, rows)
        assert_paces_kept(shop)
        print(f"{found['calls']} calls in {found['seconds']} s")


def assert_everything_held(shop: MixedCompany, rows: list[Row]) -> None:
    """Every provider holds the newest change of every slot, and what no one spoke of is as it was."""
    for name, url in (("eu", shop.url), ("us", shop.second_url)):
        theirs = [row for row in rows if row["connection"] == name]
        held = shop.look("state", url, format="ndjson")
        there = {(one["user"], row["channel"], row["priority"]): row["type"] for one in held for row in one["rows"]}
        assert there == fold(theirs)

    infobip = shop.held_by("infobip")
    assert {key.removeprefix("SMS/"): _rule(row) for key, row in infobip.items() if "SMS/" in key} == rules_in_the_end(
        rows
    )
    people = people_in_the_end(rows)
    blocked = {number for number, action in people.items() if action == "OPTOUT"} | (set(BLOCKED) - people.keys())
    assert {key.removeprefix("blocklist/") for key in infobip if "blocklist/" in key} == blocked

    gupshup = {key.split("/")[1]: row for key, row in shop.held_by("gupshup").items()}
    assert {id_: _hook(row) for id_, row in gupshup.items()} == hooks_in_the_end(rows)


def assert_fewest_calls(shop: MixedCompany, rows: list[Row]) -> int:
    """Each provider was called as seldom as its API allows; return how often that was."""
    calls = 0
    for name, url in (("eu", shop.url), ("us", shop.second_url)):
        customers = {row["user_id"] for row in rows if row["connection"] == name}
        assert shop.look("stats", url)["calls"] == len(customers)
        calls += len(customers)
    for sister, expected in (("infobip", _infobip_calls(rows)), ("gupshup", _gupshup_calls(rows))):
        made = Counter((call["method"], call["user"]) for call in shop.calls(sister))
        assert made == expected
        calls += expected.total()
    return calls


def assert_paces_kept(shop: MixedCompany) -> None:
    """In no second more calls came than allowed, but for the one that jitter on the way may bring; none was refused."""
    for name, url in (("eu", shop.url), ("us", shop.second_url)):
        assert shop.look("stats", url, window=1)["worst_window"]["calls"] <= _limit(name) + 1
    infobip, gupshup = (shop.look("stats", shop.url, one, window=1) for one in ("infobip", "gupshup"))
    busiest = {name: worst["calls"] for name, worst in infobip["worst_window"]["by_bucket"].items()}
    assert busiest["subscriptions"] <= _limit("infobip") + 1
    assert busiest["blocklists"] <= _limit("blocklist") + 1
    assert gupshup["worst_window"]["by_bucket"].keys() == APPS.keys()
    for worst in gupshup["worst_window"]["by_bucket"].values():
        assert worst["calls"] <= _limit("gupshup") + 1
    everyone = [shop.look("stats", url) for url in (shop.url, shop.second_url)] + [infobip, gupshup]
    assert [(one["throttled"], one["overlaps"]) for one in everyone] == [(0, 0)] * 4


def _limit(name: str) -> int:
    return int(RATES[name].split("/")[0])


def _infobip_calls(rows: list[Row]) -> Counter[tuple[str, str]]:
    """One look for each subscription that is named, one write where something changes; people by the batch."""
    calls: Counter[tuple[str, str]] = Counter()
    for rule, held in rules_in_the_end(rows).items():
        calls["GET", f"SMS/{rule}"] = 1
        calls["PUT", f"SMS/{rule}"] = int(held != rule_at_first(rule))
    people = Counter(people_in_the_end(rows).values())
    calls["POST", "blocklists"] = -(-people["OPTOUT"] // BATCH)
    calls["GET", "blocklists"] = people["OPTIN"]
    calls["DELETE", "blocklists"] = -(-people["OPTIN"] // LOOKED_UP_TOGETHER)
    return +calls


def _gupshup_calls(rows: list[Row]) -> Counter[tuple[str, str]]:
    """One write for each subscription that changes, and one look before it only where modes are named."""
    app_of = {row["subscription_id"]: row["app_id"] for row in rows if "app_id" in row}
    looked = {row["subscription_id"] for row in rows if "modes" in row}
    calls: Counter[tuple[str, str]] = Counter()
    for id_, held in hooks_in_the_end(rows).items():
        key = f"{app_of[id_]}/{id_}"
        calls["GET", key] = int(id_ in looked)
        calls["PUT", key] = int(held != hook_at_first(id_) or id_ not in looked)
    return +calls


def _rule(row: dict[str, Any]) -> dict[str, Any]:
    return {"name": row["name"], **{kind: set(row[kind]) for kind in ("events", "users", "resources")}}


def _hook(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("active", "tag", "url")} | {"modes": set(row["modes"])}
