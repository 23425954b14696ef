"""`OPTRELAY_UI_LISTEN`: the page and the metrics at an address of their own, and nowhere else."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest

from consent.errors import ConfigurationError
from consent.settings import load_settings
from tests.support.browser.page import EVERYONE
from tests.support.command_line import Cli
from tests.support.http_server import KEY, process

KEYS = f"shop={KEY},prometheus[metrics]=a-key-of-prometheus-alone"


def free_port() -> int:
    """A port that no one listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def test_the_page_and_the_metrics_are_at_their_own_address_alone(tmp_path: Path) -> None:
    """Each address answers nothing of the other, whatever host a client names; health is told at both."""
    port = free_port()
    with process(tmp_path, UI_LISTEN=f"127.0.0.1:{port}", UI_USERS=EVERYONE, API_KEYS=KEYS) as served:
        public, own = served.url, f"http://127.0.0.1:{port}"
        for path in ("/ui/login", "/ui/", "/ui/static/page.css", "/metrics"):
            for forged in ({}, {"host": f"127.0.0.1:{port}"}, {"x-forwarded-port": str(port)}):
                answer = httpx.get(f"{public}{path}", headers={"x-api-key": KEY, **forged})
                assert (path, answer.status_code) == (path, 404)
        for path in ("/docs", "/openapi.json", "/v1/changes", "/v1/unsubscribe/x", "/uix", "/"):
            assert (path, httpx.get(f"{own}{path}", headers={"x-api-key": KEY}).status_code) == (path, 404)
        assert httpx.get(f"{own}/ui/login").status_code == 200
        assert httpx.get(f"{own}/metrics", headers={"x-api-key": "a-key-of-prometheus-alone"}).status_code == 200
        assert httpx.get(f"{public}/docs").status_code == 200
        assert {httpx.get(f"{url}/healthz").status_code for url in (public, own)} == {200}
        assert served.end() == 128 + 15


def test_one_port_cannot_be_both(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused at the start: the page would be where the public is."""
    port = free_port()
    monkeypatch.setenv("OPTRELAY_UI_LISTEN", f"127.0.0.1:{port}")
    monkeypatch.setenv("OPTRELAY_UI_USERS", EVERYONE)
    answer = cli("serve", "--port", str(port))
    assert (answer.code, "another port" in answer.err) == (2, True)


@pytest.mark.parametrize("wrong", ["9464", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", ":9464"])
def test_an_address_that_is_none_is_refused(wrong: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the form in which it is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTRELAY_UI_LISTEN", wrong)
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        load_settings()
