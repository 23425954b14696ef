"""An audience held against the ledger: which of its people may not be contacted on a channel, and why.

Whatever cannot be answered counts as no: a row that cannot be understood is stopped, and so is, if asked for, one that
lacks a kind of name by which others have opted out. Nothing is allowed because something was not found out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from consent.errors import ConfigurationError
from consent.identifiers.normalize import UnusableIdentifier
from consent.identifiers.suppression import NAME_KINDS, Question, StandingOptOut, SuppressionRules, Unknown
from consent.ledger.ledger import Ledger
from consent.ledger.queries.suppression import SuppressionView
from consent.row import ConsentRow
from consent.times import from_micros
from producers.parsing.columns import plain
from producers.parsing.error_messages import RowError

IDENTIFIER = ("identifier_name", "identifier_value")
_KINDS = {plain(kind): kind for kind in NAME_KINDS}
_COLUMNS = _KINDS | {plain(name): name for name in (*IDENTIFIER, "destination")}
_ALSO = {"emailaddress": "email", "phone": "mobile", "phonenumber": "mobile", "mobilenumber": "mobile"}
_COLUMNS |= _ALSO

NAME_COLUMNS = (*NAME_KINDS, "destination", *IDENTIFIER)
"""What columns that name people are called; case, spaces, _ and - do not matter."""


class Stopped(NamedTuple):
    """Why someone may not be contacted: a code, words for people, since when (ISO 8601), and where it stands.

    `state` and `import_id` are those of the opt-out; "" where the reason is another one. It names no person.
    """

    code: str
    reason: str
    since: str = ""
    connection: str = ""
    state: str = ""
    import_id: str = ""


def column_of(name: str) -> str | None:
    """Return which of NAME_COLUMNS a header's name means, None if it names no person."""
    return _COLUMNS.get(plain(name))


def names_of(cells: Mapping[str, str]) -> dict[str, str] | Stopped:
    """Return the names of a person by kind, from cells by their NAME_COLUMNS; a reason if they cannot be understood."""
    names = {column: text for column, text in cells.items() if column in NAME_KINDS and text.strip()}
    if (to := cells.get("destination", "").strip()) and names.setdefault(_destination_kind(to), to) != to:
        return _unusable("destination", "ambiguous_row", "it differs from the other column of its kind: leave one out")
    kind, value = (cells.get(name, "").strip() for name in IDENTIFIER)
    if value:
        if (found := _KINDS.get(plain(kind))) is None:
            return _unusable(IDENTIFIER[0], "unknown_value", f"write one of {', '.join(NAME_KINDS)}")
        if names.setdefault(found, value) != value:
            return _unusable(IDENTIFIER[1], "ambiguous_row", "it differs from the column of its kind: leave one out")
    return names or Stopped("no_name", f"the row names no person: fill one of {', '.join(NAME_COLUMNS)}")


def _destination_kind(text: str) -> str:
    return "email" if "@" in text else "mobile"


def _unusable(column: str, code: str, message: str) -> Stopped:
    return Stopped(code, f"{column}: {message}")


@dataclass(frozen=True, slots=True)
class AudienceQuestion:
    """What is asked of an audience: on which channel, and by the opt-outs of which connections.

    `rules` and `regions` are those of the connections that count, `configured` are all that there are. `connections` is
    empty if all count.
    """

    question: Question
    unknown: Unknown | None
    connections: tuple[str, ...]
    rules: Mapping[str, SuppressionRules]
    regions: Mapping[str, str]
    configured: frozenset[str]

    @classmethod
    def read(
        cls,
        rows: Mapping[str, type[ConsentRow]],
        channel: str,
        priority: str = "",
        connections: Sequence[str] = (),
        unknown: str | None = None,
    ) -> AudienceQuestion:
        """Read a question as it was asked, in any case; raise ConfigurationError for what is not known."""
        wanted = tuple(sorted({name.lower() for name in connections}))
        rules = _rules(rows, wanted)
        if unknown not in (None, *Unknown):
            raise ConfigurationError("what becomes of unknown people is allow or stop")
        question = Question(_channel(rules, channel), _priority(rules, priority))
        regions = {name: rows[name].region for name in rules}
        treatment = Unknown(unknown) if unknown else None
        return cls(question, treatment, wanted, rules, regions, frozenset(rows))

    def in_region(self, region: str) -> AudienceQuestion:
        """Return the question with the country of numbers that have no country code; "" leaves the connections'."""
        return replace(self, regions=dict.fromkeys(self.regions, region)) if region else self


def _rules(rows: Mapping[str, type[ConsentRow]], wanted: Sequence[str]) -> dict[str, SuppressionRules]:
    for name in wanted:
        if name not in rows:
            raise ConfigurationError(f"there is no connection {name!r} (known: {', '.join(sorted(rows))})")
        if rows[name].suppression is None:
            raise ConfigurationError(f"connection {name} knows no persons: leave it out")
    found = {name: rows[name].suppression for name in wanted or rows}
    return {name: one for name, one in found.items() if one is not None}


def _channel(rules: Mapping[str, SuppressionRules], text: str) -> str:
    known = sorted({name for one in rules.values() for name in one.channels})
    channel = text.strip().upper()
    channel = _TEXT_MESSAGES.get(channel, channel)
    if channel not in known:
        raise ConfigurationError(f"no connection has the channel {text!r}: write one of {', '.join(known)}")
    return channel


