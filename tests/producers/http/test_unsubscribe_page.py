"""What people see behind an unsubscribe link: from what, in their language, in the colours of the settings."""

from __future__ import annotations

import base64
import os
import re
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from consent.errors import ConfigurationError
from consent.ledger.ledger import Ledger
from consent.public_page import PublicPage
from consent.settings import load_settings
from producers.http.tokens import Tokens
from producers.http.unsubscribe.languages import FOLDER, asked_for, languages
from producers.http.unsubscribe.page import PublicPages
from tests.support.browser.page import text_of
from tests.support.http_server import ANN, SECRET, Server, server

FIELDS = {name: value for name, value in ANN.items() if name not in ("action", "effective_at")}
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TEXTS = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.toml")}
NORTHWIND = {
    "brand": "Northwind",
    "topics": [
        {"when": {"channel": "email", "priority": "TRANS"}, "list": "Receipts"},
        {"when": {"channel": "EMAIL"}, "list": {"en": "Weekly offers", "de": "Wochenangebote"}},
        {"when": {"sender": "OUTLET"}, "brand": "Northwind Outlet", "channel": "Telegram"},
    ],
}


@contextmanager
def serving(books: Ledger, **page: object) -> Iterator[Server]:
    """A server with these settings of the page."""
    with server(books, public_page=PublicPage.model_validate(page)) as one:
        yield one


def opened(served: Server, fields: dict[str, str] = FIELDS, language: str = "en") -> httpx.Response:
    """Follow a link as a browser of this language does."""
    token = served.state.tokens.make(fields, 60)
    return served.client.get(f"/v1/unsubscribe/{token}", headers={"accept-language": language})


def test_every_language_has_every_text() -> None:
    """A text that one file lacks would be an error in front of a person; a place for a number stays one."""
    assert {"en", "de", "fr", "es", "pt", "hi"} <= TEXTS.keys()
    english = TEXTS["en"]
    for code, texts in TEXTS.items():
        assert texts.keys() == english.keys(), code
        assert [name for name, text in texts.items() if not text.strip()] == []
        placed = {name: re.findall(r"\{\w+\}", text) for name, text in texts.items()}
        assert placed == {name: re.findall(r"\{\w+\}", text) for name, text in english.items()}, code
        same = [name for name in english if code != "en" and texts[name] == english[name] and len(texts[name]) > 8]
        assert same == [], f"not translated into {code}"


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("de-CH,de;q=0.9,en;q=0.5", "de"),
        ("pt-BR", "pt"),
        ("zh-CN, hi;q=0.3", "hi"),
        ("fr;q=0, es;q=0.1", "es"),
        ("EN-us", "en"),
        ("zh", "en"),
        ("*", "en"),
        ("", "en"),
        (";;,q=;\x01", "en"),
        ("de," + "x" * 5000, "de"),
    ],
)
def test_the_page_speaks_the_language_of_the_browser(served: Server, asked: str, answered: str) -> None:
    """By the header Accept-Language, with a `lang` that a screen reader speaks by; anything odd is English."""
    token = served.state.tokens.make(FIELDS, 60)
    page = served.client.get(f"/v1/unsubscribe/{token}", headers={b"accept-language": asked.encode("latin-1")})

    assert page.status_code == 200
    assert f'<html lang="{answered}">' in page.text
    assert page.headers["content-language"] == answered
    assert page.headers["vary"] == "Accept-Language"
    assert TEXTS[answered]["confirm"] in text_of(page)


@given(st.text(max_size=60))
def test_no_header_makes_an_error(header: str) -> None:
    """Whatever a browser sends, one of the languages comes."""
    assert asked_for(header, "fr").code in languages()


def test_every_page_is_in_that_language(served: Server) -> None:
    """What became of it, and why a link does not work; a mail provider that asks for none gets the default."""
    old = Tokens(SECRET, clock=lambda: time.time() - 100).make(FIELDS, 60)
    token, french = served.state.tokens.make(FIELDS, 60), {"accept-language": "fr"}
    pages = {
        "expired": served.client.get(f"/v1/unsubscribe/{old}", headers=french),
        "unknown": served.client.get("/v1/unsubscribe/nothing", headers=french),
        "not_asked": served.client.post(f"/v1/unsubscribe/{token}", headers=french),
        "done": served.click(token, **french),
    }
    assert {what: page.status_code for what, page in pages.items()} == {
        "expired": 410,
        "unknown": 404,
        "not_asked": 400,
        "done": 200,
    }
    for what, page in pages.items():
        assert TEXTS["fr"][what] in text_of(page), what
        assert "role=status" in page.text
    gone = served.state.tokens.make({**FIELDS, "connection": "closed"}, 60)
    assert TEXTS["fr"]["later"] in text_of(served.click(gone, **french))
    assert '<html lang="en">' in served.click(token).text


