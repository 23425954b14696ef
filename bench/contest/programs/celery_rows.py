"""One Celery task for each row and a sync httpx client.

`celery -A celery_rows worker` works, `python celery_rows.py FILE` publishes.
"""

from __future__ import annotations

import sys
from functools import cache

import httpx
from celery import Celery
from rows import BROKER, CREDENTIALS, QUERY, TIMEOUT, URL, Row, body, path_of, read

app = Celery("celery_rows", broker=BROKER)
app.conf.task_ignore_result = True


@cache
def client() -> httpx.Client:
    """Return the client of this process."""
    return httpx.Client(base_url=URL, auth=CREDENTIALS, timeout=TIMEOUT)


@app.task(name="update", autoretry_for=(httpx.HTTPError,), retry_backoff=True, max_retries=8)
def update(row: Row) -> None:
    """Send one row."""
    reply = client().post(path_of(row["user_id"]), params=QUERY, json=body([row]))
    reply.raise_for_status()


if __name__ == "__main__":
    for each in read(sys.argv[1]):
        update.delay(each)
