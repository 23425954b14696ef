"""The page behind an unsubscribe link: few words in the reader's language, one button, no script, nothing loaded.

It says whose messages the link is about, which and by which way they come, as far as the settings or the link's own
channel tell. It names no person.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from html import escape
from http import HTTPStatus
from pathlib import Path
from typing import Literal

from fastapi import Response
from fastapi.responses import HTMLResponse

from consent.errors import ConfigurationError
from consent.files import ordinary, path_text
from consent.public_page import LinkTopic, LocalText, PublicPage
from producers.http.unsubscribe.form import BY_PERSON, FIELD, PRESSED, VALUE
from producers.http.unsubscribe.languages import Language, asked_for, known_language

What = Literal["confirm", "done", "expired", "unknown", "not_asked", "later"]
"""What a page says; `confirm` has the button, and both it and `done` say what happens next."""

SETTING = "OPTRELAY_PUBLIC_PAGE__"
_LONGEST_LOGO = 100 * 1024
_LOOKED_AT = 1024
_KINDS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}
_DAY = 24
_STYLE = (
    ":root{color-scheme:light dark;font:1.125rem/1.5 system-ui,sans-serif}"
    "body{margin:0 auto;max-width:34rem;padding:2rem 1rem;overflow-wrap:anywhere}"
    "img{display:block;max-height:4rem;max-width:100%}"
    "@media(prefers-color-scheme:dark){img{background:#fff;padding:.5rem;border-radius:.25rem}}"
    "h1{line-height:1.2}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem}dt{font-weight:bold}dd{margin:0}"
    "button{font:inherit;font-weight:bold;padding:.75rem 1.5rem;min-height:3rem;max-width:100%;cursor:pointer;"
    "border:.125rem solid;border-radius:.25rem;background:CanvasText;color:Canvas}"
    ":focus-visible{outline:.2rem solid CanvasText;outline-offset:.2rem}"
)


class PublicPages:
    """Makes the pages of one installation. `columns` leads what a person calls a column to its name, or to None."""

    def __init__(self, settings: PublicPage, columns: Callable[[str], str | None] = str) -> None:
        """Read the logo; raise ConfigurationError, with the remedy, for what cannot be shown or never fits."""
        self._settings, self._topics = settings, [(_known(one, columns), one) for one in settings.topics]
        self._otherwise = known_language(settings.language, f"{SETTING}LANGUAGE")
        for text in (
            settings.brand,
            *(text for one in settings.topics for text in (one.brand, one.list, one.channel)),
        ):
            for code in text if isinstance(text, dict) else ():
                known_language(code, f"{SETTING}BRAND or {SETTING}TOPICS")
        self._logo = _logo(settings.logo) if settings.logo else ""
        self._style = _STYLE + _colours(settings.colour)
        shown = f"style-src 'sha256-{_digest(self._style)}'{'; img-src data:' if self._logo else ''}"
        self._policy = f"default-src 'none'; {shown}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

    def page(
        self,
        what: What,
        accept_language: str,
        link: Mapping[str, str] | None = None,
        status: HTTPStatus = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Return a page about the columns of a link; no cookie, no redirect, nothing to remember."""
        language = asked_for(accept_language, self._otherwise)
        texts = language.texts
        content = "".join(self._content(what, language, link or {}))
        html = (
            f'<!doctype html><html lang="{language.code}"><head><meta charset="utf-8">'
            f"<title>{_text(texts[f'{what}_title'])}</title>"
            '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
            f"<style>{self._style}</style></head><body>{self._header(language)}<main>"
            f"<h1>{_text(texts[f'{what}_title'])}</h1>{content}</main></body></html>"
        )
        own = {"content-security-policy": self._policy, "content-language": language.code, "vary": "Accept-Language"}
        return HTMLResponse(html, status, {**own, **(headers or {})})

    def _header(self, language: Language) -> str:
        brand = language.of(self._settings.brand, self._otherwise)
        return f'<header><img src="{self._logo}" alt="{_text(brand)}"></header>' if self._logo else ""

    def _content(self, what: What, language: Language, link: Mapping[str, str]) -> Iterator[str]:
        texts = language.texts
        yield f"<p{'' if what == 'confirm' else ' role=status'}>{_text(texts[what])}</p>"
        if what not in {"confirm", "done"}:
            return
        rows = [(name, text) for name, text in self._about(language, link).items() if text]
        if rows:
            yield f"<dl>{''.join(f'<dt>{_text(texts[name])}</dt><dd>{_text(text)}</dd>' for name, text in rows)}</dl>"
        if what == "confirm":
            yield (
                f'<form method="post"><input type="hidden" name="{FIELD}" value="{VALUE}">'
                f'<input type="hidden" name="{PRESSED}" value="{BY_PERSON}">'
                f'<button type="submit">{_text(texts["button"])}</button></form>'
                f"<p>{_text(texts['confirm_next'])}</p>"
            )
        yield f"<p>{_text(self._when_it_stops(texts))}</p>"

    def _about(self, language: Language, link: Mapping[str, str]) -> dict[str, str]:
        """Return in words whose messages a link is about, which, and by which way they come; empty where not known."""
        topic = next((one for when, one in self._topics if _fits(when, link)), LinkTopic())

        def localized(*text: LocalText) -> str:
            return next((found for one in text if (found := language.of(one, self._otherwise))), "")

        return {
            "brand": localized(topic.brand, self._settings.brand),
            "list": localized(topic.list),
            "channel": localized(topic.channel) or language.channel(link.get("channel", "")),
        }

    def _when_it_stops(self, texts: Mapping[str, str]) -> str:
        hours = self._settings.within_hours
        if hours is None:
            return texts["stop_soon"]
        if hours > _DAY and hours % _DAY == 0:
            return texts["stop_in_days"].replace("{count}", str(hours // _DAY))
        return texts["stop_in_hours"].replace("{count}", str(hours))


def _known(topic: LinkTopic, columns: Callable[[str], str | None]) -> dict[str, str]:
    """Return what a topic asks of a link, by our names of columns, in small letters."""
    found = {columns(name) or "": value.casefold() for name, value in topic.when.items()}
    if "" in found:
        unknown = ", ".join(sorted(name for name in topic.when if not columns(name)))
        raise ConfigurationError(f"{SETTING}TOPICS: no link has a column {unknown}; docs/csv.md names the columns")
    return found


def _fits(when: Mapping[str, str], link: Mapping[str, str]) -> bool:
    return all(link.get(name, "").casefold() == value for name, value in when.items())


def _logo(name: str) -> str:
    """Return a file as an address that holds it whole, so that nothing is loaded; raise ConfigurationError."""
    path = Path(name)
    try:
        with ordinary(path) as file:
            content = file.read(_LONGEST_LOGO + 1)
    except ConfigurationError as error:
        raise ConfigurationError(f"{SETTING}LOGO: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{SETTING}LOGO: {path_text(path)} cannot be read: {type(error).__name__}") from None
    if len(content) > _LONGEST_LOGO:
        raise ConfigurationError(f"{SETTING}LOGO: {path_text(path)} is longer than 100 KiB, and each page holds it")
    kind = next((kind for start, kind in _KINDS.items() if content.startswith(start)), "")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = "webp"
    elif not kind and b"<svg" in content[:_LOOKED_AT]:
        kind = "svg+xml"
    if not kind:
        raise ConfigurationError(f"{SETTING}LOGO: {path_text(path)} is no PNG, JPEG, GIF, WebP or SVG picture")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _colours(colour: str) -> str:
    """Return the style of a button of this colour; its letters and its border are black or white, whichever shows."""
    if not colour:
        return ""
    return f"button{{background:{colour};color:{'#000' if _is_light(colour) else '#fff'}}}"


def _is_light(colour: str) -> bool:
    """Whether black shows better on a colour than white: its relative luminance (WCAG 2.2) is over 0.179."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels)  # noqa: PLR2004 - sRGB
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179  # noqa: PLR2004


def _digest(style: str) -> str:
    return base64.b64encode(sha256(style.encode()).digest()).decode()


def _text(text: str) -> str:
    return escape(text, quote=True)
