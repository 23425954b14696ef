"""The export of another system, as it comes, is delivered: a feed says once what its columns and values mean."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

from tests.support.company import assert_balanced, company
from tests.support.files.exporting import Exporting, exporting
from tests.support.files.workbooks import workbook

MAILCHIMP = """\
"Email Address","First Name",MEMBER_RATING,UNSUB_TIME,UNSUB_REASON
ann@example.com,Ann,2,"2026-11-20 08:30:00","No longer interested"
bob@example.com,Bob,3,"2026-11-20 08:31:00",
"""
FEEDS = {
    "mailchimp": """
[feeds.mailchimp]
file = "unsubscribed_*.csv"
header = ["Email Address", "UNSUB_TIME"]
columns = { "Email Address" = "destination", UNSUB_TIME = "effective_at" }
set = { action = "OPTOUT" }
timezone = "America/New_York"
""",
    "crm": """
[feeds.crm]
header = ["Email", "Unsubscribed from all email"]
columns = { Email = "destination", "Unsubscribed from all email" = "action", "Last Modified Date" = "effective_at" }
values = { "Unsubscribed from all email" = { TRUE = "OPTOUT", FALSE = "skip" } }
time_format = "%m/%d/%Y %I:%M %p"
""",
    "kundschaft": """
[feeds.kundschaft]
file = "kunden*.csv"
columns = { Anschrift = "destination", Werbung = "action", Datum = "effective_at" }
values = { Werbung = { ja = "OPTIN", nein = "OPTOUT" } }
time_format = "%d.%m.%Y"
timezone = "Europe/Berlin"
encoding = "cp1252"
skip_end = 1
""",
    "events": """
[feeds.events]
file = "dump-*.ndjson"
columns = { "profile.email" = "destination", "consent.state" = "action", "consent.at" = "effective_at" }
values = { "consent.state" = { UNSUBSCRIBED = "OPTOUT", SUBSCRIBED = "skip" } }
time_format = "epoch_ms"
""",
    "helpdesk": """
