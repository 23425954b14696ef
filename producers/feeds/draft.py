"""A feed in the making: what a file's header and cells propose, and what only a person can say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from consent.errors import ConfigurationError
from consent.feed import Feed
from consent.row import ConsentRow
from consent.time_formats import AUTO, both_orders
from consent.times import read_zone
from producers.feeds import questions
from producers.feeds.look import FileLook
from producers.feeds.mapping import ANY, KEEP, SKIP
from producers.feeds.more_columns import COLUMN, ask_cells, ask_columns, meant_cells
from producers.feeds.presets import Kind, Preset, preset_of, presets
from producers.feeds.questions import NONE, Question
from producers.feeds.words import OPTIN, OPTOUT, are_our_actions, tells_reason
from producers.options import IngestOptions
from producers.parsing.columns import plain, vocabulary

LOOKED_AT = 2_000
"""Rows that are looked at for what columns hold; times are settled by all rows."""

_PERSONS = ("destination", "identifier_value", "user_id")


@dataclass
class FeedDraft:
    """Proposes a feed for a file; `questions` are open until each has an `answer`, or `given` says it."""

    look: FileLook
    models: Mapping[str, type[ConsentRow]]
    defaults: Mapping[str, Mapping[str, str]]
    given: IngestOptions
    answers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Recognise the export, unless the options say themselves what its columns mean."""
        self.preset_name = None if self.given.maps else preset_of(self.look.names)

    @property
    def preset(self) -> Preset | None:
        """The preset that fits the header."""
        return presets()[self.preset_name] if self.preset_name else None

    def answer(self, question: Question, text: str) -> None:
        """Take an answer, or the number of one as they are listed; raise ValueError if it is none that can be."""
        choice, options = text.strip(), question.options
        by_case = {option.casefold(): option for option in options}
        found = by_case.get(choice.casefold(), "" if options else choice)
        if not found and choice.isdecimal() and 0 < int(choice) <= len(options):
            found = options[int(choice) - 1]
        if not found:
            raise ValueError(f"answer one of: {', '.join(options) or 'some text'}")
        if question.key == questions.ZONE:
            read_zone(found)
        if question.key == questions.TIME and found != NONE:
            questions.require_times(self.look, found, self.model)
        self.answers[question.key] = found

    def questions(self) -> list[Question]:
        """Return what is open now: an answer may open or close others."""
        steps = (
            self._connection,
            self._person,
            self._channel,
            self._channels,
            self._action,
            self._values,
            self._time,
            self._zone,
            self._more_columns,
            self._cells,
            self._required,
        )
        for step in steps:
            if found := step():
                return found
        return []

    @property
    def model(self) -> type[ConsentRow]:
        """The rows of the connection; raises KeyError as long as it is not known."""
        return self.models[self.connection]

    @property
    def connection(self) -> str:
        """The connection that was given or answered, or the only one."""
        only = next(iter(self.models)) if len(self.models) == 1 else ""
        return (self.given.connection or self.answers.get("connection") or only).lower()

    def feed(self) -> Feed:
        """Return the feed; it is whole once no question is open."""
        return self._so_far().model_copy(update={"header": tuple(self._so_far().columns)})

    def _so_far(self) -> Feed:
        preset, options = self.preset, self.given
        columns = dict(preset.columns) if preset else {}
        constants, values = (dict(preset.constants), dict(preset.values)) if preset else ({}, {})
        self._add_answers(columns, constants)
        constants |= self._answered("set:")
        free = {*self.model.model_fields, "connection"} - {*options.maps.values()}
        columns = {theirs: ours for theirs, ours in columns.items() if ours in free}
        found = columns | self._mapped_columns()
        found |= {name: ours for name, ours in self._own_columns().items() if ours in free - {*found.values()}}
        taken, place = set(found.values()), {ours: theirs for theirs, ours in found.items()}
        for ours, chosen in self._answered_values().items():
            if ours in place and chosen:
                values[place[ours]] = values.get(place[ours], {}) | chosen
        form = options.time_format or self.answers.get("order")
        zone = str(options.timezone or "") or self.answers.get("timezone") or (preset.timezone if preset else "")
        return Feed(
            connection=self.connection,
            columns=found,
            constants={n: v for n, v in {**constants, **options.constants}.items() if n not in taken},
            values={**values, **options.values},
            time_format=form or (self.look.format(place["effective_at"]) if "effective_at" in place else ""),
            timezone=zone,
            region=options.region,
            delimiter=options.delimiter or "",
            encoding=options.encoding or "",
            sheet=options.sheet or "",
            skip_top=options.skip_top,
            skip_end=options.skip_end,
        )

    def _add_answers(self, columns: dict[str, str], constants: dict[str, str]) -> None:
        """Add who a row is about, by which channel, what it says, since when and why."""
        if person := self._person_column():
            columns[person[0]], more = questions.names_person(
                self.model, person[1], self.answers.get("identifier", questions.USER_ID)
            )
            constants |= more | constants
        chosen = {name: self.answers.get(name) for name in ("channel", "action")}
        for name, answer in (chosen | self._answered(COLUMN)).items():
            if answer in self.look.names and answer not in {OPTOUT, OPTIN}:
                columns[answer] = name
            elif answer and answer != NONE:
                constants[name] = answer
        if (time := self.answers.get("time")) and time != NONE:
            columns[time] = "effective_at"
        reasons = [name for name in self.look.named if tells_reason(name) and name not in columns]
        if len(reasons) == 1 and "reason" not in columns.values():
            columns[reasons[0]] = "reason"

    def _answered_values(self) -> dict[str, dict[str, str]]:
        """Return what the cells of our columns mean by the answers."""
        channels = self._answered("channel:")
        blank = self.answers.get("blank") == SKIP
        return meant_cells(self.answers) | {
            "action": self._answered("value:"),
            "channel": channels | {ANY: KEEP} if channels else {},
            "effective_at": {"": SKIP, ANY: KEEP} if blank else {},
        }

    def _mapped_columns(self) -> dict[str, str]:
        maps = vocabulary(self.models.values(), self.given.maps).maps
        return {name: maps[plain(name)] for name in self.look.names if plain(name) in maps}

    def _own_columns(self) -> dict[str, str]:
        """Return the columns that bear our names already, and mean what we mean by them.

        If `action` says OPTIN and OPTOUT, the file is written for us, and so is every column. Else only the time is
        taken, and what each row must have: other systems say `name`, `source` or `user_id` and mean something else.
        """
        known = vocabulary(self.models.values())
        named = {name: ours for name in self.look.names if (ours := known.find_ours(name))}
        acting = next((name for name, ours in named.items() if ours == "action"), None)
        if acting is not None and are_our_actions(self.look.values(acting)):
            return named
        needed = {name for name, one in self.model.model_fields.items() if one.is_required()} - {"action"}
        return {name: ours for name, ours in named.items() if ours in needed | {"effective_at"}}

    def _answered(self, kind: str) -> dict[str, str]:
        return {key.removeprefix(kind): text for key, text in self.answers.items() if key.startswith(kind)}

    def _has(self, column: str) -> bool:
        feed = self._so_far()
        return column in feed.constants or column in feed.columns.values()

    def _column(self, ours: str) -> str | None:
        """Return the file's name of a column of ours, as far as it is known."""
        return next((theirs for theirs, name in self._so_far().columns.items() if name == ours), None)

    def _connection(self) -> list[Question]:
        return [] if self.connection in self.models else [questions.ask_connection([*self.models])]

    def _person_column(self) -> tuple[str, Kind] | None:
        if self.preset and self.preset.person.column:
            theirs = next(name for name in self.look.names if plain(name) == plain(self.preset.person.column))
            return theirs, self.preset.person.kind
        named = self.answers.get("person")
        return (named, self.look.kind(named)) if named else None

    def _person(self) -> list[Question]:
        fields = self.model.model_fields
        if fields.keys().isdisjoint(_PERSONS):
            raise ConfigurationError(
                f"{self.connection} holds no persons but webhooks: write its columns yourself, see docs/csv.md"
            )
        if any(self._has(name) for name in _PERSONS):
            return self._identifier()
        question = questions.ask_person(self.look, fields)
        persons = [name for name in self.look.named if self.look.names_person(name)]
        if question.sure and question.default and {*persons} <= {question.default}:
            self.answers["person"] = question.default
            return self._identifier()
        return [question]

    def _identifier(self) -> list[Question]:
        """Ask which number of a customer it is, where a provider knows several."""
        column, known = self.answers.get("person"), questions.allowed(self.model, "identifier_name")
        if column is None or self.look.kind(column) != "any" or not known or "identifier" in self.answers:
            return []
        return [questions.ask_identifier(column, known)]

    def _channel(self) -> list[Question]:
        """Ask for the channel where a column seems to say it, though the kind of address says another or none."""
        person, fields = self._person_column(), self.model.model_fields
        has_channel = "channel" in self.given.constants or self._column("channel") is not None
        if has_channel or "channel" in self.answers or "channel" not in fields:
            return []
        if person is None and (not fields["channel"].is_required() or self._has_default("channel")):
            return []
        implied = person and questions.names_person(self.model, person[1], questions.USER_ID)[1].get("channel")
        rules = self.model.suppression if fields["channel"].is_required() else None
        found = questions.ask_channel(self.look, implied, () if rules is None else [*rules.channels.values()])
        return [found] if found else []

    def _channels(self) -> list[Question]:
        """Ask for each channel that is not in the provider's spelling, or that a row's address cannot be about."""
        column = self._column("channel")
        if column is None:
            return []
        person = self._person_column()
        reached_by = person[1] if person and "destination" in self.model.model_fields else "any"
        answered = self._so_far().values
        known = {cell.casefold() for name in (column, "channel") for cell in answered.get(name, {})}
        cells = [cell for cell in self.look.values(column) if cell and cell.casefold() not in known]
        return questions.ask_channels(cells, column, self.model, reached_by)

    def _action(self) -> list[Question]:
        return [] if self._has("action") else [questions.ask_action(self.look)]

    def _values(self) -> list[Question]:
        feed, column = self._so_far(), self._column("action")
        if column is None:
            return []
        known = {cell.casefold() for name in (column, "action") for cell in feed.values.get(name, {})}
        known |= {"optin", "optout"} if not known else set()
        if ANY in known:
            return []
        cells = [cell for cell in self.look.values(column) if cell.casefold() not in known]
        return [questions.ask_meaning(cell, column) for cell in cells]

    def _time(self) -> list[Question]:
        if self._has("effective_at") or "time" in self.answers or self.given.effective_at is not None:
            return self._blank() or self._order()
        return [questions.ask_time(self.look)]

    def _blank(self) -> list[Question]:
        """Ask what an empty time means where the file says the same of every row: "not yet", or "no one knows"."""
        feed, column = self._so_far(), self._column("effective_at")
        settled = "blank" in self.answers or column in feed.values or "effective_at" in feed.values
        if column is None or settled or "action" not in feed.constants:
            return []
        rows, filled = len(self.look.rows), len(self.look.filled(column))
        return [questions.ask_blank(column, rows - filled, rows)] if filled < rows else []

    def _order(self) -> list[Question]:
        column = self._column("effective_at")
        if self._so_far().time_format != AUTO or self.given.time_format or column is None:
            return []
        return [questions.ask_order(column, both_orders(self.look.filled(column)[0]))]

    def _zone(self) -> list[Question]:
        feed, column = self._so_far(), self._column("effective_at")
        if feed.timezone or column is None or not self.look.lacks_zone(column, feed.time_format):
            return []
        return [questions.ask_zone(column)]

    def _more_columns(self) -> list[Question]:
        return ask_columns(self.model, self.look, self._so_far(), self.answers)

    def _cells(self) -> list[Question]:
        return ask_cells(self.model, self.look, self._so_far())

    def _required(self) -> list[Question]:
        missing = [
            name
            for name, one in self.model.model_fields.items()
            if one.is_required() and not self._has_default(name) and not self._has(name)
        ]
        return [questions.ask_value(name, self.model) for name in missing]

    def _has_default(self, column: str) -> bool:
        return column in self.defaults.get(self.connection, {})
