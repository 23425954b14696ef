"""The rules of deadlines: read from data, chosen for each connection, and what they say of one opt-out.

A clock starts at the earlier of an opt-out's `effective_at` and its receipt, whatever a rule itself counts from, and
never when a change becomes due. Only opt-outs have one. All moments are microseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

import re
import tomllib
from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from enum import StrEnum
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Literal, NamedTuple, Self, cast
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from consent.errors import Bounds, ConfigurationError, field_at, wrong_value
from consent.files import ordinary, path_text
from consent.times import from_micros, to_micros

SHIPPED = Path(__file__).with_name("rules.toml")
HISTORIC = "historic"
"""Stands in place of a rule where the clock would have started more than `HISTORY_DAYS` before the receipt."""

NO_RULE = "none"
"""Stands in place of a rule for an opt-in, and for an opt-out from before there were rules."""

HISTORY_DAYS = 30
_HISTORY = HISTORY_DAYS * 86_400_000_000
_HOUR = 3_600_000_000
_ALL = "*"
_NAMES = {"MOBILE": "SMS", "WECHAT": "IM", "LINE": "IM", "VIBER": "IM", "KAKAO": "IM"}
CHANNELS = frozenset({"EMAIL", "SMS", "VOICE", "WHATSAPP", "IM"})
_DEFAULTS = {"EMAIL": "gmail-48h"}
_DEFAULT = "internal-72h"
_WEEKEND = 5
_NO_HOLIDAYS = "OPTRELAY_DEADLINE_HOLIDAYS needs the package `holidays`: pip install 'optrelay[holidays]'"


class Unit(StrEnum):
    """What a rule counts."""

    HOURS = "hours"
    CALENDAR_DAYS = "calendar_days"
    BUSINESS_DAYS = "business_days"
    MONTHS = "months"
    NONE = "none"


class Rule(BaseModel):
    """One rule as a rules file has it; `rules.toml` says what its keys mean."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    channel: frozenset[str] = frozenset({_ALL})
    amount: int = Field(0, ge=0, le=100_000)
    unit: Unit = Unit.NONE
    count: Literal["x1", "i1"] = "x1"
    tz: str = "UTC"
    calendar: str = ""
    who: str = _ALL
    start: str = Field("", alias="from")
    subject: str = ""
    keep: str = ""
    keep_conf: str = ""
    conf: str = ""
    src: str = ""

    @field_validator("channel")
    @classmethod
    def _known_channel(cls, named: frozenset[str]) -> frozenset[str]:
        if unknown := named - CHANNELS - {_ALL}:
            raise ValueError(f"the channel {min(unknown)} is none of {', '.join(sorted(CHANNELS))} or *")
        return named

    @field_validator("tz")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (OSError, ValueError, KeyError) as error:  # it raises each of them, by what the name looks like
            raise ValueError(f"there is no time zone {name!r}") from error
        return name

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if self.count == "i1" and self.unit is not Unit.BUSINESS_DAYS:
            raise ValueError('count = "i1" goes with business_days alone')
        return self

    @property
    def makes_deadline(self) -> bool:
        """Whether it has an amount."""
        return self.amount > 0 and self.unit is not Unit.NONE

    def applies(self, channel: str) -> bool:
        """Whether it is about a channel ("" for a slot that names none)."""
        return _ALL in self.channel or channel in self.channel

    def due(self, start: int, *, holidays: bool = False) -> int:
        """Return the end of the time that it gives from a start.

        Days and months lead to the same time of day, so many days or months later in its zone, and at most to a
        month's last day. Business days lead to the end of the last of them. Weekends are none, nor are public holidays
        if `holidays` are looked at: without them a deadline is early and never late.
        """
        if self.unit is Unit.HOURS:
            return start + self.amount * _HOUR
        zone = ZoneInfo(self.tz)
        local = from_micros(start).astimezone(zone)
        if self.unit is Unit.BUSINESS_DAYS:
            last = _last_business_day(
                local.date(), self.amount, self.calendar if holidays else "", first=self.count == "i1"
            )
            following = last + timedelta(days=1)
            return to_micros(datetime(following.year, following.month, following.day, tzinfo=zone).astimezone(UTC))
        moved = local.date() + timedelta(days=self.amount)
        if self.unit is Unit.MONTHS:
            moved = _months_later(local.date(), self.amount)
        return to_micros(datetime.combine(moved, local.time(), zone).astimezone(UTC))


@lru_cache(maxsize=4096)
def _last_business_day(day: date, amount: int, calendar: str, *, first: bool) -> date:
    free = _holidays_of(calendar) if calendar else ()
    left = amount
    while True:
        if first:
            left -= day.weekday() < _WEEKEND and day not in free
        if not left:
            return day
        first, day = True, day + timedelta(days=1)


@cache
def _holidays_of(calendar: str) -> Mapping[date, str]:
    """Return a country's holidays, or those of a part of it (US-CA); raise ConfigurationError if there are none."""
    try:
        country_holidays = import_module("holidays").country_holidays  # an extra, which few installations have
    except ImportError:
        raise ConfigurationError(_NO_HOLIDAYS) from None
    country, _, part = calendar.partition("-")
    try:
        return cast("Mapping[date, str]", country_holidays(country, subdiv=part or None))
    except NotImplementedError:
        raise ConfigurationError(f"the package `holidays` knows no calendar {calendar!r}") from None


