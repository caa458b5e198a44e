"""net/rpc for asyncio programs."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from pygo_plugin import (
    CallTimeoutError,
    ClosedError,
    ConfigError,
    ServerError,
    SystemCallError,
    gob,
    netrpc,
)
from pygo_plugin.netrpc import aio

PATIENCE = 60.0  # seconds
Test = Callable[..., Coroutine[Any, Any, None]]


def on_a_loop(test: Test) -> Callable[..., None]:
    """Runs a test that is a coroutine."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@gob.struct
class Args:
    a: int = 0
    b: int = 0


class Desk:
    def __init__(self) -> None:
        self.events: dict[str, asyncio.Event] = {}
        self.blocked = threading.Event()
        self.begun = asyncio.Event()
        self.thread = threading.current_thread()

    async def add(self, args: Args) -> int:
        await asyncio.sleep(0)
        assert threading.current_thread() is self.thread
        return args.a + args.b

    async def wait(self, name: str) -> str:
        self.begun.set()
        await self.events.setdefault(name, asyncio.Event()).wait()
        return name

    async def fail(self, text: str) -> None:
        raise ValueError(text)

    async def cancel(self, value: int) -> None:
        raise asyncio.CancelledError

    async def set_variable(self, value: str) -> str:
        before = variable.get()
        variable.set(value)
        return before

    def on_a_thread(self, value: int) -> bool:
        return threading.current_thread() is self.thread

    def block(self, value: int) -> int:
        assert self.blocked.wait(PATIENCE)
        return value


@contextlib.asynccontextmanager
async def served(tmp_path: Path, desk: Desk) -> AsyncIterator[aio.Client]:
    """A client of a server of the desk."""
    async with await aio.listen(f"unix:{tmp_path}/s", desk) as server:
        client = await aio.connect(server.address)
        async with client:
            yield client


@on_a_loop
async def test_calls(tmp_path: Path) -> None:
    async with served(tmp_path, Desk()) as client:
        assert await client.call("Desk.Add", Args(1, 2), reply=int) == 3
        assert await client.call("Desk.Add", Args(1, 2)) == 3
        assert await client.call("Desk.OnAThread", 1, bool) is False
        results = await asyncio.gather(
            *(client.call("Desk.Add", Args(i, 1), int, timeout=PATIENCE) for i in range(100))
        )
        assert results == list(range(1, 101))
        assert not client.closed
    assert client.closed
    with pytest.raises(ClosedError, match=r"^connection is shut down$"):
        await client.call("Desk.Add", Args(1, 2))


@on_a_loop
async def test_threads_call_a_server_of_asyncio(tmp_path: Path) -> None:
    async with await aio.listen("127.0.0.1:0", Desk()) as server:

        def call() -> int:
            with netrpc.connect(server.address) as client:
                return int(client.call("Desk.Add", Args(2, 2), int))

        assert await asyncio.to_thread(call) == 4


@on_a_loop
async def test_errors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with served(tmp_path, Desk()) as client:
        with pytest.raises(ServerError, match=r"^broken$"):
            await client.call("Desk.Fail", "broken")
        assert "Desk.fail has failed: broken" in caplog.text
        with pytest.raises(ServerError, match=r"^CancelledError$"):
            await client.call("Desk.Cancel", 1)
        with pytest.raises(ServerError, match=r"rpc: can't find method Desk.Nope"):
            await client.call("Desk.Nope", 1)
        with pytest.raises(TypeError, match="set"):
            await client.call("Desk.Add", Args(), set[int])
        assert await client.call("Desk.Add", Args(1, 1), args_type=Args) == 2


@on_a_loop
async def test_cancelling_a_call(tmp_path: Path) -> None:
    desk = Desk()
    async with served(tmp_path, desk) as client:
        task = asyncio.ensure_future(client.call("Desk.Wait", "x", str))
        await desk.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        desk.events["x"].set()
        assert await client.call("Desk.Wait", "x", str) == "x"


