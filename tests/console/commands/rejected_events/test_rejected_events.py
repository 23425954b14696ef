"""Rejected events: what was acknowledged and could not be read can be looked at, fixed and sent again."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, text

from consent.ledger.ledger import Ledger
from consent.ledger.schema import changes
from consent.times import from_micros
from producers.events.event import Event
from producers.events.ingest import EventIngest
from producers.parsing.row_parser import parse_context
from tests.support.command_line import MEMORY, Cli
from worker.providers import PROVIDERS

ANN = {"user_id": "387006417", "channel": "EMAIL", "priority": "BULK", "action": "OPTOUT"}
MORNING = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
SOURCE = "redis://127.0.0.1:6379/0 stream consent, as web-1"
EVENTS = (
    Event(json.dumps({**ANN, "channel": "MAIL"}).encode(), {}, "stream consent, entry 1-0", MORNING),
    Event(b"{oops \xff", {"ce-subject": "ann@example.com"}, "stream consent, entry 2-0", MORNING, "m-2"),
    Event(json.dumps([ANN, {**ANN, "channel": ""}]).encode(), {}, "stream consent, entry 3-0", MORNING, "m-3"),
)


@pytest.fixture
def rejected(cli: Cli, url: str) -> Cli:
    """A ledger in which three changes of a stream's events were rejected, and one was recorded."""
    ledger = Ledger(url)
    ledger.maintenance.prepare()
    context = parse_context({"capillary": PROVIDERS["capillary"].row}, {}, None, None, UTC)
    intake = EventIngest(ledger.intake, context, "redis stream", SOURCE, lambda _: None)
    intake.take(EVENTS)
    intake.close()
    ledger.close()
    return cli


def recorded(url: str) -> list[tuple[str, datetime]]:
    """Slot and time of each recorded change."""
    ledger = Ledger(url)
    query = select(changes.c.slot, changes.c.effective_at).order_by(changes.c.id)
    found = ledger.database.read(lambda tx: tx.execute(query).all())
    ledger.close()
    return [(json.loads(slot)[0], from_micros(at)) for slot, at in found]


def test_the_list_says_what_and_where_and_names_no_one(rejected: Cli) -> None:
    """Someone's opt-out was rejected tonight: the operator sees how many, why, and where they stand."""
    answer = rejected("rejected-events", "list")
    assert "see `optrelay rejected-events list --import" in rejected("status", "latest").out

    for part in (SOURCE, "unknown_value", "bad_json", "missing_field", "entry 3-0, change 2"):
        assert part in answer.out
    assert "387006417" not in answer.out + answer.err
    found = rejected("rejected-events", "list", "--json").json
    assert [one["code"] for one in found] == ["unknown_value", "bad_json", "missing_field"]
    assert [one["id"] for one in rejected("rejected-events", "list", "--json", "--code", "bad_json").json] == [2]
    assert (
        len(rejected("rejected-events", "list", "--json", "--source", "stream consent", "--import", "latest").json) == 3
    )
    assert rejected("rejected-events", "list", "--older-than", "1h").out.strip() == "no rejected events"


def test_what_it_said_is_shown_on_request_only(rejected: Cli) -> None:
    """It names persons; control characters in it do not reach the terminal."""
    hidden, shown = rejected("rejected-events", "show", "2"), rejected("rejected-events", "show", "2", "--reveal")

    assert "oops" not in hidden.out
    assert "ann@example.com" not in hidden.out
    assert "{oops \\xff" in shown.out
    assert "ce-subject=ann@example.com" in shown.out
    revealed = rejected("rejected-events", "show", "1", "--reveal", "--json").json
    assert revealed["event"] == {**ANN, "channel": "MAIL"}
    assert "event" not in rejected("rejected-events", "show", "1", "--json").json


