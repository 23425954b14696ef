"""Infobip: webhook subscriptions, merged member by member, and the blocklist, which holds people who have opted out."""

from __future__ import annotations

from consent.connection import ConnectionSettings, Rate
from consent.ledger.queue.overlaps import Overlap
from consent.row import ConsentRow
from worker.providers.contract import Provider, RateLimit
from worker.providers.infobip.auth import make_auth
from worker.providers.infobip.blocklist_slots import OVERLAP
from worker.providers.infobip.requests import estimate_calls, plan, witness
from worker.providers.infobip.responses import read
from worker.providers.infobip.row import BLOCKLIST, InfobipRow, export

_SUBSCRIPTION_RATE = Rate(10, 1)
"""Infobip publishes no limit for these calls; this is our own moderation."""

_BLOCKLIST_RATE = Rate(1, 1)
"""Published with the operations in Infobip's OpenAPI description (`x-throttling-info`)."""


class _Infobip:
    name: str = "infobip"
    row: type[ConsentRow] = InfobipRow

    def rate_limit(self, bucket: str, connection: ConnectionSettings) -> RateLimit:
        """Return the limit of subscription calls, one target each, or of blocklist calls, which carry many."""
        if bucket == BLOCKLIST:
            return RateLimit(connection.blocklist_rate or _BLOCKLIST_RATE, connection.blocklist_batch, BLOCKLIST)
        return RateLimit(connection.rate or _SUBSCRIPTION_RATE)

    def overlap(self, bucket: str) -> Overlap | None:
        """Return how entries of one person overlap; of a subscription each member and field is one by itself."""
        return OVERLAP if bucket == BLOCKLIST else None

    plan = staticmethod(plan)
    estimate_calls = staticmethod(estimate_calls)
    read = staticmethod(read)
    witness = staticmethod(witness)
    export = staticmethod(export)
    auth = staticmethod(make_auth)


INFOBIP: Provider = _Infobip()
