"""An event whose change the provider takes and never keeps: it ends as a dead letter, and no worker waits for it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.company import Company, company
from tests.support.http_server import process, statuses
from tests.support.servers.event_streams import listeners, opt_out, stream, until

POISON, FIRST, NEWCOMERS = 100, 200, 8
OFFSET = 500_000_000


Publish = Callable[[dict[str, Any]], object]


@pytest.fixture(params=["listen", "serve"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Company, Publish]]:
    """A listener or an HTTP server, one worker process and a sweep, as they run for months; events go to the first."""
    with ExitStack() as stack:
        shop, events = stack.enter_context(company(tmp_path)), stack.enter_context(stream(tmp_path))
        shop.settings |= {"BROKER_URL": events.broker.url, "CONNECTIONS__CAPILLARY__RATE": "50/second"}
        shop.settings |= {"BACKOFF_SECONDS": "1", "BACKOFF_CEILING": "2"}
        for arguments in (("worker", "--concurrency", "1"), ("sweep",)):
            stack.callback(_end, shop.start(*arguments))
        if request.param == "serve":
            served = stack.enter_context(process(tmp_path, BROKER_URL=events.broker.url))
            stack.callback(served.end)
            yield shop, lambda change: statuses(served.post(change | {"connection": "capillary"}))
            return
        stack.enter_context(listeners(shop, events.source())).start("listener")
        yield shop, lambda change: events.publish(json.dumps(change).encode())


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.communicate(timeout=60)


def calls_for(shop: Company, number: int) -> list[float]:
    """When the provider heard of a customer."""
    calls = httpx.get(f"{shop.url}/_sandbox/calls", params={"user": str(OFFSET + number)}).json()["calls"]
    return [call["received"] for call in calls]


@pytest.mark.proof
@pytest.mark.parametrize("slow", [False, True])
def test_a_poisoned_customer_holds_no_worker(service: tuple[Company, Publish], *, slow: bool) -> None:
    """The only process goes on with those who come while one customer's row vanishes again and again, also slowly."""
    shop, publish = service
    if slow:
        shop.fault(kind="latency", users=[str(OFFSET + POISON)], delay=4.0)
    shop.fault(kind="drop", users=[str(OFFSET + POISON)])
    publish(opt_out(POISON))
    until(lambda: calls_for(shop, POISON))

    waits = []
    for number in range(FIRST, FIRST + NEWCOMERS):
        published = time.time()
        publish(opt_out(number))
        until(lambda number=number: calls_for(shop, number), 30)
        waits.append(calls_for(shop, number)[0] - published)
    until(lambda: shop.run("dead-letters", "list")[1], 90)

    [letter] = shop.run("dead-letters", "list", "--reveal")[1]
    assert str(OFFSET + POISON) in letter["target"]
    assert sorted(waits)[NEWCOMERS // 2] < 3.0, waits
    assert len(shop.held()) == NEWCOMERS
