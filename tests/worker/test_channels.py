"""Receivers that are down, slow or broken, and senders that are killed: each message comes, with one id, and late."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from consent.errors import ConfigurationError
from consent.ledger.ledger import Ledger
from consent.ledger.telemetry.notices import Message
from consent.settings import Settings
from tests.support.clock import Clock
from tests.support.forked_commands.jobs import FORKABLE
from tests.support.servers.local_server import Asked, ServerAnswer, serving
from worker import channels
from worker.channels import NoticeSender, channels_of

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KIND = "connection_stopped"
STOPPED = {"connection_stopped:capillary": (KIND, "connection capillary refuses our credentials")}

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # Apprise asks for it, where it is there


@pytest.fixture
def clock() -> Clock:
    """A time that the test moves."""
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    """A ledger with one message to be sent."""
    one = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", clock=clock)
    one.maintenance.prepare()
    one.notices.observe([KIND], STOPPED)
    yield one
    one.close()


def settings_for(*urls: str, secret: str = SECRET) -> Settings:
    """Settings with these channels."""
    return Settings(notify=tuple(map(SecretStr, urls)), notify_secret=SecretStr(secret))


def drain(ledger: Ledger, *urls: str) -> int:
    """Send what is due."""
    return NoticeSender(settings_for(*urls), ledger).drain(time.monotonic() + 30)


def test_a_receiver_that_was_down_or_answered_500_gets_it_later(ledger: Ledger, clock: Clock) -> None:
    """Nothing listens, then a proxy fails, then it is taken: with one id, and a signature that holds each time."""
    answers = iter((ServerAnswer(500), ServerAnswer(302, headers={"Location": "/elsewhere"}), ServerAnswer(200)))
    assert drain(ledger, "http://127.0.0.1:1/hook") == 0
    with serving(lambda _: next(answers)) as receiver:
        sent = []
        for _ in range(3):
            clock.forward(30)
            sent.append(drain(ledger, f"{receiver.url}/hook"))
    assert sent == [0, 0, 1]
    assert len({one.headers["webhook-id"] for one in receiver.asked}) == 1
    for one in receiver.asked:
        assert Webhook(SECRET).verify(one.body, one.headers)["type"] == "notice.opened"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(receiver.asked[0].body + b" ", receiver.asked[0].headers)
    assert ledger.notices.unsent_since() is None


def test_only_the_channel_that_failed_is_tried_again(ledger: Ledger, clock: Clock) -> None:
    """The other one has it already."""
    broken = iter((ServerAnswer(503), ServerAnswer(200)))
    with serving(lambda _: ServerAnswer(200)) as well, serving(lambda _: next(broken)) as ill:
        assert drain(ledger, well.url, ill.url) == 0
        clock.forward(30)
        assert drain(ledger, well.url, ill.url) == 1
    assert (len(well.asked), len(ill.asked)) == (1, 2)


def test_a_slow_receiver_is_given_up_and_holds_up_no_one(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep's thread goes on at once while the sender waits, and the sender waits no longer than it may."""
    monkeypatch.setattr(channels, "SECONDS", 2)  # within which it connects, however busy this machine is
    ended, asked = threading.Event(), threading.Event()

    def slow(_: Asked) -> ServerAnswer:
        asked.set()
        ended.wait(60)
        return ServerAnswer(200)

    with serving(slow) as receiver:
        sender = NoticeSender(settings_for(receiver.url), ledger)
        before = time.monotonic()
        sender.wake()
        assert time.monotonic() - before < 1.5
        assert asked.wait(30)
        clock.forward(3600)
        started = time.monotonic()
        assert drain(ledger, receiver.url) == 0
        assert time.monotonic() - started < 20
        ended.set()
    assert ledger.notices.unsent_since() is not None


