"""Look the locked packages up in the advisory database: `make audit`.

Ends with 1 if one of them has a known vulnerability. Where the database cannot be reached it says so loudly and ends
with 0, or with 1 if OPTRELAY_AUDIT=required: not having looked is not having found.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-audit.lock")
_FOUND = re.compile(r"Found \d+ known vulnerabilit")


def main() -> int:
    """Audit every lock file; return the exit code."""
    return max(_audit(lock) for lock in LOCKS)


def _audit(lock: str) -> int:
    command = [sys.executable, "-m", "pip_audit", "-r", lock, "--require-hashes", "--disable-pip", "--strict"]
    done = subprocess.run(
        [*command, "--progress-spinner", "off"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        sys.stdout.write(f"{lock}: no known vulnerability\n")
        return 0
    if _FOUND.search(done.stdout + done.stderr):
        sys.stdout.write(f"{lock}:\n{done.stdout}{done.stderr}\n")
        return 1
    required = os.environ.get("OPTRELAY_AUDIT") == "required"
    sys.stdout.write(f"{lock}: NOT AUDITED, the advisory database cannot be reached from here\n")
    return int(required)


if __name__ == "__main__":
    sys.exit(main())
