"""What a test can see afterwards."""

import json

import pytest

from tests.sandbox.calling import Caller, row


def test_the_call_log_tells_each_call(capillary: Caller) -> None:
    """Method, customer, status, code, number of rows, and when it came and was answered."""
    capillary.write("1001", row(), row("MOBILE"))
    capillary.read("4041")

    first, second = capillary.calls()

    assert first.pop("received") <= first.pop("answered") <= second["received"]
    assert first == {
        "method": "POST",
        "user": "1001",
        "status": 200,
        "code": None,
        "rows": 2,
        "fault": None,
    }
    assert (second["method"], second["status"], second["code"]) == ("GET", 400, 1012)
    assert capillary.calls(user="4041") == [second]


def test_the_stats_count_calls_by_status_code_and_customer(capillary: Caller) -> None:
    """Only the busiest customers are named, ten unless asked otherwise."""
    for user in ("1", "2", "2", "4041"):
        capillary.write(user)

    stats = capillary.stats(users=1)

    assert (stats["calls"], stats["in_flight"], stats["by_user"]) == (4, 0, {"2": 2})
    assert (stats["by_status"], stats["by_code"]) == ({"200": 3, "400": 1}, {"1012": 1})
    assert (stats["customers"], stats["rows_committed"]) == (2, 3)


def test_the_state_comes_in_pages(capillary: Caller) -> None:
    """`next` is the offset of the following page, and None on the last one."""
    for user in ("1", "2", "3"):
        capillary.write(user)

    first = capillary.http.get("/_sandbox/state", params={"limit": 2}).json()
    second = capillary.http.get("/_sandbox/state", params={"limit": 2, "offset": first["next"]}).json()

    assert (list(first["customers"]), list(second["customers"])) == (["1", "2"], ["3"])
    assert second["next"] is None


def test_everything_comes_as_lines_of_json(capillary: Caller) -> None:
    """A list longer than one piece arrives whole and in order."""
    users = [str(number) for number in range(1000, 1600)]
    for user in users:
        capillary.write(user)

    for what in ("state", "calls"):
        lines = capillary.http.get(f"/_sandbox/{what}", params={"format": "ndjson"}).text.splitlines()
        assert [json.loads(line)["user"] for line in lines] == users


def test_a_reset_forgets_everything(capillary: Caller) -> None:
    """Customers, calls and faults are gone, and numbering starts again."""
    capillary.write()
    capillary.fault("busy")

    capillary.http.post("/_sandbox/reset")

    assert (capillary.calls(), capillary.faults(), capillary.rows()) == ([], [], [])
    capillary.write()
    assert capillary.rows()[0]["seq"] == 1


@pytest.mark.parametrize("asked", ["state?limit=0", "state?offset=x", "stats?window=x", "calls?offset=-1"])
def test_a_question_that_makes_no_sense_is_refused(capillary: Caller, asked: str) -> None:
    """A number out of range gets 400."""
    assert capillary.http.get(f"/_sandbox/{asked}").status_code == 400
