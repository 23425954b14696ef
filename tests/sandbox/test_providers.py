"""What Infobip and Gupshup have in common with Capillary: broken replies, inspection, control."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.__main__ import _parser, _settings
from sandbox.settings import SandboxSettings
from tests.sandbox.calling import CUT, Caller
from tests.sandbox.calling_providers import GupshupCaller, InfobipCaller

ProviderCaller = InfobipCaller | GupshupCaller
KEYS = {"infobip": "SMS/DEMO-SMS", "gupshup": "demo-app-1/21001"}


@pytest.fixture(params=KEYS)
def caller(request: pytest.FixtureRequest) -> ProviderCaller:
    """Give each of the two in turn."""
    return request.getfixturevalue(request.param)


def _row(caller: ProviderCaller) -> dict[str, Any]:
    (row,) = caller.rows(KEYS[caller.control.rpartition("/")[2]])
    return row


def _write(caller: ProviderCaller) -> httpx.Response:
    return caller.put()


@pytest.mark.parametrize(
    ("kind", "error", "done"),
    [
        ("commit_then_drop", httpx.RemoteProtocolError, True),
        ("down", CUT, False),
        ("reset", httpx.ReadError, False),
    ],
)
def test_a_connection_can_end_without_a_reply(caller: ProviderCaller, kind: str, error: Any, *, done: bool) -> None:
    """The caller sees it end, and whether the change was made is up to the fault."""
    before = _row(caller)["seq"]
    caller.fault(kind, next=1)

    with pytest.raises(error):
        _write(caller)

    assert (_row(caller)["seq"] > before) is done
    assert caller.stats()["by_status"] == {"cut": 1}


def test_a_broken_reply_is_no_json(caller: ProviderCaller) -> None:
    """An HTML page and an empty 200 change nothing; a reply that breaks off comes after the change was made."""
    began = _row(caller)["seq"]
    for kind in ("html", "empty", "malformed"):
        caller.fault(kind, next=1)

    html, empty = _write(caller), _write(caller)
    assert (html.status_code, html.headers["Content-Type"], empty.content) == (502, "text/html", b"")
    assert _row(caller)["seq"] == began
    malformed = _write(caller)

    with pytest.raises(ValueError, match="Unterminated"):
        malformed.json()
    assert _row(caller)["seq"] > began


def test_the_call_log_tells_each_call(caller: ProviderCaller) -> None:
    """The shape is Capillary's; `user` is the target."""
    _write(caller)

    (call,) = caller.calls()

    assert call.pop("received") <= call.pop("answered")
    key = KEYS[caller.control.rpartition("/")[2]]
    assert call == {"method": "PUT", "user": key, "status": 200, "code": None, "rows": 1, "fault": None}


def test_a_fault_a_provider_does_not_suffer_is_refused(caller: ProviderCaller, capillary: Caller) -> None:
    """A Capillary warning makes no sense elsewhere, nor do ignored events at Capillary; the good ones wait too."""
    for http, path, kind in (
        (caller.http, f"{caller.control}/faults", "warn"),
        (capillary.http, "/_sandbox/faults", "ignore_events"),
    ):
        assert http.post(path, json=[{"kind": "html"}, {"kind": kind}]).status_code == 400
        assert http.get(path).json()["faults"] == []


def test_each_provider_has_its_own_faults_and_calls(caller: ProviderCaller, capillary: Caller) -> None:
    """What is ordered for one does not touch the other, and neither does a reset."""
    caller.fault("down")
    assert capillary.write().status_code == 200

    capillary.http.post("/_sandbox/reset")

    with pytest.raises(CUT):
        _write(caller)
    assert (caller.stats()["calls"], capillary.stats()["calls"]) == (1, 0)


def test_a_reset_brings_the_first_state_back(caller: ProviderCaller) -> None:
    """Faults and calls are gone, and the subscriptions are those of the settings again."""
    first = caller.keys()
    _write(caller)
    caller.fault("html")

    caller.http.post(f"{caller.control}/reset")

    assert (caller.keys(), caller.calls()) == (first, [])
    assert _write(caller).status_code == 200


def test_subscriptions_can_be_seeded_without_calls(infobip: InfobipCaller, gupshup: GupshupCaller) -> None:
    """Many at once, and none of them stands in the call log."""
    webhook = {"notifyUrl": "https://example.com/p"}
    of_infobip = {
        "profiles": [{"profileId": "P", "webhook": webhook}],
        "subscriptions": {
            "RCS": [{"subscriptionId": f"R{n}", "profile": {"profileId": "P"}, "events": ["SEEN"]} for n in range(50)]
        },
        "blocklist": [{"destinations": [{"to": "15550100"}, {"to": "15550101"}]}],
    }
    form = {"url": "https://example.com/", "version": "3", "modes": "SENT"}
    of_gupshup = {"another-app": [form | {"id": str(n), "tag": str(n)} for n in range(50)]}

    assert infobip.seed(of_infobip).json() == {"seeded": 53}
    assert gupshup.seed(of_gupshup).json() == {"seeded": 50}
    assert infobip.get("R49", "RCS").json()["events"] == ["SEEN"]
    assert gupshup.rows("another-app/49")[0]["mode"] == 1
    assert (infobip.stats()["subscriptions"], len(infobip.calls())) == (54, 1)


@pytest.mark.parametrize("wrong", [{"subscriptions": {"SMS": [{}]}}, {"x": 1}, 5, {"demo-app-1": [{"tag": "t"}]}])
def test_a_seed_that_makes_no_sense_is_refused(caller: ProviderCaller, wrong: Any) -> None:
    """It gets 400."""
    assert caller.seed(wrong).status_code == 400


def test_the_command_has_options_for_each_provider(tmp_path: Path) -> None:
    """They go to the section of their provider, over what the file of settings says."""
    file = tmp_path / "settings.json"
    file.write_text('{"gupshup": {"rate": "off"}, "infobip": {"blocklist_lag": 7}}')
    options = [
        "--infobip-api-key",
        "k",
        "--gupshup-apps",
        '{"a": "t"}',
        "--infobip-blocklist-lag",
        "0",
        "--rate",
        "off",
    ]
    given = vars(_parser().parse_args(options))
    for name in ("host", "port", "parent", "settings"):
        del given[name]

    chosen = _settings(str(file), given)

    assert (chosen.infobip.api_key, chosen.infobip.blocklist_lag, chosen.capillary.rate) == ("k", 0, "off")
    assert (chosen.gupshup.apps, chosen.gupshup.rate) == ({"a": "t"}, "off")


def test_the_settings_of_a_demo_are_obvious() -> None:
    """The credentials say what they are, and no URL leads anywhere but to example.com."""
    settings = SandboxSettings()

    assert settings.infobip.api_key == "demo-infobip-key"
    assert settings.gupshup.apps == {f"demo-app-{n}": f"demo-gupshup-token-{n}" for n in (1, 2, 3)}
    for section in (settings.infobip, settings.gupshup):
        text = section.model_dump_json()
        assert text.count("https://") == text.count("https://example.com/") > 0
