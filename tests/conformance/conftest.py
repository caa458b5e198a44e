"""Fixtures for both libraries on both sides; kit/stage.py says what is what."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aio_stage
import pytest
from stage import DEADLINE, LIBRARIES, PAIRS, Lost, Stage, pair_id

UNLIMITED = [("grpc.max_receive_message_length", -1)]


@pytest.fixture(params=PAIRS, ids=pair_id)
def stage(request: pytest.FixtureRequest, socket_dir: Path) -> Iterator[Stage]:
    """Every pair of channel and server."""
    made = Stage(*request.param, socket_dir)
    yield made
    made.close()


@pytest.fixture(params=LIBRARIES)
def our_stage(request: pytest.FixtureRequest, socket_dir: Path) -> Iterator[Stage]:
    """Our server, called by either channel: for what grpcio's does not do."""
    made = Stage(request.param, "ours", socket_dir)
    yield made
    made.close()


@pytest.fixture(params=LIBRARIES)
def client(request: pytest.FixtureRequest) -> Any:
    """The library that makes channels."""
    return LIBRARIES[request.param]


@pytest.fixture(params=LIBRARIES)
def host(request: pytest.FixtureRequest) -> Any:
    """The library that makes servers."""
    return LIBRARIES[request.param]


# ---- The probe service, by one server of each kind for all tests ---------------------------------


@pytest.fixture(scope="session")
def probe_target() -> Iterator[Callable[[str], str]]:
    """Where the server of either library listens."""
    import probe_pb2_grpc
    from servicers import ProbeServicer

    servers: dict[str, Any] = {}
    ports: dict[str, int] = {}

    def get(kind: str) -> str:
        if kind not in servers:
            server = LIBRARIES[kind].server(ThreadPoolExecutor(32), options=UNLIMITED)
            probe_pb2_grpc.add_ProbeServicer_to_server(ProbeServicer(), server)
            ports[kind] = server.add_insecure_port("127.0.0.1:0")
            server.start()
            servers[kind] = server
        return f"127.0.0.1:{ports[kind]}"

    yield get
    for server in servers.values():
        server.stop(0).wait(DEADLINE)


@pytest.fixture(params=PAIRS, ids=pair_id)
def channel(request: pytest.FixtureRequest, probe_target: Any) -> Iterator[Any]:
    """Every pair's channel to the probe service."""
    kind, server = request.param
    with LIBRARIES[kind].insecure_channel(probe_target(server), options=UNLIMITED) as made:
        yield made


@pytest.fixture(params=LIBRARIES)
def our_channel(request: pytest.FixtureRequest, probe_target: Any) -> Iterator[Any]:
    """Our channel to the probe service of either server: for what grpcio's does not do."""
    target = probe_target(request.param)
    with LIBRARIES["ours"].insecure_channel(target, options=UNLIMITED) as made:
        yield made


@pytest.fixture
def probe(channel: Any) -> Any:
    import probe_pb2_grpc

    return probe_pb2_grpc.ProbeStub(channel)


@pytest.fixture
def our_probe(our_channel: Any) -> Any:
    import probe_pb2_grpc

    return probe_pb2_grpc.ProbeStub(our_channel)


@pytest.fixture
def pb() -> Any:
    import probe_pb2

    return probe_pb2


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> Lost:
    """Collects what would make the test fail otherwise."""
    found = Lost()
    monkeypatch.setattr(sys, "unraisablehook", lambda event: found.append(event.exc_value))
    return found


# ---- asyncio -------------------------------------------------------------------------------------

Play = Callable[[Callable[..., Any]], None]


def player(pair: tuple[str, str], directory: Path) -> Play:
    """Runs a coroutine, called with a stage, on a loop of its own."""

    def play(scene: Callable[[aio_stage.Stage], Any]) -> None:
        async def main() -> None:
            made = aio_stage.Stage(*pair, directory)
            try:
                await asyncio.wait_for(scene(made), DEADLINE)
            finally:
                await made.close()

        asyncio.run(main())

    return play


@pytest.fixture(params=PAIRS, ids=pair_id)
def play(request: pytest.FixtureRequest, socket_dir: Path) -> Play:
    """Plays `scene(stage)` with every pair of channel and server."""
    return player(request.param, socket_dir)


@pytest.fixture(params=LIBRARIES)
def play_our_channel(request: pytest.FixtureRequest, socket_dir: Path) -> Play:
    """Plays `scene(stage)` with our channel: for what grpcio's does not do."""
    return player(("ours", request.param), socket_dir)


@pytest.fixture(params=LIBRARIES)
def play_our_server(request: pytest.FixtureRequest, socket_dir: Path) -> Play:
    """Plays `scene(stage)` with our server: for what grpcio's does not do."""
    return player((request.param, "ours"), socket_dir)


def with_probe(play: Play) -> Play:
    """Plays `scene(stub, probe)`: a stub of the probe service, and its servicer."""

    def play_probe(scene: Callable[..., Any]) -> None:
        async def staged(stage: aio_stage.Stage) -> None:
            import probe_pb2_grpc

            probe = await stage.serve_probe()
            await scene(probe_pb2_grpc.ProbeStub(stage.connect()), probe)

        play(staged)

    return play_probe


@pytest.fixture
def play_probe(play: Play) -> Play:
    return with_probe(play)


@pytest.fixture
def play_our_probe(play_our_channel: Play) -> Play:
    return with_probe(play_our_channel)
