"""The writes in flight, and whether two of them concern the same target."""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from sandbox.call_log import CallLog
from sandbox.refused import Refused


class Pending:
    """How many writes of each target are in flight; two at once are counted, and refused with `code` if given."""

    def __init__(self, call_log: CallLog, code: int | None = None) -> None:
        self._call_log = call_log
        self._code = code
        self._in_flight: Counter[str] = Counter()

    @contextmanager
    def write(self, keys: Collection[str]) -> Iterator[None]:
        """Hold the targets while a write of them is in flight."""
        busy = [key for key in keys if key in self._in_flight]
        for key in busy:
            self._call_log.overlapped(key)
        if busy and self._code:
            raise Refused(self._code)
        self._in_flight.update(keys)
        try:
            yield
        finally:
            self._release(keys)

    def _release(self, keys: Collection[str]) -> None:
        for key in keys:
            self._in_flight[key] -= 1
            if not self._in_flight[key]:
                del self._in_flight[key]
