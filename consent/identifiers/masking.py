"""Showing a person's identifier without naming the person."""

from __future__ import annotations

from collections.abc import Mapping

_NO_SECRET = frozenset({"identifier_name", "source", "channel", "sender", "app_id", "subscription_id"})
"""Parts of an address that name a kind, a place, ourselves or a webhook, never a person."""

_LONG_ENOUGH = 8
_ENDS = 2


def masked(address: Mapping[str, str]) -> str:
    """Return an address of whose values only the ends stay, like `user_id=…417` or `email=a…e@e…com`."""
    return " ".join(f"{name}={value if name in _NO_SECRET else _end(value)}" for name, value in address.items())


def revealed(address: Mapping[str, str]) -> str:
    """Return an address as it is, in the same form; only for people who asked for it."""
    return " ".join(f"{name}={value}" for name, value in address.items())


def _end(value: str) -> str:
    """Keep three characters of a long value, two of a shorter one, none where that would be half of it or more."""
    local, at, domain = value.rpartition("@")
    if at and "." in domain:  # the end of most addresses is .com
        return f"{_ends(local)}@{domain[:1]}…{domain.rpartition('.')[2][-3:]}"
    kept = 3 if len(value) >= _LONG_ENOUGH else 2
    return f"…{value[-kept:]}" if len(value) > 2 * kept else "…"


def _ends(local: str) -> str:
    """Keep the first and the last character of a name, the first of a short one, none of one with two or fewer."""
    last = local[-1:] if len(local) > 2 * _ENDS else ""
    return f"{local[:1]}…{last}" if len(local) > _ENDS else "…"
