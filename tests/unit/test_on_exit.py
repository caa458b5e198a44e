"""The on_exit callback, blocking and with asyncio, and the end of many plugins at once."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import sys
import threading
import warnings
from typing import Any

import pytest

from pygo_plugin import Client, ClientConfig, ExitedEarlyError, aio, cleanup_clients

pytestmark = pytest.mark.usefixtures("no_leftovers")

DEADLINE = 60.0


class Recorder:
    """An on_exit callback that keeps its arguments."""

    def __init__(self) -> None:
        self.queue: queue.Queue[tuple[Any, int | None, int]] = queue.Queue()

    def __call__(self, client: Any, status: int | None) -> None:
        self.queue.put((client, status, threading.get_ident()))

    def one(self) -> tuple[Any, int | None]:
        client, status, thread = self.queue.get(timeout=DEADLINE)
        assert thread != threading.get_ident()
        return client, status

    def no_more(self) -> None:
        assert self.queue.empty()


@pytest.fixture
def command(peers: Any) -> list[str]:
    found: list[str] = peers.plugin("python")
    return found


def test_crash(command: list[str], make_client: Any) -> None:
    recorder = Recorder()
    client = make_client(command, on_exit=recorder)
    client.start()
    recorder.no_more()
    os.kill(client.pid, signal.SIGKILL)
    assert recorder.one() == (client, -signal.SIGKILL)
    assert client.exited()
    client.kill()
    recorder.no_more()


def test_kill(command: list[str], make_client: Any) -> None:
    recorder = Recorder()
    client = make_client(command, on_exit=recorder)
    client.start()
    client.kill()
    assert recorder.one() == (client, 0)
    client.kill()
    recorder.no_more()


def test_failed_start_is_no_exit(make_client: Any) -> None:
    recorder = Recorder()
    client = make_client([sys.executable, "-c", "raise SystemExit(3)"], on_exit=recorder)
    with pytest.raises(ExitedEarlyError):
        client.start()
    client.kill()
    recorder.no_more()


def test_joined_plugin(command: list[str], make_client: Any) -> None:
    recorder, ours = Recorder(), Recorder()
    first = make_client(command, on_exit=ours)
    first.start()
    second = make_client(reattach_config=first.reattach_config(), on_exit=recorder)
    second.start()
    os.kill(first.pid, signal.SIGKILL)
    assert ours.one() == (first, -signal.SIGKILL)
    assert recorder.one() == (second, None)  # whose status only the parent gets


def test_restart_from_the_callback(command: list[str], make_client: Any) -> None:
    started: queue.Queue[Any] = queue.Queue()

    def restart(client: Any, status: int | None) -> None:
        again = make_client(command)
        again.start()
        started.put(again)

    client = make_client(command, on_exit=restart)
    client.start()
    os.kill(client.pid, signal.SIGKILL)
    assert started.get(timeout=DEADLINE).ping() == ""


def test_error_in_the_callback(
    command: list[str], make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: queue.Queue[Any] = queue.Queue()
    monkeypatch.setattr(sys, "unraisablehook", lambda args: caught.put(args.exc_value))

    def fail(client: Any, status: int | None) -> None:
        raise RuntimeError("no luck")

    client = make_client(command, on_exit=fail)
    client.start()
    client.kill()
    assert str(caught.get(timeout=DEADLINE)) == "no luck"


def test_a_forgotten_client_does_not_call_back(command: list[str], handshake: Any) -> None:
    recorder = Recorder()
    client = Client(command, handshake_config=handshake, on_exit=recorder)
    client.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del client
    recorder.no_more()


@pytest.mark.parametrize("coroutine", [False, True])
def test_asyncio(coroutine: bool, command: list[str], handshake: Any, plugins: Any) -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        exited: asyncio.Future[Any] = loop.create_future()

        def on_exit(client: Any, status: int | None) -> None:
            assert asyncio.get_running_loop() is loop
            exited.set_result((id(client), status))

        async def on_exit_later(client: Any, status: int | None) -> None:
            await asyncio.sleep(0)
            on_exit(client, status)

        config = ClientConfig(
            cmd=command,
            handshake_config=handshake,
            plugins=plugins,
            on_exit=on_exit_later if coroutine else on_exit,
        )
        async with aio.Client(config) as client:
            os.kill(client.pid, signal.SIGKILL)
            exited_id, status = await asyncio.wait_for(exited, DEADLINE)
        assert exited_id == id(client)
        assert status == -signal.SIGKILL

    asyncio.run(test())


def test_asyncio_client_that_a_ping_starts(
    command: list[str], handshake: Any, plugins: Any
) -> None:
    async def test() -> None:
        exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        client = aio.Client(
            command,
            handshake_config=handshake,
            plugins=plugins,
            on_exit=lambda client, status: exited.set_result(status),
        )
        assert await client.ping() == ""
        await client.kill()
        assert await asyncio.wait_for(exited, DEADLINE) == 0

    asyncio.run(test())


# ---- Many at once -------------------------------------------------------------------------------


def test_managed_clients_by_the_dozen(peers: Any, make_client: Any) -> None:
    recorder = Recorder()
    clients = [make_client(peers.plugin("go"), managed=True, on_exit=recorder) for _ in range(64)]
    threads = [threading.Thread(target=client.start) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cleanup_clients()
    assert all(client.exited() for client in clients)
    exited = [recorder.one()[0] for _ in clients]
    assert {id(client) for client in exited} == {id(client) for client in clients}
