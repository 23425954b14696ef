"""One call out and its reply."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from consent.connection import ConnectionSettings
from consent.errors import ConfigurationError
from tests.support.servers.http_calls import CALL, CHANGES, TASK, answered, raw, sent
from tests.support.servers.local_server import Asked, ServerAnswer, serving
from worker.http.client import LONGEST_BODY, Sender, check_connection
from worker.http.failures import Failure, NoReply, no_reply
from worker.http.transport import tls_context
from worker.providers.capillary import CAPILLARY
from worker.providers.capillary.auth import make_auth as capillary_auth
from worker.providers.contract import Reply, Request, basic_auth


def test_json_call() -> None:
    """A call goes out as it was planned: method, encoded parameters, JSON body, and the headers Capillary wants."""
    with serving(lambda _: ServerAnswer(207, "hello")) as server:
        replies = sent(server.url + "/base/", headers={"X-Till": "one"})
    asked = server.asked[0]

    assert [Reply(207, "hello")] == replies
    assert (asked.method, asked.path) == ("POST", "/base/v2/some?who=%2B1+555%260100")
    assert asked.body.decode() == '{"a":"é"}'
    assert (asked.headers["content-type"], asked.headers["accept"]) == ("application/json", "application/json")
    assert asked.headers["x-till"] == "one"


@pytest.mark.parametrize("name", ["Host", "host"])
def test_a_gateway_that_goes_by_another_name(name: str) -> None:
    """A Host header of one's own stands alone, however it is spelled: two of them would be refused."""
    with serving(lambda _: ServerAnswer()) as server:
        sent(server.url, headers={name: "gateway.example.com"})

    assert server.asked[0].hosts == ("gateway.example.com",)


@pytest.mark.parametrize("call", [CALL, replace(CALL, method="PUT", json=None), replace(CALL, method="GET", json=None)])
def test_a_configured_length_of_bodies(call: Request) -> None:
    """Each request says its own length, whatever HEADERS says: with two of them a server could read past its end."""
    with serving(lambda _: ServerAnswer()) as server:
        replies = sent(server.url, call, times=2, headers={"content-length": "7"})

    assert [Reply(200, "")] * 2 == replies
    assert [one.body for one in server.asked] == [b"" if call.json is None else b'{"a":"\xc3\xa9"}'] * 2


def test_a_method_that_is_none() -> None:
    """A method with a line end in it is never sent: it would be two calls."""
    with serving(lambda _: ServerAnswer()) as server, pytest.raises(ValueError, match="method"):
        sent(server.url, replace(CALL, method="GET /other HTTP/1.1\r\nX: 1\r\n\r\nGET"))

    assert server.asked == []


def test_a_path_that_is_not_quoted() -> None:
    """A path with a space in it is never sent: it would be another call."""
    with serving(lambda _: ServerAnswer()) as server, pytest.raises(ValueError, match="not quoted"):
        sent(server.url, replace(CALL, path="/v2/some customer"))

    assert server.asked == []


def test_a_number_of_any_size_is_sent_back() -> None:
    """A number beyond 64 bits, which a provider told us to send back, goes out as it came."""
    with serving(lambda _: ServerAnswer()) as server:
        sent(server.url, replace(CALL, json={"id": 2**80}))

    assert json.loads(server.asked[0].body) == {"id": 2**80}


def test_form_call() -> None:
    """A form goes out as a form."""
    form = Request("PUT", "/f", (TASK,), CHANGES, form={"modes": "a,b", "active": "true"})
    with serving(lambda _: ServerAnswer()) as server:
        sent(server.url, form)

    assert server.asked[0].body == b"modes=a%2Cb&active=true"
    assert server.asked[0].headers["content-type"] == "application/x-www-form-urlencoded"


def test_a_reply_behind_a_byte_order_mark() -> None:
    """A gateway put U+FEFF before each answer: every opt-out was done, held for lost and said again without end."""
    with serving(lambda _: ServerAnswer(200, '\ufeff{"done": "\ufeff"}')) as server:
        assert sent(server.url) == [Reply(200, '{"done": "\ufeff"}')]


