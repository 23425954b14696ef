"""Spans of intakes, deliveries and calls. Nothing is traced, and no library is loaded, unless an endpoint is set.

A span is written when it has ended. Until then only its ids exist, so what is not sampled costs almost nothing, and a
call that failed is told even where its delivery was not sampled. Links lead from a delivery to the intakes whose
changes it carries: the ids of a file's intake, and of a run of events, follow from the id of the import.
"""

from __future__ import annotations

import logging
import os
import random
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal, NamedTuple, Protocol

MOST_LINKS = 32
"""Links of one span; what is linked to beyond is left out."""

MOST_ERRORS = 100
"""Failed calls of one delivery that are told though it is not sampled."""

DEFAULT_SHARE = 0.01
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_BITS = 64
_log = logging.getLogger("optrelay.tracing")

Kind = Literal["internal", "client", "consumer"]
Attributes = dict[str, str | int | float | bool]


class SpanIds(NamedTuple):
    """What a span is known by: the numbers of its trace and of itself, and whether it is sampled."""

    trace: int
    span: int
    sampled: bool


class SpanWriter(Protocol):
    """What takes spans that have ended, and sends them."""

    def write(self, span: Span) -> None:
        """Take one; it is sent within some seconds."""
        ...

    def close(self) -> None:
        """Send what is left, for some seconds at most."""
        ...


@dataclass(slots=True)
class Span:
    """One piece of work. Moments are nanoseconds since 1970; `error` is a code or a type, never what was said."""

    writer: SpanWriter = field(repr=False)
    name: str
    ids: SpanIds
    kind: Kind = "internal"
    parent: SpanIds | None = None
    started: int = field(default_factory=time.time_ns)
    ended: int = 0
    attributes: Attributes = field(default_factory=dict)
    links: list[SpanIds] = field(default_factory=list)
    error: str = ""
    errors_written: int = 0

    def link(self, others: Iterable[SpanIds]) -> None:
        """Note what it was done for, as far as there is room."""
        for one in others:
            if len(self.links) >= MOST_LINKS:
                return
            if one not in self.links:
                self.links.append(one)

    def add(self, name: str, count: int) -> None:
        """Add to a number among its attributes."""
        self.attributes[name] = int(self.attributes.get(name, 0)) + count

    def end(self) -> None:
        """Have it told, if it is sampled or something in it failed."""
        self.ended = self.ended or time.time_ns()
        if self.ids.sampled or self.error or self.errors_written:
            self.writer.write(self)

    def call(self, name: str, seconds: float, attributes: Mapping[str, str | int], error: str) -> None:
        """Tell a call that has just ended and took so long; one that failed is told though nothing else is."""
        if not self.ids.sampled:
            if not error or self.errors_written >= MOST_ERRORS:
                return
            self.errors_written += 1
        now = time.time_ns()
        ids = SpanIds(self.ids.trace, _number(_BITS), sampled=True)
        started = now - int(seconds * 1e9)
        self.writer.write(Span(self.writer, name, ids, "client", self.ids, started, now, dict(attributes), error=error))


def new_ids(share: float) -> SpanIds:
    """Return the ids of a new trace, of which this share is sampled."""
    trace = _number(2 * _BITS)
    return SpanIds(trace, _number(_BITS), sampled=trace % (1 << _BITS) < share * (1 << _BITS))


def import_ids(import_id: str) -> SpanIds:
    """Return the ids of the intake of a file, or of a run of events: every process makes the same of its import."""
    digest = blake2b(import_id.encode(), digest_size=24).digest()
    return SpanIds(int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:]) or 1, sampled=True)


def read_traceparent(text: str) -> SpanIds | None:
    """Return the ids that a `traceparent` holds, None if it is none (https://www.w3.org/TR/trace-context)."""
    found = _TRACEPARENT.fullmatch(text.strip())
    if found is None:
        return None
    return SpanIds(int(found[1], 16), int(found[2], 16), sampled=bool(int(found[3], 16) & 1))


_lock = threading.Lock()
_current: tuple[int, SpanWriter | None] | None = None


def writer() -> SpanWriter | None:
    """Return what sends the spans of this process, None while no endpoint is set; a child of a fork gets its own."""
    global _current  # noqa: PLW0603 - one for each process is the point
    if _current is None or _current[0] != os.getpid():
        with _lock:
            if _current is None or _current[0] != os.getpid():
                _current = (os.getpid(), _make())
    return _current[1]


def is_traced() -> bool:
    """Return whether the environment names an endpoint for traces, and does not switch them off."""
    variable = os.environ.get
    is_off = variable("OTEL_SDK_DISABLED", "").lower() == "true" or variable("OTEL_TRACES_EXPORTER") == "none"
    return not is_off and any(variable(name, "").strip() for name in _ENDPOINTS)


def _make() -> SpanWriter | None:
    if not is_traced():
        return None
    try:
        from consent.tracing.export import OtlpWriter  # noqa: PLC0415 - an extra, and slow to load
    except ImportError:
        _log.warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, but nothing is traced: install `optrelay[otel]`")
        return None
    try:
        return OtlpWriter()
    except Exception as error:  # noqa: BLE001 - no change waits because a trace cannot be told
        _log.warning("nothing is traced: the OTEL_ settings cannot be used (%s)", type(error).__name__)
        return None


def share() -> float:
    """Return the share of deliveries and batches of events that is sampled, as OpenTelemetry's variables say it."""
    sampler = os.environ.get("OTEL_TRACES_SAMPLER", "").rpartition("parentbased_")[2]
    if sampler in {"always_on", "always_off"}:
        return float(sampler == "always_on")
    try:
        return min(1.0, max(0.0, float(os.environ.get("OTEL_TRACES_SAMPLER_ARG", DEFAULT_SHARE))))
    except ValueError:
        return DEFAULT_SHARE


class Traced:
    """Traces a block of work that takes in changes: `with Traced("intake", …) as span`, None while nothing is traced.

    With `import_id` the span is the one to which deliveries are linked, and it is always told. What the block raises is
    told by its type.
    """

    __slots__ = ("_import_id", "_kind", "_name", "_span")

    def __init__(self, name: str, import_id: str = "", kind: Kind = "internal") -> None:
        self._name, self._import_id, self._kind = name, import_id, kind
        self._span: Span | None = None

    def __enter__(self) -> Span | None:
        if (sends := writer()) is not None:
            ids = import_ids(self._import_id) if self._import_id else new_ids(share())
            self._span = Span(sends, self._name, ids, self._kind)
        return self._span

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._span is not None:
            self._span.error = "" if kind is None else kind.__name__
            self._span.end()


def _number(bits: int) -> int:
    return random.getrandbits(bits) or 1