def test_it_says_from_what(books: Ledger) -> None:
    """The brand, the list and the channel, in words of the settings where they have some; no person."""
    with serving(books, **NORTHWIND) as served:
        text = text_of(opened(served))
        assert "From Northwind Messages Weekly offers Sent by Email" in text
        assert "Absender Northwind Nachrichten Wochenangebote Versand per E-Mail" in text_of(
            opened(served, language="de")
        )
        assert "Weekly offers" in text_of(opened(served, language="hi")), "no word in this language: the default's"
        assert "Messages Receipts" in text_of(opened(served, {**FIELDS, "priority": "TRANS"}))
        outlet = {"connection": "infobip", "destination": "12025550100", "sender": "Outlet"}
        assert "From Northwind Outlet Sent by Telegram" in text_of(opened(served, outlet))
        assert "12025550100" not in opened(served, outlet).text
        done = text_of(served.click(served.state.tokens.make(FIELDS, 60)))
        assert "From Northwind Messages Weekly offers Sent by Email" in done


def test_without_settings_it_says_what_the_link_says(served: Server) -> None:
    """Only the channel, in words; one that has no words is not shown by its code."""
    assert "Sent by Email" in text_of(opened(served))
    sms = {"connection": "infobip", "destination": "12025550100", "channel": "SMS"}
    assert "Versand per SMS" in text_of(opened(served, sms, "de"))
    assert "From" not in text_of(opened(served))
    everything = text_of(opened(served, {"connection": "infobip", "destination": "12025550100"}))
    assert "Sent by" not in everything


def test_it_says_what_happens_next(books: Ledger) -> None:
    """Before and after: that nothing has happened yet, and for how long messages may still come."""
    for hours, text in (
        (None, "on their way may still reach you."),
        (36, "at most 36 hours"),
        (240, "at most 10 days"),
    ):
        with serving(books, within_hours=hours) as served:
            before, after = text_of(opened(served)), text_of(served.click(served.state.tokens.make(FIELDS, 60)))
        assert "Nothing changes until you press the button." in before
        assert text in before
        assert text in after
        assert "Nothing changes" not in after


def test_it_has_one_button_and_loads_nothing(books: Ledger, tmp_path: Path) -> None:
    """The policy allows our own style, the form and the logo that the page holds, and nothing else."""
    logo = tmp_path / "logo.png"
    logo.write_bytes(PIXEL)
    with serving(books, brand="Northwind", logo=str(logo), colour="#ffcc00") as served:
        page = opened(served)
    assert page.text.count("<button") == page.text.count("<form") == 1
    assert "<script" not in page.text
    assert re.findall(r'(?:src|href|action)="(?!data:image/png;base64,)', page.text) == []
    assert 'alt="Northwind"' in page.text
    assert "background:#ffcc00;color:#000" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "img-src data:" in policy
    assert "http" not in policy
    assert "unsafe" not in policy


def test_no_picture_is_allowed_where_there_is_no_logo(served: Server) -> None:
    """The policy stays as strict as it can be."""
    assert "img-src" not in opened(served).headers["content-security-policy"]


