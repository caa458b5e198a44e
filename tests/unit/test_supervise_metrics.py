"""OpenTelemetry's metrics of supervised plugins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from pygo_plugin._supervise import metrics
from pygo_plugin.supervise import Restart, Supervisor

pytestmark = pytest.mark.usefixtures("no_leftovers")

DEADLINE = 60.0


class Measured:
    """A provider of its own, and what it has measured."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])

    def value(self, name: str, **attributes: str) -> Any:
        """The last value of a metric, of a histogram the number of values; None: there is none."""
        data = self.reader.get_metrics_data()
        for resource in [] if data is None else data.resource_metrics:
            for metric in [metric for scope in resource.scope_metrics for metric in scope.metrics]:
                for point in metric.data.data_points:
                    if metric.name == name and attributes.items() <= dict(point.attributes).items():
                        return getattr(point, "count", None) or point.value
        return None


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Measured]:
    found = Measured()
    monkeypatch.setattr(metrics, "_made", None)
    monkeypatch.setattr(api, "get_meter", found.provider.get_meter)
    yield found
    found.provider.shutdown()


def test_up_and_restarts(
    measured: Measured, peers: Any, handshake: Any, plugins: Any, eventually: Any
) -> None:
    restart = Restart(delay=0.0)
    plugin = Supervisor(
        peers.plugin("go"), handshake_config=handshake, plugins=plugins, restart=restart, name="kv"
    )
    with plugin:
        assert measured.value("pygo_plugin.up", plugin="kv") == 1
        os.kill(plugin.pid, signal.SIGKILL)
        eventually(lambda: measured.value("pygo_plugin.restarts", plugin="kv") == 1)
    assert measured.value("pygo_plugin.up", plugin="kv") is None


def test_calls(measured: Measured) -> None:
    metrics.called("kv", "/kv.KV/Get", "OK", 0.25)
    labels = {"plugin": "kv", "method": "/kv.KV/Get", "status": "OK"}
    assert measured.value("pygo_plugin.calls", **labels) == 1
    assert measured.value("pygo_plugin.call.duration", **labels) == 1


def test_the_api_is_not_imported_for_programs_that_do_not_use_it() -> None:
    script = (
        "import sys; from pygo_plugin._supervise import metrics; "
        "metrics.called('kv', 'Get', 'OK', 1.0); "
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=DEADLINE)
