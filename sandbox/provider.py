"""What all providers have in common: their settings, and what they do with a call from its arrival to its answer."""

import asyncio
import math
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, ClassVar, Generic

from pydantic import AfterValidator, BaseModel, ConfigDict
from starlette.types import Send

from sandbox.answers import Answer, Reply, give
from sandbox.call_log import CallLog
from sandbox.calls import Call, Refused, TargetT, Throttled, read_body
from sandbox.faults import COMMON_KINDS, Fault, Faults, Kind, broken
from sandbox.rate import Rate, SlidingLog


def _a_rate(text: str) -> str:
    Rate.parse(text)
    return text


RateText = Annotated[str, AfterValidator(_a_rate)]
"""A rate as it is written: `100/minute`, `5/0.5s`, `off`."""


class Section(BaseModel):
    """The knobs every provider has; seconds for every time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    retry_after: bool = False  # INVENTED: whether a 429 says how many seconds to wait
    latency: tuple[float, float] = (0.0, 0.0)
    """Every call takes a random time between these two."""


Proper = Callable[[Call[TargetT]], Awaitable[Reply]]


class Provider(ABC, Generic[TargetT]):
    """A provider: the calls made to it, the faults it suffers, and its own words for what goes wrong."""

    kinds: ClassVar[frozenset[Kind]] = COMMON_KINDS
    """The faults it can suffer."""
    held_as: ClassVar[str] = "targets"
    """What its state is a list of."""
    torn: ClassVar[bytes]
    """The beginning of a reply."""

    def __init__(self, section: Section) -> None:
        self._section = section
        self.faults = Faults()
        self.call_log = CallLog()

    async def serve(self, call: Call[TargetT], proper: Proper[TargetT], send: Send) -> None:
        """Answer a call, by `proper` unless a fault bites it, and write it down."""
        answer = await self._answer(call, proper)
        self.call_log.answered(call.finished(answer))
        await give(answer, call.scope, call.receive, send)

    async def _answer(self, call: Call[TargetT], proper: Proper[TargetT]) -> Answer:
        self.call_log.arrived(call.received, call.target.bucket)
        victim = call.victim()
        call.fault = fault = self.faults.bite("gate", victim) or self.faults.bite("answer", victim)
        try:
            if fault is None:
                return await proper(call)
            # Read to the end even what is not done: a caller still sending may miss the reset that answers it.
            await (proper(call) if fault.commits else read_body(call.receive))
        except Throttled as early:
            wait = math.ceil(early.seconds) if self._section.retry_after else None
            return replace(self.throttled(), retry_after=wait)
        except Refused as refused:
            return self.refusal(refused)
        return self.faulty_answer(fault, call.target)

    def admit(self, call: Call[TargetT], log: SlidingLog) -> None:
        """Let a call through the rate limit, or raise Throttled."""
        if (seconds := log.wait(call.received)) > 0:
            raise Throttled(seconds)
        self.call_log.accepted(call.received, call.target.bucket)

    @asynccontextmanager
    async def slowly(self, call: Call[TargetT]) -> AsyncIterator[None]:
        """Take the time a call takes before what is done here, or after it if the fault says so."""
        delay, commits_first = self.faults.pause(call.victim())
        # Even without latency one turn of the loop is given away, so that two calls that came together overlap.
        seconds = delay + random.uniform(*self._section.latency)  # noqa: S311
        if not commits_first:
            await asyncio.sleep(seconds)
        yield
        if commits_first:
            await asyncio.sleep(seconds)

    def faulty_answer(self, fault: Fault, target: TargetT) -> Answer:
        """Return what a call bitten by this fault is answered with."""
        if fault.kind == "throttle":
            return replace(self.throttled(fault), retry_after=fault.retry_after)
        return broken(fault, self.torn) or self.error(fault, target)

    def ignored(self, call: Call[TargetT], channel: str = "") -> Callable[[str], bool]:
        """Return which events of this call a fault leaves out."""
        fault = self.faults.bite("events", call.victim(channel))
        if fault is None:
            return lambda _event: False
        call.fault = call.fault or fault
        return lambda event: not fault.events or event in fault.events

    @abstractmethod
    def refusal(self, refused: Refused) -> Reply:
        """Return the reply to a call that is refused."""

    @abstractmethod
    def throttled(self, fault: Fault | None = None) -> Reply:
        """Return the reply to a call too many, by the rate limit or by this fault."""

    @abstractmethod
    def error(self, fault: Fault, target: TargetT) -> Reply:
        """Return the error a fault asks for."""
