"""Connections that end without a reply, over real loopback."""

import httpx
import pytest

from tests.sandbox.calling import CUT, Caller


def test_a_change_can_be_made_and_the_reply_lost(capillary: Caller) -> None:
    """The caller sees the server hang up, the row is held, and the call log says that the call was cut."""
    capillary.fault("commit_then_drop", next=1)

    with pytest.raises(httpx.RemoteProtocolError, match="disconnected"):
        capillary.write()

    assert len(capillary.rows()) == 1
    (call,) = capillary.calls()
    assert (call["status"], call["rows"], call["fault"]) == (None, 1, "commit_then_drop")
    assert capillary.stats()["by_status"] == {"cut": 1}


def test_a_connection_can_be_reset_before_the_change(capillary: Caller) -> None:
    """The caller sees a reset, and nothing is held."""
    capillary.fault("reset", next=1)

    with pytest.raises(httpx.ReadError):
        capillary.write()

    assert capillary.rows() == []
    assert capillary.write().status_code == 200


def test_the_provider_can_be_down_for_a_while(capillary: Caller) -> None:
    """Every connection is cut, the token call's too; the control paths stay, and lifting the fault ends it."""
    capillary.fault("down", seconds=30)

    for _ in range(3):
        with pytest.raises(CUT):
            capillary.write()
    with pytest.raises(CUT):
        capillary.http.post("/v3/oauth/token/generate", json={})
    capillary.http.delete("/_sandbox/faults")

    assert capillary.write().status_code == 200


def test_a_refused_change_is_not_made_by_a_cut(capillary: Caller) -> None:
    """A fault that bites after the change lets a refusal through, for there was no change."""
    capillary.fault("commit_then_drop")

    assert capillary.write("4041").status_code == 400
