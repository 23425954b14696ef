"""The words of docs/glossary.md, and no others: retired names are gone from the code, the messages and the pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import typer

from console.cli import app
from tests.deployment.command_line import commands
from tests.support.suite.source import ROOT, parsed

PRODUCT = ("consent", "producers", "worker", "console", "sandbox", "optrelay")
CODE = (*PRODUCT, "bench", "chaos", "tests")
MIGRATIONS = ROOT / "consent" / "ledger" / "migrations"
"""Old tables keep their old names in the steps that made them, and in the test that makes an old ledger."""

IN_NAMES = {
    "adopt": "reassign",
    "allowance": "rate_limit",
    "desk": "service",
    "disarm": "escape",
    "disarming": "csv_injection",
    "embedded": "local_broker, local_worker",
    "explaining": "error_messages",
    "gathering": "batch_writer",
    "harm": "faults",
    "heard": "IncomingBatch",
    "hearing": "batch",
    "hears": "accepts",
    "interventions": "audit_log",
    "journal": "call_log",
    "judge": "merge, classify",
    "judging": "classify",
    "looking": "queries",
    "own_workers": "local_worker",
    "pace": "rate_limit",
    "pacer": "RateLimiter",
    "pacing": "rate limit",
    "planning": "requests",
    "planting": "seeds",
    "portion": "ClaimedBatch",
    "rehearsal": "dry_run",
    "repeats": "noop_changes, pending_duplicates",
    "rereading": "row_cache",
    "restoring": "export",
    "rhythm": "PollInterval",
    "signing": "auth",
    "sisters": "providers",
    "survey": "inspect",
    "told": "published, enqueued",
    "understand": "parse",
    "understanding": "row_parser",
    "verdict": "outcome, Classification",
    "verdicts": "classify",
    "waking": "notifier",
    "wiring": "bootstrap",
    "word": "change",
}
"""Parts of public names (modules, classes, functions) of the product, and what replaces them. Prose may use them."""

IN_PROGRAMS = {
    "word": "change, text, argument",
    "words": "changes, message, arguments",
}
"""Parts of any name that tests, benchmarks and chaos give: to a module, class, function, parameter or variable."""

BOUND = {
    "fate": "outcome, effect, status",
    "fates": "outcomes, effects",
    "heard": "incoming",
    "said": "statement, change, message, text, output, content, fields",
    "says": "slot_value, message, reply_to",
    "told": "delivered, sent, stated, report, message",
}
"""Parts of any name that the whole tree gives, the product too."""

PUBLIC = {"never_said", "NEVER_SAID"}
"""Names that stay, since programs read them: a key of what an undo shows."""

WHOLE = {"words": "message, text"}
"""Names that the product gives to nothing, be it a field, a parameter or a variable; parts of names may be so."""

EVERYWHERE = {
    r"strokes?": "delivery batch",
    r"wish(es|ed)?": "SlotChange, change",
    r"weigh(s|ed|ing)?": "merge, compare",
    r"unwell": "Unavailable",
    r"doorways?": "command, endpoint",
    r"seats?": "fairness",
    r"warming": "preconnect",
    r"disarm(s|ed|ing)?": "escape",
    r"mend(s|ed|ing)?": "fix",
    r"foretells?|foretold": "predict",
    r"nobody|somebody|whom|whoever": "name the component",
    r"doubtful": "in doubt, unknown outcome",
    r"horizons?": "reservation window",
    r"call slots?": "permit",
    r"(new|newer|newest|old|older|oldest|latest|best|each|two) words?": "change",
    r"newest-word|words? of a slot|on [a-z]+'s word": "change",
    r"ma(ke|kes|de|king) (it |them )?due": "publish, enqueue",
    r"said_again|says_again": "no-op change, pending duplicate",
    r"call desk|sister providers?": "service, providers",
    r"Portion|Heard|TryLater|LiveConnection|Doors|Pacer|Wish": "docs/glossary.md",
}
"""Words of the whole tree, prose too, and what replaced them. Upper case in a class's name counts."""

_RENAMED_SETTINGS = r"(?i)\b\w*(stroke_size|max_strokes|horizon_seconds)\b"
ALIASES = {
    "consent/settings.py": _RENAMED_SETTINGS,
    "consent/connection.py": _RENAMED_SETTINGS,
    "consent/broker/message.py": r"\boptrelay\.stroke\b",  # the name of the task before
    "docs/settings.md": _RENAMED_SETTINGS,
    "tests/consent/test_settings.py": _RENAMED_SETTINGS,
    "tests/deployment/settings_tables.py": _RENAMED_SETTINGS,
    "tests/deployment/test_documented.py": _RENAMED_SETTINGS,
}
"""Settings with a retired word in their old name, which goes on working."""


def parts(name: str) -> list[str]:
    """Return the words of an identifier: `ClaimedBatch` and `claimed_batch` are claimed and batch."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def modules(folders: tuple[str, ...]) -> Iterator[Path]:
    """Every module below some folders but the migrations, the old ledger of a test, and this one."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if MIGRATIONS not in path.parents and path != Path(__file__) and path.name != "old_ledger.py":
                yield path


