"""Apps of one Gupshup connection: what stops one is nothing to the others, and a person is told which one it is."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.gupshup.settings import GupshupSettings
from sandbox.server import running
from sandbox.settings import SandboxSettings
from tests.support.company import Company

STOPPED, WELL, FORGOTTEN = "app-1", "app-2", "app-3"
HOOKS = {STOPPED: ("21001", "21002", "21003"), WELL: ("22001", "22002", "22003"), FORGOTTEN: ("23001",)}
SECONDS = 45.0
"""Within which the other app is served and the run has ended: a fraction of the time that the first must wait."""


def _hook(id_: str) -> dict[str, str]:
    return {"id": id_, "tag": f"tag-{id_}", "url": "https://hooks.example.com/old", "version": "2", "modes": "SENT"}


@dataclass
class Messenger(Company):
    """A company with apps at Gupshup."""

    apps: tuple[str, ...] = (STOPPED, WELL)
    without_token: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        """What the optrelay command is told."""
        clean = {n: v for n, v in super().environment().items() if not n.startswith("OPTRELAY_CONNECTIONS__CAPILLARY")}
        stem = "OPTRELAY_CONNECTIONS__GUPSHUP__"
        tokens = {app: f"token-{app}" for app in self.apps if app not in self.without_token}
        variables = {"TOKENS": json.dumps(tokens), "RATE": "20/second", "BASE_URL": self.url}
        return {f"{stem}{name}": value for name, value in variables.items()} | clean

    def pauses(self) -> Path:
        """A file that pauses every webhook of the company's apps."""
        path = self.folder / "pauses.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("app_id", "subscription_id", "action", "effective_at"))
            writer.writerows((app, id_, "OPTOUT", "2026-11-20T08:00:00Z") for app in self.apps for id_ in HOOKS[app])
        os.utime(path, (time.time() - 60,) * 2)
        return path

    def order(self, **fault: Any) -> None:
        """Order a fault at Gupshup."""
        httpx.post(f"{self.url}/_sandbox/gupshup/faults", json=fault).raise_for_status()

    def repair(self) -> None:
        """End all faults at Gupshup."""
        httpx.delete(f"{self.url}/_sandbox/gupshup/faults").raise_for_status()

    def paused(self) -> set[str]:
        """The webhooks that are paused, as app and id."""
        reply = httpx.get(f"{self.url}/_sandbox/gupshup/state", params={"format": "ndjson"}).raise_for_status()
        held = [json.loads(line) for line in reply.text.splitlines()]
        return {one["user"] for one in held if not one["rows"][0]["active"]}

    def calls_to(self, app: str) -> int:
        """How many calls there were for an app."""
        reply = httpx.get(f"{self.url}/_sandbox/gupshup/calls", params={"format": "ndjson"}).raise_for_status()
        return sum(json.loads(line)["user"].startswith(f"{app}/") for line in reply.text.splitlines())


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Messenger]:
    """A company whose provider runs until the test ends."""
    gupshup = GupshupSettings(
        apps={app: f"token-{app}" for app in HOOKS},
        rate="off",
        subscriptions={app: tuple(map(_hook, ids)) for app, ids in HOOKS.items()},
    )
    with running(SandboxSettings(gupshup=gupshup)) as url:
        yield Messenger(tmp_path, url)


def all_of(app: str) -> set[str]:
    """Every webhook of an app."""
    return {f"{app}/{id_}" for id_ in HOOKS[app]}


@pytest.mark.proof
def test_an_app_that_must_wait_does_not_keep_its_neighbour(shop: Messenger) -> None:
    """One app is told to wait ten minutes; the other is served at once, and the run says at once that it cannot wait.

    Everything of the first app is kept, and it is not called again before its time, not even by the next run.
    """
    shop.order(kind="throttle", users=[f"{STOPPED}/*"], retry_after=600)
    started = time.monotonic()

    code, found, stderr = shop.run("run", shop.pauses(), "--patience", "60s")

    assert time.monotonic() - started < SECONDS
    assert shop.paused() == all_of(WELL)
    assert (code, found["applied"], found["pending"], found["dead"]) == (4, 3, 3, 0)
    assert "gupshup (app app-1) asked us to wait" in found["reasons"][0]
    assert len(found["reasons"]) == 1
    assert "gupshup (app app-2) asked" not in stderr

    called = shop.calls_to(STOPPED)
    assert 1 <= called <= len(HOOKS[STOPPED])
    _, answer, _ = shop.run("status")
    assert {one["bucket"]: one["pending"] for one in answer["connections"]} == {STOPPED: 3}
    assert answer["connections"][0]["throttled_until"] is not None
    assert shop.run("run", "--patience", "60s")[0] == 4
    assert shop.calls_to(STOPPED) == called


@pytest.mark.proof
def test_an_app_whose_token_is_refused_does_not_stop_its_neighbour(shop: Messenger) -> None:
    """One app's token is refused and another has none: the third is served, and the run ends at once with code 4.

    It names both apps and what to set; no one was called for the app without a token. Fixed, the same run finishes.
    """
    shop.apps, shop.without_token = (STOPPED, WELL, FORGOTTEN), (FORGOTTEN,)
    shop.order(kind="refuse", users=[f"{STOPPED}/*"])
    path, started = shop.pauses(), time.monotonic()

    code, found, _ = shop.run("run", path)

    assert time.monotonic() - started < SECONDS
    assert (shop.paused(), shop.calls_to(FORGOTTEN)) == (all_of(WELL), 0)
    assert (code, found["applied"], found["pending"], found["dead"]) == (4, 3, 4, 0)
    refused, forgotten = found["reasons"]
    assert "gupshup (app app-1) refuses our credentials (Gupshup refused the token of this app" in refused
    assert "gupshup (app app-3) refuses our credentials (this app has no token" in forgotten

    shop.repair()
    shop.without_token = ()
    code, found, stderr = shop.run("run", path)
    assert code == 0, stderr
    assert shop.paused() == all_of(STOPPED) | all_of(WELL) | all_of(FORGOTTEN)