def test_connection_is_kept() -> None:
    """Calls that follow each other share one connection."""
    ports = set()

    def talk(connection: socket.socket) -> None:
        for _ in range(3):
            while b"}" not in connection.recv(65_536):
                pass
            ports.add(connection.getpeername()[1])
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with raw(talk) as where:
        replies = sent(f"http://{where}", times=3, concurrency=4)

    assert [Reply(200, "")] * 3 == replies
    assert len(ports) == 1


def test_the_connection_that_was_opened_beforehand_is_used() -> None:
    """What was connected before a call had its moment is what the call goes out on."""

    async def run(url: str) -> None:
        connection = ConnectionSettings(base_url=url, timeout=5)
        async with Sender(connection, basic_auth("till", "digest")) as sender:
            async with sender.preconnected:
                await asyncio.sleep(0.05)
                await sender.send(CALL)
            await sender.send(CALL)

    with serving(lambda _: ServerAnswer()) as server:
        asyncio.run(run(server.url))

    assert (len(server.asked), len(server.callers)) == (2, 1)


def test_no_more_calls_at_once_than_allowed() -> None:
    """No more calls are under way at once than the connection's concurrency."""
    under_way, most = [0], [0]
    lock = threading.Lock()

    def answer(_: Asked) -> ServerAnswer:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        time.sleep(0.02)
        with lock:
            under_way[0] -= 1
        return ServerAnswer()

    async def run(url: str) -> None:
        async with Sender(ConnectionSettings(base_url=url, concurrency=3), basic_auth("a", "b")) as sender:
            await asyncio.gather(*(sender.send(CALL) for _ in range(12)))

    with serving(answer) as server:
        asyncio.run(run(server.url))

    assert most[0] == 3
    assert len(server.asked) == 12


def test_endless_answer() -> None:
    """Of an answer without end one mebibyte is read, so that it cannot fill the memory."""
    reply = answered(ServerAnswer(200, b'{"a":"' + b"x" * (3 * LONGEST_BODY) + b'"}'))

    assert isinstance(reply, Reply)
    assert (reply.status, len(reply.text)) == (200, LONGEST_BODY)


def test_endless_refusal_of_a_token() -> None:
    """The bound holds for the answers that an auth reads, too."""
    connection = {"oauth_key": "key-1", "oauth_secret": "throw-away"}
    with serving(lambda _: ServerAnswer(200, b"x" * (3 * LONGEST_BODY))) as server:
        settings = ConnectionSettings.model_validate({"base_url": server.url, **connection})

        async def run() -> Reply | NoReply:
            async with Sender(settings, CAPILLARY.auth(settings)) as sender:
                return await sender.send(CALL)

        assert no_reply(Failure.NO_TOKEN) == asyncio.run(run())


def test_text_in_no_encoding() -> None:
    """Bytes that are no text do not break the reading."""
    reply = answered(ServerAnswer(200, b"\xff\xfe\x00", {"Content-Type": "text/plain; charset=nonsense"}))

    assert isinstance(reply, Reply)


def test_compressed_answer() -> None:
    """A small reply that would unpack to a huge one is not unpacked: no one asked for a compressed one."""
    packed = gzip.compress(b"0" * 50_000_000)
    reply = answered(ServerAnswer(200, packed, {"Content-Encoding": "gzip"}))

    assert isinstance(reply, Reply)
    assert len(reply.text) <= len(packed)


def test_redirect() -> None:
    """A redirect is not followed: credentials go nowhere else."""
    with serving(lambda _: ServerAnswer(302, headers={"Location": "/elsewhere"})) as server:
        replies = sent(server.url)

    assert [Reply(302, "")] == replies
    assert len(server.asked) == 1


