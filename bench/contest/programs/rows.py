"""What the rivals share: a row of the CSV as Capillary's request. They know nothing of optrelay."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from typing import Any

Row = dict[str, str]

URL = os.environ.get("PROVIDER_URL", "")
BROKER = os.environ.get("BROKER_URL", "")
CREDENTIALS = ("bench", "bench")
QUERY = {"format": "json"}
TIMEOUT = 20


def read(path: str) -> Iterator[Row]:
    """Give the rows of a file."""
    with open(path, newline="") as file:  # noqa: PTH123 - as a user would write it
        yield from csv.DictReader(file)


def path_of(customer: str) -> str:
    """Return where a customer's consent is written."""
    return f"/v2/customers/{customer}/subscriptions"


def body(rows: Iterable[Row]) -> dict[str, Any]:
    """Return the request for rows of one customer."""
    subscriptions = [
        {
            "channel": row["channel"],
            "accountId": row["account_id"],
            "priority": row["priority"],
            "type": row["action"],
            "orgUnitId": int(row["org_unit_id"]),
        }
        for row in rows
    ]
    return {"communicationId": -1, "campaignId": -1, "reason": "nightly", "subscriptions": subscriptions}
