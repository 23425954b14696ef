"""What the guards find in a file that has been read whole, by its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from consent.guards.rules import Guard, GuardRules, ImportGuards


@dataclass(frozen=True, slots=True)
class EarlierFile:
    """A file of the same feed that was published: its rows, its new opt-outs, and the columns that it used."""

    rows: int
    optouts: int
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Returning:
    """How many slots a file would opt in that stand at an opt-out, in one connection; `undated` by the file's time."""

    connection: str
    count: int
    undated: int
    examples: tuple[str, ...] = ()


def merged(some: Sequence[Returning], more: Sequence[Returning]) -> list[Returning]:
    """Return both together, one for each connection; the examples are those of the first that has any."""
    found = {one.connection: one for one in some}
    for one in more:
        if (before := found.get(one.connection)) is not None:
            counts = (before.count + one.count, before.undated + one.undated)
            found[one.connection] = Returning(one.connection, *counts, before.examples or one.examples)
        else:
            found[one.connection] = one
    return [found[name] for name in sorted(found)]


@dataclass(frozen=True, slots=True)
class FileFigures:
    """What is known of a file when it has been read whole; `earlier` are those of its feed, the newest first.

    `optouts` counts the opt-outs that would stand over an opt-in or over nothing. The three functions ask the ledger,
    and only if it matters: how many standing opt-outs a connection has, counted no further than a number; the same of
    its slots, or of all (None); and how many of the opt-outs are a connection's, with examples.
    """

    rows: int
    rejected: int
    optouts: int
    returning: Sequence[Returning]
    earlier: Sequence[EarlierFile]
    standing_optouts: Callable[[str, int], int]
    known_slots: Callable[[str | None, int], int]
    optouts_by_connection: Callable[[], Mapping[str, tuple[int, tuple[str, ...]]]]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a guard says of a file: whether it holds it, the reason with its figures, and examples without names."""

    guard: Guard
    holds: bool
    message: str
    examples: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as the keys of a JSON object."""
        return {"guard": self.guard.value, "holds": self.holds, "says": self.message, "examples": list(self.examples)}


def findings(file: FileFigures, guards: ImportGuards) -> list[Finding]:
    """Return what the guards say of a file. One that is switched off only gives notice."""
    found = [*_returning(file, guards), *_mass_optout(file, guards), *_manifest(file, guards)]
    if not guards.is_rejects:
        found += _sizes(file, guards.rules)
        found += _header(file, guards)
    found += _rejects(file, guards.rules)
    off = guards.rules.switched_off
    return [Finding(one.guard, one.holds and one.guard not in off, one.message, one.examples) for one in found]


def _returning(file: FileFigures, guards: ImportGuards) -> list[Finding]:
    found = []
    for one in file.returning:
        rules, people = guards.of(one.connection), _opted_out(one.count, one.connection)
        if one.undated >= rules.undated_optins:
            message = (
                f"would opt in again {_opted_out(one.undated, one.connection)}, and no row says since "
                "when: their time is the file's own"
            )
            holds = Guard.UNDATED_OPTINS not in rules.switched_off
            found.append(Finding(Guard.UNDATED_OPTINS, holds, message, one.examples))
        if one.count > rules.resurrects_most:
            message = f"would opt in again {people}: more than {rules.resurrects_most:,}"
        elif one.count >= rules.resurrects_from and _is_share(file, one, rules):
            message = f"would opt in again {people}: more than {rules.resurrects_share:.1%} of its opted-out slots"
        else:
            continue
        holds = Guard.RESURRECTS not in rules.switched_off
        found.append(Finding(Guard.RESURRECTS, holds, message, one.examples))
    return found


def _is_share(file: FileFigures, one: Returning, rules: GuardRules) -> bool:
    if not rules.resurrects_share:
        return True
    enough = int(one.count / rules.resurrects_share) + 1
    return one.count > rules.resurrects_share * file.standing_optouts(one.connection, enough)


