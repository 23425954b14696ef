"""Which broker a worker trusts and what it may do there: certificates, and rights that are missing."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from unittest.mock import ANY

import pytest
import redis
import trustme

from console.doctor.broker import RIGHTS
from console.local.broker import LocalBroker
from tests.support.company import CELERY, OPTRELAY, WORKER, Company, company, fold, process, shuffled_rows, until


class Stranger:
    """A server with a certificate that no authority of ours has signed; it keeps what it is told."""

    def __init__(self, authority: trustme.CA, name: str) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.received, self.asked = self._listener.getsockname()[1], b"", 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            self.asked += 1
            try:
                raw.settimeout(5)
                with self._context.wrap_socket(raw, server_side=True) as spoken:
                    self.received += spoken.recv(4096)
            except OSError:
                raw.close()

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """An authority of our own, whose certificate lies in the folder."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made


@pytest.mark.parametrize("name", ["127.0.0.1", pytest.param("other.example.com", marks=pytest.mark.proof)])
def test_no_password_reaches_a_server_that_no_one_has_vouched_for(
    tmp_path: Path, authority: trustme.CA, name: str
) -> None:
    """A program between us and the broker gets its password: from worker, sweep, import, doctor and listener."""
    known = name != "127.0.0.1"  # signed by an authority we trust, for someone else; or for us, by no one we know
    stranger = Stranger(authority, name)
    trusted = f"?ssl_ca_certs={tmp_path / 'ca.pem'}" if known else ""
    address = f"rediss://:hush@127.0.0.1:{stranger.port}/0{trusted}"
    with company(tmp_path) as shop:
        shop.settings["BROKER_URL"] = address
        file = shop.write(shuffled_rows(4, 2))
        with process(shop, *WORKER) as worker, process(shop, OPTRELAY, "sweep"):
            assert shop.run("import", file)[0] == 0
            code, found, _ = shop.run("doctor")
            with process(shop, OPTRELAY, "listen", f"{address}{'&' if known else '?'}stream=consent"):
                until(lambda: stranger.asked > 8)
            log = worker.log.read_text()  # type: ignore[attr-defined]
    stranger.close()

    assert stranger.received == b""
    assert "hush" not in log
    (broker,) = [one for one in found["checks"] if one["what"] == "broker"]
    assert code == 1
    assert re.search("certificate is not trusted", broker["words"])
    assert "ssl_ca_certs" in broker["remedy"]


@pytest.mark.proof
def test_a_broker_with_a_certificate_of_our_own_authority_is_used(tmp_path: Path, authority: trustme.CA) -> None:
    """TLS is refused though everything is in order, and so it is switched off."""
    from console.local.broker import broker_binary

    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [broker_binary(), "--port", "0", "--tls-port", str(port), "--requirepass", "p@ss/#?[", "--save", ""]
    for option, name in (("cert", "cert"), ("key", "key"), ("ca-cert", "ca")):
        command += [f"--tls-{option}-file", str(tmp_path / f"{name}.pem")]
    command += ["--tls-auth-clients", "no"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    with suppress(subprocess.TimeoutExpired):
        server.wait(1)
        pytest.skip(
            "the Valkey of the wheel is built without TLS: this needs a redis-server or valkey-server that has it"
        )
    try:
        with company(tmp_path) as shop:
            shop.settings["BROKER_URL"] = (
                f"rediss://:p%40ss%2F%23%3F%5B@127.0.0.1:{port}/2?ssl_ca_certs={tmp_path / 'ca.pem'}"
            )
            until(lambda: [one["ok"] for one in shop.run("doctor")[1]["checks"] if one["what"] == "broker"] == [True])
            rows = shuffled_rows(40, 10)
            shop.run("import", shop.write(rows))
            with process(shop, *WORKER), process(shop, OPTRELAY, "sweep"):
                until(lambda: shop.held() == fold(rows))
    finally:
        server.kill()
        server.wait()


@pytest.mark.proof
def test_the_doctor_names_rights_that_are_missing(shop: Company, broker: LocalBroker, store: redis.Redis) -> None:
    """The worker dies for want of a right, or waits, and the doctor says that a broker which answers is not there."""
    shop.settings["BROKER_URL"] = broker.url.replace("redis+socket://", "redis+socket://little:p%40ss@")

    def granted(rights: str) -> tuple[int, dict[str, str]]:
        store.execute_command("ACL", "SETUSER", "little", "reset", "on", ">p@ss", *rights.split())
        code, found, _ = shop.run("doctor")
        return code, {one["what"]: one["words"] for one in found["checks"] if one["what"].startswith("broker")}

    rows = shuffled_rows(40, 10)
    assert shop.run("import", shop.write(rows))[0] == 0
    assert granted(f"{RIGHTS} -brpop -eval -smembers") == (1, ANY)
    assert granted(f"{RIGHTS} -brpop -eval -smembers")[1]["broker's rights"].endswith("BRPOP, SMEMBERS, EVAL")
    assert "keys optrelay:*" in granted(RIGHTS.replace("~optrelay:*", "~another:*"))[1]["broker's rights"]
    code, checks = granted(RIGHTS)
    assert code == 0, checks
    assert checks["broker"].startswith("it answers")
    with process(shop, *CELERY), process(shop, OPTRELAY, "sweep"):
        until(lambda: shop.held() == fold(rows))
    store.replicaof("127.0.0.1", "1")
    assert "takes no writes" in granted(RIGHTS)[1]["broker's rights"]
