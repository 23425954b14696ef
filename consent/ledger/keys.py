"""The keyed hashes by which the ledger refers to targets and recognises a change that it has seen before."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import orjson

from consent.change import ConsentChange, to_micros

KEY_BYTES = 16


def target_key(secret: bytes, connection: str, address: Mapping[str, str]) -> bytes:
    """Return the hash that stands for a target; without `secret` it cannot be computed from a person's data."""
    return blake2b(f"{connection}\0{canonical(address)}".encode(), key=secret, digest_size=KEY_BYTES).digest()


def dedupe_key(secret: bytes, target: bytes, change: ConsentChange) -> bytes:
    """Return the hash by which the same change is known again, from the same file or another.

    With a `change_id` that is the producer's own word for sameness, whatever else it says about time and reason;
    otherwise a change is the same if it says the same. A change_id used again for another target, slot or action
    is another change: nothing is lost by a producer's mistake.
    """
    if change.change_id is None:
        said = f"{to_micros(change.effective_at)}\0{canonical(change.details)}"
    else:
        said = f"id\0{change.change_id}"
    text = f"{change.slot}\0{change.action}\0{said}".encode()
    return blake2b(target + text, key=secret, digest_size=KEY_BYTES).digest()


def canonical(value: Mapping[str, Any]) -> str:
    """Return a mapping as JSON that is the same whenever the mapping is."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
