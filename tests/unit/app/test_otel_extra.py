"""A collector without the libraries stops the start, and says what to install."""

import importlib.util

import pytest

from clary.app import otel
from clary.errors import ConfigurationError
from clary.settings import OtelSettings


def test_without_a_collector_nothing_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel, "NEEDED", "no_such_package.exporter")
    otel.check_extra(OtelSettings())


def test_with_one_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert importlib.util.find_spec("no_such_package") is None
    monkeypatch.setattr(otel, "NEEDED", "no_such_package.exporter")
    with pytest.raises(ConfigurationError, match=r"clary\[otel\]"):
        otel.check_extra(OtelSettings(endpoint="http://127.0.0.1:4318"))
