"""One arq job for each row and an async httpx client: `arq arq_rows.WorkerSettings`, `python arq_rows.py FILE`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httpx
from arq import create_pool
from arq.connections import RedisSettings
from rows import BROKER, CREDENTIALS, QUERY, TIMEOUT, URL, Row, body, path_of, read

QUEUE = RedisSettings(unix_socket_path=BROKER.removeprefix("redis+socket://"))


async def update(context: dict[str, Any], row: Row) -> None:
    """Send one row."""
    reply = await context["client"].post(path_of(row["user_id"]), params=QUERY, json=body([row]))
    reply.raise_for_status()


async def open_client(context: dict[str, Any]) -> None:
    """Make the client of this process."""
    context["client"] = httpx.AsyncClient(base_url=URL, auth=CREDENTIALS, timeout=TIMEOUT)


class WorkerSettings:
    """What the worker is told."""

    functions = (update,)
    on_startup = open_client
    redis_settings = QUEUE
    keep_result = 0
    max_jobs = 20


async def enqueue(path: str) -> None:
    """Make a job of each row."""
    pool = await create_pool(QUEUE)
    for row in read(path):
        await pool.enqueue_job("update", row)
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(enqueue(sys.argv[1]))
