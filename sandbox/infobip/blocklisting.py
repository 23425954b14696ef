"""The calls for the blocklist."""

from dataclasses import replace
from http import HTTPStatus
from urllib.parse import parse_qs

from sandbox.answers import Reply, json_reply
from sandbox.clock import now
from sandbox.handling import Handling, Target, read_body
from sandbox.infobip.blocking import VIEWABLE, Wanted, read_blocking
from sandbox.infobip.blocklist import Blocked, Blocklist
from sandbox.infobip.paging import first, paged
from sandbox.pending import Pending
from sandbox.provider import Provider
from sandbox.refused import Refused

_SIZES = (100, 1000)
Called = Handling[Target]


class Blocklisting:
    """What is done with each call: everything it names, or nothing when one item of it is bad."""

    def __init__(self, infobip: Provider[Target], blocklist: Blocklist) -> None:
        self._infobip = infobip
        self._blocklist = blocklist
        self._pending = Pending(infobip.call_log)

    async def block(self, call: Called) -> Reply:
        """Accept destinations to block."""
        return await self._change(call, removing=False)

    async def unblock(self, call: Called) -> Reply:
        """Accept destinations to take off the list; those that are not on it make no difference."""
        return await self._change(call, removing=True)

    async def show(self, call: Called) -> Reply:
        """Read the list back, as far as it can be seen."""
        query = parse_qs(call.scope["query_string"].decode("latin-1"))
        channel = first(query, "channel")
        if channel is not None and channel not in VIEWABLE:
            raise Refused(HTTPStatus.BAD_REQUEST, violations={"channel": ["unsupported channel"]})
        async with self._infobip.slowly(call):
            found = self._blocklist.found(query, now())
            return json_reply(HTTPStatus.OK, paged(found, query, _SIZES, Blocked.shown))

    async def _change(self, call: Called, *, removing: bool) -> Reply:
        wanted = read_blocking(await read_body(call.receive), removing=removing)
        call.rows = len(wanted)
        with self._pending.write({one.entry.key for one in wanted}):
            async with self._infobip.slowly(call):
                kept = [one for one in wanted if not self._dropped(call, one)]
                act = self._blocklist.remove if removing else self._blocklist.add
                act(kept, now())
        return Reply(HTTPStatus.ACCEPTED)

    def _dropped(self, call: Called, wanted: Wanted) -> bool:
        entry = wanted.entry
        victim = replace(call.victim(entry.channel or ""), names=(entry.destination,))
        fault = self._infobip.faults.bite("row", victim)
        call.fault = call.fault or fault
        return fault is not None
