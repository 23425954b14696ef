"""celery-batches and an async httpx client: `celery -A batch_rows worker`, `python batch_rows.py FILE`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httpx
from celery import Celery
from celery_batches import Batches
from rows import BROKER, CREDENTIALS, QUERY, TIMEOUT, URL, Row, body, path_of, read

app = Celery("batch_rows", broker=BROKER)
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = 100


@app.task(name="update", base=Batches, flush_every=100, flush_interval=1)
def update(requests: list[Any]) -> None:
    """Send a hundred rows at once."""
    asyncio.run(send([request.args[0] for request in requests]))


async def send(rows: list[Row]) -> None:
    """Send rows side by side."""
    async with httpx.AsyncClient(base_url=URL, auth=CREDENTIALS, timeout=TIMEOUT) as client:
        calls = (client.post(path_of(row["user_id"]), params=QUERY, json=body([row])) for row in rows)
        for reply in await asyncio.gather(*calls):
            reply.raise_for_status()


if __name__ == "__main__":
    for each in read(sys.argv[1]):
        update.delay(each)
