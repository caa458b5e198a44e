"""pygo_plugin.broker and aio.Broker: further connections, in both directions."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import queue
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from broker_plugin import Test, add
from brokered import (
    OPTIONS,
    PLUGIN,
    TIMEOUT,
    accept_hanging,
    client_of,
    each_connection,
    echo,
    launching,
)

from pygo_plugin import (
    BrokerError,
    Client,
    ClosedError,
    ConfigError,
    ConfigTypeError,
    ForkedError,
    HandshakeError,
    RpcError,
    aio,
)

pytestmark = pytest.mark.usefixtures("no_leftovers")


@pytest.fixture
def launch() -> Iterator[Callable[..., Client]]:
    with launching() as launch:
        yield launch


# ---- Directions ----------------------------------------------------------------------------------


@each_connection
def test_the_plugin_calls_the_host(launch: Any, how: Any) -> None:
    client = launch(**how)
    broker, test = client.dispense("test")
    with broker.serve(echo) as service_id:
        assert test.CallBack(b"%d" % service_id, timeout=TIMEOUT) == b"host: %d" % service_id


@each_connection
def test_the_host_calls_what_the_plugin_serves(launch: Any, how: Any) -> None:
    client = launch(**how)
    broker, test = client.dispense("test")
    stub = broker.stub(int(test.Serve(b"")), Test)
    assert stub.Echo(b"x", timeout=TIMEOUT) == b"plugin: x"
    assert [stub.Echo(b"%d" % i) for i in range(3)] == [b"plugin: %d" % i for i in range(3)]


@each_connection
def test_a_call_to_what_a_dead_plugin_has_served_says_how_it_died(launch: Any, how: Any) -> None:
    client = launch(**how)
    broker, test = client.dispense("test")
    stub = broker.stub(int(test.Serve(b"")), Test)
    assert stub.Echo(b"x", timeout=TIMEOUT) == b"plugin: x"
    os.kill(client.pid, signal.SIGKILL)
    with pytest.raises(RpcError) as caught:
        list(iter(lambda: stub.Echo(b"x", timeout=TIMEOUT), None))
    assert caught.value.code().name == "UNAVAILABLE"
    assert "was killed by signal 9" in caught.value.details()


@each_connection
@pytest.mark.parametrize("arguments", [(), ("--aio",)], ids=["threads", "asyncio"])
def test_nested_callbacks_with_one_worker(arguments: tuple[str, ...], how: Any) -> None:
    with client_of("--max-workers", "1", *arguments, **how) as client:
        broker, test = client.dispense("test")

        def nest(request: bytes) -> bytes:
            reply: bytes = broker.stub(int(request), Test).Echo(b"host", timeout=TIMEOUT)
            return b"host: " + reply

        def register(server: Any) -> None:
            add(server, Nest=nest)

        with broker.serve(register, max_workers=1) as service_id:
            reply = test.Nest(b"%d" % service_id, timeout=TIMEOUT)
        assert reply == b"host: innermost: host"


def test_servers_of_ones_own(launch: Any) -> None:
    plain = launch()
    broker, test = plain.dispense("test")
    service_id = broker.next_id()
    server = broker.accept(service_id, max_workers=2)
    echo(server)
    server.start()
    assert server.id == service_id
    assert test.CallBack(b"%d" % service_id) == b"host: %d" % service_id
    assert server.stop(None).wait(TIMEOUT)


def test_several_servicers_and_generated_ones(launch: Any) -> None:
    plain = launch()
    import kv_pb2
    import kv_pb2_grpc
    from servicers import KVServicer

    import pygo_plugin

    kv = pygo_plugin.service(kv_pb2)

    class Own(kv.Servicer):  # type: ignore[misc,name-defined]
        def Get(self, request: Any, context: Any) -> Any:
            return kv_pb2.GetResponse(value=b"own")

    broker, test = plain.dispense("test")
    assert broker is plain.broker
    with broker.serve(KVServicer(), echo) as service_id:
        assert test.CallBack(b"%d" % service_id) == b"host: %d" % service_id
    server = broker.accept_and_serve(broker.next_id(), Own())
    server.stop()
    with pytest.raises(ConfigTypeError, match="pass a function that adds it"):
        broker.serve(object())
    assert kv_pb2_grpc.KVServicer in KVServicer.__mro__


# ---- What goes wrong -----------------------------------------------------------------------------


def test_ids_are_not_reused(launch: Any) -> None:
    plain = launch()
    broker = plain.broker
    ids = [broker.next_id() for _ in range(100)]
    assert sorted(set(ids)) == ids
    broker.accept(ids[0])
    with pytest.raises(BrokerError, match=f"connection {ids[0]} has been accepted before"):
        broker.accept(ids[0])
    with pytest.raises(BrokerError, match="-1 is not a valid id; take one from next_id"):
        broker.accept(-1)


def test_ids_that_are_none(launch: Any) -> None:
    broker = launch().broker
    for wrong in (-1, 0, 2**32 + 1):
        with pytest.raises(BrokerError, match=f"{wrong} is not a valid id; dial an id that"):
            broker.dial(wrong, timeout=0)
        with pytest.raises(BrokerError, match=f"{wrong} is not a valid id"):
            broker.accept(wrong)


def test_closing_while_a_server_is_made(launch: Any) -> None:
    """A server that is made during close() is closed as well."""
    broker = launch().broker
    bind, bound = broker._bind, []

    def bind_and_close(server: Any) -> Any:
        bound.append(bind(server))
        broker.close()
        return bound[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broker, "_bind", bind_and_close)
        with pytest.raises(ClosedError):
            broker.accept_and_serve(broker.next_id(), echo)
    assert not os.path.exists(bound[0][1])


def test_a_dial_that_is_not_accepted(launch: Any) -> None:
    plain = launch()
    broker, test = plain.dispense("test")
    with pytest.raises(
        BrokerError, match=r"connection 77 was dialled, and the plugin did not announce within 0\.1"
    ):
        broker.dial(77, timeout=0.1)
    assert b"connection 78 was dialled, and the host did not" in test.DialError(b"78")


def test_a_connection_is_dialled_once(launch: Any) -> None:
    plain = launch()
    broker, test = plain.dispense("test")
    service_id = int(test.Serve(b""))
    broker.dial(service_id).close()
    with pytest.raises(BrokerError, match=f"connection {service_id} was dialled"):
        broker.dial(service_id, timeout=0.1)


def test_a_dial_over_one_connection_that_is_not_accepted(launch: Any) -> None:
    broker, test = launch(broker_multiplex=True).dispense("test")
    with pytest.raises(BrokerError, match="connection 77 was dialled, and the plugin did not"):
        broker.dial(77, timeout=0.1)
    assert b"connection 78 was dialled, and the host did not accept" in test.DialError(b"78")
    with broker.serve(echo) as service_id:  # nothing is out of step
        assert test.CallBack(b"%d" % service_id) == b"host: %d" % service_id


@pytest.mark.parametrize("ending", ["", "||false"])
def test_plugins_that_cannot_multiplex(ending: str) -> None:
    script = f"echo '1|1|tcp|127.0.0.1:9|grpc{ending}'; exec sleep 60"
    client = Client(
        ["/bin/sh", "-c", script],
        **OPTIONS,
        broker_multiplex=True,
    )
    with pytest.raises(HandshakeError, match="the plugin cannot multiplex"):
        client.start()
    with pytest.raises(ConfigError, match="broker_multiplex does not go with"):
        client_of(broker_multiplex=True, detach=True).start()


def test_plugins_without_a_broker(make_client: Callable[..., Any], peers: Any) -> None:
    client = make_client(peers.plugin("grpcio"))
    client.start()
    with pytest.raises(BrokerError, match="has no broker service"):
        client.broker.dial(1)
    with pytest.raises(BrokerError, match="has no broker service"):
        client.broker.accept(client.broker.next_id())


def test_before_the_start_and_after_the_kill() -> None:
    client = client_of()
    with pytest.raises(ClosedError, match="has not been started, so there is no broker"):
        client.broker  # noqa: B018
    client.start()
    broker = client.broker
    client.kill()
    with pytest.raises(ClosedError, match="killed"):
        broker.dial(1)
    with pytest.raises(ClosedError, match="killed"):
        broker.accept(1)
    with pytest.raises(ClosedError, match="has been killed, so there is no broker"):
        client.broker  # noqa: B018


def test_killed_while_dialling() -> None:
    with client_of() as client:
        broker = client.broker
        with ThreadPoolExecutor(1) as pool:
            dialling = pool.submit(broker.dial, 77, TIMEOUT)
            client.kill()
            with pytest.raises((BrokerError, ClosedError)):
                dialling.result(TIMEOUT)


def test_the_plugin_dies_in_mid_callback(launch: Any, eventually: Any, socket_dir: Path) -> None:
    plain = launch()
    broker, test = plain.dispense("test")
    server, entered, ended = accept_hanging(broker)
    call = test.Hang.future(b"%d" % server.id)
    assert entered.wait(TIMEOUT)
    test.Serve(b"")  # leaves a socket behind
    os.kill(plain.pid, signal.SIGKILL)
    assert ended.wait(TIMEOUT)
    with pytest.raises(RpcError):
        call.result(TIMEOUT)
    assert server.wait_for_termination(TIMEOUT) is False  # without a call of stop()
    plain.kill()
    assert not [path for path in socket_dir.rglob("*") if path.is_socket()]


@each_connection
def test_kill_ends_everything(launch: Any, how: Any, socket_dir: Path) -> None:
    client = launch(**how)
    broker, test = client.dispense("test")
    server = broker.accept_and_serve(broker.next_id(), echo)
    channel = broker.dial(int(test.Serve(b"")))
    assert Test(channel).Echo(b"x") == b"plugin: x"
    client.kill()
    assert server.wait_for_termination(TIMEOUT) is False
    with pytest.raises((RpcError, ClosedError)):
        Test(channel).Echo(b"x")
    assert not [path for path in socket_dir.rglob("*") if path.is_socket()]


@pytest.mark.filterwarnings("ignore:.*was never killed:ResourceWarning")
def test_forgotten_brokers_leave_no_sockets() -> None:
    client = client_of()
    client.start()
    client.broker.accept_and_serve(client.broker.next_id(), echo)
    del client
    gc.collect()  # what is left is no_leftovers' business


def test_in_a_forked_child(launch: Any) -> None:
    plain = launch()
    broker = plain.broker
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            broker.dial(1)
        except ForkedError:
            os.write(writer, b"refused")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 100) == b"refused"
    os.close(reader)
    os.close(writer)


# ---- The state of dialled channels ---------------------------------------------------------------


without_tls = pytest.mark.parametrize(
    "how", [{}, {"broker_multiplex": True}], ids=["plain", "multiplexed"]
)


@without_tls
def test_a_channel_is_ready_until_the_other_side_stops(launch: Any, how: Any) -> None:
    grpc = pytest.importorskip("grpc")
    broker, test = launch(**how).dispense("test")
    number = test.Serve(b"")
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with broker.dial(int(number)) as channel:
        channel.subscribe(seen.put)
        assert seen.get(timeout=TIMEOUT) is grpc.ChannelConnectivity.READY
        grpc.channel_ready_future(channel).result(TIMEOUT)
        stub = Test(channel)
        assert stub.Echo(b"x", timeout=TIMEOUT, wait_for_ready=True) == b"plugin: x"
        test.Stop(number)
        assert seen.get(timeout=TIMEOUT) is grpc.ChannelConnectivity.SHUTDOWN
        for wait_for_ready in (False, True):
            with pytest.raises(RpcError, match="has ended, and is not made again") as caught:
                stub.Echo(b"x", wait_for_ready=wait_for_ready)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@without_tls
def test_asyncio_is_told_that_the_other_side_stops(how: Any) -> None:
    grpc = pytest.importorskip("grpc")
    ready, shutdown = grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.SHUTDOWN

    async def main() -> None:
        async with aio.Client(PLUGIN, **OPTIONS, **how) as client:
            broker, test = await client.dispense("test")
            number = await test.Serve(b"")
            channel = await broker.dial(int(number))
            await channel.channel_ready()
            call = Test(channel).Echo(b"x")
            await call.wait_for_connection()
            assert await call == b"plugin: x"
            assert channel.get_state() is ready
            change = asyncio.ensure_future(channel.wait_for_state_change(ready))
            await test.Stop(number)
            await asyncio.wait_for(change, TIMEOUT)
            assert channel.get_state(True) is shutdown
            await channel.wait_for_state_change(ready)  # it is another one already
            with pytest.raises(ClosedError):
                await channel.wait_for_state_change(shutdown)
            with pytest.raises(ClosedError):
                await channel.channel_ready()
            with pytest.raises(RpcError, match="has ended, and is not made again"):
                await Test(channel).Echo(b"x")
            await channel.close()

    asyncio.run(main())


def test_what_is_gone_cannot_be_dialled(launch: Any) -> None:
    broker, test = launch().dispense("test")
    number = test.Serve(b"")
    test.Stop(number)
    with pytest.raises(
        BrokerError,
        match=rf"connection {int(number)} of the plugin cannot be dialled: "
        "cannot connect to /.*: No such file or directory",
    ):
        broker.dial(int(number))


# ---- Files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("--aio",)], ids=["threads", "asyncio"])
def test_files(arguments: tuple[str, ...]) -> None:
    content = os.urandom(3_000_000)
    with client_of(*arguments) as client:
        broker, test = client.dispense("test")
        with broker.serve_io(io.BytesIO(content)) as service_id:
            assert test.ReadFile(b"%d" % service_id, timeout=TIMEOUT) == content
        written = io.BytesIO()
        with broker.serve_io(written) as service_id:
            test.WriteFile(b"%d %s" % (service_id, content), timeout=TIMEOUT)
        assert written.getvalue() == content


def test_files_that_fail(launch: Any, tmp_path: Path) -> None:
    plain = launch()
    broker, test = plain.dispense("test")
    wrong = pytest.raises(RpcError, match=r"the other side's file: .*read")
    with open(tmp_path / "file", "wb") as file, broker.serve_io(file) as service_id, wrong:
        test.ReadFile(b"%d" % service_id, timeout=TIMEOUT)
    with pytest.raises(ConfigError, match='to read .* or to write .*, not "a"'.replace('"', "'")):
        broker.open_io(1, "a")


def test_a_file_that_does_not_count_what_it_takes() -> None:
    class Sink:
        data = b""

        def write(self, data: bytes) -> None:
            assert len(self.data) < 10
            self.data += data

    sink = Sink()
    with client_of() as client:
        broker, test = client.dispense("test")
        with broker.serve_io(sink) as service_id:
            test.WriteFile(b"%d content" % service_id, timeout=TIMEOUT)
    assert sink.data == b"content"


def test_a_file_that_has_nothing_yet_is_not_at_its_end() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with client_of() as client, open(reader, "rb", buffering=0) as file, open(writer, "wb"):
        broker, test = client.dispense("test")
        with broker.serve_io(file) as service_id, pytest.raises(RpcError, match="not blocking"):
            test.ReadFile(b"%d" % service_id, timeout=TIMEOUT)


def test_a_pipe_gives_what_it_has() -> None:
    from pygo_plugin._grpc.broker_files import FileServicer

    reader, writer = os.pipe()
    with open(reader, "rb") as file, open(writer, "wb", buffering=0) as other:
        other.write(b"some")
        assert FileServicer(file)._read(b"\x08\x80\x80\x04", None) == b"\x0a\x04some"


# ---- asyncio -------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("--aio",)], ids=["plugin of threads", "of asyncio"])
def test_asyncio_hosts(arguments: tuple[str, ...]) -> None:
    async def echo_later(data: bytes) -> bytes:
        await asyncio.sleep(0)
        return b"host: " + data

    async def main() -> None:
        async with aio.Client([*PLUGIN, *arguments], **OPTIONS) as client:
            broker, test = await client.dispense("test")
            assert isinstance(broker, aio.Broker)
            async with broker.serve(lambda server: add(server, Echo=echo_later)) as service_id:
                assert await test.CallBack(b"%d" % service_id) == b"host: %d" % service_id

            async def nest(request: bytes) -> bytes:
                stub = await broker.stub(int(request), Test)
                reply: bytes = await stub.Echo(b"host")
                await stub.channel.close()
                return reply

            async with broker.serve(lambda server: add(server, Nest=nest)) as service_id:
                assert await test.Nest(b"%d" % service_id) == b"innermost: host"
            async with broker.serve_io(io.BytesIO(b"content")) as service_id:
                assert await test.ReadFile(b"%d" % service_id) == b"content"
            with pytest.raises(BrokerError, match="connection 77 was dialled"):
                await broker.dial(77, 0.1)
            server = broker.accept(broker.next_id())
            await server.start()
            await server.stop()

    asyncio.run(main())


def test_calls_of_a_brokered_server_do_not_wait_for_others(launch: Any, eventually: Any) -> None:
    import probe_pb2
    import probe_pb2_grpc

    many = 60  # more than a pool would have threads
    broker, test = launch().dispense("test")
    with broker.dial(int(test.ServeAll(b"", timeout=TIMEOUT))) as channel:
        probe = probe_pb2_grpc.ProbeStub(channel)
        hanging = [probe.Hang.future(probe_pb2.HangRequest()) for _ in range(many)]

        def counts() -> Any:
            return probe.Cancelled(probe_pb2.CancelledRequest(), timeout=TIMEOUT)

        eventually(lambda: counts().started == many, "the calls' arrival")
        for call in hanging:
            call.cancel()
        eventually(lambda: counts().cancelled == many, "the calls' end")