@on_a_loop
async def test_timeouts(tmp_path: Path) -> None:
    desk = Desk()
    async with served(tmp_path, desk) as client:
        with pytest.raises(CallTimeoutError, match=r"Desk.Wait was not answered in time"):
            await client.call("Desk.Wait", "x", str, timeout=0.01)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.call("Desk.Wait", "x", str), 0.01)
        desk.events["x"].set()
        assert await client.call("Desk.Wait", "x", str, timeout=PATIENCE) == "x"


@on_a_loop
async def test_a_server_that_closes_while_coroutines_run(tmp_path: Path) -> None:
    desk = Desk()
    server = await aio.listen(f"unix:{tmp_path}/s", desk)
    async with await aio.connect(server.address) as client:
        task = asyncio.ensure_future(client.call("Desk.Wait", "x", str))
        await desk.begun.wait()
        await server.close()
        with pytest.raises(ClosedError):
            await task
        assert not await server.wait(0.01)
        desk.events["x"].set()
        assert await server.wait(PATIENCE)


@on_a_loop
async def test_context_variables(tmp_path: Path) -> None:
    variable.set("of the server's creator")
    async with served(tmp_path, Desk()) as client:
        assert await client.call("Desk.SetVariable", "1") == "unset"
        assert await client.call("Desk.SetVariable", "2") == "unset"


@on_a_loop
async def test_blocking_methods_do_not_block_the_loop(tmp_path: Path) -> None:
    desk = Desk()
    async with served(tmp_path, desk) as client:
        blocked = asyncio.ensure_future(client.call("Desk.Block", 5, int))
        assert await client.call("Desk.Add", Args(1, 2), int) == 3
        desk.blocked.set()
        assert await blocked == 5


def test_a_loop_that_ends_while_coroutines_run(tmp_path: Path) -> None:
    servers: list[aio.Server] = []

    async def serve_and_leave() -> netrpc.Client:
        desk = Desk()
        servers.append(await aio.listen(f"unix:{tmp_path}/s", desk))
        client = await asyncio.to_thread(netrpc.connect, servers[0].address)
        futures.append(client.go("Desk.Wait", "x", str))
        await desk.begun.wait()
        return client

    futures: list[Any] = []
    client = asyncio.run(serve_and_leave())
    gc.collect()
    assert isinstance(futures[0].exception(PATIENCE), ServerError)
    with pytest.raises(ServerError, match="the server's event loop is closed"):
        client.call("Desk.Wait", "y", timeout=PATIENCE)
    client.close()
    asyncio.run(servers[0].close())


def test_a_loop_that_ends_during_a_call(tmp_path: Path) -> None:
    class Slow:
        def __init__(self) -> None:
            self.go = threading.Event()

        def wait(self, value: int) -> int:
            assert self.go.wait(PATIENCE)
            return value

    slow = Slow()
    kept: list[aio.Client] = []
    tasks: list[asyncio.Future[Any]] = []

    async def call_and_leave(address: str) -> None:
        kept.append(await aio.connect(address))
        tasks.append(asyncio.ensure_future(kept[0].call("Slow.Wait", 1, int)))
        await asyncio.sleep(0.01)

    with netrpc.listen(f"unix:{tmp_path}/s", slow) as server:
        asyncio.run(call_and_leave(server.address))
        slow.go.set()

        async def call_again() -> int:
            return int(await kept[0].call("Slow.Wait", 2, int))

        assert asyncio.run(call_again()) == 2  # it belongs to no loop


@on_a_loop
async def test_nothing_is_kept(tmp_path: Path) -> None:
    desk = Desk()
    gone = threading.Event()
    owner = weakref.ref(desk, lambda _: gone.set())
    server = await aio.listen(f"unix:{tmp_path}/s", desk)
    async with await aio.connect(server.address) as client:
        assert await client.call("Desk.Add", Args(1, 2), int) == 3
    await server.close()
    assert await server.wait(PATIENCE)
    del desk, server, client
    gc.collect()
    assert gone.wait(PATIENCE), owner()  # by the thread that has served the last request


@on_a_loop
async def test_configurations() -> None:
    with pytest.raises(ConfigError):
        await aio.connect("nowhere")
    with pytest.raises(ConfigError):
        await aio.listen("nowhere", Desk())
    with pytest.raises(SystemCallError):
        await aio.connect("unix:/no/such/socket")