def test_words_of_the_settings_stay_words(books: Ledger) -> None:
    """Markup in a brand is shown and not obeyed."""
    hostile = "<script>alert(1)</script>\"'><b>"
    with serving(books, brand=hostile, topics=[{"list": hostile, "channel": hostile}]) as served:
        page = opened(served)
    assert "<script" not in page.text
    assert page.text.count("&lt;script&gt;") == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "cannot be read"),
        (lambda path: path.write_bytes(b"GIF87 as long as " + b"x" * 110_000), "longer than 100 KiB"),
        (lambda path: path.write_bytes(b"<html>no picture</html>"), "is no PNG"),
        (Path.touch, "is no PNG"),
        (Path.mkdir, "is a folder"),
        (os.mkfifo, "is no ordinary file"),  # `serve` waited for ever until someone wrote into it
        (lambda path: path.symlink_to("/dev/zero"), "is no ordinary file"),
    ],
)
def test_a_logo_that_cannot_be_shown_is_refused_at_the_start(tmp_path: Path, make: Any, message: str) -> None:
    """With the setting and the file; not as a broken picture in front of people."""
    make(tmp_path / "logo")
    with pytest.raises(ConfigurationError, match=message) as refused:
        PublicPages(PublicPage(logo=str(tmp_path / "logo")))
    assert "OPTRELAY_PUBLIC_PAGE__LOGO" in str(refused.value)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (PIXEL, "png"),
        (b"\xff\xd8\xff\xe0 jpeg", "jpeg"),
        (b"GIF89a", "gif"),
        (b"RIFF....WEBPVP8 ", "webp"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "svg+xml"),
    ],
)
def test_pictures_are_known_by_their_content(books: Ledger, tmp_path: Path, content: bytes, kind: str) -> None:
    """Whatever the file is called."""
    (tmp_path / "logo.txt").write_bytes(content)
    with serving(books, logo=str(tmp_path / "logo.txt")) as served:
        assert f"data:image/{kind};base64," in opened(served).text


@pytest.mark.parametrize(
    "wrong",
    [{"colour": "red"}, {"colour": "#fff;}"}, {"within_hours": 1}, {"brand": "x" * 201}, {"topics": [{"lists": "x"}]}],
)
def test_settings_that_no_page_could_show_are_refused(wrong: dict[str, object]) -> None:
    """A colour is six digits, so nothing else comes into the style; a misspelt name is not passed over."""
    with pytest.raises(ValidationError):
        PublicPage.model_validate(wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"language": "tlh"}, "OPTRELAY_PUBLIC_PAGE__LANGUAGE: 'tlh' is no language"),
        ({"brand": {"xx": "Northwind"}}, "'xx' is no language"),
        ({"topics": [{"when": {"chanel": "EMAIL"}, "list": "x"}]}, "no link has a column chanel"),
    ],
)
def test_what_would_never_fit_is_refused(wrong: dict[str, object], message: str) -> None:
    """A misspelt column of a topic would only be seen in front of people, by what the page does not say."""
    with pytest.raises(ConfigurationError, match=message):
        PublicPages(PublicPage.model_validate(wrong), {"channel": "channel"}.get)


@given(st.integers(0, 0xFFFFFF))
def test_letters_on_the_button_can_be_read_on_any_colour(colour: int) -> None:
    """A contrast of 4.5 at least, which WCAG 2.2 asks for."""
    style = PublicPages(PublicPage(colour=f"#{colour:06x}"))._style
    letters = style.rpartition("color:")[2].rstrip("}")
    assert _contrast(f"#{colour:06x}", {"#000": "#000000", "#fff": "#ffffff"}[letters]) >= 4.5


def _contrast(*colours: str) -> float:
    def luminance(colour: str) -> float:
        linear = [
            one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4
            for one in (int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5))
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted(map(luminance, colours))
    return (light + 0.05) / (dark + 0.05)


def test_the_settings_come_from_the_environment_and_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Plain words or JSON in a variable, a table in the file."""
    monkeypatch.setenv("OPTRELAY_PUBLIC_PAGE__BRAND", "Northwind")
    monkeypatch.setenv("OPTRELAY_PUBLIC_PAGE__TOPICS", '[{"when": {"channel": "SMS"}, "list": {"en": "Offers"}}]')
    page = load_settings().public_page
    assert (page.brand, page.topics[0].list) == ("Northwind", {"en": "Offers"})
    monkeypatch.setenv("OPTRELAY_PUBLIC_PAGE__TOPICS", "[{")
    with pytest.raises(ConfigurationError, match="OPTRELAY_PUBLIC_PAGE__TOPICS"):
        load_settings()
    monkeypatch.delenv("OPTRELAY_PUBLIC_PAGE__BRAND")
    monkeypatch.delenv("OPTRELAY_PUBLIC_PAGE__TOPICS")
    (tmp_path / "own.toml").write_text(
        '[public_page]\nbrand = {en = "N", de = "M"}\n[[public_page.topics]]\nlist = "x"\n'
    )
    monkeypatch.setenv("OPTRELAY_CONFIG", str(tmp_path / "own.toml"))
    page = load_settings().public_page
    assert (page.brand, page.topics[0].list) == ({"en": "N", "de": "M"}, "x")
