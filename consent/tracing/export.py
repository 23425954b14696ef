"""Sends spans over OTLP (HTTP, protobuf) with OpenTelemetry's own library; its OTEL_ variables say where to."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from consent.tracing.spans import Span, SpanIds

FLUSH_SECONDS = 5.0
"""Spans are sent so often; and for so long, at most, a process that ends waits until what is left has been sent."""

_KINDS = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT, "consumer": SpanKind.CONSUMER}
_log = logging.getLogger("optrelay.tracing")


class _GivenIds(IdGenerator):
    """Hands out the ids of the span that is being written, by thread."""

    def __init__(self) -> None:
        self._own = threading.local()

    def give(self, ids: SpanIds) -> None:
        self._own.ids = ids

    def generate_trace_id(self) -> int:
        trace: int = self._own.ids.trace
        return trace

    def generate_span_id(self) -> int:
        span: int = self._own.ids.span
        return span


class _Exporter(SpanExporter):
    """Tells in our log that spans are not taken, once until they are; the library's own lines would hold addresses."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._is_well = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        is_well = result is SpanExportResult.SUCCESS
        if self._is_well and not is_well:
            _log.warning("the receiver of OTEL_EXPORTER_OTLP_ENDPOINT takes no traces; they are lost until it does")
        self._is_well = is_well
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class OtlpWriter:
    """The spans of one process, in batches; a receiver that is slow or away holds up nothing, and spans are lost."""

    def __init__(self) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        own = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "optrelay"}
        self._ids = _GivenIds()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource.create(own), id_generator=self._ids, shutdown_on_exit=False
        )
        exporter = _Exporter(OTLPSpanExporter(timeout=FLUSH_SECONDS))
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1_000 * FLUSH_SECONDS))
        self._tracer = self._provider.get_tracer("optrelay")
        atexit.register(self.close)

    def write(self, span: Span) -> None:
        """Take a span that has ended."""
        self._ids.give(span.ids)
        parent = None if span.parent is None else set_span_in_context(NonRecordingSpan(_context(span.parent)))
        links = [Link(_context(one)) for one in span.links]
        written = self._tracer.start_span(
            span.name,
            context=parent,
            kind=_KINDS[span.kind],
            attributes={**span.attributes, **({"error.type": span.error} if span.error else {})},
            links=links,
            start_time=span.started,
        )
        if span.error:
            written.set_status(StatusCode.ERROR)
        written.end(span.ended)

    def close(self) -> None:
        """Send what is left, for FLUSH_SECONDS at most."""
        atexit.unregister(self.close)
        ends = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ends.start()
        ends.join(FLUSH_SECONDS)


def _context(ids: SpanIds) -> SpanContext:
    return SpanContext(ids.trace, ids.span, is_remote=True, trace_flags=TraceFlags(int(ids.sampled)))
