"""What only a person can say of a file: each question with what may be answered, what is likeliest, and how sure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from consent.row import ConsentRow, cell_rule
from producers.feeds.look import FileLook
from producers.feeds.mapping import SKIP
from producers.feeds.presets import Kind
from producers.feeds.words import (
    OPTIN,
    OPTOUT,
    channel_named,
    has_name,
    is_certain,
    is_coded,
    meaning,
    spells_channel,
    tells_channel,
)
from producers.parsing.columns import plain

NONE = "none"
TIME = "time"
USER_ID = "user_id"

_BY_KIND = {"email": "email", "phone": "mobile"}
"""What Capillary calls the two kinds of address; in capital letters it is the channel that reaches them."""


@dataclass(frozen=True, slots=True)
class Question:
    """What only a person can say: a key, the question in words, the option of `optrelay map` that answers it, too.

    `options` may be answered, and `default` is the likeliest; `sure` says that it may be taken unasked. Which way a yes
    opts a person is never sure. `unasked` is what is taken where no one is asked, if that is not the default.
    """

    key: str
    text: str
    option: str
    options: tuple[str, ...] = ()
    default: str | None = None
    sure: bool = True
    unasked: str | None = None


def ask_connection(connections: Sequence[str]) -> Question:
    """Ask whose rows they are."""
    return Question("connection", "For which connection are its rows?", "--connection NAME", tuple(connections))


def ask_person(look: FileLook, fields: Mapping[str, object]) -> Question:
    """Ask which column names the person: one of e-mail addresses, else of telephone numbers, is likeliest.

    It is sure where no other column could be meant of its kind.
    """
    kinds: dict[str, list[str]] = {"email": [], "phone": [], "any": []}
    for name in look.named:
        kinds[look.kind(name)].append(name)
    numbers = [name for name in kinds["any"] if "user_id" in fields and has_name(name, "customer")]
    mobiles = [name for name in kinds["phone"] if has_name(name, "mobile")]
    likely = kinds["email"] or (mobiles if len(mobiles) == 1 else kinds["phone"]) or numbers
    listed = dict.fromkeys([*kinds["email"], *mobiles, *kinds["phone"], *numbers, *look.named])
    return Question(
        "person",
        "Which column names the person?",
        "--map COLUMN=user_id (or destination, or identifier_value)",
        tuple(listed),
        likely[0] if len(likely) == 1 else None,
        sure=likely in (kinds["email"], kinds["phone"]),
    )


def ask_identifier(column: str, known: Sequence[str]) -> Question:
    """Ask which of the numbers that a provider knows a column holds that is neither an address nor a telephone's."""
    default = USER_ID if plain(column) == plain(USER_ID) else None
    others = [one for one in known if one not in _BY_KIND.values()]
    text = f"What is {column}? user_id is the provider's own number of a customer, the others are yours."
    option = f"--map '{column}=user_id', or --map '{column}=identifier_value' --set identifier_name=externalId"
    return Question("identifier", text, option, (USER_ID, *others), default, sure=False)


def ask_channel(look: FileLook, implied: str | None, every: Sequence[str]) -> Question | None:
    """Ask which column says the channel; None if no column seems to. `implied` is what the kind of address says.

    `every` are the channels that may be meant in every row, () if a row may leave its channel open.
    """
    telling = [name for name in look.named if tells_channel(name, look.values(name))]
    if not telling:
        return None
    text = {
        True: f"Which column says the channel? Or is it {implied} in every row?",
        False: "Which column says the channel? Or is it the same in every row?"
        if every
        else "Which column says the channel? none: every row means every channel.",
    }[implied is not None]
    others = [implied] if implied is not None else every or [NONE]
    plainly = [name for name in telling if has_name(name, "channel") and tells_channel("", look.values(name))]
    default = plainly[0] if len(plainly) == 1 else None
    return Question("channel", text, _CHANNEL_OPTION, (*telling, *others), default, sure=False)


_CHANNEL_OPTION = "--map COLUMN=channel, or --set channel=VALUE"


def ask_channels(cells: Sequence[str], column: str, model: type[ConsentRow], reached_by: Kind) -> list[Question]:
    """Ask which channel a cell means that is none of the provider's as it stands, or reaches no one so.

    `reached_by` is the kind of address that rows hold, where they can only be about a channel of that kind.
    """
    channels = {} if model.suppression is None else model.suppression.channels
    why = "" if reached_by == "any" else f" (a row names its person by {_ADDRESS[reached_by]})"
    found = []
    for cell in cells:
        if _fits(_spelled(cell, model), channels, reached_by):
            continue
        likely = channels.get(channel_named(cell) or "", "" if channel_named(cell) is not None else None)
        default = likely if likely is None or _fits(likely, channels, reached_by) else SKIP
        option = f"--values '{column}:{cell}=EMAIL,*=keep' (or another channel, or skip)"
        text, options = f"What does {cell} in {column} mean?{why}", (*dict.fromkeys(channels.values()), SKIP)
        certain = default not in {None, SKIP} and spells_channel(cell)
        found.append(Question(f"channel:{cell}", text, option, options, default, sure=certain))
    return found


_ADDRESS = {"email": "an e-mail address", "phone": "a telephone number"}


def _spelled(cell: str, model: type[ConsentRow]) -> str:
    try:
        return str(cell_rule(model, "channel")(cell))
    except ValidationError:
        return ""


