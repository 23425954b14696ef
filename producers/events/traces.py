"""What is traced of events: each batch that is recorded, with links to its run and to what its senders traced."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from consent.change import Bucket
from consent.tracing.spans import MOST_LINKS, Span, SpanIds, Traced, import_ids, read_traceparent, writer
from producers.events.event import Event
from producers.events.ingest import EventIngest, EventIntake, Result
from producers.parsing.row_parser import ParseContext

_HEADERS = ("ce-traceparent", "traceparent")
_IN_BODY = re.compile(rb'"traceparent"\s*:\s*"([0-9a-f-]{55})"')


def event_ingest(
    intake: EventIntake, context: ParseContext, kind: str, name: str, wake: Callable[[Iterable[Bucket]], None]
) -> EventIngest:
    """Return what records the events of a source, which is traced if an endpoint is set: see EventIngest."""
    made = EventIngest if writer() is None else TracedIngest
    return made(intake, context, kind, name, wake)


class TracedIngest(EventIngest):
    """Records events as EventIngest does, and tells each batch and, once, the runs that it belongs to.

    Deliveries are linked to the run: it is what a change keeps of where it came from.
    """

    _traced_runs: frozenset[str] = frozenset()

    def take(self, events: Sequence[Event]) -> list[list[Result]]:
        """Record events, and tell that it was done."""
        with Traced("intake", kind="consumer") as traced:
            if traced is not None:
                traced.attributes["optrelay.kind_of_source"] = self._kind
                _link_senders(traced, events)
            results = super().take(events)
            senders = {event.sent_by: None for event in events}
            if traced is not None and (runs := [self._runs[one] for one in senders if one in self._runs]):
                self._tell_runs(traced, runs)
                for one in results:
                    for result in one:
                        traced.add(f"optrelay.{result.status}", 1)
        return results

    def _tell_runs(self, traced: Span, runs: Sequence[str]) -> None:
        traced.attributes["optrelay.import"] = ", ".join(runs)
        traced.links[:0] = map(import_ids, runs)
        del traced.links[MOST_LINKS:]
        for run in set(runs).difference(self._traced_runs):
            facts = {"optrelay.import": run, "optrelay.kind_of_source": self._kind}
            Span(traced.writer, "run of events", import_ids(run), attributes={**facts}).end()
        self._traced_runs = frozenset(self._runs.values())


def _link_senders(traced: Span, events: Sequence[Event]) -> None:
    """Link a batch to what its senders traced; it is sampled if the work of one of them is."""
    traced.attributes["messaging.batch.message_count"] = len(events)
    found = list(islice((ids for event in events for ids in _senders(event)), MOST_LINKS))
    traced.link(found)
    if any(one.sampled for one in found):
        traced.ids = traced.ids._replace(sampled=True)


def _senders(event: Event) -> Iterator[SpanIds]:
    """Give the spans that an event names: in its headers, or in the envelopes of CloudEvents."""
    texts = [event.headers[name] for name in _HEADERS if name in event.headers]
    if isinstance(event.body, bytes):
        texts += [found[1].decode("ascii") for found in islice(_IN_BODY.finditer(event.body), MOST_LINKS)]
    for text in texts:
        if (ids := read_traceparent(text)) is not None:
            yield ids
