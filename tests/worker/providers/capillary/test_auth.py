"""How calls to Capillary are signed."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from tests.support.providers.capillary import change, customer
from tests.support.servers.local_server import Asked, Cut, Server, ServerAnswer, serving
from worker.http.client import Sender
from worker.http.failures import Failure, NoReply
from worker.providers.capillary import CAPILLARY
from worker.providers.contract import Reply

BASIC = {"username": "till.one", "password": "throw-away"}
OAUTH = {"oauth_key": "key-1", "oauth_secret": "throw-away-secret"}
MINT = "/v3/oauth/token/generate"


def sent(server: Server, times: int = 1, together: bool = False, **settings: object) -> list[Reply | NoReply]:  # noqa: FBT001, FBT002
    """Send a change several times over one connection, one after the other or all together."""
    connection = ConnectionSettings.model_validate({"provider": "capillary", "base_url": server.url, **settings})
    request = CAPILLARY.plan([customer(change(1))], connection).series[0][0]

    async def run() -> list[Reply | NoReply]:
        async with Sender(connection, CAPILLARY.auth(connection)) as sender:
            if together:
                return await asyncio.gather(*(sender.send(request) for _ in range(times)))
            return [await sender.send(request) for _ in range(times)]

    return asyncio.run(run())


def minting(
    seconds: float = 300, good: Callable[[str], bool] = bool, pause: float = 0
) -> Callable[[Asked], ServerAnswer]:
    """Return a provider that mints token-1, token-2, … and takes the good ones."""
    minted: list[str] = []

    def answer(asked: Asked) -> ServerAnswer:
        if asked.path == MINT:
            time.sleep(pause)
            minted.append(f"token-{len(minted) + 1}")
            return ServerAnswer(body={"data": {"accessToken": minted[-1], "ttlSeconds": seconds}, "errors": None})
        token = asked.headers.get("x-cap-api-oauth-token", "")
        return ServerAnswer(200 if token in minted and good(token) else 401)

    return answer


def paths(server: Server) -> list[str]:
    """Return what was asked for, in short."""
    return ["mint" if asked.path == MINT else "call" for asked in server.asked]


def test_basic() -> None:
    """Basic carries the user name and the MD5 digest of the password, in lower-case hex."""
    with serving(lambda _: ServerAnswer()) as server:
        sent(server, **BASIC)
    scheme, value = server.asked[0].headers["authorization"].split()

    assert scheme == "Basic"
    # the digest is that of: printf throw-away | md5sum
    assert base64.b64decode(value) == b"till.one:9fc8a85a7b2395be2d6664e65fd17ea1"


def test_further_headers() -> None:
    """The connection's own headers, such as the attribution pair, go with every call."""
    pair = {"X-CAP-API-ATTRIBUTION-ENTITY-TYPE": "TILL", "X-CAP-API-ATTRIBUTION-ENTITY-CODE": "till.two"}
    with serving(minting()) as server:
        sent(server, headers=pair, **OAUTH)

    assert server.asked[-1].headers["x-cap-api-attribution-entity-code"] == "till.two"


@pytest.mark.parametrize(
    "given", [{}, {"username": "till"}, {"password": "x"}, {"oauth_key": "x"}, {"oauth_secret": "x"}]
)
def test_missing_credentials(given: dict[str, str]) -> None:
    """Missing credentials are a matter of configuration, and the message names the variables to set."""
    connection = ConnectionSettings.model_validate({"base_url": "https://capillary.example.com", **given})
    with pytest.raises(ConfigurationError) as caught:
        CAPILLARY.auth(connection, "eu")

    assert all(
        f"OPTRELAY_CONNECTIONS__EU__{setting}" in str(caught.value)
        for setting in ("USERNAME", "PASSWORD", "OAUTH_KEY", "OAUTH_SECRET")
    )


def test_token_is_kept() -> None:
    """A token is minted once and serves the calls that follow."""
    with serving(minting()) as server:
        replies = sent(server, times=3, **OAUTH)

    assert paths(server) == ["mint", "call", "call", "call"]
    assert json.loads(server.asked[0].body) == {"key": "key-1", "secret": "throw-away-secret"}
    assert "authorization" not in server.asked[0].headers
    assert [Reply(200, "")] * 3 == replies


def test_a_mint_that_names_another_encoding() -> None:
    """JSON is UTF-8, whatever a header says (RFC 8259): the call went unread, and that counted against the change."""
    minted = minting()

    def answer(asked: Asked) -> ServerAnswer:
        found = minted(asked)
        return replace(found, headers={"Content-Type": "application/json; charset=utf-16"})

    with serving(answer) as server:
        assert sent(server, **OAUTH) == [Reply(200, "")]


