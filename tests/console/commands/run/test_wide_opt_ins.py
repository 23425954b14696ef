"""A file of opt-ins that name no sender, over opt-outs that name one, is held like any other that opts people in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import Cli, write

HEADER = "connection,destination,channel,sender,action,effective_at"


def test_opt_ins_of_every_sender_are_held(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty people blocked one shop; an old export would take them off the blocklist of every sender."""
    for name, value in (("BASE_URL", "http://127.0.0.1:1"), ("API_KEY", "hush-hush-7")):
        monkeypatch.setenv(f"OPTRELAY_CONNECTIONS__INFOBIP__{name}", value)
    numbers = [f"4477009{n:05}" for n in range(30)]
    outs = [f"infobip,{one},SMS,SHOP,OPTOUT,2026-11-20T08:00:00Z" for one in numbers]
    ins = [f"infobip,{one},SMS,,OPTIN,2026-11-21T08:00:00Z" for one in numbers]
    assert cli("import", write(tmp_path, "monday.csv", *outs, header=HEADER)).code == 0

    answer = cli("import", write(tmp_path, "old.csv", *ins, header=HEADER), "--json")

    assert answer.code == 3, answer.err
    [found] = [one for one in answer.json["guards"] if one["guard"] == "resurrects"]
    assert "30 slots in infobip" in found["says"]
    assert "7700" not in str(found)
