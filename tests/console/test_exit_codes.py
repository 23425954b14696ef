"""How commands end: codes, remedies, and nothing about anybody."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from consent import settings
from consent.errors import BrokerUnavailable, ImportUnderWay, LedgerOutdated, LedgerUnavailable
from tests.support.command_line import Cli
from tests.support.company import OPTRELAY


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (LedgerUnavailable("the database is away"), 5, "run it again"),
        (BrokerUnavailable("the broker is away"), 5, "OPTRELAY_BROKER_URL"),
        (ImportUnderWay("someone is at it"), 5, "Wait until it has finished"),
        (LedgerOutdated("run `optrelay migrate`"), 2, "optrelay migrate"),
        (PermissionError(13, "Permission denied", "/somewhere"), 5, "/somewhere: Permission denied"),
        (KeyboardInterrupt(), 130, "safe to run the same command again"),
    ],
)
def test_expected_errors_name_the_remedy(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    """What can go wrong ends with its own code and a sentence, without a traceback."""
    monkeypatch.setattr(settings, "load_settings", _raising(error))
    answer = cli("status")
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("backup", "nowhere/copy.db"), "nowhere is no folder that is there"),
        (("demo", "--folder", "a-file"), "--folder: a-file is a file"),
        (("undo", "", "--dry-run"), "the id of an import is empty"),
        (("withdraw", "", "--why", "x"), "the id of an import is empty"),
    ],
)
def test_what_is_no_place_and_no_import_is_named(
    cli: Cli, consents: str, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    """An empty id began every import: with one in the ledger, a variable that was not set undid that one."""
    cli("import", consents)
    (tmp_path / "a-file").touch()
    answer = cli(*arguments)
    assert (answer.code, message in " ".join(answer.err.split())) == (2, True), answer.err


def test_settings_in_a_folder_are_not_left_out_in_silence(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that names a folder read nothing at all, and every limit was the usual one."""
    monkeypatch.setenv("OPTRELAY_CONFIG", str(tmp_path))
    answer = cli("status")
    assert (answer.code, "is a folder" in answer.err) == (2, True)


@pytest.mark.parametrize(("end", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_an_interrupted_command_prints_its_one_json_value(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, end: BaseException, code: int
) -> None:
    """A program that reads the output need not understand nothing."""
    monkeypatch.setattr(settings, "load_settings", _raising(end))
    answer = cli("status", "--json")
    assert (answer.code, answer.json["exit_code"]) == (code, code)
    assert "run it again" in answer.json["error"]


def test_an_unexpected_error_shows_where_but_no_value(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug is reported with its place; neither its message nor a variable, which may name a person, is shown."""
    monkeypatch.setattr(settings, "load_settings", _raising(ValueError("kim@example.com is no number")))
    answer = cli("status")
    assert answer.code == 70
    assert "ValueError" in answer.err
    assert Path(__file__).name in answer.err
    assert "kim@example.com" not in answer.err


@pytest.mark.parametrize("pool", ["gevent", "eventlet", "nonsense"])
def test_green_pools_are_refused(cli: Cli, pool: str) -> None:
    """A worker does not start in a pool that cannot run it."""
    answer = cli("worker", "--pool", pool)
    assert answer.code == 2
    assert "prefork" in answer.err


@pytest.mark.parametrize("command", [("sweep", "--once")])
def test_what_needs_a_broker_says_so(cli: Cli, command: tuple[str, ...]) -> None:
    """Without a broker's address the one setting that is missing is named."""
    answer = cli(*command)
    assert (answer.code, "OPTRELAY_BROKER_URL" in answer.err) == (2, True)


@pytest.mark.parametrize(
    "command",
    ["run", "import", "status", "worker", "sweep", "migrate", "sandbox", "doctor", "demo", "version", "dead-letters"],
)
def test_every_command_explains_itself(cli: Cli, command: str) -> None:
    """`--help` works everywhere, without any setting."""
    answer = cli(command, "--help")
    assert (answer.code, "Usage" in answer.out) == (0, True)


def test_migrate_says_what_it_did(cli: Cli) -> None:
    """The second time there is nothing to do."""
    assert "migrated from nothing to" in cli("migrate").out
    assert cli("migrate", "--json").json["migrated"] is False


def test_broken_settings_are_explained(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong setting is named, its value is not shown."""
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__CAPILLARY__DEFAULTS", "secret-9")
    answer = cli("status")
    assert (answer.code, "__DEFAULTS" in answer.err, "secret-9" in answer.err) == (2, True, False)


def _raising(error: BaseException):
    def load() -> None:
        raise error

    return load


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--\x1b[31mred"),
        ("\x1b]0;title\x07",),
        ("history",),
        ("sandbox", "--port", "\x1b[2J"),
        ("worker", "--pool", "\u202egreen"),
        ("status", "one", "\x1b[1mtwo"),
    ],
)
def test_no_usage_error_commands_the_terminal(cli: Cli, arguments: tuple[str, ...]) -> None:
    """An argument that was pasted holds control characters: the error shows them, and the terminal obeys none."""
    answer = cli(*arguments)

    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")
    assert "Usage: optrelay" in answer.err
    assert not set("\x1b\x07\u202e") & set(answer.err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ui", "--port", "abc"), "--port: 'abc' is no whole number: give a whole number from 0 to 65535"),
        (("ui", "--port", ""), "--port: it is empty: give a whole number from 0 to 65535"),
        (("serve", "--port", "99999"), "--port: '99999' is too large: give a number from 0 to 65535"),
        (("undo", "latest", "--expect", "-1"), "--expect: '-1' is too small: give a number of at least 0"),
        (("run", "a.csv", "--skip-top", "x"), "--skip-top: 'x' is no whole number"),
        (("dead-letters", "show", "abc"), "ID: 'abc' is no whole number"),
        (("dead-letters", "replay", "1", "abc"), "ID: 'abc' is no whole number"),
        (("up", "drop"), "too many arguments: drop"),
        (("undo",), "IMPORT is missing: an import's id, its beginning, or latest"),
    ],
)
def test_a_wrong_argument_is_explained_in_a_sentence(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    """Which option it is, what was given, and what to give."""
    answer = cli(*arguments)

    assert (answer.code, message in " ".join(answer.err.split())) == (2, True), answer.err
    assert "Input should" not in answer.err


def test_no_arguments_are_answered_with_help(cli: Cli) -> None:
    """Who types the bare command sees what there is."""
    answer = cli()

    assert (answer.code, answer.err) == (2, "")
    assert "dead-letters" in answer.out


@pytest.mark.fresh
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize(
    "arguments",
    [
        ["schema"],
        *(pytest.param(more, marks=pytest.mark.proof) for more in (["schema", "--json"], ["status", "--json"])),
    ],
)
def test_a_full_disk_behind_the_output_is_no_fault_of_ours(tmp_path: Path, arguments: list[str]) -> None:
    """`optrelay status > status.txt` on a full disk asked its user to report a bug."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [OPTRELAY, *arguments], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert "report" not in ended.stderr
    assert "Traceback" not in ended.stderr
    if "status" not in arguments:
        assert ended.returncode == 5
        assert "the output cannot be written: No space left on device" in ended.stderr
