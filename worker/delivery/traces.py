"""What is traced of a delivery: the batch with links to the intakes that it delivers, and each of its calls.

A call is told by its template, and by its provider's address, status and code: never by its path, which may name a
person.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Self
from urllib.parse import urlsplit

from consent.change import Bucket
from consent.ledger.queue.tasks import CustomerTask
from consent.outcome import Healthy
from consent.tracing.spans import Span, SpanWriter, import_ids, new_ids, share
from worker.delivery.results import Call

_CODE = re.compile(r"[A-Za-z0-9_.+-]{1,40}")
_REFUSED = 400


class DeliveryTrace:
    """The span of one delivery, which is its context, and those of its calls.

    The delivery is told at its end, unless it had nothing to do; what ends it early is told by its type.
    """

    def __init__(self, writer: SpanWriter, bucket: Bucket, base_url: str) -> None:
        own = {"optrelay.connection": bucket.connection, "optrelay.bucket": bucket.name}
        self._span = Span(writer, f"deliver {bucket.connection}", new_ids(share()), "consumer", attributes={**own})
        self._imports: set[str] = set()
        address = urlsplit(base_url)
        self._server: dict[str, str | int] = {"server.address": address.hostname or ""}
        if address.port is not None:
            self._server["server.port"] = address.port

    def note_batch(self, tasks: Sequence[CustomerTask]) -> None:
        """Note what was claimed, and the imports that it came with."""
        imports = {change.import_id for task in tasks for change in task.changes} - self._imports
        self._imports |= imports
        self._span.link(import_ids(one) for one in sorted(imports))
        self._span.add("optrelay.customers", len(tasks))
        self._span.add("optrelay.changes", sum(len(task.changes) for task in tasks))

    def note_call(self, call: Call) -> None:
        """Tell a call that has ended."""
        request, status, answer = call.request, call.status, call.answer
        name = f"{request.method} {request.template}".rstrip()
        code = answer.code if _CODE.fullmatch(answer.code) else "other"
        facts: dict[str, str | int] = {"http.request.method": request.method, **self._server}
        facts |= {"optrelay.purpose": request.purpose, "optrelay.code": code}
        if request.template:
            facts["url.template"] = request.template
        if status is not None:
            facts["http.response.status_code"] = status
        is_bad = status is None or status >= _REFUSED or not isinstance(answer.health, Healthy)
        error = (code if status is None or status < _REFUSED else str(status)) if is_bad else ""
        self._span.call(name, call.seconds, facts, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._span.error = "" if kind is None else kind.__name__
        if self._imports or kind is not None:
            self._span.end()
