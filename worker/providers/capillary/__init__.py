"""Capillary: one customer's subscriptions to message channels, written row by row."""

from __future__ import annotations

from consent.rate import Rate
from consent.row import ConsentRow
from worker.providers.capillary.planning import plan
from worker.providers.capillary.reading import read
from worker.providers.capillary.restoring import columns
from worker.providers.capillary.row import CapillaryRow
from worker.providers.capillary.signing import auth
from worker.providers.contract import Provider


class _Capillary:
    name: str = "capillary"
    row: type[ConsentRow] = CapillaryRow
    # The demo clusters' documented limit; production limits are set per brand (docs.capillarytech.com, rate-limits).
    default_rate: Rate = Rate(100, 60)

    plan = staticmethod(plan)
    read = staticmethod(read)
    columns = staticmethod(columns)
    auth = staticmethod(auth)


CAPILLARY: Provider = _Capillary()