def _months_later(day: date, months: int) -> date:
    years, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(years, month + 1, min(day.day, monthrange(years, month + 1)[1]))


def read_rules(path: Path) -> dict[str, Rule]:
    """Read a rules file; raise ConfigurationError with the file, the rule and what is wrong."""
    try:
        with ordinary(path) as file:
            given = tomllib.load(file)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = error if isinstance(error, tomllib.TOMLDecodeError) else type(error).__name__
        raise ConfigurationError(f"the rules of deadlines in {path_text(path)} cannot be read: {why}") from None
    found = {}
    for name, facts in given.items():
        try:
            found[name] = Rule.model_validate(facts)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join([name, *map(str, first["loc"])])
            message = wrong_value(first, Bounds.of(field_at(Rule, first["loc"])))
            raise ConfigurationError(f"{path_text(path)}: {place}: {message}") from None
    return found


@cache
def shipped_rules() -> Mapping[str, Rule]:
    """Return the rules that come with optrelay."""
    return read_rules(SHIPPED)


@lru_cache(maxsize=4096)
def channel_of(slot: str) -> str:
    """Return the channel of a slot: the first word in its text that names one, "" if none does."""
    names = (_NAMES.get(word, word) for word in re.findall(r"[A-Z]+", slot.upper()))
    return next((word for word in names if word in CHANNELS), "")


class Deadline(NamedTuple):
    """Until when an opt-out should have been delivered, and by which rule."""

    due_at: int
    rule: str


@dataclass(frozen=True)
class DeadlineRules:
    """All rules by name, and which of them each connection has chosen; the others have the defaults.

    A channel that no chosen rule is about has its default: every opt-out has a deadline.
    """

    rules: Mapping[str, Rule] = field(default_factory=shipped_rules)
    by_connection: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    holidays: bool = False
    _applying: dict[tuple[str, str], list[tuple[str, Rule]]] = field(default_factory=dict, repr=False, compare=False)
    _last: dict[tuple[str, str], tuple[int, Deadline]] = field(default_factory=dict, repr=False, compare=False)

    def of(self, connection: str, slot: str, effective_at: int, recorded_at: int) -> Deadline:
        """Return the deadline of an opt-out: the earliest of the rules that apply to it.

        One that is older than `HISTORY_DAYS` when it is recorded is historic: what was lifted out of another system
        must not be reported as a million breaches. It is delivered in the order of its receipt.
        """
        key = connection, channel_of(slot)
        historic = effective_at < recorded_at - _HISTORY
        start = recorded_at if historic or effective_at > recorded_at else effective_at
        last = self._last.get(key)
        if last is None or last[0] != start:  # rows that follow each other often share their time, or are all historic
            last = self._last[key] = start, self._earliest(key, start)
        return Deadline(last[1].due_at, HISTORIC) if historic else last[1]

    def _earliest(self, key: tuple[str, str], start: int) -> Deadline:
        if (rules := self._applying.get(key)) is None:
            rules = self._applying[key] = self._choose(*key)
        return min(Deadline(rule.due(start, holidays=self.holidays), name) for name, rule in rules)

    def _choose(self, connection: str, channel: str) -> list[tuple[str, Rule]]:
        chosen = [(name, self.rules[name]) for name in self.by_connection.get(connection, ())]
        applying = [(name, rule) for name, rule in chosen if rule.applies(channel)]
        default = _DEFAULTS.get(channel, _DEFAULT)
        return applying or [(default, self.rules[default])]


def choose_rules(choices: Mapping[str, str], own_file: str = "", *, holidays: bool = False) -> DeadlineRules:
    """Return the rules under the settings: names by connection, and a file of rules beside the shipped ones.

    Raises ConfigurationError, naming the setting, for a file that cannot be read and a name that is no rule.
    """
    rules = {**shipped_rules(), **(read_rules(Path(own_file)) if own_file else {})}
    chosen = {}
    for connection, text in choices.items():
        names = tuple(name for part in text.split(",") if (name := part.strip().lower()))
        for name in names:
            _check(rules, name, f"OPTRELAY_CONNECTIONS__{connection.upper()}__DEADLINES")
        if names:
            chosen[connection] = names
    for name in {_DEFAULT, *_DEFAULTS.values()}:
        _check(rules, name, "OPTRELAY_DEADLINE_RULES")
    if holidays:
        for calendar in {rules[name].calendar for names in chosen.values() for name in names} - {""}:
            _holidays_of(calendar)
    return DeadlineRules(rules, chosen, holidays)


def _check(rules: Mapping[str, Rule], name: str, setting: str) -> None:
    if name not in rules:
        close = get_close_matches(name, rules, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(rules))}"
        raise ConfigurationError(f"{setting}: there is no rule {name!r}; {hint}")
    if not rules[name].makes_deadline:
        raise ConfigurationError(
            f"{setting}: the rule {name!r} has no amount, so it makes no deadline: internal-72h does"
        )
