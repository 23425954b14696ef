"""Settings: what can be said, and how a mistake is explained."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.connection import parse_rate
from consent.errors import ConfigurationError
from consent.settings import load_settings


def test_a_connection_is_configured_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider is the connection's name unless someone says otherwise."""
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__CAPILLARY__RATE", "50/second")
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__ASIA__PROVIDER", "capillary")

    settings = load_settings()

    assert settings.connections["capillary"].provider == "capillary"
    assert settings.connections["asia"].provider == "capillary"
    assert settings.connections["capillary"].rate == parse_rate("50/s")


@pytest.mark.parametrize(("name", "value"), [("PASWORD", "hush-hush"), ("RATE", "fast"), ("CONCURRENCY", "none")])
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A misspelt or unusable setting is named with its variable, and a secret in it is not repeated."""
    monkeypatch.setenv(f"OPTRELAY_CONNECTIONS__CAPILLARY__{name}", value)

    with pytest.raises(ConfigurationError) as caught:
        load_settings()

    assert f"OPTRELAY_CONNECTIONS__CAPILLARY__{name}" in str(caught.value)
    assert "hush-hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MAX_ATTEMPTS", "abc", "'abc' is no whole number: give a whole number of at least 1 (left out: 8)"),
        ("MAX_ATTEMPTS", "", "it is empty: give a whole number of at least 1"),
        ("MAX_ATTEMPTS", "1.5", "'1.5' is no whole number"),
        ("LEDGER_GB", "-1", "'-1' is too small: give a number of at least 0"),
        ("BACKOFF_SECONDS", "nan", "'nan' is no number: give a number above 0 and at most 86400 (left out: 2)"),
        ("API_BODY_BYTES", "5", "give a number from 1024 to 1,048,576"),
        ("FOUR_EYES", "perhaps", "'perhaps' is not true or false: give true or false (left out: false)"),
        ("LOG_LEVEL", "loud", "'LOUD' is no known word: give DEBUG, INFO, WARNING or ERROR"),
        ("CONNECTIONS__CAPILLARY__TIMEOUT", "x", "'x' is no number: give a number above 0 and at most 300"),
        ("CONNECTIONS__CAPILLARY", "x", "it is a table"),
        ("GUARDS__RESURRECTS_SHARE", "5", "'5' is too large: give a number from 0 to 1 (left out: 0.01)"),
        ("NOTIFY", "[1]", "it must be text"),
        ("WATCH", "[abc", "write several with spaces, or a list in JSON"),
        ("FEEDS", "x", "must be JSON"),
        ("MAX_ATTEMPTS", "a-token-of-24-characters", "what stands there is no whole number"),
    ],
)
def test_a_wrong_setting_is_explained_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    """Which setting it is, what stands there, and what to write: not the words of a library for those who program."""
    monkeypatch.setenv(f"OPTRELAY_{name}", value)

    with pytest.raises(ConfigurationError) as caught:
        load_settings()

    assert f"OPTRELAY_{name}" in str(caught.value)
    assert message in str(caught.value)
    assert "a-token" not in str(caught.value)


def test_secrets_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No way of showing the settings shows a password."""
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__CAPILLARY__PASSWORD", "hush-hush")

    assert "hush-hush" not in repr(load_settings())
    assert "hush-hush" not in load_settings().model_dump_json()


def test_an_unknown_connection_is_explained() -> None:
    """The message names the connections there are and the variable to set."""
    with pytest.raises(ConfigurationError, match="OPTRELAY_CONNECTIONS__UNKNOWN__"):
        load_settings().connection("unknown")


