"""What a fuse holds, in the terminal: each way to go on, what cannot be meant, and the suppression check meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from consent.guards.fuse import FuseWay
from consent.ledger.ledger import Ledger
from producers.http.admission import ApiKeys
from tests.support.command_line import Cli, write
from tests.support.fuses import WHY as WHO
from tests.support.fuses import WRONG_ACCOUNT, answer, drain, people, trip
from tests.support.http_server import server
from tests.support.ledgers import BUCKET, imported
from worker.providers.capillary.row import slot_text

WHY = ("--why", "looked at it")


@pytest.fixture
def file(cli: Cli, url: str, tmp_path: Path) -> str:
    """A file of twelve, of which five have died and seven are held."""
    assert cli("import", write(tmp_path, "none.csv", header=OUT)).code == 0
    ledger = Ledger(url)
    file = trip(ledger)
    drain(ledger)
    ledger.close()
    return file


OUT = "user_id,channel,priority,action,effective_at"


@pytest.mark.parametrize(
    ("more", "way", "message"),
    [
        ((), "resume", "it is sent"),
        (("--only", "optouts"), "optouts", "its opt-outs are sent, its opt-ins stay held"),
        (("--let-die",), "let-die", "it dies without a call"),
        (("--fuse-off",), "off", "it is sent, whatever is answered"),
    ],
)
def test_each_way_to_go_on(cli: Cli, file: str, more: tuple[str, ...], way: str, message: str) -> None:
    """By the beginning of the import's id; once more changes nothing."""
    held = cli("held")
    assert (held.code, "7 opt-outs" in held.out, "--only" in held.out) == (3, True, False)
    done = cli("reset-fuse", file[:12], *WHY, *more, "--json")
    assert (done.code, done.json["done"], done.json["customers"]) == (0, way, 7)
    again = cli("reset-fuse", file, *WHY, *more)
    assert (again.code, "so nothing was done" in again.out) == (0, True)
    assert message in cli("reset-fuse", "--help").out or message


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("nothing", *WHY), "`optrelay held` shows what is"),
        (("", *WHY), "`optrelay held` shows what is"),
        (("FILE",), "--why must say why"),
        (("FILE", "--why", " "), "--why must say why"),
        (("FILE", *WHY, "--only", "optins"), "--only is optouts"),
        (("FILE", *WHY, "--let-die", "--fuse-off"), "give one of --only optouts, --let-die and --fuse-off"),
        (("FILE", *WHY, "--only", "optouts", "--let-die"), "give one of --only optouts, --let-die and --fuse-off"),
    ],
)
def test_what_cannot_be_meant(cli: Cli, file: str, url: str, arguments: tuple[str, ...], remedy: str) -> None:
    """It is said what to do instead, and nothing was done."""
    refused = cli("reset-fuse", *(file if one == "FILE" else one for one in arguments))
    assert (refused.code, remedy in " ".join(refused.err.split())) == (2, True)
    ledger = Ledger(url)
    assert [one.optouts for one in ledger.fuses.tripped()] == [7]
    ledger.close()


def test_an_opt_out_that_a_fuse_holds_stops(cli: Cli, file: str, url: str, tmp_path: Path) -> None:
    """The provider has not been told, and no one may write to them meanwhile: neither by scrub nor by contactable."""
    ledger = Ledger(url)
    ledger.fuses.reset(file, FuseWay.LET_DIE, WHO)
    ledger.fuses.work_off()
    slot = slot_text("EMAIL", "", "BULK", -1)
    imported(ledger, *(replace(one, slot=slot) for one in people(100, 12)))
    answer(ledger, *[WRONG_ACCOUNT] * 5)
    drain(ledger)
    assert ledger.fuses.held_customers() == {BUCKET: 7}
    with server(ledger, keys=ApiKeys("mailer[contactable]=0123456789abcdef")) as served:
        body = {"channel": "EMAIL", "people": [{"user_id": "111"}, {"user_id": "99"}]}
        asked = served.client.post("/v1/contactable", json=body, headers={"x-api-key": "0123456789abcdef"}).json()
    ledger.close()
    assert [one["allowed"] for one in asked["results"]] == [False, True]
    audience = write(tmp_path, "audience.csv", "111", "99", header="user_id")
    checked = cli("scrub", audience, "--channel", "EMAIL", "--output", "clean.csv", "--json")
    assert (checked.code, checked.json["clean"], checked.json["stopped"]) == (0, 1, 1)
    assert (tmp_path / "clean.csv").read_text().split() == ["user_id", "99"]
