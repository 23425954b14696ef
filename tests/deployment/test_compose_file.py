"""docker-compose.yml keeps the rules of the Compose specification, and ours: no Docker engine is needed to check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from consent.settings import load_settings
from tests.deployment.command_line import commands, options
from tests.deployment.compose import (
    COMPOSE_FILE,
    ENV_EXAMPLE,
    ROOT,
    VARIABLE,
    Missing,
    env_example,
    raw,
    seconds,
    services,
)
from worker.providers.endpoint import endpoint

TOP_KEYS = {"name", "services", "networks", "volumes", "secrets", "configs", "include"}
_SERVICE_KEYS = (
    "annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs container_name "
    "cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset credential_spec "
    "depends_on deploy develop device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint env_file "
    "environment expose extends external_links extra_hosts gpus group_add healthcheck hostname image init ipc "
    "isolation label_file labels links logging mac_address mem_limit mem_reservation mem_swappiness memswap_limit "
    "models network_mode networks oom_kill_disable oom_score_adj pid pids_limit platform ports post_start pre_stop "
    "privileged profiles provider pull_policy pull_refresh_after read_only restart runtime scale secrets security_opt "
    "shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket user "
    "userns_mode uts volumes volumes_from working_dir"
)
SERVICE_KEYS = set(_SERVICE_KEYS.split())
"""The keys of a service in the specification's schema (compose-spec, schema/compose-spec.json)."""

HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}
RESTARTS = re.compile(r"no|always|unless-stopped|on-failure(:\d+)?")
SIZE = re.compile(r"\d+(b|k|kb|m|mb|g|gb)")
SERVERS = {"broker", "database"}
FILLED = {"POSTGRES_PASSWORD": "postgres0secret", "BROKER_PASSWORD": "broker0secret"}

SERVICES = raw()["services"]
NAMES = sorted(SERVICES)
OURS = sorted(name for name, keys in SERVICES.items() if "build" in keys)
each_service = pytest.mark.parametrize("name", NAMES)


def test_every_key_is_one_that_compose_knows() -> None:
    """Compose refuses a file with a key that it does not know."""
    assert {key for key in raw() if not key.startswith("x-")} <= TOP_KEYS
    assert {name: sorted(set(keys) - SERVICE_KEYS) for name, keys in SERVICES.items() if set(keys) - SERVICE_KEYS} == {}


@each_service
def test_health_checks_are_complete(name: str) -> None:
    """A long-running service has a health check with a command and all its times; a one-shot has none."""
    keys = SERVICES[name]
    if keys["restart"] == "no":
        assert "healthcheck" not in keys
        return
    health = keys["healthcheck"]
    assert set(health) <= HEALTH_KEYS
    assert health["test"][0] in {"CMD", "CMD-SHELL"}
    assert len(health["test"]) == 2 if health["test"][0] == "CMD-SHELL" else len(health["test"]) > 1
    assert all(isinstance(part, str) for part in health["test"])
    assert 0 < seconds(health["timeout"]) <= seconds(health["interval"])
    assert seconds(health["start_period"]) > 0


@each_service
def test_restarts_and_graces_are_said(name: str) -> None:
    """Every service says whether it is started again, and a worker gets a minute at least to settle what it holds."""
    keys = SERVICES[name]
    assert RESTARTS.fullmatch(keys["restart"])
    assert seconds(keys.get("stop_grace_period", "10s")) >= (60 if name == "worker" else 10)


@each_service
def test_waiting_is_for_what_can_come(name: str) -> None:
    """A service waits for health only where there is a health check, and for completion only of a one-shot."""
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert other in SERVICES
        assert set(how) <= {"condition", "restart", "required"}
        assert how["condition"] in CONDITIONS
        assert "profiles" not in SERVICES[other], "a service without this profile would wait for ever"
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        if how["condition"] == "service_completed_successfully":
            assert SERVICES[other]["restart"] == "no"


def test_no_one_waits_in_a_circle() -> None:
    """Following what a service waits for comes to an end."""
    found: dict[str, int] = {}

    def depth(name: str, way: tuple[str, ...] = ()) -> int:
        assert name not in way
        return found.setdefault(name, 1 + max((depth(one, (*way, name)) for one in _waits(name)), default=0))

    assert max(map(depth, NAMES)) == 3


def _waits(name: str) -> list[str]:
    return list(SERVICES[name].get("depends_on", {}))


def test_only_what_is_asked_for_starts() -> None:
    """Without a profile the servers, the migration, a worker and the sweep start; import and sandbox are on request."""
    assert {name for name in NAMES if "profiles" not in SERVICES[name]} == {*SERVERS, "migrate", "worker", "sweep"}
    assert SERVICES["sandbox"]["profiles"] == ["demo"]
    assert SERVICES["listener"]["profiles"] == ["events"]
    assert SERVICES["http"]["profiles"] == ["http"]


