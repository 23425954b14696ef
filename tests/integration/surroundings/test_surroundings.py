"""What else is on the machine: other programs' files and variables do not change what optrelay does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.company import Company, company, fold, shuffled_rows


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Company]:
    """A company with a provider."""
    with company(tmp_path) as one:
        yield one


def test_a_run_beside_another_celery_program(shop: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder, and in the environment, of another Celery program: a run delivers all the same."""
    (shop.folder / "worker.py").write_text("raise SystemExit('this is another program')\n")
    for name in ("APP", "CONFIG_MODULE", "LOADER"):
        monkeypatch.setenv(name, "another.program")
    for name in ("BROKER_URL", "CELERY_BROKER_URL", "RESULT_BACKEND"):
        monkeypatch.setenv(name, "redis://127.0.0.1:1/0")
    rows = shuffled_rows(40, 10)

    code, found, stderr = shop.run("run", shop.write(rows), "--workers", "1", "--patience", "20s")

    assert code == 0, stderr
    assert found["applied"] > 0
    assert shop.held() == fold(rows)
