"""One clock for every time the sandbox records: wall time that never runs backwards."""

import time

_EPOCH = time.time() - time.perf_counter()


def now() -> float:
    """Return seconds since 1970, advancing with the monotonic clock so that differences are exact."""
    return _EPOCH + time.perf_counter()
