"""A feed in the making: what a file's header and cells propose, and what only a person can say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from consent.errors import ConfigurationError
from consent.feed import Feed
from consent.row import ConsentRow
from consent.time_formats import AUTO, both_orders, names_zone
from producers.feeds.look import OPTIN, OPTOUT, FileLook, is_certain, is_coded, meaning, says_ours, tells_channel
from producers.feeds.mapping import SKIP
from producers.feeds.presets import Kind, Preset, preset_of, presets
from producers.options import IngestOptions
from producers.parsing.columns import plain, vocabulary

LOOKED_AT = 2_000
"""Rows that are looked at for what columns hold; times are settled by all rows."""

NONE = "none"


@dataclass(frozen=True, slots=True)
class Question:
    """What only a person can say: a key, the question in words, what may be answered, and what is likeliest.

    `sure` says that the likeliest answer may be taken unasked. Which way a yes opts a person is never sure.
    """

    key: str
    words: str
    options: tuple[str, ...] = ()
    default: str | None = None
    sure: bool = True

    @property
    def option(self) -> str:
        """The option of `optrelay map` that answers it."""
        kind, _, what = self.key.partition(":")
        return {
            "set": f"--set {what}=VALUE",
            "value": f"--values '{what}=OPTOUT' (or OPTIN, skip)",
            "connection": "--connection NAME",
            "person": "--map COLUMN=user_id (or destination, or identifier_value)",
            "channel": "--map COLUMN=channel, or --set channel=VALUE",
            "action": "--map COLUMN=action, or --set action=OPTOUT",
            "time": "--map COLUMN=effective_at, or --effective-at TIME",
            "order": "--time-format FORMAT",
            "timezone": "--timezone ZONE",
        }[kind]


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
        """Take an answer; raise ValueError if it is none of the options."""
        by_case = {option.casefold(): option for option in question.options}
        found = by_case.get(text.strip().casefold(), "" if question.options else text.strip())
        if not found:
            raise ValueError(f"answer one of: {', '.join(question.options) or 'some text'}")
        self.answers[question.key] = found

    def questions(self) -> list[Question]:
        """Return what is open now: an answer may open or close others."""
        steps = (
            self._connection,
            self._person,
            self._channel,
            self._action,
            self._values,
            self._time,
            self._zone,
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
        taken = set(found.values())
        acting = next((theirs for theirs, ours in found.items() if ours == "action"), None)
        if acting and (told := self._answered("value:")):
            values[acting] = values.get(acting, {}) | told
        timed = next((theirs for theirs, ours in found.items() if ours == "effective_at"), None)
        form = options.time_format or self.answers.get("order") or (self.look.format(timed) if timed else "")
        zone = options.timezone or self.answers.get("timezone") or (preset.timezone if preset else "")
        return Feed(
            connection=self.connection,
            columns=found,
            constants={n: v for n, v in {**constants, **options.constants}.items() if n not in taken},
            values={**values, **options.values},
            time_format=form,
            timezone=zone,
            region=options.region,
            delimiter=options.delimiter or "",
            encoding=options.encoding or "",
            sheet=options.sheet or "",
            skip_top=options.skip_top,
            skip_end=options.skip_end,
        )

    def _add_answers(self, columns: dict[str, str], constants: dict[str, str]) -> None:
        """Add who a row is about, by which channel, what it says, and since when."""
        if person := self._person_column():
            columns[person[0]], more = _names_person(self.model, person[1])
            constants |= more | constants
        for name in ("channel", "action"):
            if (said := self.answers.get(name)) in self.look.names and said not in {OPTOUT, OPTIN}:
                columns[said] = name
            elif said:
                constants[name] = said
        if (time := self.answers.get("time")) and time != NONE:
            columns[time] = "effective_at"

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
        if acting is not None and says_ours(self.look.values(acting)):
            return named
        needed = {name for name, one in self.model.model_fields.items() if one.is_required()} - {"action"}
        return {name: ours for name, ours in named.items() if ours in needed | {"effective_at"}}

    def _answered(self, kind: str) -> dict[str, str]:
        return {key.removeprefix(kind): text for key, text in self.answers.items() if key.startswith(kind)}

    def _says(self, column: str) -> bool:
        feed = self._so_far()
        return column in feed.constants or column in feed.columns.values()

    def _connection(self) -> list[Question]:
        if self.connection in self.models:
            return []
        return [Question("connection", "For which connection are its rows?", tuple(self.models))]

    def _person_column(self) -> tuple[str, Kind] | None:
        names = self.look.names
        if self.preset and self.preset.person.column:
            theirs = next(name for name in names if plain(name) == plain(self.preset.person.column))
            return theirs, self.preset.person.kind
        named = self.answers.get("person")
        return (named, self.look.kind(named)) if named else None

    def _person(self) -> list[Question]:
        fields = self.model.model_fields
        if not {"destination", "identifier_value", "user_id"} & fields.keys():
            raise ConfigurationError(
                f"{self.connection} holds no persons but webhooks: write its columns yourself, see docs/csv.md"
            )
        if any(self._says(name) for name in ("destination", "identifier_value", "user_id")):
            return []
        likely = [name for name in self.look.names if self.look.kind(name) == "email"]
        likely = likely or [name for name in self.look.names if self.look.kind(name) == "phone"]
        if len(likely) == 1:
            self.answers["person"] = likely[0]
            return []
        return [Question("person", "Which column names the person?", tuple(filter(str.strip, self.look.names)))]

    def _channel(self) -> list[Question]:
        """Ask for the channel where the kind of address says one, and a column seems to say another."""
        person, said = self._person_column(), {*self.given.constants, *self._mapped_columns().values()}
        if person is None or "channel" in self.answers or "channel" in said | {*self._own_columns().values()}:
            return []
        channel = _names_person(self.model, person[1])[1].get("channel")
        telling = [name for name in self.look.names if tells_channel(name, self.look.values(name))]
        if channel is None or not telling:
            return []
        words = f"Which column says the channel? Or is it {channel} in every row?"
        return [Question("channel", words, (*telling, channel), sure=False)]

    def _action(self) -> list[Question]:
        if self._says("action"):
            return []
        coded = [name for name in self.look.names if is_coded(self.look.values(name))]
        few = [name for name in self.look.names if name.strip() and self.look.values(name)]
        words = "Which column says who opts out? Or does every row: OPTOUT, or OPTIN?"
        columns = dict.fromkeys([*coded, *few])
        ours = [name for name in few if plain(name) == "action"]
        likely = ours or coded
        return [Question("action", words, (*columns, OPTOUT, OPTIN), likely[0] if len(likely) == 1 else None)]

    def _values(self) -> list[Question]:
        feed = self._so_far()
        column = next((theirs for theirs, ours in feed.columns.items() if ours == "action"), None)
        if column is None:
            return []
        known = {cell.casefold() for name in (column, "action") for cell in feed.values.get(name, {})}
        known |= {"optin", "optout"} if not known else set()
        cells = [cell for cell in self.look.values(column) if cell.casefold() not in known]
        words = "What does {cell} in {column} mean?"
        return [
            Question(
                f"value:{cell}",
                words.format(cell=cell or "an empty cell", column=column),
                (OPTOUT, OPTIN, SKIP),
                meaning(cell, column),
                sure=is_certain(cell),
            )
            for cell in cells
        ]

    def _time(self) -> list[Question]:
        if self._says("effective_at") or "time" in self.answers or self.given.effective_at is not None:
            return self._order()
        timely = [name for name in self.look.names if self.look.is_time(name)]
        words = "Since when does a row hold? Name the column; none: since the file was written."
        default = timely[0] if len(timely) == 1 else None if timely else NONE
        if not timely and (mixed := [name for name in self.look.names if self.look.holds_times(name)]):
            timely, default = mixed, None  # times of several forms: to take none of them unasked would lose them
        columns = dict.fromkeys([*timely, *filter(str.strip, self.look.names)])
        return [Question("time", words, (*columns, NONE), default)]

    def _order(self) -> list[Question]:
        feed = self._so_far()
        if feed.time_format != AUTO or self.given.time_format:
            return []
        column = next(theirs for theirs, ours in feed.columns.items() if ours == "effective_at")
        forms = both_orders(self.look.filled(column)[0])
        return [
            Question("order", f"{column}: no day after the 12th tells which comes first. Which format is it?", forms)
        ]

    def _zone(self) -> list[Question]:
        feed = self._so_far()
        local = bool(feed.time_format) and not names_zone(feed.time_format)
        if feed.timezone or not local or "effective_at" not in feed.columns.values():
            return []
        return [Question("timezone", "In which time zone are its times? (like Europe/Berlin)", default="UTC")]

    def _required(self) -> list[Question]:
        have = self.defaults.get(self.connection, {})
        missing = [
            name
            for name, one in self.model.model_fields.items()
            if one.is_required() and name not in have and not self._says(name)
        ]
        return [Question(f"set:{name}", f"What is {name} in every row?") for name in missing]


def _names_person(model: type[ConsentRow], kind: Kind) -> tuple[str, dict[str, str]]:
    """Return our column for one that names a person, and what else the provider must know then."""
    fields = model.model_fields
    if "destination" in fields:
        return "destination", {}
    if kind == "any":
        return "user_id", {}
    way, channel = ("email", "EMAIL") if kind == "email" else ("mobile", "MOBILE")
    return "identifier_value", {"identifier_name": way, "channel": channel}
