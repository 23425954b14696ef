"""The Dockerfile and .dockerignore: what goes into the image, and as which user it runs."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch

from tests.deployment.compose import ROOT

LINES = [
    line.strip()
    for line in re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text()).splitlines()
    if line.strip() and not line.startswith("#")
]
FINAL = LINES[max(n for n, line in enumerate(LINES) if line.startswith("FROM ")) :]
IGNORE = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]


def test_two_stages_of_one_python() -> None:
    """The image is built in one stage and run in another, both on the Python that the project is tested with."""
    assert [line.split()[1] for line in LINES if line.startswith("FROM ")] == ["python:3.11-slim"] * 2


def test_packages_are_locked() -> None:
    """Every package from outside comes from the lock and with its hash; our own brings none along."""
    installs = [line for line in LINES if "pip install" in line]
    assert len(installs) == 2
    assert "--require-hashes" in installs[0]
    assert "-r requirements.lock" in installs[0]
    assert "--no-deps ." in installs[1]


def test_the_final_stage_only_copies() -> None:
    """The final stage installs nothing, and takes from the first one nothing but the finished environment."""
    assert not any("pip" in line or "apt" in line for line in FINAL)
    assert [line for line in FINAL if line.startswith("COPY")] == [
        "COPY --from=build /opt/optrelay /opt/optrelay",
    ]


def test_it_runs_as_a_plain_user() -> None:
    """The last word about the user is a number that is not root's, so that a host can check it."""
    (user,) = [line.split()[1] for line in FINAL if line.startswith("USER")]
    assert int(user.partition(":")[0]) > 0


def test_what_is_copied_is_there() -> None:
    """Every source of a COPY exists and is let in by .dockerignore, and every package of ours is among them."""
    sources = [
        part for line in LINES if line.startswith("COPY") and "--from" not in line for part in line.split()[1:-1]
    ]
    assert [source for source in sources if not (ROOT / source).exists() or f"!{source}" not in IGNORE] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= set(sources)


def test_secrets_and_data_stay_outside() -> None:
    """Nothing is let in but what is named, and no settings, ledger, file of customers or environment is named."""
    assert IGNORE[0] == "*"
    allowed = [line[1:] for line in IGNORE if line[0] == "!"]
    unwanted = (".env", ".venv", ".git", "optrelay.toml", "optrelay.db", "files", "tests", ".demo", ".optrelay")
    assert not any(fnmatch(name, pattern) for name in unwanted for pattern in allowed)
    assert {"**/.env*", "**/*.db", "**/*.csv"} <= set(IGNORE[len(allowed) :])


def test_no_host_is_named() -> None:
    """No file of the deployment says where packages come from: that is for the machine that builds."""
    for name in ("Dockerfile", ".dockerignore", "docker-compose.yml", ".env.example"):
        assert not re.search(r"(index|registry)[-_.]?\w*\s*=\s*\S*http|--index-url|pypi", (ROOT / name).read_text())
