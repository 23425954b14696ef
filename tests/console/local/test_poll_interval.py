"""When a run looks again at what takes a while to count."""

from __future__ import annotations

import time

from console.local.poll_interval import PollInterval


def test_what_took_long_is_looked_at_more_seldom() -> None:
    """Looking costs a hundredth of the time, and there is an end to waiting."""
    interval, began = PollInterval(5.0), time.monotonic() - 0.02
    assert interval.is_due(began)

    interval.note(began - 1, left=10_000)
    assert interval.is_due(began - 0.4)  # soon: of one look nothing can be foreseen
    interval.note(began, left=10_000)
    assert (interval.is_due(began + 1.9), interval.is_due(began + 5.1)) == (False, True)

    began = time.monotonic() - 1.0
    interval.note(began, left=10_000)
    assert (interval.is_due(began + 4.9), interval.is_due(began + 5.1)) == (False, True)


def test_the_end_that_can_be_foreseen_is_not_waited_for() -> None:
    """Half of it was done in ten seconds: it is looked at again half way to the end, and then at every occasion."""
    interval, began = PollInterval(60.0, nearly_done=100), time.monotonic() - 1.0
    interval.note(began - 10, left=2_000)
    interval.note(began, left=1_000)
    assert (interval.is_due(began + 4.9), interval.is_due(began + 5.1)) == (False, True)

    interval.note(began + 5, left=100)
    assert interval.is_due(began + 5)


def test_what_someone_else_notices_is_not_foreseen() -> None:
    """What became of an import's changes is counted when a bucket is done, and else seldom."""
    interval, began = PollInterval(60.0, predicts=False), time.monotonic() - 0.2
    interval.note(began - 10, left=2_000)
    interval.note(began, left=10)

    assert (interval.is_due(began + 19), interval.is_due(began + 25)) == (False, True)
