"""The languages of the public page: the texts, one file for each, and which of them a browser asks for."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

from consent.errors import ConfigurationError
from consent.public_page import LocalText

FOLDER: Final = Path(__file__).parent / "texts"
_LONGEST_HEADER = 500
_CHANNELS = {
    **dict.fromkeys(("EMAIL",), "email"),
    **dict.fromkeys(("SMS", "MOBILE"), "sms"),
    **dict.fromkeys(("IOS", "ANDROID", "MOBILE_PUSH", "WEB_PUSH"), "push"),
    **dict.fromkeys(("VOICE_VIDEO",), "call"),
}
_NAMES = {
    "WHATSAPP": "WhatsApp",
    "VIBER": "Viber",
    "LINE": "LINE",
    "WECHAT": "WeChat",
    "MMS": "MMS",
    "RCS": "RCS",
    "ZALO": "Zalo",
    "FACEBOOK": "Facebook",
    "APPLE_MB": "Apple Messages",
    "APPLE_MESSAGES_FOR_BUSINESS": "Apple Messages",
}
"""Channels that are called the same in every language."""


class Language(NamedTuple):
    """One language: its code, as HTML and HTTP write it, and its texts by their names."""

    code: str
    texts: Mapping[str, str]

    def channel(self, name: str) -> str:
        """Return what people call a channel of a link, or nothing if we have no words for it."""
        known = _CHANNELS.get(name.upper())
        return self.texts[f"channel_{known}"] if known else _NAMES.get(name.upper(), "")

    def of(self, text: LocalText, otherwise: str) -> str:
        """Return words of the settings in this language, else in the language `otherwise`, else in any."""
        if isinstance(text, str):
            return text
        return text.get(self.code) or text.get(otherwise) or next(iter(text.values()), "")


@cache
def languages() -> Mapping[str, Language]:
    """Return every language by its code."""
    files = sorted(FOLDER.glob("*.toml"))
    return {one.stem: Language(one.stem, tomllib.loads(one.read_text(encoding="utf-8"))) for one in files}


def known_language(code: str, setting: str) -> str:
    """Return the code of a language that we have; raise ConfigurationError, which names the setting and those."""
    if code not in languages():
        raise ConfigurationError(
            f"{setting}: {code!r} is no language of the page; write one of {', '.join(languages())}"
        )
    return code


def asked_for(accept_language: str, otherwise: str) -> Language:
    """Return the language that fits the header `Accept-Language` best, else the one with the code `otherwise`."""
    offered = [otherwise, *(code for code in languages() if code != otherwise)]
    accepted = parse_accept_header(accept_language[:_LONGEST_HEADER], LanguageAccept)
    return languages()[accepted.best_match(offered) or otherwise]
