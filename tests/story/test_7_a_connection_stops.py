"""A provider refuses our credentials: the on-call person gets one signed notice, and one when it goes on again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.support.company import PASSWORD, company
from tests.support.servers.local_server import ServerAnswer, serving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SINCE = datetime.now(UTC) - timedelta(hours=1)
ROW = {"channel": "EMAIL", "priority": "BULK", "action": "OPTOUT", "effective_at": f"{SINCE:%Y-%m-%dT%H:%M:%SZ}"}


@pytest.mark.waits
def test_one_notice_when_it_stops_and_one_when_it_goes_on(tmp_path: Path) -> None:
    """Two nightly runs meet the refusal; the receiver checks each signature, and no message names a person."""
    with serving(lambda _: ServerAnswer(204)) as pager, company(tmp_path) as shop:
        shop.settings |= {"NOTIFY": f"{pager.url}/hook", "NOTIFY_SECRET": SECRET, "HEARTBEAT_URL": f"{pager.url}/beat"}
        shop.settings["CONNECTIONS__CAPILLARY__PASSWORD"] = "changed-at-the-provider"
        path = shop.write([ROW | {"user_id": str(500_000_000 + n)} for n in range(5)])

        assert shop.run("run", path)[0] == 4
        assert shop.run("run")[0] == 4
        opened = [one for one in pager.asked if one.path == "/hook"]
        assert [one.path for one in pager.asked].count("/beat/fail") == 2
        assert [one.path for one in pager.asked].count("/beat/start") == 2
        assert [one["kind"] for one in shop.run("notices")[1]] == ["connection_stopped"]

        shop.settings["CONNECTIONS__CAPILLARY__PASSWORD"] = PASSWORD
        assert shop.run("run")[0] == 0
        assert shop.run("notices")[1] == []

    hooks = [one for one in pager.asked if one.path == "/hook"]
    notices = [Webhook(SECRET).verify(one.body, one.headers) for one in hooks]
    assert len(opened) == 1
    assert [one["type"] for one in notices] == ["notice.opened", "notice.resolved"]
    assert {one["data"]["key"] for one in notices} == {"connection_stopped:capillary"}
    assert len({one.headers["webhook-id"] for one in hooks}) == 2
    assert not any(b"5000000" in one.body for one in hooks)
    assert [one.path for one in pager.asked if one.path != "/hook"][-1] == "/beat"
