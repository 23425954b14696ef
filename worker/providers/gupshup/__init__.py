"""Gupshup: webhook subscriptions of an app, changed by forms that hold only what changes, five calls a minute."""

from __future__ import annotations

from consent.connection import ConnectionSettings, Rate
from consent.row import ConsentRow
from worker.providers.contract import Pace, Provider
from worker.providers.gupshup.calls import witness
from worker.providers.gupshup.planning import calls, plan
from worker.providers.gupshup.reading import read
from worker.providers.gupshup.restoring import columns_of_change
from worker.providers.gupshup.row import GupshupRow
from worker.providers.gupshup.signing import auth

_RATE = Rate(5, 60)
"""For each app, over all calls about subscriptions (partner-docs.gupshup.io, rate limits, since 28 September 2023)."""


class _Gupshup:
    name: str = "gupshup"
    row: type[ConsentRow] = GupshupRow

    def pace(self, bucket: str, connection: ConnectionSettings) -> Pace:
        """Return the configured limit of each app, or the published one; a call carries one subscription."""
        return Pace(connection.rate or _RATE, name=f"app {bucket}" if bucket else "")

    def overlap(self, _bucket: str) -> None:
        """Say that no write touches another slot than its own."""

    plan = staticmethod(plan)
    calls = staticmethod(calls)
    read = staticmethod(read)
    witness = staticmethod(witness)
    columns = staticmethod(columns_of_change)
    auth = staticmethod(auth)


GUPSHUP: Provider = _Gupshup()