[feeds.helpdesk]
file = "helpdesk*.csv"
header = ["Phone", "Asked at"]
columns = { Phone = "destination", "Asked at" = "effective_at" }
set = { action = "OPTOUT" }
region = "US"
""",
}
CRM = """\
Record ID,Email,Unsubscribed from all email,Last Modified Date
501,cat@example.com,TRUE,11/20/2026 8:30 AM
502,dan@example.com,FALSE,11/20/2026 8:31 AM
"""
GERMAN = """\
Anschrift;Werbung;Datum;Grund
eva@example.com;nein;20.11.2026;Müller
finn@example.com;ja;05.11.2026;Größe
Summe;2;;
"""
DUMP = """\
{"id": 1, "profile": {"email": "gil@example.com", "age": 40}, "consent": {"state": "UNSUBSCRIBED", "at": 1795163400000}}
{"id": 2, "profile": {"email": "hana@example.com"}, "consent": {"state": "SUBSCRIBED", "at": 1795163401000}}
"""
KUNDEN = """
[feeds.abmeldungen]
file = "abmeldungen*.xlsx"
columns = { E-Mail-Adresse = "destination", Kanal = "channel", "Abgemeldet am" = "effective_at" }
set = { action = "OPTOUT" }
values = { Kanal = { E-Mail = "EMAIL", SMS = "skip" }, "Abgemeldet am" = { "" = "skip", "*" = "keep" } }
"""
GERMAN_WORKBOOK = workbook(
    [
        ["Kundennummer", "Kanal", "E-Mail-Adresse", "Mobil", "Abgemeldet am", "Geburtsdatum", "Grund"],
        ["1001", "E-Mail", "ida@example.com", "+49 30 23125001", datetime(2026, 11, 20, 8, 30), date(1980, 1, 2), "x"],  # noqa: DTZ001
        ["1002", "E-Mail", "jon@example.com", "+49 30 23125002", None, date(1981, 1, 2), None],
        ["1003", "SMS", "kim@example.com", "+49 30 23125003", datetime(2026, 11, 21, 8, 30), date(1982, 1, 2), None],  # noqa: DTZ001
    ],
    sheet="Kunden",
)
FEEDS["abmeldungen"] = KUNDEN
HELPDESK = """\
Ticket,Phone,Asked at
71,(202) 555-0104,2026-11-20T08:30:00Z
72,+1 202-555-0105,2026-11-20T08:31:00Z
"""
STORIES = {
    "abmeldungen": ("abmeldungen_1.xlsx", GERMAN_WORKBOOK, {"ida@example.com"}, 2),
    "crm": ("contacts.csv", CRM.encode(), {"cat@example.com"}, 1),
    "events": ("dump-20261120.ndjson", DUMP.encode(), {"gil@example.com"}, 1),
    "helpdesk": ("helpdesk.csv", HELPDESK.encode(), {"12025550104", "12025550105"}, 0),
    "kundschaft": ("Kunden-2026.csv", GERMAN.encode("cp1252"), {"eva@example.com"}, 1),
    "mailchimp": ("unsubscribed_1.csv", MAILCHIMP.encode(), {"ann@example.com", "bob@example.com"}, 0),
}


def test_raw_exports_are_delivered_by_one_command(tmp_path: Path) -> None:
    """`optrelay run FILE…` and no more: each feed is found, rows without a change are skipped, the rest is sent."""
    with exporting(tmp_path, *FEEDS.values()) as shop:
        for file, content, *_ in STORIES.values():
            _write(shop, file, content)

        _assert_delivered(shop)


def _assert_delivered(shop: Exporting) -> None:
    """Deliver the exports of all systems, which know different people, and look at each."""
    code, found, stderr = shop.run("run", *(file for file, *_ in STORIES.values()))

    assert code == 0, stderr
    for (name, (file, _, _, skipped)), report in zip(STORIES.items(), found["imports"], strict=True):
        assert (report["name"], report["feed"]) == (file, name)
        assert f"{file}: it is read as the feed {name}" in stderr
        assert (report["skipped"], report["rejected"]) == (skipped, 0)
        assert_balanced(report)
    assert shop.blocked() == set().union(*(blocked for _, _, blocked, _ in STORIES.values()))


MAPPING = {
    "abmeldungen": (
        *("--map", "Kanal=channel", "--values", "Kanal:E-Mail=EMAIL,SMS=skip", "--set", "action=OPTOUT"),
        *("--values", "Abgemeldet am:=skip,*=keep", "--timezone", "Europe/Berlin"),
    ),
    "events": (
        *("--map", "profile.email=destination", "--map", "consent.state=action", "--map", "consent.at=effective_at"),
        *("--values", "UNSUBSCRIBED=OPTOUT,SUBSCRIBED=skip"),
    ),
    "helpdesk": ("--set", "action=OPTOUT", "--region", "US", "--map", "Asked at=effective_at"),
    "mailchimp": ("--timezone", "America/New_York"),
    "crm": (
        *("--timezone", "UTC", "--map", "Last Modified Date=effective_at", "--map", "Email=destination"),
        *("--map", "Unsubscribed from all email=action", "--values", "TRUE=OPTOUT,FALSE=skip"),
    ),
    "kundschaft": (
        *("--timezone", "Europe/Berlin", "--encoding", "cp1252", "--skip-end", "1"),
        *("--values", "Werbung:ja=OPTIN,nein=OPTOUT"),
    ),
}


def test_strange_exports_need_one_command_after_map(tmp_path: Path) -> None:
    """`optrelay map` once for each, and from then on `optrelay run FILE…`: also for the next file of the feed."""
    with exporting(tmp_path) as shop:
        for name, (file, content, *_) in STORIES.items():
            _write(shop, file, content)
            code, mapped, stderr = shop.run("map", file, "--yes", "--name", name, *MAPPING[name])
            assert (code, mapped["written"]) == (0, True), (mapped, stderr)

        _assert_delivered(shop)


def test_a_bad_row_is_fixed_in_the_words_of_its_export(tmp_path: Path) -> None:
    """The rejects file carries the mapping: it is imported as it is."""
    with exporting(tmp_path, FEEDS["crm"]) as shop:
        _write(shop, "contacts.csv", CRM.replace("FALSE", "maybe").encode())
        code, found, _ = shop.run("run", "contacts.csv")
        assert (code, found["reject_codes"]) == (1, {"unknown_value": 1})

        rejects = tmp_path / "contacts.csv.rejects.csv"
        rejects.write_text(rejects.read_text().replace("maybe", "TRUE"))
        code, found, stderr = shop.run("run", rejects)

        assert code == 0, stderr
        assert_balanced(found)
        assert shop.blocked() == {"cat@example.com", "dan@example.com"}


def _write(shop: Exporting, name: str, content: bytes) -> None:
    (shop.folder / name).write_bytes(content)
    os.utime(shop.folder / name, (time.time() - 60,) * 2)


WATCHED = """
[feeds.crm]
file = "crm-*.csv"
connection = "capillary"
[feeds.crm.columns]
Kunde = "user_id"
Newsletter = "action"
Stand = "effective_at"
[feeds.crm.set]
channel = "EMAIL"
priority = "BULK"
[feeds.crm.values.Newsletter]
nein = "OPTOUT"
ja = "skip"
"""


def test_an_export_that_comes_to_the_folder_is_delivered(tmp_path: Path) -> None:
    """A good one goes to done/, one that no one can read to failed/ with the reason; the feed tells when one came."""
    (tmp_path / "optrelay.toml").write_text(WATCHED)
    (tmp_path / "optrelay.toml").chmod(0o600)
    drop = tmp_path / "drop"
    drop.mkdir()
    with company(tmp_path) as shop:
        shop.settings = {"WATCH": '["drop?poll=0.2&feed=crm"]'}
        process = shop.start("up", "--workers", "1")
        try:
            _put(drop, "crm-1.csv", "Kunde,Newsletter,Stand\n387006417,nein,2026-11-20\n387006418,ja,2026-11-20\n")
            _put(drop, "crm-2.csv", "")

            _until(lambda: shop.held() == {("387006417", "EMAIL", "BULK"): "OPTOUT"})
            _until(lambda: (drop / "done" / "crm-1.csv").exists() and (drop / "failed" / "crm-2.csv").exists())
        finally:
            process.terminate()
            process.communicate(timeout=60)

        assert "is empty" in (drop / "failed" / "crm-2.csv.reason.txt").read_text()
        code, found, _ = shop.run("feeds", "crm")
        (last,) = found["files"]
        assert (code, Path(last["name"]).name, last["rows"], last["skipped"]) == (0, "crm-1.csv", 2, 1)


def _put(folder: Path, name: str, text: str) -> None:
    """Bring a file that was finished a while ago."""
    (folder / name).write_text(text)
    os.utime(folder / name, (time.time() - 300,) * 2)


def _until(what: Callable[[], object], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never was so"
        time.sleep(0.1)
