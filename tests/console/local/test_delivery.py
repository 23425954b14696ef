"""When delivery of a file begins of which more is about to become due."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import cast

import pytest

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from consent.ledger.ledger import Ledger
from consent.settings import load_settings
from console.local import delivery, notifier
from console.local.delivery import LocalDelivery, LocalParts
from console.local.worker import LocalWorker
from tests.support.ledgers import BUCKET, change_of, imported
from tests.support.query_plans import log_statements
from worker.bootstrap import WorkerContext

USABLE = ConnectionSettings(provider="capillary", base_url="http://127.0.0.1:1", username="till", password="hush")


def begun(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, connection: ConnectionSettings) -> list[WorkerContext]:
    """Begin to deliver what is due, where each wake-up that is of use has been sent; return who was to send some."""
    found: list[WorkerContext] = []
    monkeypatch.setattr(delivery, "wake_all", lambda context: found.append(context) or 0)
    url = ledger.database.url.render_as_string(hide_password=False)
    context = WorkerContext(load_settings(ledger_url=url, connections={"capillary": connection}), "")
    own = LocalDelivery(1, 60.0, LocalParts(context, None, cast("LocalWorker", None)))
    try:
        assert own.begin(context.settings, ledger) is bool(found)
    finally:
        context.ledger.close()
    return found


def test_what_is_on_its_way_is_something_to_deliver(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a file of a thousand buckets would have all of them looked at behind each of its chunks."""
    assert not begun(ledger, monkeypatch, USABLE)

    imported(ledger, change_of("1"))

    assert begun(ledger, monkeypatch, USABLE)


def test_nothing_is_sent_while_a_connection_cannot_be_called(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is about to end with what is to be fixed: no customer is called before that."""
    imported(ledger, change_of("1"))

    with pytest.raises(ConfigurationError, match="needs credentials"):
        begun(ledger, monkeypatch, ConnectionSettings(provider="capillary"))


def test_workers_elsewhere_are_woken_without_a_count_of_all_that_waits(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is done each second while a file is published: of ten million customers, to count them takes longer."""
    sent: list[object] = []
    broker = SimpleNamespace(
        waiting_by_bucket=lambda _: Counter(), send=lambda *given: sent.append(given), close=lambda: None
    )
    monkeypatch.setattr(notifier, "WakeUps", lambda _: broker)
    imported(ledger, *(change_of(str(n)) for n in range(3)))
    settings = load_settings(connections={"capillary": USABLE}, broker_url="redis://127.0.0.1:1/0")
    statements = log_statements(ledger.database.engine)

    assert notifier.send_wake_ups(settings, ledger)

    assert sent == [(BUCKET, 1)]
    assert not [statement for statement, _ in statements if "GROUP BY" in statement]
