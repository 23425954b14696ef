"""Capillary: one customer's subscriptions to message channels, written row by row."""

from __future__ import annotations

from consent.connection import ConnectionSettings, Rate
from consent.row import ConsentRow
from worker.providers.capillary.calls import witness
from worker.providers.capillary.planning import calls, plan
from worker.providers.capillary.reading import read
from worker.providers.capillary.restoring import columns_of_change
from worker.providers.capillary.row import CapillaryRow
from worker.providers.capillary.signing import auth
from worker.providers.contract import Pace, Provider

_DEMO_RATE = Rate(100, 60)  # production limits are set for each brand (docs.capillarytech.com, rate-limits)


class _Capillary:
    name: str = "capillary"
    row: type[ConsentRow] = CapillaryRow

    def pace(self, _bucket: str, connection: ConnectionSettings) -> Pace:
        """Return the configured limit, or the documented one of demo clusters; a call carries one customer."""
        return Pace(connection.rate or _DEMO_RATE)

    def overlap(self, _bucket: str) -> None:
        """Say that no write touches another slot than its own."""

    plan = staticmethod(plan)
    calls = staticmethod(calls)
    read = staticmethod(read)
    witness = staticmethod(witness)
    columns = staticmethod(columns_of_change)
    auth = staticmethod(auth)


CAPILLARY: Provider = _Capillary()
