"""One admitted request and what answers it: who asks, what the form says, and the templates."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Undefined, select_autoescape
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, RedirectResponse, Response

from consent.identifiers.masking import masked, revealed
from consent.ledger.ledger import Ledger
from consent.settings import Settings
from consent.times import from_micros
from console.commands.page.access import PREFIX, Refused, Session
from console.commands.page.users import Role, User
from console.ui.decisions import decided_in_words, fuse_in_words, guard_in_words, held_by_fuse
from console.ui.text import counted, duration_text, origin_text, slot_text, spoken

_FOLDER = Path(__file__).parent
STATIC = {path.name: path.read_bytes() for path in sorted((_FOLDER / "static").iterdir())}
"""The files that the pages load, by name."""

_VERSION = sha256(b"".join(STATIC.values())).hexdigest()[:12]
LONGEST_WHY = 1_000
_LARGEST = 2**63


@dataclass(frozen=True, slots=True)
class Parts:
    """What the views work with; `wake` wakes the workers, and returns what a person should know then ("": nothing)."""

    settings: Settings
    ledger: Ledger
    wake: Callable[[Ledger], str]


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a user. `form` and `query` hold the last value of each name; `path` what stands in the path."""

    parts: Parts
    session: Session
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def user(self) -> User:
        """Who asks."""
        return self.session.user

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        return self.parts.ledger

    @property
    def who(self) -> str:
        """The name that the audit log keeps."""
        return f"user {self.user.name}" if self.user.proves_name else self.user.name

    def page(self, template: str, status: HTTPStatus = HTTPStatus.OK, **more: Any) -> Response:
        """Return a page; a notice that waits is shown on it."""
        notice, self.session.notice = self.session.notice, ""
        text = render(
            template, session=self.session, user=self.user, notice=notice, settings=self.parts.settings, **more
        )
        return HTMLResponse(text, status)

    def go(self, place: str, notice: str = "") -> Response:
        """Send the browser to another page of ours, which shows the notice."""
        self.session.notice = notice
        return RedirectResponse(PREFIX + place, HTTPStatus.SEE_OTHER)

    def why(self) -> str:
        """Return why a form asks for something; raise Mistake without."""
        why = self.form.get("why", "").strip()
        if not why or len(why) > LONGEST_WHY or "\0" in why:
            raise Mistake(f"Say why, in 1 to {LONGEST_WHY:,} characters: it is all that the audit log will tell.")
        return why

    def number(self, name: str) -> int:
        """Return a number that a person typed, also like 1,234; raise Mistake for anything else."""
        text = self.form.get(name, "").strip().replace(",", "").replace("\u202f", "").replace(" ", "")
        if not text.isascii() or not text.isdigit() or int(text[:19]) >= _LARGEST or len(text) > len(str(_LARGEST)):
            raise Mistake("Type the number that is shown.")
        return int(text)


class Mistake(Exception):
    """What a person typed cannot be used: the page is shown again, with this sentence."""


def not_found(what: str) -> Refused:
    """Return the answer where there is no such thing."""
    return Refused(HTTPStatus.NOT_FOUND, "Not found", f"There is no {what} like that.")


def key_of(text: str | None) -> int | None:
    """Return a number of a link, None if it is none."""
    is_number = text is not None and text.isascii() and text.isdigit() and len(text) < len(str(_LARGEST))
    return int(text or "") if is_number else None


def render(template: str, **more: Any) -> str:
    """Return a template as text; everything in it is escaped."""
    return _environment.get_template(template).render(**more)


def _moment(micros: int | None) -> str:
    return "" if micros is None else f"{from_micros(micros):%Y-%m-%d %H:%M}"


def _clock(micros: int) -> str:
    return f"{from_micros(micros):%H:%M}"


def _iso(micros: int) -> str:
    return from_micros(micros).isoformat(timespec="seconds")


def _short(name: str) -> str:
    """Return the name of a file without its folders."""
    return name.rstrip("/").rpartition("/")[2] or name


def _prose(text: str) -> Markup:
    """Return a sentence of ours as HTML: escaped, and what stands between ` marks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - it has been escaped


def _number(count: float) -> str:
    return f"{count:,}"


def _link(place: str, **query: object) -> str:
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return PREFIX + place + (f"?{urlencode(given)}" if given else "")


def _is_none(value: object) -> bool:
    """Whether it is None; what is not there raises UndefinedError: Jinja's own test takes it for a value."""
    if isinstance(value, Undefined):
        str(value)
    return value is None


_environment = Environment(
    loader=FileSystemLoader(_FOLDER / "templates"),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {
    "moment": _moment,
    "clock": _clock,
    "iso": _iso,
    "number": _number,
    "duration": duration_text,
    "prose": _prose,
    "short": _short,
    "masked": masked,
    "revealed": revealed,
}
_environment.tests["none"] = _is_none
_environment.globals |= {
    "link": _link,
    "counted": counted,
    "origin_text": origin_text,
    "slot_text": slot_text,
    "spoken": spoken,
    "fuse_in_words": fuse_in_words,
    "held_by_fuse": held_by_fuse,
    "decided_in_words": decided_in_words,
    "guard_in_words": guard_in_words,
    "version": _VERSION,
    "prefix": PREFIX,
    "Role": Role,
    "longest_why": LONGEST_WHY,
}