def test_other_header() -> None:
    """The header that carries the token is a setting, because the vendor's pages disagree."""
    with serving(minting()) as server:
        sent(server, oauth_header="CAP-API-ACCESS-TOKEN", **OAUTH)

    assert server.asked[1].headers["cap-api-access-token"] == "token-1"


def test_one_mint_at_a_time() -> None:
    """Many calls at once make one mint."""
    with serving(minting(pause=0.05)) as server:
        replies = sent(server, times=6, together=True, **OAUTH)

    assert paths(server).count("mint") == 1
    assert [Reply(200, "")] * 6 == replies


def test_token_about_to_end() -> None:
    """A token is replaced shortly before it ends, not after it has been refused."""
    with serving(minting(seconds=0.001)) as server:
        sent(server, times=2, **OAUTH)

    assert paths(server) == ["mint", "call", "mint", "call"]


def test_token_that_was_withdrawn() -> None:
    """A refused token is replaced once, and the call is made again with the new one."""
    with serving(minting(good=lambda token: token != "token-1")) as server:
        replies = sent(server, **OAUTH)

    assert paths(server) == ["mint", "call", "mint", "call"]
    assert [Reply(200, "")] == replies


def test_tokens_that_are_all_refused() -> None:
    """When the new token is refused too, the call ends as refused and is not made a third time."""
    with serving(minting(good=lambda _: False)) as server:
        replies = sent(server, **OAUTH)

    assert paths(server) == ["mint", "call", "mint", "call"]
    assert [reply.status for reply in replies if isinstance(reply, Reply)] == [401]


@pytest.mark.parametrize(
    "refusal",
    [
        ServerAnswer(401, {"errors": [{"code": 401}]}),
        ServerAnswer(400, "bad key"),
        ServerAnswer(200, {"data": None, "errors": [{"code": 401, "message": "x"}]}),
    ],
)
def test_refused_key(refusal: ServerAnswer) -> None:
    """A refused key ends every call as a 401, after one mint: nothing raises, and nothing storms the provider."""
    with serving(lambda _: refusal) as server:
        replies = sent(server, times=6, together=True, **OAUTH)

    assert [Reply(401, "")] * 6 == replies
    assert paths(server) == ["mint"]


@pytest.mark.parametrize(
    "answer",
    [
        ServerAnswer(500),
        ServerAnswer(503, "<html>"),
        ServerAnswer(429),
        ServerAnswer(200, "<html>"),
        ServerAnswer(200, {"data": {"accessToken": "two\nlines", "ttlSeconds": 300}}),
        ServerAnswer(200, {"data": {"accessToken": "", "ttlSeconds": 300}}),
        ServerAnswer(302, headers={"Location": "https://example.com/"}),
    ],
)
def test_no_token(answer: ServerAnswer) -> None:
    """A mint that fails for now is no reply at all: nothing was sent, and no credentials were refused."""
    with serving(lambda _: answer) as server:
        (fact,) = sent(server, **OAUTH)

    assert isinstance(fact, NoReply)
    assert (fact.kind, fact.sent) == (Failure.NO_TOKEN, False)
    assert paths(server) == ["mint"]


def test_mint_that_is_cut() -> None:
    """A mint whose connection breaks is no reply either, and the next call mints again."""
    broken = iter([True])
    good = minting()

    def answer(asked: Asked) -> ServerAnswer:
        if next(broken, False):
            raise Cut
        return good(asked)

    with serving(answer) as server:
        first, second = sent(server, times=2, **OAUTH)

    assert isinstance(first, NoReply)
    assert Reply(200, "") == second


class Turns:
    """Lets every other thing go at once, and counts."""

    def __init__(self) -> None:
        self.asked = self.waited = 0

    def is_now(self) -> bool:
        """Only the first may go at once."""
        self.asked += 1
        return self.asked == 1

    async def wait(self) -> None:
        """Wait for longer than a call may take: that must not count."""
        self.waited += 1
        await asyncio.sleep(0.6)


def test_everything_that_is_sent_takes_a_turn() -> None:
    """A mint, the call, and after a 401 the second mint and the repeat: each waits for a moment of its own."""
    with serving(minting(good=lambda token: token == "token-2")) as server:
        settings = {"provider": "capillary", "base_url": server.url, "timeout": 0.5, **OAUTH}
        connection, turns = ConnectionSettings.model_validate(settings), Turns()
        request = CAPILLARY.plan([customer(change(1))], connection).series[0][0]

        async def run() -> Reply | NoReply:
            async with Sender(connection, CAPILLARY.auth(connection)) as sender:
                return await sender.send(request, turns)

        assert Reply(200, "") == asyncio.run(run())

    assert paths(server) == ["mint", "call", "mint", "call"]
    assert (turns.asked, turns.waited) == (4, 3)
