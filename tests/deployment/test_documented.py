"""What README and docs say exists, and what exists is said there."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from consent.ledger.queries.imports import ImportReport
from consent.settings import RENAMED, Settings, load_settings
from console.exit_codes import ExitCode
from console.ui.summaries import as_json
from tests.deployment.command_line import commands, headings, options
from tests.deployment.compose import ROOT
from tests.deployment.settings_tables import (
    FUSE_PAGE,
    GUARDS_PAGE,
    OF_A_CONNECTION,
    PUBLIC_PAGE,
    SETTINGS_PAGE,
    fuse_page,
    guards_page,
    names,
    page,
    public_page,
)
from tests.support.providers.recipe import code_of_the_page
from worker.providers.capillary.codes import CODES
from worker.providers.capillary.row import CapillaryRow

PAGES = {path.name: path.read_text() for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))}
EVERYTHING = "\n".join(PAGES.values())
FILES = [
    ROOT / name for name in (".env.example", "optrelay.toml.example", "docker-compose.yml", "Dockerfile", "Makefile")
]
CODE = re.compile(r"^```\w*\n(.*?)^```|`([^`\n]+)`", re.DOTALL | re.MULTILINE)
NO_JSON = {"worker", "up", "demo", "version", "export"}


COMMANDS = commands()


def _documented_commands() -> list[list[str]]:
    """Return the words of every optrelay command line in the pages."""
    lines = [line for found in CODE.finditer(EVERYTHING) for line in (found[1] or found[2]).splitlines()]
    plain = [re.sub(r"^\$ |^.*&& ", "", line.strip()) for line in lines]
    return [shlex.split(line.replace("…", ""), comments=True) for line in plain if line.startswith("optrelay ")]


def test_settings_are_documented_as_they_are() -> None:
    """docs/settings.md is what `python -m tests.deployment.settings_tables` makes of the settings."""
    assert SETTINGS_PAGE.read_text() == page()
    assert GUARDS_PAGE.read_text() == guards_page()
    assert FUSE_PAGE.read_text() == fuse_page()
    assert PUBLIC_PAGE.read_text() == public_page()


def test_no_setting_is_invented() -> None:
    """Every OPTRELAY_ name in a page or an example file is a setting that the code knows."""
    known = {name.replace(OF_A_CONNECTION, "OPTRELAY_CONNECTIONS__") for name in names()}
    text = EVERYTHING + "".join(path.read_text() for path in FILES)
    settings = set(re.findall(r"OPTRELAY_[A-Z0-9_<>]*[A-Z0-9]", text))
    plain = {re.sub(r"CONNECTIONS__(<NAME>|[A-Z0-9]+)__", "CONNECTIONS__", name) for name in settings}
    former = {*(f"OPTRELAY_{name.upper()}" for name in RENAMED), "OPTRELAY_CONNECTIONS__MAX_STROKES"}
    assert sorted(plain - known - former) == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_documented(name: str) -> None:
    """Each command is in docs/cli.md."""
    listed = PAGES["cli.md"].partition("## Exit codes")[0]
    *group, last = name.split()
    assert f"`optrelay {' '.join(group)}" in listed if group else f"`optrelay {last}" in listed
    assert f"`{last}`" in listed or f" {last}" in listed


def test_commands_stand_under_headings_in_the_help_and_in_the_page_alike() -> None:
    """`optrelay --help` was one list of 37 commands, in no order that a newcomer could follow."""
    parts = re.split(r"^### (.+)$", PAGES["cli.md"].partition("## Exit codes")[0], flags=re.MULTILINE)
    listed = {
        heading: [name for row in re.findall(r"^\| (`.*?)(?<!\\)\|", table, re.MULTILINE) for name in _named(row)]
        for heading, table in zip(parts[1::2], parts[2::2], strict=True)
    }
    assert list(headings().items()) == list(listed.items())
    assert all(headings())
    assert max(map(len, listed.values())) < 10


def _named(row: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"`optrelay ([a-z-]+)", row)))


def test_no_command_or_option_is_invented() -> None:
    """Every command line in the pages has a command and options that the program knows."""
    documented = _documented_commands()
    assert len(documented) > 20
    for arguments in documented:
        name = " ".join(arguments[1:3]) if arguments[1] in {"dead-letters", "rejected-events"} else arguments[1]
        unknown = [option for option in arguments if option.startswith("--") and option not in options(COMMANDS[name])]
        assert unknown == [], arguments


def test_which_commands_speak_json() -> None:
    """docs/cli.md names the commands without --json, and no other lacks it."""
    without = {name.split()[-1] for name, command in COMMANDS.items() if "--json" not in options(command)}
    assert without == NO_JSON


def test_every_path_is_there() -> None:
    """Every file that a page names or links to exists, or is shown whole by the page that builds a provider."""
    named = set(re.findall(r"`((?:tests|consent|producers|worker|console|sandbox|docs)/[\w/.]+)`", EVERYTHING))
    linked = {
        (ROOT / ("" if (ROOT / name).exists() else "docs") / target)
        for name, text in PAGES.items()
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    }
    assert sorted(name for name in named - code_of_the_page().keys() if not (ROOT / name).exists()) == []
    assert sorted(path for path in linked if not path.exists()) == []


def test_every_link_leads_to_a_heading() -> None:
    """Every link to a part of a page names a heading that the page has, as GitHub writes it."""
    found = [
        (name, target or name, anchor)
        for name, text in PAGES.items()
        for target, anchor in re.findall(r"\]\(([^)#:\s]*)#([^)]+)\)", text)
    ]
    assert len(found) > 20
    assert [one for one in found if one[2] not in _anchors(PAGES[Path(one[1]).name])] == []


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", CODE.sub(lambda found: found[2] or "", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index() -> None:
    """docs/index.md links to every page of the folder, and the README to the index."""
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert sorted(name for name in pages if f"]({name})" not in PAGES["index.md"]) == []
    assert "](docs/index.md)" in PAGES["README.md"]


def test_columns_and_codes_are_documented() -> None:
    """docs/csv.md has every column of a Capillary row, and with docs/files.md every code of a rejected row."""
    sources = [ROOT / "consent" / "row.py"]
    sources += [path for folder in ("files", "parsing") for path in (ROOT / "producers" / folder).rglob("*.py")]
    sources += (ROOT / "worker" / "providers" / "capillary").glob("*.py")
    text = "\n".join(path.read_text() for path in sources)
    codes = set(re.findall(r"(?:RowError|PydanticCustomError)\(\s*\"(\w+)\"", text))
    codes |= set(re.findall(r"^    \"(\w+)\": \"this ", text, re.MULTILINE))
    assert len(codes) > 12
    assert sorted(one for one in CapillaryRow.model_fields if f"`{one}`" not in PAGES["csv.md"]) == []
    assert sorted(one for one in codes if f"`{one}`" not in PAGES["csv.md"] + PAGES["files.md"]) == []


def test_codes_of_events_are_documented() -> None:
    """docs/events.md or docs/csv.md has every code of a rejected event, and events.md every option of an address."""
    text = "\n".join(path.read_text() for path in (ROOT / "producers" / "events").rglob("*.py"))
    codes = set(re.findall(r"RowError\(\s*\"(\w+)\"", text))
    assert len(codes) > 6
    assert sorted(one for one in codes if f"`{one}`" not in PAGES["events.md"] + PAGES["csv.md"]) == []
    parameters = [
        re.findall(r"\"(\w+)\"", one) for one in re.findall(r"read_address\(url, (.*?)\)\)?$", text, re.MULTILINE)
    ]
    assert sorted(one for some in parameters for one in some if f"`{one}=" not in PAGES["events.md"]) == []
    assert sum(map(len, parameters)) == 6


def test_capillary_codes_are_documented() -> None:
    """docs/capillary.md has every code that the program knows, and no other, in its table."""
    table = PAGES["capillary.md"].partition("## Codes")[2].partition("8109 means")[0]
    documented = set(map(int, re.findall(r"(?<![\d(])\b(\d{3,5})\b(?! s)", table)))
    assert documented == set(CODES)


def test_exit_codes_and_keys_are_documented() -> None:
    """docs/cli.md has every exit code and every key of an import's JSON object."""
    table = PAGES["cli.md"].partition("| exit code |")[2].partition("\n\n")[0]
    assert {str(code.value) for code in ExitCode} <= set(re.findall(r"\b\d+\b", table))
    blank = ImportReport(**{name: _blank(name) for name in ImportReport.__dataclass_fields__})
    assert [key for key in as_json(blank) if f"`{key}`" not in PAGES["cli.md"]] == []


