"""gRPC's standard interop cases: our client with grpc-go's server, and the other way round."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import interop_pb2_grpc
import pytest
from interop_cases import AsyncCases, Cases
from interop_servicers import AsyncTestService, TestService

from pygo_plugin import aio, rpc

DEADLINE = 60.0

CASES = sorted(name for name in vars(Cases) if not name.startswith("_"))

pytestmark = pytest.mark.go


@pytest.fixture(scope="module")
def go_server(peers: Any) -> Iterator[str]:
    """The address of grpc-go's test server."""
    command = peers.interop("-serve")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.stdin.close()
        assert server.wait(DEADLINE) == 0


def test_every_case_is_there(peers: Any) -> None:
    listed = subprocess.run(
        peers.interop("-list"), capture_output=True, text=True, check=True, timeout=DEADLINE
    )
    assert listed.stdout.split() == CASES
    assert sorted(name for name in vars(AsyncCases) if not name.startswith("_")) == CASES


@pytest.mark.parametrize("case", CASES)
def test_our_client(go_server: str, case: str) -> None:
    with rpc.insecure_channel(go_server) as channel:
        getattr(Cases(), case)(interop_pb2_grpc.TestServiceStub(channel), channel)


@pytest.mark.parametrize("case", CASES)
def test_our_asyncio_client(go_server: str, case: str) -> None:
    async def main() -> None:
        async with aio.insecure_channel(go_server) as channel:
            await getattr(AsyncCases(), case)(interop_pb2_grpc.TestServiceStub(channel), channel)

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


@pytest.fixture(scope="module")
def our_server() -> Iterator[str]:
    server = rpc.server(ThreadPoolExecutor(4))
    interop_pb2_grpc.add_TestServiceServicer_to_server(TestService(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    assert server.stop(None).wait(DEADLINE)


def go_client(peers: Any, target: str, case: str) -> list[str]:
    command: list[str] = peers.interop("-target", target, "-case", case)
    return command


@pytest.mark.parametrize("case", CASES)
def test_our_server(peers: Any, our_server: str, case: str) -> None:
    done = subprocess.run(
        go_client(peers, our_server, case), capture_output=True, text=True, timeout=DEADLINE
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("case", CASES)
def test_our_asyncio_server(peers: Any, case: str) -> None:
    async def main() -> None:
        server = aio.server()
        interop_pb2_grpc.add_TestServiceServicer_to_server(AsyncTestService(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            client = await asyncio.create_subprocess_exec(
                *go_client(peers, f"127.0.0.1:{port}", case), stderr=subprocess.PIPE
            )
            _, stderr = await client.communicate()
        finally:
            await server.stop(None)
        assert (client.returncode, stderr) == (0, b"")

    asyncio.run(asyncio.wait_for(main(), DEADLINE))
