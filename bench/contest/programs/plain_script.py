"""A plain asyncio script without queue, ledger or memory: it reads the file, keeps the newest changes, and calls.

`python plain_script.py FILE --transport httpx` as a user would write it; `--transport optrelay` with the transport that
optrelay's workers use: the upper bound. `--processes 2` shares the customers out.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import defaultdict
from collections.abc import Iterator
from multiprocessing import get_context
from typing import Any

import httpx
from rows import CREDENTIALS, QUERY, TIMEOUT, URL, Row, body, path_of, read

CONCURRENCY = 32


def newest(path: str) -> list[tuple[str, list[Row]]]:
    """Return each customer's newest changes."""
    slots: dict[tuple[str, str, str], Row] = {}
    for row in read(path):
        slot = (row["user_id"], row["channel"], row["priority"])
        if slot not in slots or row["effective_at"] >= slots[slot]["effective_at"]:
            slots[slot] = row
    customers = defaultdict(list)
    for (customer, _, _), row in slots.items():
        customers[customer].append(row)
    return list(customers.items())


async def call(client: httpx.AsyncClient, customer: str, rows: list[Row]) -> None:
    """Make one customer's call and look at the answer."""
    reply = await client.post(path_of(customer), params=QUERY, json=body(rows))
    reply.raise_for_status()
    assert len(reply.json()["subscriptions"]) == len(rows)


async def with_httpx(customers: list[tuple[str, list[Row]]]) -> None:
    """One client with a limit, all calls gathered."""
    limits = httpx.Limits(max_connections=50, max_keepalive_connections=50)
    turn = asyncio.Semaphore(50)

    async def one(client: httpx.AsyncClient, customer: str, rows: list[Row]) -> None:
        async with turn:
            await call(client, customer, rows)

    async with httpx.AsyncClient(base_url=URL, auth=CREDENTIALS, timeout=TIMEOUT, limits=limits) as client:
        await asyncio.gather(*(one(client, customer, rows) for customer, rows in customers))


async def with_optrelays(customers: list[tuple[str, list[Row]]]) -> None:
    """As many calls under way as each of optrelay's workers has."""
    from worker.http.client import LONGEST_BODY
    from worker.http.transport import CONNECT_SECONDS, PooledTransport

    waiting = iter(customers)
    pool: Any = PooledTransport(httpx.URL(URL), CONNECT_SECONDS, LONGEST_BODY)

    async def call_on(client: httpx.AsyncClient, waiting: Iterator[tuple[str, list[Row]]]) -> None:
        for customer, rows in waiting:
            await call(client, customer, rows)

    async with httpx.AsyncClient(base_url=URL, auth=CREDENTIALS, timeout=TIMEOUT, transport=pool) as client:
        await asyncio.gather(*(call_on(client, waiting) for _ in range(CONCURRENCY)))


def send(transport: str, customers: list[tuple[str, list[Row]]]) -> None:
    """Send all that is given."""
    asyncio.run((with_optrelays if transport == "optrelay" else with_httpx)(customers))


def main() -> None:
    """Send a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--transport", choices=["httpx", "optrelay"], default="httpx")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    customers = newest(options.file)
    if options.processes == 1:
        send(options.transport, customers)
        return
    shares = [(options.transport, customers[share :: options.processes]) for share in range(options.processes)]
    with get_context("fork").Pool(options.processes) as pool:
        pool.starmap(send, shares, chunksize=1)


if __name__ == "__main__":
    main()
