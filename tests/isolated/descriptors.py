"""Uses everything once with N descriptors left, for each N: it works or says why.

None ends the process.

`descriptors.py MODE COMMAND` prints JSON: for each N what happened. Each N has a child of its own,
since what gRPC has opened once it keeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import kv_pb2_grpc  # noqa: F401  # what the plugins import late
import probe_pb2_grpc  # noqa: F401
from host import DEADLINE, command, main, make_client, pb
from pygo_plugin_peer import HANDSHAKE, plugins

from pygo_plugin import BrokerError, PluginError, RpcError, ServeConfig, aio, rpc
from pygo_plugin.server import Server

MOST = 17
TOGETHER = 4  # children
LIMIT = 128


@contextlib.contextmanager
def left(count: int) -> Iterator[None]:
    """Run with `count` descriptors that can still be opened."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, hard))
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    for descriptor in taken[len(taken) - count :]:
        os.close(descriptor)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))


def host(**options: Any) -> Callable[[], None]:
    def use() -> None:
        with make_client(start_timeout=DEADLINE, **options) as client:
            _, probe = client.dispense("probe")
            reply = probe.Echo(pb.EchoRequest(payload=b"x"), timeout=DEADLINE)
            assert reply.payload == b"x"

    return use


def host_again(**options: Any) -> Callable[[], None]:
    """Further plugins, when gRPC has run and has no channel any more."""
    use_once = host(**options)
    use_once()

    def use() -> None:
        for _ in range(2):
            with contextlib.suppress(PluginError, RpcError):
                use_once()
        use_once()

    return use


def asyncio_host() -> Callable[[], None]:
    async def use() -> None:
        options = {"handshake_config": HANDSHAKE, "plugins": plugins()}
        async with aio.Client(command(), **options) as client:
            _, probe = await client.dispense("probe")
            reply = await probe.Echo(pb.EchoRequest(payload=b"x"), timeout=DEADLINE)
            assert reply.payload == b"x"

    loop = asyncio.new_event_loop()  # which has descriptors of its own
    return lambda: loop.run_until_complete(use())


def asyncio_call() -> Callable[[], None]:
    """A failed call's exception; the module that makes it is imported late."""
    loop = asyncio.new_event_loop()

    async def begin() -> Any:
        channel = aio.insecure_channel("unix:/nowhere/at/all")
        call = channel.unary_stream("/test.T/M")(b"", timeout=DEADLINE)
        ended = asyncio.Event()
        call.add_done_callback(lambda _: ended.set())
        await ended.wait()
        return call

    async def ask() -> None:
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        try:
            await call.read()
        except RpcError:
            return
        raise AssertionError("a call to nowhere has ended well")

    call = loop.run_until_complete(begin())
    return lambda: loop.run_until_complete(ask())


def handlers() -> Any:
    echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    return grpc.method_handlers_generic_handler("test.T", {"M": echo})


def channel() -> None:
    with rpc.insecure_channel("unix:/nowhere/at/all") as made:
        call = made.unary_unary("/test.T/M").future(b"", timeout=DEADLINE)
        assert call.code() is grpc.StatusCode.UNAVAILABLE


def server() -> Callable[[], None]:
    directory = tempfile.mkdtemp()
    # Where the server has no descriptor for the connection, nothing answers.
    patience = iter((1.0,))

    def use() -> None:
        timeout = next(patience, DEADLINE)
        target = f"unix:{directory}/{timeout:.0f}"  # the first server may be about to end
        made = rpc.server()
        made.add_generic_rpc_handlers((handlers(),))
        made.add_insecure_port(target)
        made.start()
        try:
            with rpc.insecure_channel(target) as channel:
                assert channel.unary_unary("/test.T/M")(b"x", timeout=timeout) == b"x"
        finally:
            assert made.stop(None).wait(DEADLINE)

    return use


def broker(**options: Any) -> Callable[[], None]:
    """A server for the plugin, and a channel to one of the plugin's."""
    client = make_client(**options)
    _, probe = client.dispense("probe")
    probe.Echo(pb.EchoRequest(), timeout=DEADLINE)

    first = iter((True,))

    def use() -> None:
        broker = client.broker
        broker.accept_and_serve(broker.next_id(), lambda _: None).stop(None).wait(DEADLINE)
        if next(first, False):
            with contextlib.suppress(BrokerError):  # the plugin accepts none
                broker.dial(broker.next_id(), timeout=0.01)
        assert not client.exited()

    return use


def plugin() -> Callable[[], None]:
    os.environ[HANDSHAKE.magic_cookie_key] = HANDSHAKE.magic_cookie_value

    def use() -> None:
        made = Server(ServeConfig(handshake_config=HANDSHAKE, plugins=plugins()))
        if not made.serve():
            raise PluginError(made.error_msg)
        made.stop(None)

    output = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.set_inheritable(output, False)
    return use


def outcome(make: Callable[[], Callable[[], None]], count: int) -> str:
    """What happened, and what happens once there are descriptors again if that fails."""
    use = make()
    said = "ok"
    try:
        with left(count):
            use()
    except RpcError as error:
        said = f"RpcError: {error.code().name}"
    except PluginError as error:
        said = f"{type(error).__name__}: {error}"
    except BaseException as error:
        said = f"unexpected {error!r}"
    try:
        use()
    except BaseException as error:
        said += f", and then unexpected {error!r}"
    return said


def begin(make: Callable[[], Callable[[], None]], count: int) -> tuple[int, int]:
    """A child that runs it, and the pipe to which it writes what happened."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        signal.alarm(int(2 * DEADLINE))
        said = outcome(make, count)
        os.write(writing, said.encode())
        os.close(writing)
        sys.exit(0)
    os.close(writing)
    return pid, reading


def end(pid: int, reading: int) -> str:
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return said if status == 0 else f"status {status} {said}"


def sweep(make: Callable[[], Callable[[], None]]) -> None:
    found = []
    for first in range(0, MOST + 1, TOGETHER):
        last = min(first + TOGETHER, MOST + 1)
        children = [begin(make, count) for count in range(first, last)]
        found += [end(*child) for child in children]
    print(json.dumps(found))


def plain() -> None:
    sweep(host)


def tls() -> None:
    sweep(lambda: host(auto_mtls=True))


def multiplexed() -> None:
    sweep(lambda: host(broker_multiplex=True))


def again() -> None:
    sweep(host_again)


def multiplexed_again() -> None:
    sweep(lambda: host_again(broker_multiplex=True))


def with_asyncio() -> None:
    sweep(asyncio_host)


def channels() -> None:
    sweep(lambda: channel)


def asyncio_calls() -> None:
    sweep(asyncio_call)


def servers() -> None:
    sweep(server)


def brokers() -> None:
    sweep(broker)


def multiplexed_brokers() -> None:
    sweep(lambda: broker(broker_multiplex=True))


def serving() -> None:
    sweep(plugin)


if __name__ == "__main__":
    main(
        plain,
        tls,
        multiplexed,
        again,
        multiplexed_again,
        with_asyncio,
        channels,
        asyncio_calls,
        servers,
        brokers,
        multiplexed_brokers,
        serving,
    )