def _priority(rules: Mapping[str, SuppressionRules], text: str) -> str:
    known = sorted({name for one in rules.values() for name in one.priorities})
    if text and text.strip().upper() not in known:
        which = f"write one of {', '.join(known)}" if known else "leave it out"
        raise ConfigurationError(f"no connection has the priority {text!r}: {which}")
    return text.strip().upper()


_TEXT_MESSAGES = {"MOBILE": "SMS"}
"""Capillary's name for what all others call SMS."""


class AudienceCheck:
    """One check of an audience, in one view of the ledger; `check` is asked chunk by chunk."""

    def __init__(self, ledger: Ledger, view: SuppressionView, asked: AudienceQuestion) -> None:
        self._ledger, self._view, self._rules = ledger, view, asked.rules
        self._question, self._unknown = asked.question, asked.unknown
        self._counts: Counter[str] | None = None
        known = {name: {one.kind(form) for form in view.forms.get(name, ())} for name, one in asked.rules.items()}
        self._present = {kind for kinds in known.values() for kind in kinds if kind is not None}
        self._readers: dict[str, list[tuple[str, SuppressionRules, str]]] = {}
        for kind in NAME_KINDS:
            able = [name for name, one in asked.rules.items() if kind in one.kinds]
            # Where no one is known by this kind there is nothing to find; but each name is read once at least.
            some = [name for name in able if kind in known[name]] or able[:1]
            self._readers[kind] = [(name, asked.rules[name], asked.regions[name]) for name in some]

    def check(self, people: Sequence[Mapping[str, str] | Stopped]) -> list[Stopped | None]:
        """Return for each person why they may not be contacted, None if they may.

        `people` are given by their names, as `names_of` returns them. Raises MissingNames.
        """
        keys = [one if isinstance(one, Stopped) else self._keys(one) for one in people]
        asked = {key for one in keys if not isinstance(one, Stopped) for key in one}
        standing = self._view.standing(list(asked), self._rules, self._question) if asked else {}
        answers = []
        for person, mine in zip(people, keys, strict=True):
            if isinstance(mine, Stopped) or isinstance(person, Stopped):
                answers.append(mine if isinstance(mine, Stopped) else None)
                continue
            reasons = [found for key in mine if (found := standing.get(key)) is not None]
            answers.append(_opted_out(reasons) if reasons else self._lacking(person))
        return answers

    def _keys(self, names: Mapping[str, str]) -> list[bytes] | Stopped:
        found: list[bytes] = []
        for kind, text in names.items():
            for connection, rules, region in self._readers[kind]:
                try:
                    addresses = rules.addresses(kind, text, region)
                except UnusableIdentifier as error:
                    return _unusable(kind, error.code, f"{error.message} (connection {connection})")
                for address in addresses:
                    found += self._view.keys(connection, address)
        return found

    def _lacking(self, names: Mapping[str, str]) -> Stopped | None:
        """Return why someone is stopped who may have opted out by a name that is not given; raise MissingNames."""
        if self._unknown is Unknown.ALLOW or not (lacking := self._present - names.keys()):
            return None
        counts = self._counted()
        missing = {kind: counts[kind] for kind in sorted(lacking) if counts[kind]}
        if not missing:
            return None
        if self._unknown is None:
            raise MissingNames(self._question, missing)
        return Stopped("unknown", f"it gives no {' and no '.join(missing)}, by which others have opted out")

    def _counted(self) -> Counter[str]:
        """Return how many opt-outs of the channel there are by each kind of name; counted when it is asked first."""
        if self._counts is None:
            self._counts = Counter()
            for connection, form, slot, count in self._ledger.suppression.count_optouts():
                rules = self._rules.get(connection)
                if rules is not None and (kind := rules.kind(form)) and rules.stops(slot, self._question):
                    self._counts[kind] += count
        return self._counts


class MissingNames(ConfigurationError):
    """People lack a kind of name by which others have opted out, and no option says what that is to mean."""

    def __init__(self, question: Question, missing: Mapping[str, int]) -> None:
        counts = ", ".join(f"{count:,} by {kind}" for kind, count in missing.items())
        super().__init__(
            f"opt-outs of {' '.join(filter(None, question))} are known by names that the audience, or some of it, does "
            f"not give: {counts}. Give these names too, or say --unknown stop or --unknown allow"
        )
        self.missing = dict(missing)


_REASONS = {
    "pending": "opted out; the provider has not been told yet",
    "held": "opted out in a file that waits for approval",
    "dead": "opted out; the provider could not be told (a dead letter)",
}


def _opted_out(reasons: Sequence[StandingOptOut]) -> Stopped:
    first = min(reasons, key=lambda one: one.since)
    since = from_micros(first.since).isoformat().replace("+00:00", "Z")
    return Stopped(
        "opted_out", _REASONS.get(first.state, "opted out"), since, first.connection, first.state, first.import_id
    )


def stopped_row(error: RowError) -> Stopped:
    """Return why a row is stopped whose cells cannot be read."""
    return _unusable(error.column or "row", error.code, error.message)


def with_check(ledger: Ledger, asked: AudienceQuestion, work: Callable[[AudienceCheck], None]) -> None:
    """Do work with a check in one view of the ledger.

    Raises LedgerUnavailable, and ConfigurationError if the ledger has people of a connection that is not configured.
    """

    def look(view: SuppressionView) -> None:
        strange = ", ".join(sorted(view.forms.keys() - asked.configured))
        if strange and not asked.connections:
            raise ConfigurationError(
                f"the ledger has changes of {strange}, which is not configured here: configure it, or name the "
                "connections whose opt-outs count"
            )
        work(AudienceCheck(ledger, view, asked))

    ledger.suppression.look(look)