def test_what_was_our_fault_is_sent_again_as_it_was(rejected: Cli, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A default was missing in our settings: once it is there, the person's opt-out holds since its own time."""
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__CAPILLARY__DEFAULTS", '{"channel": "MOBILE"}')
    dry = rejected("rejected-events", "resend", "--all", "--dry-run", "--json").json
    answer = rejected("rejected-events", "resend", "--all", "--yes", "--json", "--who", "ann")

    assert (dry["would_be_recorded"], dry["accepted"]) == (1, 0)
    assert (answer.code, answer.json["accepted"]) == (1, 1)
    assert [one["id"] for one in answer.json["still_rejected"]] == [1, 2]
    assert recorded(url) == [("EMAIL", MORNING), ("MOBILE", MORNING)]
    assert [one["id"] for one in rejected("rejected-events", "list", "--json").json] == [1, 2]
    closed = rejected("rejected-events", "show", "3", "--json").json
    assert (closed["closed_as"], closed["closed_by"]) == ("resent", "ann")


def test_a_name_twice_deep_in_a_line_is_refused(rejected: Cli, url: str, tmp_path: Path) -> None:
    """A person who opted out is opted in: the exported line still said both, and the last one was taken."""
    both = json.dumps(ANN | {"effective_at": "2026-11-20T08:30:00Z"})[:-1] + ', "action": "OPTIN"}'
    envelope = '"specversion": "1.0", "id": "7", "source": "/shop", "type": "consent"'
    (tmp_path / "fix.ndjson").write_text(f'{{"_id": 1, "event": {{{envelope}, "data": {both}}}}}\n')

    answer = rejected("rejected-events", "resend", "--file", "fix.ndjson", "--yes", "--json")

    assert [(one["code"], one["field"]) for one in answer.json["still_rejected"]] == [("named_twice", "action")]
    assert recorded(url) == [("EMAIL", MORNING)]


def test_a_fixed_file_is_sent_again(rejected: Cli, url: str, tmp_path: Path) -> None:
    """Exported, fixed by hand and sent again, an event keeps its source and time; twice is once."""
    assert rejected("rejected-events", "export", "--output", "fix.ndjson").code == 0
    path = tmp_path / "fix.ndjson"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert rejected("rejected-events", "export", "--output", "fix.ndjson").code == 2
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [sorted({"event", "text", "base64"} & line.keys()) for line in lines] == [["event"], ["base64"], ["event"]]
    assert [json.loads(line) for line in rejected("rejected-events", "export").out.splitlines()] == lines
    lines[0]["event"]["channel"] = "MOBILE"
    del lines[1]["base64"]
    lines[1] |= {"event": {**ANN, "channel": "line", "effective_at": "2026-11-19T08:30:00Z"}}
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")

    first = rejected("rejected-events", "resend", "--file", "fix.ndjson", "--yes", "--json")
    again = rejected("rejected-events", "resend", "--file", "fix.ndjson", "--yes", "--json")

    assert (first.code, first.json["accepted"], first.json["duplicates"]) == (1, 2, 0)
    assert [(one["id"], one["code"]) for one in first.json["still_rejected"]] == [(3, "missing_field")]
    assert (again.json["accepted"], again.json["duplicates"]) == (0, 2)
    assert recorded(url) == [("EMAIL", MORNING), ("MOBILE", MORNING), ("line", MORNING - timedelta(days=1))]
    assert [one["id"] for one in rejected("rejected-events", "list", "--json").json] == [3]
    assert rejected("status", "latest", "--json").json["name"] == SOURCE


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is not JSON"),
        ("[]", "line 1 is no line of"),
        ('{"event": {}}', "line 1 is no line of"),
        ('{"_id": 1}', "has neither event"),
        ('{"_id": 1, "base64": "!"}', "cannot be decoded"),
        ('{"_id": 99, "event": {}}', "no such open rejected event: 99"),
        ('{"_id": 1, "event": 1}\n{"_id": 1, "event": 2}', "_id 1 stands in two lines"),
    ],
)
def test_a_file_that_is_no_export_is_refused_whole(rejected: Cli, tmp_path: Path, line: str, message: str) -> None:
    """Nothing is sent of a file that was damaged by hand."""
    (tmp_path / "fix.ndjson").write_text(line)
    answer = rejected("rejected-events", "resend", "--file", "fix.ndjson", "--yes")

    assert (answer.code, message in answer.err) == (2, True)


def test_a_name_twice_is_still_refused_in_a_fixed_file(rejected: Cli, tmp_path: Path) -> None:
    """An editor's slip does not turn an opt-out into an opt-in."""
    event = '{"user_id":"1","channel":"EMAIL","priority":"BULK","action":"OPTOUT","action":"OPTIN"}'
    (tmp_path / "fix.ndjson").write_text(f'{{"_id": 1, "event": {event}}}')
    answer = rejected("rejected-events", "resend", "--file", "fix.ndjson", "--yes", "--json")

    assert [one["code"] for one in answer.json["still_rejected"]] == ["named_twice"]


def test_discarding_needs_a_reason_and_says_who(rejected: Cli) -> None:
    """Nothing is put away by mistake; what was is out of the list, and tells who did it and why."""
    assert rejected("rejected-events", "discard", "--why", "a test", "--yes").code == 2
    assert rejected("rejected-events", "discard", "1", "--why", " ", "--yes").code == 2
    assert rejected("rejected-events", "resend", "--yes").code == 2
    answer = rejected("rejected-events", "discard", "1", "2", "--why", "a test", "--who", "ann", "--yes", "--json")

    assert answer.json == {"dry_run": False, "discarded": 2, "events": [1, 2]}
    assert [one["id"] for one in rejected("rejected-events", "list", "--json").json] == [3]
    closed = rejected("rejected-events", "list", "--json", "--closed").json[0]
    assert (closed["closed_as"], closed["closed_by"], closed["closed_why"]) == ("discarded", "ann", "a test")


