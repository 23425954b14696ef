"""Short ways to make one call in a test, and servers that do what no proper server does."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from tests.support.providers.capillary import BY_MOBILE, change, customer
from tests.support.servers.local_server import ServerAnswer, serving
from worker.http.client import Sender
from worker.http.failures import NoReply
from worker.providers.contract import Reply, Request, basic_auth

CHANGES: tuple[ClaimedChange, ...] = (change(1), change(2, "MOBILE"))
TASK: CustomerTask = customer(*CHANGES, address=BY_MOBILE)
CALL = Request("POST", "/v2/some", (TASK,), CHANGES, params={"who": "+1 555&0100"}, json={"a": "é"})


def sent(url: str, request: Request = CALL, times: int = 1, **settings: object) -> list[Reply | NoReply]:
    """Send a call, several times one after the other, over one connection."""
    connection = ConnectionSettings.model_validate({"base_url": url, "timeout": 5, **settings})

    async def run() -> list[Reply | NoReply]:
        async with Sender(connection, basic_auth("till", "digest")) as sender:
            return [await sender.send(request) for _ in range(times)]

    return asyncio.run(run())


def answered(answer: ServerAnswer, **settings: object) -> Reply | NoReply:
    """Return what becomes of a call to a provider that says this."""
    with serving(lambda _: answer) as server:
        return sent(server.url, **settings)[0]


def calls(port: int, work: Callable[[Sender], Coroutine[Any, Any, list[Reply | NoReply]]], **settings: object) -> Any:
    """Do something with a sender whose provider listens on a port of this machine."""
    given = {"base_url": f"http://127.0.0.1:{port}", "timeout": 5, **settings}

    async def run() -> list[Reply | NoReply]:
        async with Sender(ConnectionSettings.model_validate(given), basic_auth("till", "digest")) as sender:
            return await work(sender)

    return asyncio.run(run())


async def twice(sender: Sender, pause: float = 0.2) -> list[Reply | NoReply]:
    """Call, wait, and call again."""
    first = await sender.send(CALL)
    await asyncio.sleep(pause)
    return [first, await sender.send(CALL)]


@contextmanager
def raw(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Run a server that does with one connection whatever a test says."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            connection, _ = listening.accept()
            with connection:
                talk(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join()