def test_volumes_and_networks_are_declared() -> None:
    """A named volume or network that a service uses is declared at the end of the file."""
    top = raw()
    for keys in SERVICES.values():
        named = [one.partition(":")[0] for one in keys.get("volumes", []) if isinstance(one, str)]
        assert set(named) <= set(top["volumes"])
        assert set(keys["networks"]) <= set(top["networks"])


@each_service
def test_nothing_is_published(name: str) -> None:
    """No port of any service is open on the host, and the two servers are on a network without a way out."""
    assert "ports" not in SERVICES[name]
    assert raw()["networks"]["inside"] == {"internal": True}
    if name in SERVERS:
        assert SERVICES[name]["networks"] == ["inside"]


@each_service
def test_memory_is_limited(name: str) -> None:
    """What runs for long has a limit of memory, written as Compose reads it."""
    limits = SERVICES[name].get("deploy", {}).get("resources", {})
    assert all(SIZE.fullmatch(one["memory"]) for one in limits.values())
    assert SERVICES[name]["restart"] == "no" or "limits" in limits


def test_interpolation_is_of_a_known_form() -> None:
    """Every $ in the file is $$, ${NAME}, ${NAME:?message} or ${NAME:-value}, and every name is in .env.example."""
    text = "\n".join(line for line in COMPOSE_FILE.read_text().splitlines() if not line.lstrip().startswith("#"))
    found = list(VARIABLE.finditer(text))

    assert found
    assert [one[0] for one in found if not one["dollar"] and one["name"] is None] == []
    assert {one["name"] for one in found if one["name"]} <= set(env_example(demo=False))


@pytest.mark.parametrize("name", sorted(FILLED))
def test_a_password_that_is_missing_stops_everything(name: str) -> None:
    """A .env that was copied and not filled in is refused with the name of what is missing: no default works."""
    assert env_example(demo=False)[name] == ""
    with pytest.raises(Missing, match=name):
        services({**FILLED, name: ""})


def test_no_secret_stands_in_a_file() -> None:
    """What is called password, secret, key or token is a variable in the compose file, and empty in .env.example."""
    secret = re.compile(r"password|secret|token|_key|auth$|requirepass", re.IGNORECASE)
    assert [path for path, value in _leaves(SERVICES) if secret.search(path) and not value.startswith("${")] == []
    passwords = [line for line in ENV_EXAMPLE.read_text().splitlines() if "PASSWORD=" in line and line[:2] != "#:"]
    assert len(passwords) == 3
    assert all(line.endswith("=") for line in passwords)


def _leaves(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Return every text with its place; a list of arguments puts each one's predecessor into its place."""
    match value:
        case dict():
            return [leaf for name, one in value.items() for leaf in _leaves(one, f"{path}/{name}")]
        case list():
            before = ["", *map(str, value)]
            return [leaf for was, one in zip(before, value, strict=False) for leaf in _leaves(one, f"{path}/{was}")]
        case str() if value and not value.startswith("--"):
            return [(path, value)]
    return []


def test_the_demo_settings_can_reach_the_sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A .env for the demo leads a connection to the sandbox service by plain http, which it has to allow."""
    monkeypatch.chdir(tmp_path)
    for name, value in env_example(demo=True).items():
        monkeypatch.setenv(name, value)
    connection = load_settings().connection("capillary")

    assert str(endpoint(connection)) == "http://sandbox:8000"
    assert SERVICES["sandbox"]["command"][-1] == "8000"


@pytest.mark.parametrize("name", OURS)
def test_our_services_have_no_rights_to_spare(name: str) -> None:
    """Our containers run as a plain user, without capabilities, on a file system that they cannot write."""
    keys = services(FILLED)[name].keys
    user, _, group = keys["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert keys["read_only"] is True
    assert keys["cap_drop"] == ["ALL"]
    assert keys["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in keys


def test_the_broker_keeps_the_pace() -> None:
    """The broker writes what it holds to its volume, evicts nothing, and asks for a password."""
    command = services(FILLED)["broker"].command
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--requirepass"] == FILLED["BROKER_PASSWORD"]
    assert SERVICES["broker"]["volumes"] == ["broker:/data"]


@pytest.mark.parametrize("name", OURS)
def test_commands_exist(name: str) -> None:
    """The command of every service of ours is one that the optrelay command knows, with these options."""
    command = services(FILLED)[name].command
    assert command[0] == "optrelay"
    known = {"--help", *options(commands()[command[1]])}
    assert [option for option in command[2:] if option.startswith("--") and option not in known] == []


def test_the_import_folder_is_not_made_by_accident() -> None:
    """A folder that is not there stops the import, instead of being made for root."""
    (mount,) = SERVICES["import"]["volumes"]
    assert mount["type"] == "bind"
    assert mount["bind"]["create_host_path"] is False
    assert (ROOT / ".env.example").exists()
