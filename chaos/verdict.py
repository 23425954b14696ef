"""The verdict: what the provider and the ledger say in the end, held against what people said."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from sqlalchemy import func, select

from chaos.consents import Consents, Slot
from consent.change import Origin
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.ledger import Ledger
from consent.ledger.schema import changes, customer_tasks


@dataclass
class Verdict:
    """The promises, each as the number of times that it was broken, and the figures of the run."""

    lost: int = 0
    stale: int = 0
    overlaps: int = 0
    over_the_limit: int = 0
    unbalanced: int = 0
    wrongly_dead: int = 0
    unfinished: int = 0
    own_errors: int = 0
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def broken(self) -> int:
        """How often a promise was broken."""
        return sum(value for name, value in asdict(self).items() if name != "figures")


def judge(consents: Consents, ledger: Ledger, client: httpx.Client, limit: tuple[int, float]) -> Verdict:
    """Compare provider, ledger and files; `limit` is (calls, seconds)."""
    found, must = held(client), consents.must_be_held()
    calls, seconds = limit
    stats = client.get("/_sandbox/stats", params={"users": 0, "window": seconds}).json()
    verdict = Verdict(
        stale=sum(found.get(slot) != action for slot, action in must.items()) + len(set(found) - set(must)),
        overlaps=stats["overlaps"],
        over_the_limit=max(0, stats["worst_window"]["calls"] - calls - 1),
        unfinished=left_over(ledger),
    )
    _count(verdict, consents, ledger)
    worst = stats["worst_window"]["calls"]
    verdict.figures |= {"calls": stats["calls"], "slots": len(must), "worst window": worst, "limit": calls}
    verdict.figures["answers"] = stats["by_status"]
    if verdict.overlaps:
        verdict.figures["overlapping"] = _overlapping(client)
    return verdict


def _overlapping(client: httpx.Client) -> dict[str, list[Any]]:
    """Return the calls for some of the targets that were called twice at once, to find the cause by."""
    users = client.get("/_sandbox/stats", params={"users": 3}).json()["overlaps_by_user"]
    return {user: client.get("/_sandbox/calls", params={"user": user}).json()["calls"] for user in users}


def left_over(ledger: Ledger) -> int:
    """Return how many customer tasks there are."""
    count = select(func.count()).select_from(customer_tasks)
    return ledger.database.read(lambda tx: tx.execute(count).scalar_one())


def held(client: httpx.Client) -> dict[Slot, str]:
    """Return what the provider holds."""
    with client.stream("GET", "/_sandbox/state", params={"format": "ndjson"}) as reply:
        customers = [json.loads(line) for line in reply.iter_lines() if line]
    return {(c["user"], row["channel"], row["priority"]): row["type"] for c in customers for row in c["rows"]}


def _count(verdict: Verdict, consents: Consents, ledger: Ledger) -> None:
    found_all = (ledger.queries.report(name) for name in ledger.queries.recent_imports(10_000))
    reports = [one for one in found_all if one is not None]
    by_name = {Path(one.name).name: one for one in reports}
    verdict.unbalanced += sum(not one.balanced for one in reports)
    for name, rows in consents.rows.items():
        found = by_name.get(name)
        recorded = 0 if found is None else found.accepted + found.rejected + found.duplicates
        verdict.lost += abs(rows - recorded)
        verdict.unbalanced += found is None or found.state != "released" or bool(found.pending)
    verdict.lost += abs(consents.events - _events(ledger))
    dead = ledger.dead_letters.find(DeadLetterFilter())
    verdict.wrongly_dead = sum(not one.address["user_id"].startswith("404") for one in dead)
    counted: Counter[str] = Counter()
    for one in reports:
        counted.update({name: getattr(one, name) for name in ("applied", "unchanged", "superseded", "duplicates")})
    verdict.figures |= {"changes": sum(consents.rows.values()) + consents.events, "events": consents.events}
    verdict.figures |= {"files": len(consents.rows), "dead": len(dead)}
    verdict.figures |= counted


def _events(ledger: Ledger) -> int:
    count = select(func.count()).select_from(changes).where(changes.c.origin == Origin.EVENT.value)
    return ledger.database.read(lambda tx: tx.execute(count).scalar_one())


_OWN_ERROR = re.compile("the worker failed|an unexpected error|task.unplannable|reply.unreadable")


def own_errors(folder: Path) -> list[str]:
    """Return what the logs in a folder, and in those below it, tell of errors that no fault explains: they are ours."""
    lines = (line for log in sorted(folder.rglob("*.log")) for line in log.read_text(errors="replace").splitlines())
    return [line for line in lines if _OWN_ERROR.search(line)]


def recoveries(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return how long each kind of fault was felt after its end: how often, median and longest, in seconds."""
    return {
        kind: {"times": len(found), "p50": round(median(found), 1), "max": round(max(found), 1)}
        for kind, found in sorted(times.items())
    }


def table(verdict: Verdict, seconds: float) -> str:
    """Write a verdict for people."""
    names = {
        "changes lost": verdict.lost,
        "final states stale": verdict.stale,
        "overlapping calls for one target": verdict.overlaps,
        "calls over the limit in a window": verdict.over_the_limit,
        "imports not balanced or not sealed": verdict.unbalanced,
        "dead letters that are no one's fault": verdict.wrongly_dead,
        "customer tasks left over": verdict.unfinished,
        "errors of our own in the logs": verdict.own_errors,
    }
    lines = [f"{number:>8,}  {name}" for name, number in names.items()]
    figures = {k: v for k, v in verdict.figures.items() if isinstance(v, int)}
    lines += ["", *(f"{number:>8,}  {name}" for name, number in figures.items())]
    lines += verdict.figures.get("errors of our own", [])
    lines += ["", f"{'times':>8}  {'p50 s':>6}  {'max s':>6}  felt after"]
    for kind, row in verdict.figures.get("recovery", {}).items():
        lines.append(f"{row['times']:>8}  {row['p50']:>6}  {row['max']:>6}  {kind}")
    lines += ["", f"{'broken' if verdict.broken else 'every promise kept'} after {seconds:,.0f} s"]
    return "\n".join(lines)
