"""A broker's address: one reading for every library, no part of it shown, and none that would verify less."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consent.broker.address import BrokerAddress, read_broker_address
from consent.errors import ConfigurationError


@pytest.mark.parametrize("odd", ["@", "/", "#", "?", "[", "%"])
@pytest.mark.parametrize("where", ["x{}hush", "{}hush", "hush{}", "6390{}hush"])
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_password_that_is_not_encoded_is_told_how_to_be_written(scheme: str, odd: str, where: str) -> None:
    """Another host is asked, and a part of the password stands in its log."""
    with pytest.raises(ConfigurationError, match=r"%40 for @") as raised:
        read_broker_address(f"{scheme}://:{where.format(odd)}@broker.example.com:6399/0")

    assert "hush" not in str(raised.value)
    assert "6390" not in str(raised.value)


@given(
    st.builds(
        BrokerAddress,
        host=st.sampled_from(["localhost", "10.0.0.1", "::1", "broker.example.com"]),
        port=st.integers(1, 65_535),
        database=st.integers(0, 100),
        username=st.none() | st.text(min_size=1),
        password=st.none() | st.text(min_size=1),
        tls=st.booleans(),
    )
)
@example(BrokerAddress(password="a@b/c#d?e[f]g:h;i%j"))
@example(BrokerAddress(path="/home/ann/C# exports/what?/50%20off/ночь.sock", password="p@"))
def test_what_is_written_out_is_read_back(address: BrokerAddress) -> None:
    """A worker that is told the address of another process speaks to the same server, with the same password."""
    assert read_broker_address(address.url) == address


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("redis://localhost", BrokerAddress()),
        ("redis://:6390/2", BrokerAddress(port=6390, database=2)),
        ("redis://ann:a%40b@[::1]:7000/3", BrokerAddress("::1", 7000, database=3, username="ann", password="a@b")),
        ("redis://h/?password=a%2Fb&username=ann&db=4", BrokerAddress("h", username="ann", password="a/b", database=4)),
        ("redis+socket:///run/x.sock?virtual_host=3", BrokerAddress(path="/run/x.sock", database=3)),
        ("redis+socket://:hush@/run/x.sock", BrokerAddress(path="/run/x.sock", password="hush")),
        ("unix:///run/C%23/x.sock?db=1", BrokerAddress(path="/run/C#/x.sock", database=1)),
        ("rediss://h/0?ssl_cert_reqs=CERT_REQUIRED", BrokerAddress("h", tls=True)),
    ],
)
def test_every_form_means_one_thing(url: str, meant: BrokerAddress) -> None:
    """The wake-ups are sent to one database and counted in another: each sweep sends them again."""
    assert read_broker_address(url) == meant


@pytest.mark.parametrize(
    "url",
    [
        "rediss://:hush@h/0?ssl_cert_reqs=none",
        "rediss://:hush@h/0?ssl_cert_reqs=CERT_OPTIONAL",
        "rediss://:hush@h/0?ssl_check_hostname=false",
        "rediss://:hush@h/0?ssl_ca_certs=/nowhere/hush.pem",
        "redis://:hush@h/0?ssl_cert_reqs=required",
        "redis://:hush@h/0?ssl=true",
        "redis://:hush@h/hush",
        "redis://:hush@h/1?db=2",
        "redis://:hush@h:70000/1",
        "redis+socket://hush/x.sock",
        "sentinel://:hush@h/0",
        "redis://:hush@one:1;redis://two:2",
        "hush",
        "",
    ],
)
def test_an_address_that_cannot_be_kept_is_refused(url: str) -> None:
    """Half of the processes use it, the others do not; or the password goes to a server that no one has vouched for."""
    with pytest.raises(ConfigurationError) as raised:
        read_broker_address(url)

    assert "hush" not in str(raised.value)
