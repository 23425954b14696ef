"""Celery's command line for our application, `python -m worker worker …`: what a run starts for itself."""

from __future__ import annotations

import sys

from consent.collecting import collect_seldom, end_without_collecting


def main() -> int:
    """Run a command of Celery's; return its exit code."""
    collect_seldom()
    from worker.app import app  # noqa: PLC0415 - while much is imported, nothing is garbage

    try:
        return int(app.start(argv=sys.argv[1:]) or 0)
    finally:
        end_without_collecting()


if __name__ == "__main__":
    sys.exit(main())
