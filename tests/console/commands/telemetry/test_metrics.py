"""What Prometheus is told: names that are documented, in a form that it reads, from the ledger alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from consent.change import Bucket
from consent.imports import ImportSource
from consent.ledger.ledger import Ledger
from consent.ledger.telemetry.tallies import HONOUR_SECONDS
from consent.settings import Settings
from console.commands.telemetry.collector import LedgerCollector, bounded
from console.commands.telemetry.exposition import collector_of, exposition, write
from tests.deployment.compose import ROOT
from tests.support.fuses import WRONG_ACCOUNT, answer, drain, people, trip
from tests.support.http_server import KEY, server
from tests.support.ledgers import change_of, deliver, imported

PAGE = (ROOT / "docs" / "metrics.md").read_text()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with an applied change and one that waits."""
    one = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    one.maintenance.prepare()
    imported(one, change_of("387006417"))
    deliver(one)
    imported(one, change_of("387006418"))
    yield one
    one.close()


@pytest.fixture
def collector(ledger: Ledger, tmp_path: Path) -> LedgerCollector:
    """What reads it."""
    connection = {"provider": "capillary", "base_url": "http://127.0.0.1:1"}
    watch = (f"{tmp_path}/drop?expect=00:00&grace=1s&tz=UTC",)
    return collector_of(Settings(connections={"capillary": connection}, watch=watch), ledger)


def values(scraped: bytes) -> dict[str, float]:
    """Each sample, by its name and what tells it from others."""
    return {
        " ".join((sample.name, *(value for _, value in sorted(sample.labels.items()) if value))): sample.value
        for family in text_string_to_metric_families(scraped.decode())
        for sample in family.samples
    }


def test_a_scrape_tells_what_stands_in_the_ledger(collector: LedgerCollector) -> None:
    """One was applied by one call, one waits; no identifier is told."""
    collector.ledger.event_sources.note_read("amqp://events queue consent", collector.ledger.now() - 90_000_000)
    scraped = exposition(collector)

    found = values(scraped)

    assert found["optrelay_source_lag_seconds amqp://events queue consent"] == pytest.approx(90, abs=10)
    assert found["optrelay_changes_total capillary applied"] == 1
    assert found["optrelay_calls_total 2xx capillary"] == 1
    assert found["optrelay_call_seconds_sum capillary"] == 0.012
    assert found["optrelay_pending_customers capillary bulk_optout"] == 1
    honoured = {name: value for name, value in found.items() if name.startswith("optrelay_honour_seconds_bucket")}
    assert [value for name, value in honoured.items() if " +Inf " in name] == [1]
    assert len(honoured) == len(HONOUR_SECONDS) + 1
    assert found["optrelay_breaker capillary closed"] == 1
    assert found["optrelay_rate_limit capillary"] == pytest.approx(100 / 60)
    assert found["optrelay_ledger_up"] == 1
    assert found["optrelay_ledger_unread"] == 0
    assert any(name.startswith("optrelay_watch_overdue") for name in found)
    assert b"38700641" not in scraped


def test_names_are_documented_and_the_dashboard_and_rules_use_no_other(collector: LedgerCollector) -> None:
    """docs/metrics.md has each metric, and deploy/ asks for none that is not there."""
    exposed = {f"{one.name}_total" if one.type == "counter" else one.name for one in collector.collect()}
    documented = set(re.findall(r"^\| `(optrelay_\w+)", PAGE, re.MULTILINE))
    assert exposed <= documented
    assert documented - exposed <= {"optrelay_watch_last_file_timestamp_seconds"}
    for name in ("grafana/optrelay.json", "prometheus/alerts.yml", "prometheus/alerts_test.yml"):
        asked = set(re.findall(r"optrelay_[a-z_]+", (ROOT / "deploy" / name).read_text()))
        assert {re.sub(r"_(bucket|count|sum)$", "", one) for one in asked} <= documented, name
    panels = json.loads((ROOT / "deploy" / "grafana" / "optrelay.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10


def test_what_a_fuse_holds_is_told(collector: LedgerCollector, ledger: Ledger) -> None:
    """Five of twelve died, and the others are held; beside them the one of before was delivered."""
    deliver(ledger)
    trip(ledger)
    drain(ledger)

    key = ImportSource("http", "key shop, as web-1, port 80", "a run", 0, None, stream=True)
    run = ledger.intake.open_import(key).import_id
    ledger.intake.accept_events(run, people(31, 5), [])
    answer(ledger, *[WRONG_ACCOUNT] * 5)
    found = exposition(collector)
    assert values(found)["optrelay_fuse_held_customers capillary"] == 7
    for origin in ("import", "http:key shop"):
        assert f'optrelay_fuses_tripped{{bucket="",connection="capillary",origin="{origin}"}} 1.0' in found.decode()


def test_an_answer_is_kept_for_a_while(collector: LedgerCollector, ledger: Ledger) -> None:
    """However many ask, the ledger is read every 15 seconds."""
    before = exposition(collector)
    deliver(ledger)
    assert exposition(collector) == before
    collector._at -= 16
    assert values(exposition(collector))["optrelay_changes_total capillary applied"] == 2


def test_a_ledger_that_cannot_be_read_is_told_as_that(tmp_path: Path) -> None:
    """Registering reads nothing, and a scrape answers all the same."""
    nowhere = Ledger(f"sqlite:///{tmp_path / 'empty.db'}")

    found = values(exposition(LedgerCollector(Settings(), nowhere)))

    assert found["optrelay_ledger_up"] == 0
    assert found["optrelay_ledger_unread"] > 0
    nowhere.close()


def test_more_buckets_than_can_be_shown_share_one_label() -> None:
    """200 keep their names."""
    shown = bounded([Bucket("gupshup", f"{n:04}") for n in range(1_000)])
    assert len(set(shown.values())) == 201
    assert shown[Bucket("gupshup", "0999")] == ("gupshup", "other")


def test_serve_tells_only_a_key_with_the_scope(ledger: Ledger, collector: LedgerCollector) -> None:
    """Not even a client on this machine is told without one: behind a proxy every request comes from there."""
    from producers.http.admission import ApiKeys

    keys = ApiKeys(f"shop={KEY},prometheus[metrics]=a-key-for-the-metrics")
    with server(ledger, keys=keys, metrics=lambda: exposition(collector)) as one:
        assert one.client.get("/metrics").status_code == 401
        assert one.get("/metrics").status_code == 403
        answer = one.client.get("/metrics", headers={"authorization": "Bearer a-key-for-the-metrics"})
        assert one.client.get("/v1/held", headers={"x-api-key": "a-key-for-the-metrics"}).status_code == 403
    assert answer.status_code == 200
    assert values(answer.content)["optrelay_ledger_up"] == 1


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """A reader finds the old or the new one, which others may read, and nothing beside it."""
    path = tmp_path / "optrelay.prom"
    write(path, b"one 1\n")
    write(path, b"two 2\n")
    assert path.read_bytes() == b"two 2\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]
