"""The Capillary sandbox: every call from its arrival to its answer."""

import asyncio
import math
import random
from typing import Any

from starlette.types import Receive, Scope, Send

from sandbox.answers import Answer, Reply, give, json_reply
from sandbox.capillary.bodies import change_log, echo, read_back
from sandbox.capillary.credentials import Credentials
from sandbox.capillary.customer import Customer, check_lookup, check_path
from sandbox.capillary.handling import Handling, check_media, read_body
from sandbox.capillary.harm import harm
from sandbox.capillary.pending import Pending
from sandbox.capillary.refusal import Refused, http_status, refusal
from sandbox.capillary.register import Register
from sandbox.capillary.settings import CapillarySettings
from sandbox.capillary.update import Row, Update, read_update
from sandbox.clock import now
from sandbox.faults import Faults, Victim
from sandbox.journal import Journal
from sandbox.names import Names
from sandbox.rate import Rate, SlidingLog


class Capillary:
    """One account at Capillary, its customers, and the calls made to it.

    INVENTED: the order of the checks (faults, method, credentials, rate, media type, body, customer, overlap), and
    that reads and writes share one rate.
    """

    def __init__(self, settings: CapillarySettings) -> None:
        self.settings = settings
        self.faults = Faults()
        self.journal = Journal()
        self.register = Register()
        self._credentials = Credentials(settings, self.faults)
        self._log = SlidingLog(Rate.parse(settings.rate), settings.burst)
        self._unknown = Names(settings.unknown)
        self._pending = Pending(self.journal, refuse=settings.busy_521)

    def counts(self) -> dict[str, int]:
        """Return what the sandbox holds, in numbers."""
        return self.register.counts() | self._credentials.counts()

    def reset(self) -> None:
        """Forget customers, calls, faults, tokens and the rate's past."""
        for part in (self.faults, self.journal, self.register, self._credentials, self._log):
            part.clear()

    async def mint(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a token call, which stands in no journal and under no rate."""
        fault = self.faults.bite("gate", Victim((), write=True))
        if fault:
            answer = harm(fault, Customer("", ()), self.settings)
        elif scope["method"] != "POST":
            answer = self._refusal(Refused(405))
        else:
            answer = self._credentials.mint(await read_body(receive))
        await give(answer, scope, receive, send)

    async def subscriptions(self, call: Handling, send: Send) -> None:
        """Answer a write, or a read-back, of one customer's subscriptions."""
        await self._finish(call, await self._answer(call, log=False), send)

    async def change_log(self, call: Handling, send: Send) -> None:
        """Answer a call for one customer's change log."""
        await self._finish(call, await self._answer(call, log=True), send)

    async def _finish(self, call: Handling, answer: Answer, send: Send) -> None:
        self.journal.answered(call.finished(answer))
        await give(answer, call.scope, call.receive, send)

    async def _answer(self, call: Handling, *, log: bool) -> Answer:
        self.journal.arrived(call.received)
        victim = call.victim()
        call.fault = fault = self.faults.bite("gate", victim) or self.faults.bite("answer", victim)
        try:
            if fault is None:
                return await self._proper(call, log=log)
            # Read to the end even what is not done: a caller still sending may miss the reset that answers it.
            await (self._proper(call, log=log) if fault.commits else read_body(call.receive))
        except Refused as refused:
            return self._refusal(refused)
        return harm(fault, call.customer, self.settings)

    async def _proper(self, call: Handling, *, log: bool) -> Reply:
        if call.write and (log or call.method not in self.settings.methods):
            raise Refused(405)
        self._credentials.check(call.headers, call.customer.names, write=call.write)
        if (seconds := self._log.wait(call.received)) > 0:
            return self._throttled(seconds)
        self.journal.accepted(call.received)
        return await self._write(call) if call.write else await self._read(call, log=log)

    async def _read(self, call: Handling, *, log: bool) -> Reply:
        self._check_customer(call)
        await self._pause(call)
        held = self.register.held(call.customer.key)
        return json_reply(200, change_log(held) if log else read_back(held))

    async def _write(self, call: Handling) -> Reply:
        check_media(call.headers)
        update = read_update(await read_body(call.receive), ignore_case=self.settings.ignore_case)
        call.rows = len(update.rows)
        self._check_customer(call)
        with self._pending.write(call.customer.key):
            return await self._change(call, update)

    async def _change(self, call: Handling, update: Update) -> Reply:
        delay, commits_first = self.faults.pause(call.victim())
        if not commits_first:
            await self._sleep(delay)
        done, failed = self._sort(call, update)
        self.register.commit(call.customer.key, [row.wish for row in done], update.envelope, now())
        if commits_first:
            await self._sleep(delay)
        body = echo(update, done, failed, legacy=self.settings.legacy_echo)
        return json_reply(200, body, 91022 if failed else None)

    def _sort(self, call: Handling, update: Update) -> tuple[list[Row], list[Row]]:
        done, failed = [], []
        for row in update.rows:
            slot = row.wish.slot
            fault = self.faults.bite("row", call.victim(slot.channel, slot.priority))
            call.fault = call.fault or fault
            if fault is None:
                done.append(row)
            elif fault.kind == "warn":
                failed.append(row)
        return done, failed

    def _check_customer(self, call: Handling) -> None:
        if call.customer.lookup:
            check_lookup(call.scope["query_string"])
        else:
            check_path(call.customer)
        if self._unknown.holds_any(call.customer.names):
            raise Refused(call.customer.not_found)

    async def _pause(self, call: Handling) -> None:
        await self._sleep(self.faults.pause(call.victim())[0])

    async def _sleep(self, delay: float) -> None:
        # Even without latency one turn of the loop is given away, so that two calls that came together overlap.
        await asyncio.sleep(delay + random.uniform(*self.settings.latency))  # noqa: S311

    def _throttled(self, seconds: float) -> Reply:
        plain = json_reply(429, self.settings.throttled_body, 429)
        wait = math.ceil(seconds) if self.settings.retry_after else None
        return Reply(429, plain.body, 429, retry_after=wait)

    def _refusal(self, refused: Refused) -> Reply:
        status: Any = http_status(refused.code, self.settings.http_status)
        return refusal(refused.code, str(refused), status)
