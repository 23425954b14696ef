"""Capillary: one customer's subscriptions to message channels, written row by row."""

from __future__ import annotations

from consent.connection import ConnectionSettings, Rate
from consent.row import ConsentRow
from worker.providers.capillary.auth import make_auth
from worker.providers.capillary.requests import estimate_calls, plan, witness
from worker.providers.capillary.responses import read
from worker.providers.capillary.row import CapillaryRow, export
from worker.providers.contract import Provider, RateLimit

_DEMO_RATE = Rate(100, 60)
"""Of demo clusters; production limits are set for each brand (docs.capillarytech.com/reference/rate-limits)."""


class _Capillary:
    name: str = "capillary"
    row: type[ConsentRow] = CapillaryRow

    def rate_limit(self, _bucket: str, connection: ConnectionSettings) -> RateLimit:
        """Return the configured limit, or the documented one of demo clusters; a call carries one customer."""
        return RateLimit(connection.rate or _DEMO_RATE)

    def overlap(self, _bucket: str) -> None:
        """Return None: each write touches its own slot alone."""

    plan = staticmethod(plan)
    estimate_calls = staticmethod(estimate_calls)
    read = staticmethod(read)
    witness = staticmethod(witness)
    export = staticmethod(export)
    auth = staticmethod(make_auth)


CAPILLARY: Provider = _Capillary()
