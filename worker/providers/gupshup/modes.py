"""The modes of a subscription: which there are, and which go with which version."""

from __future__ import annotations

from collections.abc import Iterable

MODES = (
    *("SENT", "DELIVERED", "READ", "DELETED", "OTHERS", "FAILED", "MESSAGE", "TEMPLATE", "ACCOUNT", "BILLING"),
    *("ENQUEUED", "FLOWS_MESSAGE", "PAYMENTS", "ALL", "COPY", "COEXISTENCE"),
)
"""Every mode that a page names, in the order in which replies list them (partner-docs.gupshup.io)."""

NONE = "NONE"
"""What is written where a subscription holds no mode (seed page, "Update App Subscription")."""

ONLY_VERSION_3 = ("OTHERS", "FLOWS_MESSAGE", "PAYMENTS", "ALL")
"""Marked "Only for v3" on the pages."""

NOT_VERSION_3 = ("TEMPLATE", "ACCOUNT", "COPY")
"""The seed page: "for version 3 TEMPLATE, ACCOUNT, COPY are not supported"; a newer page lists two of them."""

VERSIONS = (0, 1, 2, 3)
"""The seed page; a newer copy of it lists 2 and 3 only."""

_PASS_THROUGH = 3


def fits(mode: str, version: int) -> bool:
    """Say whether a mode may be added to a subscription of this version."""
    return mode not in (NOT_VERSION_3 if version == _PASS_THROUGH else ONLY_VERSION_3)


def joined(modes: Iterable[str]) -> str:
    """Return modes as a form holds them."""
    return ",".join(modes) or NONE
