"""What the page behind an unsubscribe link shows of an installation: brand, logo, colour, and what a link is about."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_LONGEST = 200

LocalText = str | dict[str, str]
"""What people read: one text, or one for each language (`{"en": "Weekly offers", "de": "Wochenangebote"}`)."""


def _short(text: LocalText) -> LocalText:
    """Return words that fit onto a phone; raise ValueError for others."""
    texts = [text] if isinstance(text, str) else list(text.values())
    if any(len(text) > _LONGEST for text in texts):
        message = f"write at most {_LONGEST} characters"
        raise ValueError(message)
    return text


def _colour(text: str) -> str:
    """Return a colour as it is written in CSS; raise ValueError for anything else."""
    if text and not _COLOUR.fullmatch(text):
        message = "a colour is written like #1f4e8c"
        raise ValueError(message)
    return text


def _address(text: str) -> str:
    """Return an address to which the paths of links can be added; raise ValueError for any other."""
    url = text.strip()
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.scheme.lower() in {"https", "http"} and parts.hostname and parts.port != 0)
    except ValueError:  # such as http://[ or a port that is no number
        is_whole = False
    if url and (not is_whole or not url.isascii() or not url.isprintable() or set(' @?#<>"\\') & set(url)):
        message = "write the address where people reach the server, like https://consent.example.com"
        raise ValueError(message)
    return url


PublicAddress = Annotated[str, AfterValidator(_address)]
ShortText = Annotated[LocalText, AfterValidator(_short)]


class LinkTopic(BaseModel):
    """What links with these columns are about, in words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: dict[str, str] = Field({}, description="columns and values that a link has; empty: every link")
    brand: ShortText = Field("", description="whose messages these are, where it is not the brand of the page")
    list: ShortText = Field("", description="the list, such as `Weekly offers`")
    channel: ShortText = Field("", description="by which way they come, where optrelay has no words for the channel")


class PublicPage(BaseModel):
    """How the page behind an unsubscribe link looks, and in which words it says what it is about."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    brand: ShortText = Field("", description="whose messages these are: one text, or a JSON object by language")
    logo: str = Field("", description="a PNG, JPEG, GIF, WebP or SVG file of at most 100 KiB, shown above the page")
    colour: Annotated[str, AfterValidator(_colour)] = Field(
        "", description="the colour of the button, like `#1f4e8c`; its letters are black or white, as can be read"
    )
    language: str = Field("en", description="the language of the page for browsers that ask for none that it has")
    within_hours: int | None = Field(
        None, ge=2, le=2400, description="hours within which messages stop, if the page is to promise it"
    )
    topics: list[LinkTopic] = Field(
        [], description="what links are about (JSON list of `when`, `brand`, `list`, `channel`); the first that fits"
    )
