"""The proxy of a company's network: when it is used, how it is spoken to, and how its refusals are told."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from tests.support.servers.http_calls import CALL, raw, sent
from tests.support.servers.odd_servers import AUTHORITY, GOOD, one_reply, request, server, tls_for_localhost, tls_server
from worker.http import transport
from worker.http.failures import Failure, no_reply
from worker.http.proxies import is_excepted
from worker.providers.contract import Reply

ELSEWHERE = "http://capillary.example.com"
WANTS_CREDENTIALS = b"HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno"


@pytest.fixture(autouse=True)
def _no_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def _trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    monkeypatch.setattr(transport, "tls_context", lambda: context)


def test_through_the_proxy_of_a_company(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider elsewhere is called through the proxy that the environment names; this machine is not."""
    asked = []

    def talk(connection: socket.socket) -> None:
        asked.append(connection.recv(65_536).split(b"\r\n")[0])
        connection.sendall(GOOD)

    with raw(talk) as where:
        monkeypatch.setenv("http_proxy", f"http://{where}")
        monkeypatch.delenv("no_proxy", raising=False)
        replies = sent("http://capillary.example.com", allow_plain_http=True)

    assert [Reply(200, "{}")] == replies
    assert asked[0].startswith(b"POST http://capillary.example.com/v2/some")
    with raw(one_reply(GOOD)) as where:
        assert [Reply(200, "{}")] == sent(f"http://{where}", CALL)


@contextmanager
def tunnel(to: int, asked: list[bytes], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Run a proxy that passes every connection on to a port of this machine."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def talk(connection: socket.socket, _: int) -> None:
        asked.append(request(connection))
        with socket.create_connection(("127.0.0.1", to)) as provider:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(provider, connection))
            back.start()
            pump(connection, provider)
            back.join()

    with server(talk, tls=tls) as port:
        yield port


@pytest.mark.usefixtures("_trusted")
def test_tls_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy learns host and port and its own credentials; certificate and name are the provider's."""
    asked: list[bytes] = []
    monkeypatch.setattr("worker.http.proxies.is_loopback", lambda _: False)
    with tls_server() as provider, tunnel(provider, asked) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:se%2Fcret@127.0.0.1:{proxy}")
        assert sent(f"https://localhost:{provider}") == [Reply(200, "{}")]
        assert sent("https://provider.example.com") == [no_reply(Failure.TLS)]

    first, *headers = asked[0].split(b"\r\n")
    assert first == f"CONNECT localhost:{provider} HTTP/1.1".encode()
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:se/cret") in headers
    assert not any(header.lower().startswith(b"authorization") for header in headers)
    assert asked[1].startswith(b"CONNECT provider.example.com:443 HTTP/1.1")


@pytest.mark.usefixtures("_trusted")
def test_a_proxy_that_speaks_tls_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an https:// proxy, its credentials and the host's name are no one else's to see; both are verified."""
    asked: list[bytes] = []
    monkeypatch.setattr("worker.http.proxies.is_loopback", lambda _: False)
    with tls_server() as provider, tunnel(provider, asked, tls_for_localhost()) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"https://localhost:{proxy}")
        assert sent(f"https://localhost:{provider}") == [Reply(200, "{}")]
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{proxy}")
        assert sent(f"https://localhost:{provider}") == [no_reply(Failure.TLS)]
    assert len(asked) == 1


@pytest.mark.usefixtures("_trusted")
def test_a_407_of_the_provider_behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes through the tunnel is the provider's answer, whatever its status."""

    def talk(connection: socket.socket, _: int) -> None:
        request(connection)
        connection.sendall(WANTS_CREDENTIALS)

    monkeypatch.setattr("worker.http.proxies.is_loopback", lambda _: False)
    with server(talk, tls=tls_for_localhost()) as provider, tunnel(provider, []) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
        assert sent(f"https://localhost:{provider}") == [Reply(407, "no")]


def test_a_proxy_that_wants_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 407 is the proxy's, not the provider's: nothing was sent, and the reason says what to do."""
    for scheme in ("http", "https"):
        with raw(one_reply(WANTS_CREDENTIALS)) as where:
            monkeypatch.setenv(f"{scheme}_proxy", f"http://{where}")
            (fact,) = sent(f"{scheme}://capillary.example.com", allow_plain_http=True)
        assert fact == no_reply(Failure.PROXY)
        assert "407" in fact.reason
        assert not fact.sent


def test_a_407_without_a_proxy() -> None:
    """Where no proxy is used it is an answer like any other."""
    with raw(one_reply(WANTS_CREDENTIALS)) as where:
        assert sent(f"http://{where}") == [Reply(407, "no")]


@pytest.mark.parametrize(
    "content", [b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b"HTTP/1.1 403 No\r\n\r\n", b"", b"hello\r\n"]
)
def test_a_proxy_that_does_not_connect(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that refuses, fails, hangs up or is none: nothing was sent."""
    with raw(one_reply(content)) as where:
        monkeypatch.setenv("all_proxy", where)
        assert sent("https://capillary.example.com") == [no_reply(Failure.UNREACHABLE)]


def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the proxy cannot be reached, nothing was sent."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert sent(ELSEWHERE, allow_plain_http=True) == [no_reply(Failure.UNREACHABLE)]


@pytest.mark.parametrize(
    ("url", "no_proxy", "excepted"),
    [
        ("https://eu.example.com", "example.com", True),
        ("https://eu.example.com", ".example.com", True),
        ("https://eu.example.com", "*.example.com", True),
        ("https://example.com", ".example.com", True),
        ("https://EU.example.com.", "other.test, eu.Example.COM", True),
        ("https://notexample.com", "example.com", False),
        ("https://example.com.evil.test", "example.com", False),
        ("https://eu.example.com", "*", True),
        ("https://eu.example.com", "example.com:443", True),
        ("https://eu.example.com", "example.com:8443", False),
        ("http://eu.example.com", "example.com:80", True),
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://10.1.2.3", "10.1.2.4/8", True),
        ("https://11.1.2.3", "10.0.0.0/8", False),
        ("https://10.1.2.3:8443", "10.1.2.3:8443", True),
        ("https://10.1.2.3", "10.1.2.3", True),
        ("https://10.1.2.3", "2.3", False),
        ("https://[fd00::1]", "fd00::/8", True),
        ("https://[fd00::1]:8443", "[fd00::1]:8443", True),
        ("https://[fd00::1]", "[fd00::1]", True),
        ("https://[fe00::1]", "fd00::/8", False),
        ("https://eu.example.com", "10.0.0.0/8, , nonsense//", False),
        ("https://eu.example.com", "", False),
        ("https://eu.example.com", ".", False),
    ],
)
def test_hosts_that_no_proxy_lists(url: str, no_proxy: str, excepted: bool) -> None:  # noqa: FBT001
    """A host, a domain, an address, a network, each with or without a port, and a star for all."""
    assert is_excepted(httpx.URL(url), no_proxy) is excepted


def test_no_proxy_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider in a network that NO_PROXY lists is called directly."""
    monkeypatch.setattr("worker.http.proxies.is_loopback", lambda _: False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.0/8")
    with raw(one_reply(GOOD)) as where:
        assert sent(f"http://{where}", CALL) == [Reply(200, "{}")]