def _fits(channel: str, channels: Mapping[str, str], reached_by: Kind) -> bool:
    """Whether it is a channel of the provider's that reaches people by this kind of address."""
    return channel in channels.values() and (reached_by == "any" or (channel == "EMAIL") == (reached_by == "email"))


def ask_action(look: FileLook) -> Question:
    """Ask which column says who opts out: our own name, else the one that holds nothing but words of in and out."""
    coded = [name for name in look.named if is_coded(look.values(name))]
    few = [name for name in look.named if look.values(name)]
    plainly = [name for name in few if plain(name) == "action"] or (coded if len(coded) == 1 else [])
    likely = plainly or [name for name in coded if has_name(name, "out", "in")]
    text = "Which column says who opts out? Or does every row: OPTOUT, or OPTIN?"
    if not coded and (dated := [name for name in look.named if has_name(name, "out") and look.holds_times(name)]):
        likely, text = [OPTOUT], f"{text} {dated[0]} seems to say since when someone is out."
    return Question(
        "action",
        text,
        "--map COLUMN=action, or --set action=OPTOUT",
        tuple(dict.fromkeys([*likely, *coded, *few, OPTOUT, OPTIN])),
        likely[0] if len(likely) == 1 else None,
        sure=likely == plainly,
    )


def ask_meaning(cell: str, column: str) -> Question:
    """Ask what a cell of the action's column means."""
    text = f"What does {cell or 'an empty cell'} in {column} mean?"
    option = f"--values '{cell}=OPTOUT' (or OPTIN, skip)"
    return Question(f"value:{cell}", text, option, (OPTOUT, OPTIN, SKIP), meaning(cell, column), sure=is_certain(cell))


def ask_time(look: FileLook) -> Question:
    """Ask since when a row holds: the one column of times, or the one whose name says that they are of consent."""
    timely = [name for name in look.named if look.is_time(name)]
    apt = [name for name in timely if not has_name(name, "no_consent")]
    telling = [name for name in apt if has_name(name, "out", "in")]
    likely = apt if len(apt) == 1 else telling
    default = likely[0] if len(likely) == 1 else None if timely else NONE
    if not timely and (mixed := [name for name in look.named if look.holds_times(name)]):
        timely, default = mixed, None  # times of several forms: to take none of them unasked would lose them
    return Question(
        TIME,
        "Since when does a row hold? Name the column; none: since the file was written.",
        "--map COLUMN=effective_at, or --effective-at TIME",
        (*dict.fromkeys([*likely, *timely, *look.named]), NONE),
        default,
        sure=len(timely) <= 1,
    )


def require_times(look: FileLook, column: str, model: type[ConsentRow]) -> None:
    """Raise ValueError for a column without a time; it says what is there, and shows only a provider's own words."""
    if look.may_hold_times(column):
        return
    known = {plain(word) for name in model.model_fields for word in allowed(model, name)}
    cells = dict.fromkeys(look.filled(column))
    shown = ", ".join(cells) if {*map(plain, cells)} <= known else ""
    holds = shown or look.describe(column) or (f"{len(cells):,} different texts" if len(cells) > 1 else "one text")
    raise ValueError(f"{column} holds no times but {holds}: name a column of times, or {NONE}")


def ask_blank(column: str, blank: int, rows: int) -> Question:
    """Ask what a row means whose time is empty, if every row of the file says the same."""
    text = f"{blank:,} of {rows:,} rows have nothing in {column}. Are they left out (skip), or meant, too (keep)?"
    default = SKIP if has_name(column, "out", "in") else None
    return Question("blank", text, f"--values '{column}:=skip,*=keep'", (SKIP, "keep"), default, sure=False)


def ask_order(column: str, forms: Sequence[str]) -> Question:
    """Ask whether the day or the month comes first."""
    text = f"{column}: no day after the 12th tells which comes first. Which format is it?"
    return Question("order", text, "--time-format FORMAT", tuple(forms))


ZONE = "timezone"


def ask_zone(column: str) -> Question:
    """Ask for the zone of times that name none."""
    text = f"In which time zone are the times in {column}? (like Europe/Berlin)"
    return Question(ZONE, text, "--timezone ZONE", default="UTC")


def ask_value(name: str, model: type[ConsentRow]) -> Question:
    """Ask for the one value of a column that every row must have; its model says what may stand there."""
    known = allowed(model, name)
    hint = f" ({model.remedies[name]})" if name in model.remedies else f" (one of {', '.join(known)})" if known else ""
    return Question(f"set:{name}", f"What is {name} in every row?{hint}", f"--set {name}=VALUE", known)


def allowed(model: type[ConsentRow], name: str) -> tuple[str, ...]:
    """Return the words that may stand in a column, () if others may."""
    found = model.model_json_schema()["properties"].get(name, {})
    one_of = [found, *found.get("anyOf", ())]
    return next((tuple(map(str, one["enum"])) for one in one_of if "enum" in one), ())


def names_person(model: type[ConsentRow], kind: Kind, identifier: str) -> tuple[str, dict[str, str]]:
    """Return our column for one that names a person, and what else the provider must know then.

    `identifier` is what a provider calls that which is neither an e-mail address nor a telephone number.
    """
    if "destination" in model.model_fields:
        return "destination", {}
    if kind == "any":
        return (USER_ID, {}) if identifier == USER_ID else ("identifier_value", {"identifier_name": identifier})
    way = _BY_KIND[kind]
    return "identifier_value", {"identifier_name": way, "channel": way.upper()}
