"""What asyncio programs await of the core, in the place of an asyncio.Future."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from typing import Any

import pytest

from pygo_plugin import aio, rpc
from pygo_plugin._core import LoopFuture

ECHO = {"Echo": rpc.unary_unary_rpc_method_handler(lambda request, context: request)}


def run(scene: Any) -> Any:
    return asyncio.run(asyncio.wait_for(scene(), 60))


def test_it_is_a_future_to_asyncio() -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        future = LoopFuture(loop)
        assert asyncio.isfuture(future)
        assert asyncio.ensure_future(future) is future
        assert future.get_loop() is loop
        with pytest.raises(asyncio.InvalidStateError):
            future.result()
        loop.call_soon(future.set_result, (1, 2))
        assert await asyncio.wait_for(future, 60) == (1, 2)
        assert await future == (1, 2)
        assert future.exception() is None
        assert (await asyncio.wait((future,)))[0] == {future}
        with pytest.raises(RuntimeError):
            future.set_result(3)

    run(scene)


def test_results_that_are_exceptions() -> None:
    async def scene() -> None:
        future = LoopFuture(asyncio.get_running_loop())
        future.set_result(KeyError("no more than a value"))
        assert isinstance(await future, KeyError)

    run(scene)


@pytest.mark.parametrize("waiters", [1, 2, 3])
def test_all_who_wait_are_told(waiters: int) -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        future = LoopFuture(loop)

        async def wait() -> Any:
            return await future

        tasks = [asyncio.ensure_future(wait()) for _ in range(waiters)]
        await asyncio.sleep(0)
        future.set_result(7)
        assert await asyncio.gather(*tasks) == [7] * waiters

    run(scene)


def test_cancelling_the_task_cancels_it() -> None:
    async def scene() -> None:
        future = LoopFuture(asyncio.get_running_loop())

        async def wait() -> None:
            await future

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert future.cancelled()
        assert not future.cancel()
        with pytest.raises(asyncio.CancelledError):
            future.result()

    run(scene)


def test_callbacks_that_are_taken_back() -> None:
    async def scene() -> None:
        future = LoopFuture(asyncio.get_running_loop())
        called: list[Any] = []
        for _ in range(2):
            future.add_done_callback(called.append)
        other = called.extend
        future.add_done_callback(other)
        assert future.remove_done_callback(other) == 1
        assert future.remove_done_callback(called.append) == 2
        assert future.remove_done_callback(other) == 0
        future.add_done_callback(called.append)
        future.set_result(None)
        future.add_done_callback(called.append)
        assert called == []
        await asyncio.sleep(0)
        assert called == [future, future]

    run(scene)


def test_callbacks_that_end_the_future_when_compared() -> None:
    async def scene() -> None:
        future = LoopFuture(asyncio.get_running_loop())

        class Meddler:
            __hash__ = None  # type: ignore[assignment]

            def __call__(self, done: Any) -> None:
                pass

            def __eq__(self, other: object) -> bool:
                future.cancel()
                return False

        future.add_done_callback(len)
        for _ in range(3):
            future.add_done_callback(Meddler())
        assert future.remove_done_callback(print) == 0
        assert future.cancelled()

    run(scene)


def test_a_cycle_is_collected() -> None:
    async def scene() -> weakref.ref[Any]:
        future = LoopFuture(asyncio.get_running_loop())
        future.add_done_callback(lambda _: future)
        return weakref.ref(future)

    gone = run(scene)
    gc.collect()
    assert gone() is None


class Served:
    """A server of ours, and a method that echoes."""

    async def __aenter__(self) -> Any:
        self.server = rpc.server(max_workers=2)
        handler = rpc.method_handlers_generic_handler("test.T", ECHO)
        self.server.add_generic_rpc_handlers((handler,))
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.channel = aio.insecure_channel(f"127.0.0.1:{port}")
        return self.channel.unary_unary("/test.T/Echo")

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        self.server.stop(None).wait()


def test_the_task_that_goes_on_is_the_current_one_in_its_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar(
        "variable", default="the default"
    )

    async def scene() -> None:
        async with Served() as echo:

            async def call(name: str) -> None:
                variable.set(name)
                for _ in range(20):
                    assert await echo(b"x") == b"x"
                    assert variable.get() == name
                    assert asyncio.current_task() is task[name]
                    async with asyncio.Lock():
                        assert threading.current_thread() is threading.main_thread()

            names = [f"task {n}" for n in range(5)]
            task = {name: asyncio.ensure_future(call(name)) for name in names}
            await asyncio.gather(*task.values())
            assert variable.get() == "the default"

    run(scene)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_leaves_the_loop(kind: type[BaseException]) -> None:
    async def scene() -> None:
        async with Served() as echo:
            await echo(b"x")
            raise kind("enough")

    with pytest.raises(kind, match="enough"):
        run(scene)
    # asyncio logs the task's exception when the task is deleted. Logging it formats a traceback,
    # which Python 3.11 cannot do in the middle of an import whose module pytest rewrites.
    gc.collect()


def test_the_others_go_on_when_one_ends_the_program() -> None:
    """The other tasks that were woken in the same round go on."""
    finished: list[int] = []
    served = Served()
    loop = asyncio.new_event_loop()

    async def call(echo: Any, number: int) -> None:
        await echo(b"x")
        if number == 0:
            raise KeyboardInterrupt
        await asyncio.sleep(0)
        finished.append(number)

    async def rest(tasks: list[Any]) -> None:
        with pytest.raises(KeyboardInterrupt):
            await tasks[0]
        await asyncio.wait_for(asyncio.gather(*tasks[1:]), 60)

    try:
        echo = loop.run_until_complete(served.__aenter__())
        tasks = [loop.create_task(call(echo, n)) for n in range(10)]
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.wait(tasks))
        loop.run_until_complete(rest(tasks))
        loop.run_until_complete(served.__aexit__())
    finally:
        loop.close()
    assert sorted(finished) == list(range(1, 10))