@pytest.mark.parametrize("written", ["environment", "file"])
def test_former_names_still_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, written: str
) -> None:
    """A setting under its former name counts as before, with a notice that holds no value; the current name wins."""
    if written == "environment":
        monkeypatch.setenv("OPTRELAY_STROKE_SIZE", "7")
        monkeypatch.setenv("OPTRELAY_HORIZON_SECONDS", "2.5")
        monkeypatch.setenv("OPTRELAY_CONNECTIONS__CAPILLARY__MAX_STROKES", "9")
    else:
        (tmp_path / "old.toml").write_text(
            "stroke_size = 7\nhorizon_seconds = 2.5\n[connections.capillary]\nmax_strokes = 9\n"
        )
        monkeypatch.setenv("OPTRELAY_CONFIG", str(tmp_path / "old.toml"))

    settings = load_settings()

    assert (settings.batch_customers, settings.reservation_seconds) == (7, 2.5)
    assert settings.connections["capillary"].max_batches == 9
    assert sorted(one.getMessage() for one in caplog.records) == [
        "CONNECTIONS__…__MAX_STROKES is now called MAX_BATCHES; the old name still works",
        "OPTRELAY_HORIZON_SECONDS is now called RESERVATION_SECONDS; the old name still works",
        "OPTRELAY_STROKE_SIZE is now called BATCH_CUSTOMERS; the old name still works",
    ]
    monkeypatch.setenv("OPTRELAY_BATCH_CUSTOMERS", "11")
    assert load_settings().batch_customers == 11


@given(st.integers(1, 10_000), st.sampled_from(["second", "minute", "hour", "s", "min"]))
def test_a_rate_says_how_far_calls_lie_apart(calls: int, unit: str) -> None:
    """A hundred a minute is one every 0.6 seconds."""
    rate = parse_rate(f"{calls}/{unit}")

    assert rate.interval * calls == pytest.approx({"s": 1, "second": 1, "min": 60, "minute": 60, "hour": 3600}[unit])


@pytest.mark.parametrize("text", ["", "fast", "0/s", "-1/s", "5", "5/", "5/parsec"])
def test_a_rate_that_is_none_is_refused_with_an_example(text: str) -> None:
    """The message shows how a rate is written."""
    with pytest.raises(ValueError, match="100/minute"):
        parse_rate(text)


@pytest.mark.parametrize("value", ["3", "true", '["100/minute"]'])
def test_a_rate_in_the_file_that_is_no_text_is_refused_with_an_example(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    """A person was told to give "a dictionary or an instance of Rate"."""
    (tmp_path / "rate.toml").write_text(f"[connections.capillary]\nrate = {value}\n")
    monkeypatch.setenv("OPTRELAY_CONFIG", str(tmp_path / "rate.toml"))
    with pytest.raises(ConfigurationError, match="RATE: a rate is written like 100/minute") as refused:
        load_settings()
    assert "Rate" not in str(refused.value)


def test_a_region_is_a_country(monkeypatch: pytest.MonkeyPatch) -> None:
    """UK is none: a typing error would refuse every national number, or read it as another country's."""
    monkeypatch.setenv("OPTRELAY_CONNECTIONS__INFOBIP__REGION", "gb")
    assert load_settings().connection("infobip").region == "GB"

    monkeypatch.setenv("OPTRELAY_CONNECTIONS__INFOBIP__REGION", "UK")
    with pytest.raises(ConfigurationError, match="two letters of a country, like GB"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("LEASE_SECONDS", "inf"), ("SWEEP_SECONDS", "inf"), ("BACKOFF_CEILING", "nan"), ("LOG_LEVEL", "loud")),
        *(("API_RATE", "5/0s"), ("API_RATE", "0/second")),
    ],
)
def test_a_setting_that_no_process_could_work_with_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A run would wait for a quarter of an hour and then say that nothing was settled, or end without a reason."""
    monkeypatch.setenv(f"OPTRELAY_{name}", value)
    with pytest.raises(ConfigurationError, match=name):
        load_settings()


def test_a_log_level_may_be_written_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """`debug` would keep the worker from staying up."""
    monkeypatch.setenv("OPTRELAY_LOG_LEVEL", "debug")

    assert load_settings().log_level == "DEBUG"
