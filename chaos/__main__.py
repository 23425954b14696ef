"""Chaos: real processes, faults at random from a seed, and a verdict. `python -m chaos --help`."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import httpx

from chaos.consents import Consents
from chaos.estate import Estate
from chaos.inflicting import Inflicting, Pulse
from chaos.plan import KILLS, Fault, plan
from chaos.verdict import Verdict, judge, left_over, own_errors, recoveries, table
from consent.ledger.ledger import Ledger
from sandbox.capillary.settings import CapillarySettings
from sandbox.server import running
from sandbox.settings import SandboxSettings

WINDOW_SECONDS = 10
VICTIM_SECONDS = 10
BUILD = Path(__file__).parents[1] / "build"


def main() -> int:
    """Run and judge; 0 only if every promise was kept."""
    asked = arguments()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    started = time.monotonic()
    try:
        verdict = run(asked, folder)
    finally:
        if not asked.keep:
            shutil.rmtree(folder, ignore_errors=True)
    verdict.figures |= {"seed": asked.seed, "ledger": asked.ledger, "seconds": round(time.monotonic() - started)}
    BUILD.mkdir(exist_ok=True)
    facts = {**vars(verdict), "broken": verdict.broken, "command": " ".join(sys.argv[1:])}
    (BUILD / f"chaos-{asked.ledger}-{asked.seed}.json").write_text(json.dumps(facts) + "\n")
    print(table(verdict, time.monotonic() - started))
    return 1 if verdict.broken else 0


def arguments() -> argparse.Namespace:
    """Read what is asked for."""
    reader = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    reader.add_argument("--seconds", type=float, default=60, help="how long faults are inflicted")
    reader.add_argument("--seed", type=int, default=1, help="the same seed plans the same faults and files")
    reader.add_argument("--changes", type=int, default=6_000)
    reader.add_argument("--kills", type=int, default=12)
    reader.add_argument("--files", type=int, default=0, help="0: one for about every 2,000 changes")
    reader.add_argument("--ledger", choices=("sqlite", "postgresql"), default="sqlite")
    reader.add_argument("--patience", type=float, default=120, help="seconds to settle what is left afterwards")
    reader.add_argument("--keep", action="store_true", help="keep the folder with ledger and logs")
    return reader.parse_args()


def run(asked: argparse.Namespace, folder: Path) -> Verdict:
    """Start everything, do the plan, wait until all is settled, and judge."""
    files = asked.files or max(3, asked.changes // 2_000)
    consents = Consents(folder, asked.changes, files, asked.seed)
    calls = max(20, round(asked.changes / asked.seconds)) * WINDOW_SECONDS
    section = CapillarySettings(rate="off", latency=(0.0, 0.05))
    with running(SandboxSettings(capillary=section)) as url, httpx.Client(base_url=url, timeout=30) as client:
        estate = Estate(folder, asked.ledger, url, f"{calls}/{WINDOW_SECONDS}s")
        print(f"{folder}: {asked.changes:,} changes in {files} files, {calls // WINDOW_SECONDS} calls a second at most")
        estate.open()
        ledger = Ledger(estate.ledger_url)
        inflicting, pulse = Inflicting(estate, client), Pulse(client, lambda: left_over(ledger) > 0)
        try:
            torment(plan(asked.seed, asked.kills, asked.seconds, asked.ledger), consents, inflicting, pulse)
            settle(asked.patience, ledger, inflicting, pulse)
            estate.stop()
            verdict = judge(consents, ledger, client, (calls, WINDOW_SECONDS))
        finally:
            estate.stop()
            ledger.close()
            estate.close()
        _add(verdict, inflicting, pulse)
        return verdict


def torment(faults: list[Fault], consents: Consents, inflicting: Inflicting, pulse: Pulse) -> None:
    """Inflict one fault after the other while files come in; a file is kept for each importer that is to be killed."""
    estate = inflicting.estate
    _feed(estate, consents)
    for done, fault in enumerate(faults, 1):
        _linger(fault.gap, pulse)
        kept = sum(one.kind == "importer" for one in faults[done - 1 :])
        while consents.files - consents.written > kept and consents.written <= consents.files * done / len(faults):
            _feed(estate, consents)
        if not inflicting.inflict(fault):
            if fault.kind == "importer" and consents.written < consents.files:
                _feed(estate, consents)
            _inflict_soon(inflicting, fault, pulse)
    while consents.written < consents.files:
        _feed(estate, consents)


def _inflict_soon(inflicting: Inflicting, fault: Fault, pulse: Pulse) -> None:
    """Wait until there is someone to do it to, and for a moment of its work."""
    end = time.monotonic() + VICTIM_SECONDS
    while not inflicting.estate.victims(fault.kind) and time.monotonic() < end:
        _linger(0.02, pulse)
    _linger(fault.draw, pulse)
    inflicting.inflict(fault)


def _feed(estate: Estate, consents: Consents) -> None:
    estate.waiting.append(consents.next_file())
    estate.publish(consents.next_events())


def settle(patience: float, ledger: Ledger, inflicting: Inflicting, pulse: Pulse) -> None:
    """Fix everything, and wait until nothing is left to do."""
    inflicting.wait()
    inflicting.client.delete("/_sandbox/faults").raise_for_status()
    end = time.monotonic() + patience
    while time.monotonic() < end:
        _linger(1.0, pulse)
        if inflicting.estate.idle() and not ledger.intake.unpublished() and not left_over(ledger):
            return
    print(
        subprocess.run(
            ["tail", "-n", "20", *inflicting.estate.folder.glob("*.log")], check=False, text=True, capture_output=True
        ).stdout
    )


def _linger(seconds: float, pulse: Pulse) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(0.25, left))
        pulse.feel()


def _add(verdict: Verdict, inflicting: Inflicting, pulse: Pulse) -> None:
    felt: dict[str, list[float]] = defaultdict(list)
    usual = pulse.usual()
    for moment, kind in inflicting.moments:
        felt[kind].append(pulse.recovery(moment, usual))
    began = pulse.beats[0][0]
    if errors := own_errors(inflicting.estate.folder):
        verdict.own_errors = len(errors)
        verdict.figures["errors of our own"] = errors[:20]
    verdict.figures["usual calls a second"] = round(usual, 1)
    verdict.figures["timeline"] = [f"{moment - began:.1f} {kind}" for moment, kind in inflicting.moments]
    verdict.figures["pulse"] = [(round(at - began, 1), calls) for at, calls, _ in pulse.beats[::4]]
    verdict.figures["recovery"] = recoveries(felt)
    verdict.figures["kills"] = sum(n for kind, n in inflicting.done.items() if kind in KILLS)
    verdict.figures["faults"] = sum(inflicting.done.values())
    verdict.figures["endings"] = dict(inflicting.estate.endings)


if __name__ == "__main__":
    sys.exit(main())
