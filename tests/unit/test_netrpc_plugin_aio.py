"""Plugins over net/rpc in asyncio programs: hosts, plugins, and both with blocking peers."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pygo_plugin import (
    BrokerError,
    ClosedError,
    ConfigError,
    HandshakeConfig,
    ServeConfig,
    ServeTestConfig,
    aio,
    netrpc,
)

pytestmark = pytest.mark.usefixtures("no_leftovers")

HANDSHAKE = HandshakeConfig(1, "PYGO_NETRPC", "netrpc")
LARGE = 1_000_000  # bytes, more than a window


class Teller:
    async def tell(self, count: int) -> str:
        await asyncio.sleep(0)
        return "told " * count


class Worker:
    """What the plugin serves: the same methods as coroutines, and as functions."""

    def __init__(self, broker: Any) -> None:
        self.broker = broker
        self.loans: dict[int, io.BytesIO] = {}

    async def add(self, number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    def double(self, number: int) -> int:
        return 2 * number

    async def call_back(self, service_id: int) -> str:
        async with await self.broker.client(service_id) as client:
            told: str = await client.call("Plugin.Tell", 2, reply=str)
        return told

    async def call_proxy(self, service_id: int) -> str:
        told: str = await (await self.broker.proxy(service_id, Teller)).tell(3)
        return told

    async def read(self, service_id: int) -> int:
        async with await self.broker.open_io(service_id) as file:
            return len(await file.read())

    async def write(self, service_id: int) -> None:
        async with await self.broker.open_io(service_id, "wb") as file:
            await file.write(bytes(LARGE))

    async def echo(self, service_id: int) -> None:
        stream = await self.broker.dial(service_id)
        async with stream:
            while data := await stream.read(1000):
                await stream.write(data)

    async def fail(self, text: str) -> None:
        raise ValueError(text)


PLUGINS: dict[str, Any] = {"worker": netrpc.plugin(Worker)}

Start = Callable[[], aio.Client]


@pytest.fixture
def start() -> Start:
    def start() -> aio.Client:
        return aio.Client(
            [sys.executable, __file__],
            handshake_config=HANDSHAKE,
            plugins=PLUGINS,
            allowed_protocols=["netrpc"],
        )

    return start


def test_calls(start: Start) -> None:
    async def main() -> None:
        async with start() as client:
            assert client.protocol == "netrpc"
            assert await client.ping() == ""
            worker = await client.dispense("worker")
            assert await worker.add(1) == 2
            assert await worker.double(4) == 8
            found = await asyncio.gather(*(worker.add(number, timeout=60) for number in range(50)))
            assert found == list(range(1, 51))
            with pytest.raises(netrpc.ServerError, match=r"^by design$"):
                await worker.fail("by design")
            with pytest.raises(ConfigError, match="is for gRPC"):
                _ = client.channel
            await worker.close()
            with pytest.raises(ClosedError):
                await worker.add(1)
        assert client.exit_status == 0

    asyncio.run(main())


def test_the_broker_in_both_directions(start: Start) -> None:
    async def main() -> None:
        async with start() as client:
            worker = await client.dispense("worker")
            async with client.broker.serve(Teller()) as service_id:
                assert await worker.call_back(service_id) == "told told "
            async with client.broker.serve(Teller()) as service_id:
                assert await worker.call_proxy(service_id) == "told told told "
            async with client.broker.serve_io(io.BytesIO(bytes(LARGE)), "rb") as service_id:
                assert await worker.read(service_id) == LARGE
            out = io.BytesIO()
            async with client.broker.serve_io(out, "wb") as service_id:
                await worker.write(service_id)
            assert len(out.getvalue()) == LARGE
            with pytest.raises(BrokerError, match="cannot be dialled"):
                await client.broker.client(77, timeout=0.05)

    asyncio.run(main())


def test_streams(start: Start) -> None:
    async def main() -> None:
        async with start() as client:
            worker = await client.dispense("worker")
            service_id = client.broker.next_id()
            echoing = asyncio.ensure_future(worker.echo(service_id))
            async with await client.broker.accept(service_id) as stream:
                reading = asyncio.ensure_future(stream.read())
                assert await stream.write(bytes(LARGE)) == LARGE
                await stream.close_write()
                assert len(await reading) == LARGE
            await echoing
            with pytest.raises(ValueError, match="closed file"):
                await stream.read()

    asyncio.run(main())


def test_a_lost_stream_is_an_os_error(start: Start) -> None:
    async def main() -> None:
        async with start() as client:
            worker = await client.dispense("worker")
            service_id = client.broker.next_id()
            echoing = asyncio.ensure_future(worker.echo(service_id))
            stream = await client.broker.accept(service_id)
            reading = asyncio.ensure_future(stream.read())
            await asyncio.sleep(0)
            await client.kill()
            with pytest.raises(OSError, match="connection"):
                await reading
            with pytest.raises(ClosedError):
                await echoing

    asyncio.run(main())


def test_the_names_of_asyncio_are_in_one_module() -> None:
    for name in netrpc.aio.__all__:
        assert getattr(netrpc.aio, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = netrpc.aio.Nothing  # type: ignore[attr-defined]


def test_the_fixture_for_asyncio(pygo_aio_stub: Any) -> None:
    async def main() -> None:
        worker = await pygo_aio_stub(netrpc.plugin(Worker))
        assert await worker.add(1) == 2

    asyncio.run(main())


def test_test_mode() -> None:
    async def main() -> None:
        ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        config = ServeConfig(
            handshake_config=HANDSHAKE,
            plugins=PLUGINS,
            test=ServeTestConfig(ready=ready.set_result),
        )
        server = aio.Server(config)
        assert await server.serve()
        options: dict[str, Any] = {"allowed_protocols": ["netrpc"], "plugins": PLUGINS}
        async with aio.Client(reattach_config=await ready, **options) as client:
            worker = await client.dispense("worker")
            assert await worker.add(1) == 2
        async with aio.Client(reattach_config=await ready, **options) as client:
            assert await (await client.dispense("worker")).double(1) == 2
        await server.stop(None)

    asyncio.run(main())


def test_threads_serve_asyncio(make_client: Any) -> None:
    """A blocking host with the plugin of asyncio."""
    client = make_client(
        [sys.executable, __file__],
        handshake_config=HANDSHAKE,
        plugins=PLUGINS,
        allowed_protocols=["netrpc"],
    )
    worker = client.dispense("worker")
    assert worker.add(1) == 2
    out = io.BytesIO()
    with client.broker.serve_io(out, "wb") as service_id:
        worker.write(service_id)
    assert len(out.getvalue()) == LARGE


if __name__ == "__main__":
    asyncio.run(aio.serve(ServeConfig(handshake_config=HANDSHAKE, plugins=PLUGINS)))
