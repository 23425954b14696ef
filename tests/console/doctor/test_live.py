"""The doctor's live look: one harmless read, and what it proves and what not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.company import Company, company

ROWS = "user_id,channel,priority,action,effective_at\n387006417,EMAIL,BULK,OPTOUT,2026-11-20T08:30:00Z\n"


def live(shop: Company) -> tuple[int, dict[str, Any]]:
    """The exit code of the doctor, and what the read at Capillary showed."""
    code, found, _ = shop.run("doctor", "--live")
    [read] = [one for one in found["checks"] if one["what"].startswith("live read of capillary")]
    return code, read


@pytest.mark.waits
def test_a_read_proves_address_and_credentials_and_no_more(tmp_path: Path) -> None:
    """Without a customer nothing is sent; then one call is made that changes nothing; a refusal is a problem."""
    with company(tmp_path) as shop:
        shop.run("migrate")
        code, read = live(shop)
        assert (code, read["ok"], "nothing was sent" in read["words"]) == (0, None, True)

        (tmp_path / "nightly.csv").write_text(ROWS)
        shop.run("run", "nightly.csv")
        held, calls = shop.held(), shop.stats()["calls"]
        code, read = live(shop)
        assert (code, read["ok"]) == (0, True)
        assert "address and credentials are good" in read["words"]
        assert "not proved" in read["words"]
        assert "387006417" not in str(read)
        assert (shop.held(), shop.stats()["calls"]) == (held, calls + 1)

        shop.fault(kind="refuse", http_status=401)
        code, read = live(shop)
        assert (code, read["ok"], "refuses our credentials" in read["words"]) == (1, False, True)