@cache
def names() -> set[tuple[str, str]]:
    """Every public name of the product, its parts in lower case between underscores, and where it stands."""
    return {
        (str(path.relative_to(ROOT)), f"_{'_'.join(parts(name))}_")
        for path in modules(PRODUCT)
        for name in public_names(path)
    }


def public_names(path: Path) -> Iterator[str]:
    """The public names of a module: its own, its classes', its functions'."""
    yield path.parent.name if path.stem == "__init__" else path.stem
    yield from (name for name, _, is_defined in parsed(path).names if is_defined and not name.startswith("_"))


def bound(folders: tuple[str, ...]) -> set[tuple[str, str]]:
    """Every name that is bound in some folders but the sentences that tests are called, and where it stands."""
    return set[tuple[str, str]]().union(*map(_bound, folders))


@cache
def _bound(folder: str) -> set[tuple[str, str]]:
    return {
        (f"{where}:{line} {name}", f"_{'_'.join(parts(name))}_")
        for path in modules((folder,))
        for where in (path.relative_to(ROOT),)
        for name, line in bound_names(path)
        if not name.startswith("test_") and name not in PUBLIC
    }


def bound_names(path: Path) -> Iterator[tuple[str, int]]:
    """The names that a module gives, its own among them, and their lines."""
    yield path.stem, 1
    yield from ((name, line) for name, line, _ in parsed(path).names)


@cache
def texts() -> dict[str, str]:
    """What people read: each module, page and example file with its name, and each help text, by where it is."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*.example"), ROOT / "Makefile"]
    pages = [*(page for page in pages if page.name != "CHANGELOG.md"), *modules(CODE)]
    found = {str(path.relative_to(ROOT)): f"{path.stem}\n{path.read_text()}" for path in pages}
    for name, command in (("", typer.main.get_command(app)), *commands().items()):
        found[f"optrelay {name} --help"] = "\n".join(_help(command))
    return {name: re.sub(ALIASES.get(name, r"(?!)"), "", text) for name, text in found.items()}


def _help(command: Any) -> Iterator[str]:
    """What `--help` shows of a command, before it is laid out for a terminal: that takes a second for all of them."""
    yield from (command.help or "", command.epilog or "")
    yield from (f"{' '.join(param.opts)} {getattr(param, 'help', '') or ''}" for param in command.params)


def test_no_public_name_uses_a_retired_word() -> None:
    """A name of the product says what the glossary says."""
    _assert_gone(IN_NAMES, lambda term: {where for where, name in names() if f"_{term}_" in name})


def test_no_test_or_benchmark_binds_a_retired_word() -> None:
    """A name of a test, a benchmark or a chaos run says what it is, whatever it is the name of."""
    beside = bound(("bench", "chaos", "tests"))
    _assert_gone(IN_PROGRAMS, lambda term: {where for where, name in beside if f"_{term}_" in name})


def test_no_name_uses_a_retired_word() -> None:
    """A local name of the product says what it is, as a public one does."""
    _assert_gone(BOUND, lambda term: {where for where, name in bound(CODE) if f"_{term}_" in name})


def test_no_name_of_the_product_is_a_retired_word() -> None:
    """What people read is a message or a text; a module may be about words."""
    _assert_gone(
        WHOLE,
        lambda term: {where for where, name in bound(PRODUCT) if name == f"_{term}_" and f"/{term}.py:" not in where},
    )


def test_no_text_uses_a_retired_word() -> None:
    """Nothing that a person reads uses a word that only this project knew."""
    one = in_text("|".join(EVERYWHERE).lower()).pattern
    found = {name: text for name, text in texts().items() if re.search(one, text.lower())}  # far quicker than each
    _assert_gone(EVERYWHERE, lambda term: {name for name, text in found.items() if in_text(term).search(text)})


def in_text(term: str) -> re.Pattern[str]:
    """Return what finds a term in prose and in identifiers; a name of a class counts only as it is."""
    if not term.islower():
        return re.compile(rf"\b({term})\b")
    return re.compile(rf"(?<![^\W_])({term.replace(' ', '[ _]')})(?![^\W_])", re.IGNORECASE)


def _assert_gone(retired: Mapping[str, str], places: Callable[[str], set[str]]) -> None:
    """Say where each retired term still stands: all of them at once, because the whole tree is read for one."""
    found = {
        f"write {instead} for {term}": sorted(where) for term, instead in retired.items() if (where := places(term))
    }
    assert found == {}


def test_the_glossary_is_short() -> None:
    """At most 25 terms for everyone and 45 for the code, each with a meaning and where it is known from."""
    everyone, code = (ROOT / "docs" / "glossary.md").read_text().split("\n## ")[1:]
    for part, most in ((everyone, 25), (code, 45)):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:2] == "| "]
        assert 0 < len(rows[1:]) <= most
        assert [row for row in rows if len(row) != 3 or not all(row)] == []
