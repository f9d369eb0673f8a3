"""A collector without the libraries stops the start, and says what to install."""

import importlib.util
import subprocess
import sys

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


def test_a_gateway_loads_none_of_it() -> None:
    """Nor what control alone needs for its metrics: it is what idle memory is made of."""
    code = "import sys, clary.app.gateway; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"opentelemetry", "ddsketch", "prometheus_client"} & set(done.stdout.split())
