"""Who may call Gupshup, how often, and what goes wrong on demand."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.sandbox.calling_providers import GupshupCaller, StartingGupshup, refused

ALL = "/partner/app/demo-app-1/subscription"


@pytest.mark.parametrize("token", ["", "wrong", "demo-gupshup-token-2", "Bearer demo-gupshup-token-1"])
def test_a_token_is_for_one_app_and_stands_alone(gupshup: GupshupCaller, token: str) -> None:
    """Another app's token, a wrong one, or a word before it gets 401."""
    assert refused(gupshup.http.get(ALL, headers={"Authorization": token})) == (401, "Authentication Failed")


def test_a_token_may_belong_to_no_partner(gupshup: GupshupCaller) -> None:
    """Such a token gets 400."""
    reply = gupshup.http.get(ALL, headers={"Authorization": "demo-gupshup-stray-token"})

    assert refused(reply) == (400, "API key is not associated with partner")


def test_a_method_that_is_not_supported_is_refused(gupshup: GupshupCaller) -> None:
    """PATCH gets 405."""
    assert gupshup.http.patch(ALL).status_code == 405


def test_each_app_has_five_calls_a_minute_over_all_its_paths(start_gupshup: StartingGupshup) -> None:
    """The sixth gets 429, whichever path it takes; another app is not held back."""
    gupshup = start_gupshup(rate="5/minute")
    mine = [gupshup.put(active="false"), *[gupshup.get() for _ in range(3)], gupshup.http.get(ALL), gupshup.get()]
    other = gupshup.http.get("/partner/app/demo-app-2/subscription", headers={"Authorization": "demo-gupshup-token-2"})

    assert [reply.status_code for reply in mine] == [200] * 5 + [429]
    assert refused(mine[-1]) == (429, "Too Many Requests")
    assert "Retry-After" not in mine[-1].headers
    assert other.status_code == 200
    assert gupshup.stats(window=60)["worst_window"]["by_bucket"] == {
        "demo-app-1": {"calls": 6, "accepted": 5},
        "demo-app-2": {"calls": 1, "accepted": 1},
    }


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"kind": "throttle"}, (429, "Too Many Requests")),
        ({"kind": "refuse"}, (401, "Authentication Failed")),
        ({"kind": "unknown"}, (400, "Subscription Does Not Exist")),
        ({"kind": "error", "code": 500}, (500, "Internal Server Error")),
        ({"kind": "error", "code": 500, "message": "Unable", "http_status": 503}, (503, "Unable")),
    ],
)
def test_an_error_can_be_ordered(gupshup: GupshupCaller, fault: dict[str, Any], expected: tuple[int, str]) -> None:
    """The reply is Gupshup's own and nothing is changed; one may order it for one app or one subscription."""
    gupshup.fault(**fault, users=["21001"])

    assert refused(gupshup.put(active="false")) == expected
    assert gupshup.get("21002").status_code == 200
    assert gupshup.rows("demo-app-1/21001")[0]["active"] is True
    assert gupshup.stats()["by_code"] == {expected[1]: 1}


def test_modes_can_be_left_out_without_a_word(gupshup: GupshupCaller) -> None:
    """The reply is 200 and shows that a mode is missing."""
    gupshup.fault("ignore_events", events=["READ"])

    assert gupshup.put(modes="SENT,READ").json()["subscription"]["modes"] == ["SENT"]
    assert gupshup.put(active="true").json()["subscription"]["modes"] == ["SENT"]


def test_two_updates_at_once_are_counted(gupshup: GupshupCaller) -> None:
    """Both pass, and the overlap stands under its subscription."""
    gupshup.fault("latency", delay=0.1)
    with ThreadPoolExecutor(2) as pool:
        replies = [pool.submit(gupshup.put, active=value) for value in ("true", "false")]
        assert [reply.result().status_code for reply in replies] == [200, 200]

    assert gupshup.stats()["overlaps_by_user"] == {"demo-app-1/21001": 1}
