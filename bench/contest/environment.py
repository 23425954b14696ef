"""An environment of their own for the rivals that cannot live beside Celery 5.7: build/bench-venv, made once."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys

from bench.contest.stage import PROGRAMS, ROOT

FOLDER = ROOT / "build" / "bench-venv"
REQUIREMENTS = PROGRAMS / "requirements.txt"


def rivals_python() -> str | None:
    """Return the interpreter that has the rivals' packages; None, said aloud, if pip cannot get them."""
    python, mark = FOLDER / "bin" / "python", FOLDER / ".installed"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if mark.exists() and mark.read_text() == wanted:
        return str(python)
    shutil.rmtree(FOLDER, ignore_errors=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(REQUIREMENTS)]
    for command in ([sys.executable, "-m", "venv", str(FOLDER)], pip):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"NOT MEASURED: the rivals of {REQUIREMENTS.name} cannot be installed:\n{done.stderr[-1500:]}")
            return None
    mark.write_text(wanted)
    return str(python)
