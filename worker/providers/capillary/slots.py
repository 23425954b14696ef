"""A slot at Capillary: channel, account, priority and org unit of one customer, and its one form as text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring as quoted  # not escaped: a slot is a key, and keys are limited in bytes


@dataclass(frozen=True, slots=True)
class Slot:
    """The smallest thing that a customer can be in or out of."""

    channel: str
    account: str
    priority: str
    org_unit: int


def slot_text(channel: str, account: str, priority: str, org_unit: int) -> str:
    """Write a slot as a JSON array, like `["EMAIL","01","BULK",-1]`."""
    return f'["{channel}",{quoted(account)},"{priority}",{org_unit}]'


@lru_cache(maxsize=4096)  # there are few, and each is read for every change
def read_slot(text: str) -> Slot:
    """Read what `slot_text` wrote."""
    return Slot(*json.loads(text))
