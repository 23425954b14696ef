"""`serve`, `token` and `schema`: what they refuse before they begin, and what they print."""

from __future__ import annotations

import io
import json
import os
import socket

import pytest

from producers.http.tokens import Tokens
from tests.support.command_line import Cli

SECRET = "a-secret-for-the-links-of-the-tests"
COLUMNS = ("user_id=387006417", "channel=EMAIL", "priority=BULK")


@pytest.fixture
def keyed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - that one clears the environment first
    """A key for programs and a secret for links."""
    monkeypatch.setenv("OPTRELAY_API_KEYS", "shop=a-key-for-the-tests")
    monkeypatch.setenv("OPTRELAY_TOKEN_SECRET", SECRET)


def test_no_one_is_served_without_any_key(cli: Cli) -> None:
    """Without keys and without a secret for links it refuses to start, even for this machine only, and says why."""
    answer = cli("serve", "--port", "0")

    assert answer.code == 2
    assert "OPTRELAY_API_KEYS" in answer.err


@pytest.mark.usefixtures("keyed")
def test_a_place_that_is_taken_is_a_matter_of_usage(cli: Cli) -> None:
    """The port of another server is refused with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = cli("serve", "--port", str(taken.getsockname()[1]))

    assert answer.code == 2
    assert "another --port" in answer.err


@pytest.mark.usefixtures("keyed")
def test_a_link_is_made_for_one_person(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link stands where people reach the server, holds the columns, and works as long as it was told to."""
    monkeypatch.setenv("OPTRELAY_PUBLIC_URL", "https://shop.example.com/")
    url, token = cli("token", *COLUMNS, "--expires", "90d").out.strip().rsplit("/", 1)

    assert url == "https://shop.example.com/v1/unsubscribe"
    assert Tokens(SECRET).read(token).fields == dict(column.split("=") for column in COLUMNS)


@pytest.mark.usefixtures("keyed")
@pytest.mark.parametrize(
    "url",
    [
        "shop.example.com",
        "//shop.example.com",
        "ftp://shop.example.com",
        "https://shop.example.com/?from=mail",
        "https://shop.example.com/#x",
        "https://me:hush@shop.example.com",
        "https://shop.example.com:port",
        "https://",
        "http://[",
        "https://shop.example.com/a b",
        "<https://shop.example.com>",
    ],
)
def test_an_address_that_makes_no_links_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """A campaign of mails was sent with links that open nothing, and no one who got them could unsubscribe."""
    monkeypatch.setenv("OPTRELAY_PUBLIC_URL", url)
    refused = cli("token", *COLUMNS)

    assert (refused.code, refused.out) == (2, "")
    assert "OPTRELAY_PUBLIC_URL" in refused.err
    assert "https://consent.example.com" in refused.err
    assert "hush" not in refused.err


@pytest.mark.usefixtures("keyed")
def test_a_link_that_no_mail_provider_follows_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8058 wants https:// in List-Unsubscribe."""
    monkeypatch.setenv("OPTRELAY_PUBLIC_URL", "http://shop.example.com")
    assert "https://" in cli("token", *COLUMNS).err


@pytest.mark.usefixtures("keyed")
def test_links_are_made_for_many(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link for each line, in their order; a line that no click could use is refused by its number."""
    lines = [json.dumps({"userId": n, "channel": "EMAIL", "priority": "BULK"}) for n in (1, 2, 3)]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    tokens = [json.loads(line)["token"] for line in cli("token", "-", "--json").out.splitlines()]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*lines, '{"user_id": "4", "channel": "FAX"}'])))
    bad = cli("token", "-")

    assert [Tokens(SECRET).read(token).fields["user_id"] for token in tokens] == ["1", "2", "3"]
    assert (bad.code, "line 4" in bad.err, "FAX" in bad.err) == (2, True, False)


@pytest.mark.usefixtures("keyed")
@pytest.mark.parametrize(
    "wrong",
    [
        ("action=OPTIN",),
        ("effective_at=2026-11-20",),
        ("colour=red",),
        ("--expires", "1s"),
        ("--expires", "soon"),
        ("x",),
    ],
)
def test_a_link_that_says_too_much_is_refused(cli: Cli, wrong: tuple[str, ...]) -> None:
    """A link opts out at the moment of the click, and its columns are known ones."""
    assert cli("token", *COLUMNS, *wrong).code == 2


def test_no_link_without_a_secret(cli: Cli) -> None:
    """It says which setting is missing."""
    answer = cli("token", *COLUMNS)

    assert answer.code == 2
    assert "OPTRELAY_TOKEN_SECRET" in answer.err


def test_the_schema_is_printed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """`optrelay schema` prints the event format of what is configured, or of everything that could be."""
    configured = cli("schema").json
    for name in [name for name in os.environ if name.startswith("OPTRELAY_CONNECTIONS")]:
        monkeypatch.delenv(name)
    every = cli("schema").json

    assert set(configured["$defs"]) == {"PlainChange", "CloudEvent", "Time", "capillary"}
    assert {"capillary", "gupshup", "infobip"} <= set(every["$defs"])
