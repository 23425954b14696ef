"""Showing a person's identifier without naming the person."""

from __future__ import annotations

from collections.abc import Mapping

_NO_SECRET = frozenset({"identifier_name", "source", "channel", "sender", "app_id", "subscription_id"})
"""Parts of an address that name a kind, a place, ourselves or a webhook, never a person."""

_LONG_ENOUGH = 8


def masked(address: Mapping[str, str]) -> str:
    """Return an address whose values keep only their last two or three characters, like `user_id=…417`."""
    return " ".join(f"{name}={value if name in _NO_SECRET else _end(value)}" for name, value in address.items())


def revealed(address: Mapping[str, str]) -> str:
    """Return an address as it is, in the same form; only for people who asked for it."""
    return " ".join(f"{name}={value}" for name, value in address.items())


def _end(value: str) -> str:
    """Keep three characters of a long value, two of a shorter one, none where that would be half of it or more."""
    kept = 3 if len(value) >= _LONG_ENOUGH else 2
    return f"…{value[-kept:]}" if len(value) > 2 * kept else "…"