def _blank(name: str) -> object:
    if name == "findings":
        return ()
    return {} if name.endswith(("codes", "reasons")) else "" if name in {"import_id", "name", "state"} else 0


def test_the_example_file_can_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """optrelay.toml.example is read as it is, and no line of it is ignored."""
    text = (ROOT / "optrelay.toml.example").read_text()
    (tmp_path / "optrelay.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert str(load_settings().connection("capillary").rate) == "100/minute"
    whole = tomllib.loads(re.sub(r"^# (?=[a-z\[].*[=\]])", "", text, flags=re.MULTILINE))
    assert set(whole) <= set(Settings.model_fields)
    assert set(whole["connections"]) == {"capillary", "second_brand"}


def test_nothing_private_is_named() -> None:
    """Pages and example files name no folder of a machine and no host of a package registry; people are invented."""
    for text in (*PAGES.values(), *(path.read_text() for path in FILES)):
        assert not re.search(r"/(?:home|root|work|Users|tmp/pytest)/|pypi|index-url", text)
        assert set(re.findall(r"[\w.]+@([\w.]+\.\w+)", text)) <= {"example.com", "db.example.com", "broker.example.com"}


def test_commands_can_be_copied_out_of_the_pages() -> None:
    """Each line of a block that begins with the command is one that it takes: what explains it stands behind a #."""
    known, refused = commands(), []
    for name, text in PAGES.items():
        for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            for line in re.findall(r"^(?:\$ )?optrelay ([a-z].*)$", block.replace("\\\n", " "), re.MULTILINE):
                arguments = shlex.split(re.split(r"\s[|&;<>]", line)[0], comments=True)
                depth = next((n for n in (2, 1) if " ".join(arguments[:n]) in known), 0)
                try:
                    known[" ".join(arguments[:depth])].make_context("optrelay", arguments[depth:])
                except Exception as error:  # noqa: BLE001 - what is refused is what is looked for
                    refused.append(f"{name}: optrelay {line}: {error!r}")
    assert refused == []
