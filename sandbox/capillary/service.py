"""The Capillary sandbox: its paths, and what it does with each call."""

from functools import partial
from typing import ClassVar

from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from sandbox.answers import Answer, Reply, give, json_reply
from sandbox.calls import Call, Endpoint, Pending, Refused, read_body
from sandbox.capillary.credentials import Credentials
from sandbox.capillary.register import Register
from sandbox.capillary.replies import change_log, echo, http_status, read_back, refusal, sentence
from sandbox.capillary.requests import (
    Customer,
    Row,
    Update,
    check_lookup,
    check_path,
    customer_by_id,
    customer_by_lookup,
    read_update,
)
from sandbox.capillary.settings import CapillarySettings
from sandbox.faults import COMMON_KINDS, Fault, Kind, Names, Victim, chosen_code
from sandbox.provider import Provider
from sandbox.rate import Rate, SlidingLog, now

Called = Call[Customer]


class Capillary(Provider[Customer]):
    """One account at Capillary, its customers, and the calls made to it.

    INVENTED: the order of the checks (faults, method, credentials, rate, media type, body, customer, overlap), and
    that reads and writes share one rate.
    """

    kinds = COMMON_KINDS | {"busy", "expired_tokens", "warn", "drop"}
    held_as = "customers"
    torn = b'{"scope":{"scope":"USER","subScope":"NONE"},"subscriptions":[{"channel":"EM'
    _CODES: ClassVar[dict[Kind, int]] = {"busy": 521, "refuse": 401}

    def __init__(self, settings: CapillarySettings) -> None:
        super().__init__(settings)
        self.settings = settings
        self.register = Register()
        self._credentials = Credentials(settings, self.faults)
        self._log = SlidingLog(Rate.parse(settings.rate), settings.burst)
        self._unknown = Names(settings.unknown)
        self._pending = Pending(self.call_log, 521 if settings.busy_521 else None)

    def counts(self) -> dict[str, int]:
        """Return what the sandbox holds, in numbers."""
        return self.register.counts() | self._credentials.counts()

    def reset(self) -> None:
        """Forget customers, calls, faults, tokens and the rate's past."""
        for part in (self.faults, self.call_log, self.register, self._credentials, self._log):
            part.clear()

    async def mint(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a token call, which stands in no call log and under no rate."""
        fault = self.faults.bite("gate", Victim((), write=True))
        answer: Answer
        if fault:
            answer = self.faulty_answer(fault, Customer("", ()))
        elif scope["method"] != "POST":
            answer = self.refusal(Refused(405))
        else:
            answer = self._credentials.mint(await read_body(receive))
        await give(answer, scope, receive, send)

    async def subscriptions(self, call: Called, send: Send) -> None:
        """Answer a write, or a read-back, of one customer's subscriptions."""
        await self.serve(call, partial(self._proper, log=False), send)

    async def change_log(self, call: Called, send: Send) -> None:
        """Answer a call for one customer's change log."""
        await self.serve(call, partial(self._proper, log=True), send)

    async def _proper(self, call: Called, *, log: bool) -> Reply:
        if call.write and (log or call.method not in self.settings.methods):
            raise Refused(405)
        self._credentials.check(call.headers, call.target.names, write=call.write)
        self.admit(call, self._log)
        return await self._write(call) if call.write else await self._read(call, log=log)

    async def _read(self, call: Called, *, log: bool) -> Reply:
        self._check_customer(call)
        async with self.slowly(call):
            held = self.register.held(call.target.key)
            return json_reply(200, change_log(held) if log else read_back(held))

    async def _write(self, call: Called) -> Reply:
        _check_media(call.headers)
        update = read_update(await read_body(call.receive), ignore_case=self.settings.ignore_case)
        call.rows = len(update.rows)
        self._check_customer(call)
        with self._pending.write((call.target.key,)):
            return await self._change(call, update)

    async def _change(self, call: Called, update: Update) -> Reply:
        async with self.slowly(call):
            done, failed = self._sort(call, update)
            self.register.commit(call.target.key, [row.slot_update for row in done], update.envelope, now())
        body = echo(update, done, failed, legacy=self.settings.legacy_echo)
        return json_reply(200, body, 91022 if failed else None)

    def _sort(self, call: Called, update: Update) -> tuple[list[Row], list[Row]]:
        done, failed = [], []
        for row in update.rows:
            slot = row.slot_update.slot
            fault = self.faults.bite("row", call.victim(slot.channel, slot.priority))
            call.fault = call.fault or fault
            if fault is None:
                done.append(row)
            elif fault.kind == "warn":
                failed.append(row)
        return done, failed

    def _check_customer(self, call: Called) -> None:
        if call.target.lookup:
            check_lookup(call.scope["query_string"])
        else:
            check_path(call.target)
        if self._unknown.holds_any(call.target.names):
            raise Refused(call.target.not_found)

    @override
    def throttled(self, fault: Fault | None = None) -> Reply:
        return json_reply(429, self.settings.throttled_body, 429)

    @override
    def refusal(self, refused: Refused) -> Reply:
        status = http_status(refused.code, self.settings.http_status)
        return refusal(refused.code, sentence(refused.code, refused.detail), status)

    @override
    def error(self, fault: Fault, target: Customer) -> Reply:
        code = chosen_code(fault, self._CODES | {"unknown": target.not_found})
        status = fault.http_status or http_status(code, self.settings.http_status)
        return refusal(code, fault.message or sentence(code), status)


def _check_media(headers: dict[bytes, bytes]) -> None:
    accepted = headers.get(b"accept", b"*/*")
    if not headers.get(b"content-type", b"").startswith(b"application/json"):
        raise Refused(415)
    if b"application/json" not in accepted and b"*/*" not in accepted and b"application/*" not in accepted:
        raise Refused(415)


def routes(capillary: Capillary) -> list[Route]:
    """Return the routes; a method that is not allowed is refused by the sandbox itself, in Capillary's words."""
    customers = "/v2/customers"
    return [
        Route(f"{customers}/lookup/subscriptions", Endpoint(_by_lookup, capillary.subscriptions)),
        Route(f"{customers}/{{user_id}}/subscriptions", Endpoint(_by_id, capillary.subscriptions)),
        Route(f"{customers}/{{user_id}}/subscriptionStatusChangeLog", Endpoint(_by_id, capillary.change_log)),
        Route("/v3/oauth/token/generate", _Minting(capillary)),
    ]


class _Minting:
    def __init__(self, capillary: Capillary) -> None:
        self._capillary = capillary

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._capillary.mint(scope, receive, send)


def _by_id(scope: Scope) -> Customer:
    return customer_by_id(scope["path_params"]["user_id"])


def _by_lookup(scope: Scope) -> Customer:
    return customer_by_lookup(scope["query_string"])
