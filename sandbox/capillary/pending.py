"""The writes in flight, of which there may be one per customer."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.capillary.refusal import Refused
from sandbox.journal import Journal


class Pending:
    """How many writes of each customer are in flight; two at once are counted, and refused if `refuse` says so."""

    def __init__(self, journal: Journal, *, refuse: bool) -> None:
        self._journal = journal
        self._refuse = refuse
        self._in_flight: Counter[str] = Counter()

    @contextmanager
    def write(self, key: str) -> Iterator[None]:
        """Hold the customer while a write is in flight; Refused with 521 when another one already is."""
        if key in self._in_flight:
            self._journal.overlapped()
            if self._refuse:
                raise Refused(521)
        self._in_flight[key] += 1
        try:
            yield
        finally:
            self._release(key)

    def _release(self, key: str) -> None:
        self._in_flight[key] -= 1
        if not self._in_flight[key]:
            del self._in_flight[key]
