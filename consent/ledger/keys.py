"""The keyed hashes by which the ledger recognises a target, and a change that it has seen before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

import orjson

from consent.change import Action, ConsentChange, to_micros
from consent.identifiers.identity import identity_of

KEY_BYTES = 16
_HINT_BYTES = 4  # of a target's hash: enough to find the few targets that a change may be about


class Keys:
    """Computes keys with one ledger's secret; without it they cannot be computed from a person's data.

    Serves one batch of changes whose `details` stay in memory meanwhile.
    """

    def __init__(self, secret: bytes) -> None:
        self._fresh: Callable[[], Any] = blake2b(key=secret, digest_size=KEY_BYTES).copy
        self._texts: dict[int, str] = {}

    def of(self, change: ConsentChange, since: int) -> tuple[bytes, str, bytes, str]:
        """Return hash and address of a change's target, as `target` does, and its own hash and details, as `change`."""
        target, address = self.target(change.connection, change.address)
        return target, address, *self.change(target, change, since)

    def target(self, connection: str, address: Mapping[str, str]) -> tuple[bytes, str]:
        """Return the hash that stands for a target, whatever the spelling of its address, and the address as text."""
        text, identity = canonical(address), identity_of(address)
        named = text if identity is address else canonical(identity)
        return self._hash(f"{connection}\0{named}".encode()), text

    def identity(self, connection: str, address: Mapping[str, str]) -> bytes:
        """Return the same hash of an address that is in its one spelling (`identity_of`)."""
        return self._hash(f"{connection}\0{canonical(address)}".encode())

    def change(self, target: bytes, change: ConsentChange, since: int) -> tuple[bytes, str]:
        """Return the hash by which the same change is known again, from the same file or another, and its details.

        The details are canonical text, as the ledger writes them; `since` is the change's own time, in microseconds.

        With a `change_id` that is its sender's own word for sameness, whatever it says about reasons; otherwise a
        change is the same if it says the same. A change_id used again for another target, slot or action is another
        change, and so it is for another time (`timed_key`): nothing is lost by a sender's mistake.
        """
        details = self._texts.get(id(change.details))  # many changes of a file share theirs
        if details is None:
            details = self._texts[id(change.details)] = canonical(change.details)
        if change.change_id is None:
            said = f"{since}\0{details}"
        else:
            said = f"id\0{change.change_id}" + (f"\0{change.sender}" if change.sender else "")
        return self._change(target, change, said), details

    def without_sender(self, target: bytes, change: ConsentChange) -> bytes:
        """Return the hash of a change with a `change_id` as it was before the sender belonged to it."""
        return self._change(target, change, f"id\0{change.change_id}")

    def _change(self, target: bytes, change: ConsentChange, said: str) -> bytes:
        action = _OPTOUT_TEXT if change.action is _OPTOUT else _OPTIN_TEXT
        return self._hash(target + f"{change.slot}\0{action}\0{said}".encode())

    def _hash(self, data: bytes) -> bytes:
        hashing = self._fresh()
        hashing.update(data)
        digest: bytes = hashing.digest()
        return digest


def target_key(secret: bytes, connection: str, address: Mapping[str, str]) -> bytes:
    """Return the hash that stands for one target, whatever the spelling of its address."""
    return Keys(secret).target(connection, address)[0]


def dedupe_key(secret: bytes, target: bytes, change: ConsentChange) -> bytes:
    """Return the hash by which one change is known again."""
    return Keys(secret).change(target, change, to_micros(change.effective_at))[0]


def timed_key(key: bytes, since: int) -> bytes:
    """Return the key of a change whose id, and so whose key, another change has that holds since another time."""
    return blake2b(key + since.to_bytes(8, "big", signed=True), digest_size=KEY_BYTES).digest()


def public_id(target: bytes, key: bytes) -> str:
    """Return the id under which outsiders know a change: a hint at its target, by which it is found, and its key."""
    return (target[:_HINT_BYTES] + key).hex()


def parse_public_id(text: str) -> tuple[bytes, bytes] | None:
    """Return the hint at the target and the key of the change, or None if this is no id.

    The hint is empty in ids of before revision 0006 of the ledger, which were the key alone.
    """
    try:
        said = bytes.fromhex(text)
    except ValueError:
        return None
    return (said[:-KEY_BYTES], said[-KEY_BYTES:]) if len(said) in {KEY_BYTES, _HINT_BYTES + KEY_BYTES} else None


_OPTOUT, _OPTOUT_TEXT, _OPTIN_TEXT = Action.OPTOUT, Action.OPTOUT.value, Action.OPTIN.value


def canonical(value: Mapping[str, Any]) -> str:
    """Return a mapping as JSON that is the same whenever the mapping is."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
