"""Plugins on the workers of a real Dask cluster: a scheduler and two worker processes."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import template_plugin
from processes import has_ended

from pygo_plugin import ConfigError, PluginError
from pygo_plugin.dask import dask_plugins

distributed = pytest.importorskip("distributed")

PEERS = Path(__file__).resolve().parents[1] / "peers"
COMMAND = [sys.executable, str(PEERS / "template_plugin.py")]
PATIENCE = 60.0
OPTIONS: dict[str, Any] = {
    "plugins": template_plugin.plugins(),
    "handshake_config": template_plugin.HANDSHAKE,
    "allowed_protocols": ["netrpc"],
}

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster whose workers have the tests' modules."""
    path = os.pathsep.join(filter(None, [str(PEERS), os.environ.get("PYTHONPATH")]))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = path
    directory = tmp_path_factory.mktemp("dask")
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=2,
        processes=True,
        dashboard_address=":0",
        local_directory=str(directory),
        silence_logs=logging.CRITICAL,
    ) as made:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
        yield made


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    with distributed.Client(cluster) as client:
        client.wait_for_workers(2, timeout=PATIENCE)
        yield client


def facts_of(futures: list[Any]) -> list[dict[str, Any]]:
    import json

    return [json.loads(future.result(PATIENCE)) for future in futures]


def test_each_worker_calls_its_own_plugin(client: Any) -> None:
    workers = sorted(client.scheduler_info()["workers"])
    with dask_plugins(client, COMMAND, **OPTIONS) as plugins:
        futures = [plugins.submit("facts", "facts", workers=[worker]) for worker in workers]
        one, other = facts_of(futures)
        parents = client.run(os.getpid)
        assert [one["parent"], other["parent"]] == [parents[worker] for worker in workers]
        pids = {found["pid"] for found in facts_of([plugins.submit("facts", "facts")] * 3)}
        assert pids <= {one["pid"], other["pid"]}
    deadline = time.monotonic() + PATIENCE
    while not (has_ended(one["pid"]) and has_ended(other["pid"])):
        assert time.monotonic() < deadline


def test_messages_of_protobuf(client: Any) -> None:
    import probe_pb2
    import pygo_plugin_peer

    path = [str(Path(probe_pb2.__file__).parent)]
    client.run(sys.path.extend, path)
    command = [sys.executable, str(PEERS / "pygo_plugin_peer.py")]
    with dask_plugins(
        client,
        command,
        plugins=pygo_plugin_peer.plugins(),
        size=2,
        handshake_config=pygo_plugin_peer.HANDSHAKE,
    ) as plugins:
        requests = [probe_pb2.EchoRequest(payload=b"%d" % number) for number in range(20)]
        assert requests[3].SerializeToString() in pickle.dumps(requests[3])
        replies = client.gather(plugins.map("probe", "Echo", requests, timeout=PATIENCE))
        assert [reply.payload for reply in replies] == [b"%d" % number for number in range(20)]
        counted = plugins.submit("probe", "Count", probe_pb2.CountRequest(n=3)).result(PATIENCE)
        assert [reply.number for reply in counted] == [0, 1, 2]
        # A future of one call is the request of another.
        nested = client.submit(
            lambda reply: probe_pb2.EchoRequest(payload=reply.payload), replies[0]
        )
        assert plugins.submit("probe", "Echo", nested).result(PATIENCE).payload == b"0"


def test_a_worker_is_killed_in_mid_run(client: Any) -> None:
    with dask_plugins(client, COMMAND, **OPTIONS) as plugins:
        futures = [plugins.submit("facts", "wait", 0.05, retries=3) for _ in range(60)]
        futures[0].result(PATIENCE)
        workers = client.run(os.getpid)
        os.kill(next(iter(workers.values())), signal.SIGKILL)
        assert set(client.gather(futures)) == {True}
        # The nanny has started another worker, which has the plugin, too.
        client.wait_for_workers(2, timeout=PATIENCE)
        everywhere = [
            plugins.submit("facts", "facts", workers=[worker])
            for worker in client.scheduler_info()["workers"]
        ]
        assert len({found["parent"] for found in facts_of(everywhere)}) == 2


def test_workers_that_join_later(cluster: Any, client: Any) -> None:
    with dask_plugins(client, COMMAND, **OPTIONS) as plugins:
        cluster.scale(3)
        client.wait_for_workers(3, timeout=PATIENCE)
        futures = [
            plugins.submit("facts", "facts", workers=[worker])
            for worker in client.scheduler_info()["workers"]
        ]
        assert len({found["pid"] for found in facts_of(futures)}) == 3
        cluster.scale(2)


def test_what_is_uploaded_is_what_runs(client: Any, tmp_path: Path) -> None:
    program = tmp_path / "plugin"
    text = (PEERS / "template_plugin.py").read_text()
    program.write_text(text.replace("#!/usr/bin/env python3", f"#!{sys.executable}", 1))
    program.chmod(0o755)
    with dask_plugins(client, [str(program)], upload=True, **OPTIONS) as plugins:
        program.unlink()  # the workers have what was sent
        (found,) = facts_of([plugins.submit("facts", "facts")])
        assert found["pid"] > 0


def test_logs_reach_this_process(client: Any, records: Any) -> None:
    with dask_plugins(client, COMMAND, logs=True, **OPTIONS) as plugins:
        plugins.submit("facts", "print", "hello from afar").result(PATIENCE)
        record = records.wait_for("hello from afar")
        assert record.name == "pygo_plugin.plugin.template_plugin.py"
        assert record.worker in client.scheduler_info()["workers"]


def test_a_plugin_that_cannot_be_started(client: Any) -> None:
    with pytest.raises(PluginError, match="no_such_program"):
        dask_plugins(client, ["no_such_program"], **OPTIONS)


def test_errors_of_calls(client: Any) -> None:
    from pygo_plugin import ServerError

    with dask_plugins(client, COMMAND, **OPTIONS) as plugins:
        with pytest.raises(ServerError, match="by design"):
            plugins.submit("facts", "fail").result(PATIENCE)
        with pytest.raises(ConfigError, match="no method"):
            plugins.submit("facts", "nothing").result(PATIENCE)
        with pytest.raises(ConfigError, match="no plugin named 'other'; known: 'facts'"):
            plugins.submit("other", "facts")
        with pytest.raises(ConfigError, match="'retrys' is no argument"):
            plugins.submit("facts", "facts", retrys=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"logger": logging.getLogger("x")}, "logger"),
        ({"size": 0}, "size"),
        ({"upload": "other"}, "no argument of cmd"),
        ({"upload": ["/no/such/file"]}, "no argument of cmd"),
        ({"env": {"A": open}, "on_event": print}, "on_event"),
    ],
    ids=str,
)
def test_wrong_options(client: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dask_plugins(client, COMMAND, **{**OPTIONS, **options})


def test_asynchronous_clients(cluster: Any) -> None:
    import asyncio

    async def use() -> str:
        async with distributed.Client(cluster.scheduler_address, asynchronous=True) as client:
            plugins = await dask_plugins(client, COMMAND, **OPTIONS)
            try:
                found: str = await plugins.submit("facts", "facts")
            finally:
                await plugins.close()
            return found

    assert '"pid"' in asyncio.run(use())
