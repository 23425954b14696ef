"""Gupshup: webhook subscriptions of an app, changed by forms that hold only what changes, five calls a minute."""

from __future__ import annotations

from consent.connection import ConnectionSettings, Rate
from consent.row import ConsentRow
from worker.providers.contract import Provider, RateLimit
from worker.providers.gupshup.auth import make_auth
from worker.providers.gupshup.requests import estimate_calls, plan, witness
from worker.providers.gupshup.responses import read
from worker.providers.gupshup.row import GupshupRow, export

_RATE = Rate(5, 60)
"""For each app, over all calls about subscriptions (partner-docs.gupshup.io/docs/partner-rate-limits).

A limit cools down in a minute, the page says: so `classify.USUAL_PAUSE` fits after a 429.
"""


class _Gupshup:
    name: str = "gupshup"
    row: type[ConsentRow] = GupshupRow

    def rate_limit(self, bucket: str, connection: ConnectionSettings) -> RateLimit:
        """Return the configured limit of each app, or the published one; a call carries one subscription."""
        return RateLimit(connection.rate or _RATE, name=f"app {bucket}" if bucket else "")

    def overlap(self, _bucket: str) -> None:
        """Return None: each write touches its own slot alone."""

    plan = staticmethod(plan)
    estimate_calls = staticmethod(estimate_calls)
    read = staticmethod(read)
    witness = staticmethod(witness)
    export = staticmethod(export)
    auth = staticmethod(make_auth)


GUPSHUP: Provider = _Gupshup()