def _mass_optout(file: FileFigures, guards: ImportGuards) -> list[Finding]:
    rules = (guards.rules, *guards.by_connection.values())
    usual = median([one.optouts for one in file.earlier]) if file.earlier else 0
    factor = min(one.optouts_factor for one in rules)
    least = min(one.optouts_from for one in rules)
    if guards.is_rejects or file.optouts <= least or (file.earlier and file.optouts <= factor * usual):
        return []
    if len(file.earlier) < (needed := min(one.earlier_files for one in rules)):
        return _many_optouts(file, min(one.optouts_share for one in rules), usual, needed)
    found = []
    for name, (count, examples) in file.optouts_by_connection().items():
        own = guards.of(name)
        if count <= own.optouts_from or file.optouts <= own.optouts_factor * usual:
            continue
        known = file.known_slots(name, max(int(count / (own.optouts_share or 1)) + 1, own.known_slots))
        if count <= own.optouts_share * known:
            continue
        message = f"would opt out {_people(count)} in {name}: more than {own.optouts_share:.1%} of all known"
        young = f"; with fewer than {own.known_slots:,} slots known, it is not held for that"
        why_not = young if known < own.known_slots else _too_few_files(file, own.earlier_files)
        message += f"{_beside(usual, file)}{why_not}"
        holds = not why_not and Guard.MASS_OPTOUT not in own.switched_off
        found.append(Finding(Guard.MASS_OPTOUT, holds, message, examples))
    return found


def _many_optouts(file: FileFigures, share: float, usual: float, needed: int) -> list[Finding]:
    """Give notice of a file that nothing would hold yet: no connection or example is asked for, to keep it cheap."""
    known = file.known_slots(None, int(file.optouts / (share or 1)) + 1)
    if file.optouts <= share * known:
        return []
    # A new ledger knows nothing: a share of it would tell a newcomer nothing either.
    beside = f": more than {share:.1%} of all known{_beside(usual, file)}" if known else ", and none is known so far"
    message = f"would opt out {_people(file.optouts)}{beside}{_too_few_files(file, needed)}"
    return [Finding(Guard.MASS_OPTOUT, holds=False, message=message)]


def _too_few_files(file: FileFigures, needed: int) -> str:
    """Say why a file is not held that has too few before it to be compared with; nothing if there are enough."""
    if not file.earlier:
        return "; it is the first file of its kind, with no other to compare it with, so it is not held for that"
    if len(file.earlier) < needed:
        return f"; with fewer than {needed} files of its kind before it, it is not held for that"
    return ""


def _beside(usual: float, file: FileFigures) -> str:
    return f"; the files before it had {usual:,.0f}" if file.earlier else ""


def _sizes(file: FileFigures, rules: GuardRules) -> list[Finding]:
    earlier, enough = file.earlier, len(file.earlier) >= rules.earlier_files
    usual = median([one.rows for one in earlier]) if earlier else 0
    if not file.rows:
        always = enough and all(one.rows for one in earlier[: rules.earlier_files])
        holds = bool(earlier) and (rules.full or always)
        return [Finding(Guard.EMPTY, holds, f"has no rows{_usually(usual) if earlier else ''}")]
    share = file.rows / usual if usual else 1.0
    if enough and share > rules.swollen and file.rows > rules.swollen_from:
        return [Finding(Guard.SWOLLEN, holds=True, message=f"has {file.rows:,} rows{_usually(usual)}")]
    least = rules.shrunken if rules.full else rules.shrunken / 10
    if enough and share < least and usual >= _FEW:
        return [Finding(Guard.SHRUNKEN, holds=rules.full, message=f"has {file.rows:,} rows{_usually(usual)}")]
    return []


def _header(file: FileFigures, guards: ImportGuards) -> list[Finding]:
    gone = sorted(set(file.earlier[0].columns) - set(guards.columns)) if file.earlier else []
    message = f"lacks what the last file of feed {guards.feed} had: {', '.join(gone)}"
    return [Finding(Guard.HEADER, holds=True, message=message)] if gone else []


def _rejects(file: FileFigures, rules: GuardRules) -> list[Finding]:
    if file.rejected <= rules.rejects_from or file.rejected <= rules.rejects_share * file.rows:
        return []
    message = f"has {file.rejected:,} rejected rows of {file.rows:,}: more than {rules.rejects_share:.1%} of them"
    return [Finding(Guard.REJECTS, holds=bool(file.earlier), message=message)]


def _manifest(file: FileFigures, guards: ImportGuards) -> list[Finding]:
    if guards.manifest_rows in (None, file.rows):
        return []
    message = f"has {file.rows:,} rows, and its manifest says {guards.manifest_rows:,}"
    return [Finding(Guard.MANIFEST, holds=True, message=message)]


_FEW = 100


def _opted_out(count: int, connection: str) -> str:
    return f"{_people(count)} in {connection} that {'was' if count == 1 else 'were'} opted out"


def _people(count: int) -> str:
    return f"{count:,} slots" if count != 1 else "1 slot"


def _usually(usual: float) -> str:
    return f", where the files before it had {usual:,.0f}"
