"""When a delivery that others do is seen to be over, without counting a large file again and again."""

from __future__ import annotations

from consent.ledger.ledger import Ledger
from consent.settings import load_settings
from console.local.monitor import Monitor
from tests.support.ledgers import deliver, imported, word
from worker.bootstrap import WorkerContext


def running(ledger: Ledger, *imports: str) -> Monitor:
    """Watch these imports; what became of their changes is never counted just because time has passed."""
    url = ledger.database.url.render_as_string(hide_password=False)
    found = Monitor(WorkerContext(load_settings(ledger_url=url), ""), imports, 60.0)
    found.snapshot()
    found.counting._next = float("inf")
    return found


def test_a_file_is_seen_to_be_done_while_another_is_not(ledger: Ledger) -> None:
    """Another file waits at the same provider: a command that waits for its own file ends when it is done."""
    mine = imported(ledger, *(word(str(n)) for n in range(3)))
    imported(ledger, *(word(f"other {n}", "OPTIN") for n in range(3)))
    watched = running(ledger, mine)

    deliver(ledger, limit=2)
    before = watched.snapshot()
    deliver(ledger, limit=1)
    after = watched.snapshot()

    assert [one.pending for one in before.reports] == [3]  # as it was counted before
    assert [(one.applied, one.pending) for one in after.reports] == [(3, 0)]
    assert sum(after.pending.values()) == 3
    watched.worker_context.ledger.close()


def test_a_change_that_waits_again_is_waited_for(ledger: Ledger) -> None:
    """A word behind which one has looked already must be told again, as a delivery lost its lease: it goes on."""
    mine = imported(ledger, word("1"), word("2"))
    imported(ledger, word("other", "OPTIN"))
    watched = running(ledger, mine)
    watched.waiting_from = {mine: 2**40}

    before = watched.snapshot()
    watched.counting._next = float("inf")
    deliver(ledger, limit=1)
    between = watched.snapshot()
    deliver(ledger, limit=1)
    after = watched.snapshot()

    assert [one.pending for one in before.reports] == [2]
    assert [one.pending for one in between.reports] == [2]  # not over, so not counted
    assert sum(after.pending.values()) == 1
    assert [one.pending for one in after.reports] == [0]
    watched.worker_context.ledger.close()