def test_a_sender_that_is_killed_before_it_noted_sends_it_again_with_the_same_id(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver sees it twice, and knows by the id that it is one."""
    with serving(lambda _: ServerAnswer(200)) as receiver:
        with monkeypatch.context() as patch:
            patch.setattr(ledger.notices, "note_sent", _killed)
            with pytest.raises(KeyboardInterrupt):
                drain(ledger, receiver.url)
        assert drain(ledger, receiver.url) == 0, "its lease still holds"
        clock.forward(120)
        assert drain(ledger, receiver.url) == 1
    assert len(receiver.asked) == 2
    assert len({one.headers["webhook-id"] for one in receiver.asked}) == 1


def test_a_process_that_is_killed_while_it_sends_leaves_the_message_to_the_next(tmp_path: Path) -> None:
    """The receiver kills it with SIGKILL as it takes the message: it comes once more, with the same id."""
    address = f"sqlite:///{tmp_path / 'ledger.db'}"
    first = Ledger(address)
    first.maintenance.prepare()
    first.notices.observe([KIND], STOPPED)
    senders: list[subprocess.Popen[bytes]] = []
    started = threading.Event()

    def kill(_: Asked) -> ServerAnswer:
        started.wait(30)
        if senders:
            senders.pop().kill()
        return ServerAnswer(200)

    with serving(kill) as receiver:
        own = {"OPTRELAY_NOTIFY": receiver.url, "OPTRELAY_NOTIFY_SECRET": SECRET, "OPTRELAY_LEDGER_URL": address}
        process = subprocess.Popen([sys.executable, "-c", _SENDER], env=os.environ | own)
        senders.append(process)
        started.set()
        assert process.wait(60) == -signal.SIGKILL
        later = Ledger(address, clock=lambda: time.time_ns() // 1_000 + 3_600_000_000)
        assert drain(later, receiver.url) == 1
        later.close()
    first.close()
    assert len(receiver.asked) == 2
    assert len({one.headers["webhook-id"] for one in receiver.asked}) == 1


_SENDER = (
    FORKABLE
    + """
import time
from consent.ledger.ledger import Ledger
from consent.settings import load_settings
from worker.channels import NoticeSender
settings = load_settings()
NoticeSender(settings, Ledger(settings.ledger_url)).drain(time.monotonic() + 60)
"""
)


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_apprise_takes_an_address_of_its_own(ledger: Ledger) -> None:
    """Its JSON channel stands for all of them: the same words, without a signature."""
    with serving(lambda _: ServerAnswer(200)) as receiver:
        assert drain(ledger, f"apprise+json://{receiver.url.removeprefix('http://')}/hook") == 1
    assert b"refuses our credentials" in receiver.asked[0].body


@pytest.mark.parametrize(
    ("url", "secret", "message"),
    [
        ("http://example.com/hook", SECRET, "https://"),
        ("https://example.com/hook", "", "OPTRELAY_NOTIFY_SECRET"),
        ("https://example.com/hook", f"whsec_{base64.b64encode(b'short').decode()}", "24 to 64 bytes"),
        ("https://example.com/hook", "no secret at all", "whsec_"),
        ("https://[::1/hook-of-example.com", SECRET, "cannot be read"),
        ("https://example.com:99999/hook", SECRET, "cannot be read"),
        ("https:///hook", SECRET, "names no host"),
        ("apprise+nothing://example.com", SECRET, "Apprise does not understand"),
    ],
)
def test_a_channel_that_cannot_work_is_refused_with_the_remedy(url: str, secret: str, message: str) -> None:
    """And no part of an address or a secret is told."""
    with pytest.raises(ConfigurationError) as raised:
        channels_of(settings_for(url, secret=secret))
    assert message in str(raised.value)
    assert "example.com" not in str(raised.value)


def test_a_receiver_that_hangs_holds_up_no_other(ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five messages wait; one receiver hangs with each that it gets, and the other gets all five all the same."""
    monkeypatch.setattr(channels, "SECONDS", 0.5)
    for number in range(4):
        ledger.notices.observe([f"kind{number}"], {f"kind{number}:x": (f"kind{number}", "words")})
    ended = threading.Event()

    def hang(_: Asked) -> ServerAnswer:
        ended.wait(20)
        return ServerAnswer(200)

    with serving(hang) as hanging, serving(lambda _: ServerAnswer(200)) as well:
        assert drain(ledger, hanging.url, well.url) == 0
        assert len(well.asked) == 5
        assert len(hanging.asked) == 1, "it is asked again later, and not with each message"
        ended.set()
        clock.forward(3600)
        assert drain(ledger, hanging.url, well.url) == 5
        assert len(well.asked) == 5


def test_a_channel_that_breaks_ends_no_sender(ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library raised what it should not, with an address in it: what waits is sent later, and no address is told."""
    broken: list[object] = [ValueError("https://hooks.example.com/T0/secret")]

    def send(_: object, __: Message) -> str:
        if broken:
            raise broken.pop()  # type: ignore[misc]
        return ""

    with serving(lambda _: ServerAnswer(200)) as receiver, monkeypatch.context() as patch:
        patch.setattr(channels.Webhook, "send", send)
        assert drain(ledger, receiver.url) == 0
        clock.forward(3600)
        assert drain(ledger, receiver.url) == 1


def test_a_sender_whose_thread_has_died_is_started_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else no notice would be sent any more until the sweep is restarted, and nothing would tell."""
    with serving(lambda _: ServerAnswer(200)) as receiver:
        sender = NoticeSender(settings_for(receiver.url), ledger)
        with monkeypatch.context() as patch:
            patch.setattr(NoticeSender, "_run", lambda _: None)
            sender.wake()
            assert sender._thread is not None
            sender._thread.join(5)
        sender.wake()
        until = time.monotonic() + 10
        while not receiver.asked and time.monotonic() < until:
            time.sleep(0.05)
    assert len(receiver.asked) == 1
