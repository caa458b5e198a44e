"""OpenTelemetry's metrics of supervised plugins."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import failing_plugin
import probe_pb2 as pb
import pytest
from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from pygo_plugin import ClosedError, RpcError, aio, netrpc
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


def counts(measured: Measured, method: str, status: str) -> tuple[Any, Any]:
    labels = {"plugin": "kv", "method": method, "status": status}
    return tuple(
        measured.value(name, **labels)
        for name in ("pygo_plugin.calls", "pygo_plugin.call.duration")
    )


def test_calls(
    measured: Measured, peers: Any, handshake: Any, plugins: Any, eventually: Any
) -> None:
    with Supervisor(
        peers.plugin("go"), handshake_config=handshake, plugins=plugins, name="kv"
    ) as plugin:
        _, probe = plugin.dispense("probe")
        probe.Echo(pb.EchoRequest())
        probe.Echo.future(pb.EchoRequest()).result()
        eventually(lambda: counts(measured, "/probe.Probe/Echo", "OK") == (2, 2))
        replies = probe.Count(pb.CountRequest(n=3))
        assert len(list(replies)) == 3
        eventually(lambda: counts(measured, "/probe.Probe/Count", "OK") == (1, 1))
        with pytest.raises(RpcError):
            probe.Fail(pb.FailRequest(code=5))
        assert counts(measured, "/probe.Probe/Fail", "NOT_FOUND") == (1, 1)


def test_calls_of_asyncio(
    measured: Measured, peers: Any, handshake: Any, plugins: Any, eventually: Any
) -> None:
    async def main() -> None:
        async with aio.Supervisor(
            peers.plugin("go"), handshake_config=handshake, plugins=plugins, name="kv"
        ) as plugin:
            _, probe = await plugin.dispense("probe")
            await probe.Echo(pb.EchoRequest())
            assert len([reply async for reply in probe.Count(pb.CountRequest(n=3))]) == 3
            with pytest.raises(RpcError):
                await probe.Fail(pb.FailRequest(code=5))
            for method, status in (("Echo", "OK"), ("Count", "OK"), ("Fail", "NOT_FOUND")):
                found = partial(counts, measured, f"/probe.Probe/{method}", status)
                await asyncio.to_thread(eventually, lambda found=found: found() == (1, 1))

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_calls_over_netrpc(measured: Measured, peers: Any, handshake: Any, kind: str) -> None:
    options: dict[str, Any] = {
        "handshake_config": handshake,
        "plugins": {"store": netrpc.plugin(failing_plugin.Store)},
        "allowed_protocols": ["netrpc"],
        "name": "kv",
        "restart": "never",
    }
    command = [sys.executable, failing_plugin.__file__, "--netrpc"]

    def blocking() -> None:
        with Supervisor(command, **options) as plugin:
            store = plugin.dispense("store")
            assert store.get("a") == "a"
            with pytest.raises(ClosedError):
                store.exit(3)

    async def asynchronous() -> None:
        async with aio.Supervisor(command, **options) as plugin:
            store = await plugin.dispense("store")
            assert await store.get("a") == "a"
            with pytest.raises(ClosedError):
                await store.exit(3)

    blocking() if kind == "blocking" else asyncio.run(asynchronous())
    assert counts(measured, "Plugin.Get", "OK") == (1, 1)
    assert counts(measured, "Plugin.Exit", "ClosedError") == (1, 1)


def test_the_api_is_not_imported_for_programs_that_do_not_use_it() -> None:
    script = (
        "import sys; from pygo_plugin._supervise import metrics; "
        "metrics.called('kv', 'Get', 'OK', 1.0); "
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=DEADLINE)