def test_retry_after_in_seconds() -> None:
    """A Retry-After in seconds comes with the reply."""
    assert Reply(429, "", 7.0) == answered(ServerAnswer(429, headers={"Retry-After": "7"}))


def test_retry_after_as_a_date() -> None:
    """A Retry-After as a date comes as the seconds until then."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)  # the server dates its reply itself
    reply = answered(ServerAnswer(503, headers={"Retry-After": date}))

    assert isinstance(reply, Reply)
    assert reply.retry_after == pytest.approx(90, abs=3)


def test_nothing_of_a_person_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a log line of the HTTP client nor a reason names the person that the call is about."""
    caplog.set_level(logging.DEBUG)
    with serving(lambda _: ServerAnswer()) as server:
        sent(server.url)
    facts = sent("http://127.0.0.1:9")

    assert "0100" not in caplog.text + repr(facts)


def test_unusable_headers() -> None:
    """A header that HTTP cannot carry is found when the connection is set up."""
    connection = ConnectionSettings(base_url="https://capillary.example.com", headers={"X": "two\nlines"})
    with pytest.raises(ConfigurationError, match="OPTRELAY_CONNECTIONS__EU__HEADERS"):
        Sender(connection, basic_auth("a", "b"), "eu")


@pytest.mark.parametrize("headers", [{"X": "two\r\nlines"}, {"X\r\nY": "1"}, {"a b": "1"}, {"": "1"}])
def test_headers_that_http_cannot_carry(headers: dict[str, str]) -> None:
    """A night's opt-outs waited for a header that nothing could send: it is found when the connection is set up."""
    connection = ConnectionSettings(base_url="https://capillary.example.com", headers=headers)
    with pytest.raises(ConfigurationError, match="OPTRELAY_CONNECTIONS__EU__HEADERS"):
        check_connection(connection, basic_auth("a", "b"), "eu")


@pytest.mark.parametrize("header", ["", "X TOKEN", "X-TOKEN:", "X\r\nY"])
def test_a_token_header_that_is_none(header: str) -> None:
    """A name that is no header's is told with its variable, before anything is recorded."""
    connection = ConnectionSettings(
        base_url="https://capillary.example.com", oauth_key="k", oauth_secret="s", oauth_header=header
    )
    with pytest.raises(ConfigurationError, match="OPTRELAY_CONNECTIONS__EU__OAUTH_HEADER"):
        capillary_auth(connection, "eu")


@pytest.mark.parametrize("address", ["socks5h://127.0.0.1:1", "socks4://127.0.0.1:1", "http://[::1", "odd://a:1"])
def test_a_proxy_that_cannot_be_used(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything stood still without a reason: the proxy was looked at by each call anew, and each raised."""
    monkeypatch.setenv("ALL_PROXY", address)
    with pytest.raises(ConfigurationError, match="ALL_PROXY"):
        check_connection(EU, basic_auth("a", "b"), "eu")


def test_a_password_of_a_proxy_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the password stood in the log 85 times."""
    monkeypatch.setenv("https_proxy", "http://user:hush/secret@127.0.0.1:3128")
    with pytest.raises(ConfigurationError) as error:
        check_connection(EU, basic_auth("a", "b"), "eu")
    assert "hush" not in str(error.value)
    assert "https_proxy" in str(error.value)


@pytest.mark.parametrize("kind", ["missing", "empty", "folder"])
def test_certificates_that_cannot_be_used(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong SSL_CERT_FILE is told by its name; plain HTTP to this machine does not need it."""
    place = tmp_path / "certificates.pem"
    if kind == "empty":
        place.touch()
    elif kind == "folder":
        place.mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(place))
    tls_context.cache_clear()
    try:
        with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
            check_connection(EU, basic_auth("a", "b"), "eu")
        check_connection(ConnectionSettings(base_url="http://127.0.0.1:1"), basic_auth("a", "b"), "eu")
    finally:
        tls_context.cache_clear()


EU = ConnectionSettings(base_url="https://capillary.example.com")
