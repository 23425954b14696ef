"""Who may call."""

import time
from typing import Any

import pytest

from tests.sandbox.calling import Caller, Starting, code

MINT = "/v3/oauth/token/generate"
DEMO = {"key": "demo-key", "secret": "demo-secret"}


def _token(capillary: Caller) -> str:
    del capillary.http.headers["Authorization"]
    minted = capillary.http.post(MINT, json=DEMO)
    assert minted.json()["data"]["ttlSeconds"] > 0
    assert minted.json()["errors"] is None
    return minted.json()["data"]["accessToken"]


@pytest.mark.parametrize("given", ["Basic bm9ib2R5Om5vdGhpbmc=", "Bearer x", ""])
def test_a_wrong_password_is_refused(capillary: Caller, given: str) -> None:
    """Anything but the till's own Basic header gets 401."""
    capillary.http.headers["Authorization"] = given

    reply = capillary.write()

    assert (reply.status_code, code(reply)) == (401, 401)
    assert capillary.rows() == []


@pytest.mark.parametrize("header", ["X-CAP-API-OAUTH-TOKEN", "CAP-API-ACCESS-TOKEN"])
def test_a_token_opens_under_both_names(capillary: Caller, header: str) -> None:
    """A minted token is accepted in either of the two documented headers, another text in neither."""
    capillary.http.headers[header] = _token(capillary)
    assert capillary.write().status_code == 200

    capillary.http.headers[header] = "forged"
    assert capillary.write().status_code == 401


def test_a_token_expires(start: Starting) -> None:
    """After its time to live a token is refused and a new one accepted."""
    capillary = start(token_ttl=1)
    capillary.http.headers["X-CAP-API-OAUTH-TOKEN"] = _token(capillary)
    assert capillary.write().status_code == 200

    time.sleep(1.01)
    assert capillary.write().status_code == 401
    minted = capillary.http.post(MINT, json=DEMO).json()["data"]["accessToken"]

    assert capillary.http.get("/v2/customers/1001/subscriptions", headers={"X-CAP-API-OAUTH-TOKEN": minted}).is_success


def test_tokens_can_be_expired_on_demand(capillary: Caller) -> None:
    """The fault `expired_tokens` refuses every token minted before it, not those minted after."""
    capillary.http.headers["X-CAP-API-OAUTH-TOKEN"] = _token(capillary)
    capillary.fault("expired_tokens")
    assert capillary.write().status_code == 401

    capillary.http.headers["X-CAP-API-OAUTH-TOKEN"] = capillary.http.post(MINT, json=DEMO).json()["data"]["accessToken"]

    assert capillary.write().status_code == 200


@pytest.mark.parametrize("given", [{"key": "demo-key", "secret": "no"}, {}, []])
def test_a_wrong_secret_mints_nothing(capillary: Caller, given: Any) -> None:
    """The token call is refused with 401."""
    assert capillary.http.post(MINT, json=given).status_code == 401
    assert capillary.stats()["tokens"] == 0


def test_half_a_pair_of_attribution_headers_is_refused(capillary: Caller) -> None:
    """The value without its type gets 1061."""
    capillary.http.headers["X-CAP-API-ATTRIBUTION-LOOKUP"] = "till-7"

    assert code(capillary.write()) == 1061


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_can_be_refused_on_demand(capillary: Caller, status: int) -> None:
    """The fault `refuse` answers every call, the token call too, with 401 or 403."""
    capillary.fault("refuse", http_status=status)

    assert capillary.write().status_code == status
    assert capillary.http.post(MINT, json=DEMO).status_code == status
