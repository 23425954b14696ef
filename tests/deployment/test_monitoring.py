"""The alert rules are what Prometheus takes, and it reads what `optrelay metrics` serves."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.deployment.compose import ROOT
from tests.support.company import company
from tests.support.servers.prometheus import asked, program, prometheus

FOLDER = ROOT / "deploy" / "prometheus"


def test_the_rules_are_right_and_fire_when_they_should() -> None:
    """Promtool checks their syntax, and runs their own tests."""
    for check in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run([program("promtool"), *check], cwd=FOLDER, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.proof
def test_prometheus_reads_what_a_run_did(tmp_path: Path) -> None:
    """A real one scrapes a ledger in which a file was delivered; promtool finds nothing to say about the textfile."""
    row = {"channel": "EMAIL", "priority": "BULK", "action": "OPTOUT", "effective_at": "2026-11-20T08:30:00Z"}
    with company(tmp_path) as shop:
        path = shop.write([row | {"user_id": str(500_000_000 + n)} for n in range(5)])
        code, _, stderr = shop.run("run", path, "--metrics-file", tmp_path / "optrelay.prom")
        assert code == 0, stderr
        scraped = (tmp_path / "optrelay.prom").read_bytes()
        checked = subprocess.run(
            [program("promtool"), "check", "metrics"], check=False, input=scraped, capture_output=True
        )
        assert checked.returncode == 0, checked.stderr
        with shop.start("metrics", "--port", "0", "--json") as serving:
            assert serving.stdout is not None
            address = json.loads(serving.stdout.readline())["url"].removeprefix("http://").removesuffix("/metrics")
            with prometheus(tmp_path, address) as url:
                found = asked(url, 'optrelay_changes_total{connection="capillary",outcome="applied"}')
                assert found[0]["value"][1] == "5"
                assert asked(url, "optrelay_ledger_up")[0]["value"][1] == "1"
            serving.terminate()
            assert serving.wait(30) == 143
