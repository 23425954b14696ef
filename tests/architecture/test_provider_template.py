"""Every provider has the same files, and docs/adding-a-provider.md says truly how many a new one takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.providers.recipe import code_of_the_page, subject_of_the_page
from worker.providers import PROVIDERS

ROOT = Path(__file__).parents[2]
TEMPLATE = {"__init__.py", "auth.py", "codes.py", "requests.py", "responses.py", "row.py"}
MORE = {
    "infobip": {"blocklist_requests.py", "blocklist_responses.py", "blocklist_slots.py"},
    "capillary": {"token_auth.py"},
}
"""What a provider has beside: Infobip's blocklist is another thing than its subscriptions, Capillary's token than a
password.
"""


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_every_provider_has_the_same_files(name: str) -> None:
    """A reader of one provider knows where to look in another."""
    files = {path.name for path in (ROOT / "worker" / "providers" / name).glob("*.py")}

    assert files == TEMPLATE | MORE.get(name, set())
    assert {f"test_{one}" for one in TEMPLATE - {"__init__.py"}} <= {
        path.name for path in (ROOT / "tests" / "worker" / "providers" / name).glob("*.py")
    }


def test_a_new_provider_is_six_files() -> None:
    """The page promises six, shows six, and they are the template's."""
    files = [Path(path) for path in code_of_the_page() if path.startswith("worker/")]

    assert {path.name for path in files} == TEMPLATE
    assert len(files) == len(TEMPLATE) == 6
    assert "**A new provider is six new files" in (ROOT / "docs" / "adding-a-provider.md").read_text()


def test_the_code_of_the_page_runs() -> None:
    """The page's provider can be imported; test_contract.py asks it what every provider is asked."""
    assert subject_of_the_page().provider.name == "postbird"


def test_the_code_of_the_page_passes_the_linter(tmp_path: Path) -> None:
    """What people copy from the page passes the gate."""
    for path, code in code_of_the_page().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(code)
    settings = ["--no-cache", "--config", str(ROOT / "pyproject.toml"), "--config", f"src = ['{ROOT}', '{tmp_path}']"]

    for command in (["check", *settings, "--ignore", "INP001"], ["format", "--diff", *settings]):
        ruff = [sys.executable, "-m", "ruff", *command, "."]
        ended = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True, check=False)

        assert ended.returncode == 0, ended.stdout