def test_an_empty_file_means_no_event(rejected: Cli, tmp_path: Path) -> None:
    """A pipeline exports, fixes and sends again each hour: when there is nothing to fix, nothing is sent."""
    (tmp_path / "fix.ndjson").write_text("\n")
    answer = rejected("rejected-events", "resend", "--file", "fix.ndjson", "--yes", "--json")

    assert (answer.code, answer.json) == (
        0,
        {"dry_run": False, "accepted": 0, "duplicates": 0, "still_rejected": []},
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--json"),
        pytest.param(("list",), marks=pytest.mark.proof),
        pytest.param(("export",), marks=pytest.mark.proof),
        pytest.param(("resend", "--all", "--json"), marks=pytest.mark.proof),
        pytest.param(("resend", "--file", "-"), marks=pytest.mark.proof),
    ],
)
@pytest.mark.usefixtures("rejected")
def test_many_rejected_events_fill_no_memory(url: str, arguments: tuple[str, ...]) -> None:
    """200,000 events took 400 to 760 MB, so a night of a wrong setting could not be looked at in a small container."""
    multiply_events(url, 20_000)
    more = ("--dry-run",) if arguments[0] == "resend" else ()
    fixed = "".join(f'{{"_id": {id_}, "event": {{"action": "{"x" * 500}"}}}}\n' for id_ in range(1, 20_001))

    done = subprocess.run(
        [sys.executable, "-c", MEMORY, "rejected-events", *arguments, *more],
        input=fixed,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr.startswith("\nMORE")
    assert int(done.stderr.rpartition("MORE")[2]) < 35 * 1024  # KiB, half of them for what any command takes
    if arguments == ("list", "--json"):
        assert len(json.loads(done.stdout)) == 20_000
    if arguments == ("export",):
        assert len(done.stdout.splitlines()) == 20_000
    if arguments == ("resend", "--all", "--json"):
        assert len(json.loads(done.stdout)["still_rejected"]) == 20_000
    if arguments == ("resend", "--file", "-"):
        assert "20,000 still rejected" in done.stdout


def multiply_events(url: str, count: int) -> None:
    """Make so many rejected events of the first one."""
    columns = "import_id, line, place, code, message, column_name, rejected_at, position, envelope, body, size"
    engine = create_engine(url)
    with engine.begin() as tx:
        (have,) = tx.execute(text("SELECT count(*) FROM rejected_events")).one()
        tx.execute(
            text(
                f"INSERT INTO rejected_events (dedupe_key, {columns}) "
                "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :more) "
                f"SELECT randomblob(16), {columns} FROM n, (SELECT * FROM rejected_events WHERE id = 1)"
            ),
            {"more": count - have},
        )
    engine.dispose()


def test_one_is_shown_by_where_it_stands(rejected: Cli) -> None:
    """A log names an entry of the stream, a summary an import and a number: neither has to be turned into an id."""
    for place, found in (("entry 2-0", 2), ("2-0", 2), ("stream consent, entry 3-0, CHANGE 2", 3), ("latest:1", 1)):
        assert rejected("rejected-events", "show", place, "--json").json["id"] == found, place

    nowhere = rejected("rejected-events", "show", "entry 3")
    assert nowhere.code == 2
    assert "no rejected event stands at 'entry 3'" in nowhere.err
    several = rejected("rejected-events", "show", "stream consent")
    assert several.code == 2
    assert "3 rejected events stand at 'stream consent': name one by its id: 1, 2, 3" in several.err
    assert rejected("rejected-events", "show", "nosuch:1").code == 2


def test_those_of_one_person_are_found_in_any_spelling(rejected: Cli) -> None:
    """A person asks what became of an opt-out: those that could not be read are told of as well."""
    theirs = rejected("rejected-events", "list", "--person", "userId=387006417", "--json")
    assert [one["id"] for one in theirs.json] == [1, 3]
    assert rejected("rejected-events", "list", "--person", "user_id=387006418", "--json").json == []
    assert "387006417" not in theirs.out

    unnamed = rejected("rejected-events", "discard", "--why", "x", "--yes")
    assert (unnamed.code, "--person" in unnamed.err) == (2, True)
    assert rejected("rejected-events", "list", "--person", "colour=red").code == 2
    done = rejected("rejected-events", "discard", "--person", "user_id=387006417", "--why", "a test", "--yes", "--json")
    assert done.json["events"] == [1, 3]
