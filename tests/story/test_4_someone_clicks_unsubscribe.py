"""A first look at HTTP: someone clicks unsubscribe in a mail, and the provider holds it."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.company import assert_balanced, company
from tests.support.http_server import KEY, SECRET, process


def test_someone_clicks_unsubscribe(tmp_path: Path) -> None:
    """A shop puts a link into its mail to Ann; she presses the button of her mail program.

    Meanwhile the shop's preference page posts Ben's opt-out with its key. Capillary holds both, and the page, which
    was told an id, can ask what became of it.
    """
    with company(tmp_path) as shop:
        shop.settings = {"API_KEYS": f"shop={KEY}", "TOKEN_SECRET": SECRET}
        _, made, _ = shop.run("token", "user_id=387006417", "channel=EMAIL", "priority=BULK", "--expires", "90d")
        ben = {"user_id": "387006418", "channel": "EMAIL", "priority": "BULK", "action": "OPTOUT"}

        with process(tmp_path) as served:
            link = f"{served.url}/v1/unsubscribe/{made['token']}"
            clicked = httpx.post(link, data={"List-Unsubscribe": "One-Click"})
            (result,) = served.post({**ben, "effective_at": "2026-11-20T08:30:00Z"}).json()["results"]
            shop.run("run")
            found = httpx.get(f"{served.url}/v1/changes/{result['id']}", headers={"x-api-key": KEY}).json()
            served.end()

        assert clicked.status_code == 200
        assert (result["status"], found["state"]) == ("accepted", "applied")
        assert shop.held() == dict.fromkeys([("387006417", "EMAIL", "BULK"), ("387006418", "EMAIL", "BULK")], "OPTOUT")
        _, histories, _ = shop.run("history", "user_id=387006417")
        assert histories[0]["changes"][0]["origin"]["name"].startswith("unsubscribe links, as ")
        _, run, _ = shop.run("status", "latest")
        assert_balanced(run)
