"""What docs/csv.md, docs/infobip.md and docs/gupshup.md say is what the providers' modules do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from worker.providers import PROVIDERS
from worker.providers.gupshup import codes as gupshup
from worker.providers.gupshup.row import EVERY_MODE
from worker.providers.infobip import codes as infobip

DOCS = Path(__file__).parents[3] / "docs"
CODES = re.compile(r"(?<!\d)([3-5]\d\d)(?!\d)")


def page(name: str) -> str:
    """Return a page."""
    return (DOCS / f"{name}.md").read_text()


def table(name: str) -> str:
    """Return what stands between the heading about what happens next and the heading after it."""
    return page(name).partition("by what happens next")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_every_column_is_documented(name: str) -> None:
    """Whatever a row of a provider may say has its line in docs/csv.md."""
    assert [one for one in PROVIDERS[name].row.model_fields if f"`{one}`" not in page("csv")] == []


@pytest.mark.parametrize(("name", "known"), [("infobip", infobip.STATUSES), ("gupshup", gupshup.STATUSES)])
def test_every_status_is_documented(name: str, known: dict[int, object]) -> None:
    """A provider's page has every status that the program knows, and no other."""
    assert {int(code) for code in CODES.findall(table(name))} == set(known)


def test_every_message_of_gupshup_is_documented() -> None:
    """Each text that decides stands on the page, or else the code that it is filed under."""
    page_text = table("gupshup").lower()

    assert [text for text, one in gupshup.MESSAGES.items() if text not in page_text and one.code not in page_text] == []
    assert [mode for mode in EVERY_MODE if f"`{mode}`" not in page("gupshup")] == []


@pytest.mark.parametrize("name", ["infobip", "gupshup"])
def test_every_dead_letter_is_documented(name: str) -> None:
    """Every code of our own under which a change can die is on the provider's page."""
    modules = Path(__file__).parents[3].joinpath("worker", "providers", name).glob("*.py")
    sources = "".join(path.read_text() for path in modules)
    decides = r"(?:PermanentFailure\(|ReplyKind\.PERMANENT, |ReplyKind\.INVALID, )"
    found = set(re.findall(decides + r"\s*\"([a-z_]+)\"", sources))

    codes = {code for code in found if not code.endswith("_")}
    assert len(codes) >= 4
    assert sorted(code for code in codes if f"`{code}`" not in page(name)) == []
