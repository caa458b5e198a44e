"""Exceptions, codes and constants before and after the program has imported grpcio."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

BLOCKING = """
import pickle, sys
from pygo_plugin import PluginError, RpcError, StatusCode, rpc

channel = rpc.insecure_channel("unix:/nowhere/at/all")
ask = channel.unary_unary("/a/b")
future = ask.future(b"", timeout=60)
kept = future.exception()
assert future.exception() is kept and isinstance(kept, RpcError), kept
try:
    ask(b"", timeout=60)
except rpc.RpcError as error:
    early = error
code = early.code()
assert code is StatusCode.UNAVAILABLE is rpc.StatusCode.UNAVAILABLE
assert {code: 1}[StatusCode.UNAVAILABLE] == 1 and code != StatusCode.ABORTED
assert code is pickle.loads(pickle.dumps(code)) is pickle.loads(pickle.dumps(early)).code()
assert isinstance(code, StatusCode) and code in StatusCode

with rpc.insecure_channel("unix:/nowhere/at/all") as waiting:
    slow = waiting.unary_unary("/a/b").future(b"", wait_for_ready=True)
    try:
        slow.result(timeout=0)
    except rpc.FutureTimeoutError as error:
        assert isinstance(error, TimeoutError) and isinstance(error, PluginError)
    slow.cancel()
    try:
        slow.result()
    except rpc.FutureCancelledError as error:
        assert isinstance(error, RuntimeError) and isinstance(error, PluginError)
    seen = []
    waiting.subscribe(seen.append)
    while not seen:
        pass
    assert seen[0] is rpc.ChannelConnectivity(seen[0].value)
assert "grpc" not in sys.modules

import grpc

assert code == grpc.StatusCode.UNAVAILABLE == code and hash(code) == hash(StatusCode.UNAVAILABLE)
assert {grpc.StatusCode.UNAVAILABLE: 1}[code] == 1
assert early.code() is grpc.StatusCode.UNAVAILABLE is StatusCode.UNAVAILABLE
assert pickle.loads(pickle.dumps(code)) is grpc.StatusCode.UNAVAILABLE
assert seen[0] == grpc.ChannelConnectivity(seen[0].value)
for fail in (future.result, lambda: ask(b"", timeout=60)):
    try:
        fail()
    except grpc.RpcError as error:
        for kind in (RpcError, grpc.Call, grpc.Future):
            assert isinstance(error, kind), kind
        assert error.code() is grpc.StatusCode.UNAVAILABLE
assert future.exception() is future.exception()
try:
    slow.result()
except grpc.FutureCancelledError as error:
    assert isinstance(error, RuntimeError)
thawed = pickle.loads(pickle.dumps(early))
assert isinstance(thawed, grpc.RpcError) and str(thawed) == str(early)
assert rpc.RpcError is grpc.RpcError and rpc.StatusCode is grpc.StatusCode
"""

ASYNCIO = """
import asyncio, copy, pickle, sys
from pygo_plugin import ClosedError, PluginError, StatusCode, aio
from pygo_plugin.aio import EOF

async def echo(requests, context):
    await context.send_initial_metadata((("a", "1"), ("a", "2"), ("b-bin", b"3")))
    while (request := await context.read()) is not EOF:
        await context.write(request)
    try:
        await context.abort(StatusCode.ABORTED, "the end")
    except aio.AbortError:
        raise

class Handler:
    request_streaming = response_streaming = True
    request_deserializer = response_serializer = None
    stream_stream = staticmethod(echo)

class Handlers:
    def service(self, details):
        return Handler

async def fail(channel):
    stream = channel.stream_stream("/a/b")()
    await stream.write(b"x")
    assert await stream.read() == b"x"
    try:
        async for _ in stream:
            pass
    except aio.UsageError as error:
        usage = error
    metadata = await stream.initial_metadata()
    assert metadata["a"] == "1" and metadata.get_all("a") == ["1", "2"], metadata
    assert metadata == aio.Metadata(("a", "1"), ("a", "2"), ("b-bin", b"3")), metadata
    await stream.done_writing()
    try:
        await stream.read()
    except aio.AioRpcError as error:
        return error, usage, metadata

async def main():
    server = aio.server(handlers=[Handlers()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        early, usage, metadata = await fail(channel)
        code = early.code()
        assert code is StatusCode.ABORTED and early.details() == "the end"
        assert isinstance(usage, RuntimeError) and isinstance(usage, PluginError)
        for other in (copy.copy(early), pickle.loads(pickle.dumps(early))):
            assert type(other) is aio.AioRpcError and str(other) == str(early)
            assert other.trailing_metadata() == early.trailing_metadata()
        state = channel.get_state()
        assert "grpc" not in sys.modules

        import grpc

        assert code == grpc.StatusCode.ABORTED and early.code() is grpc.StatusCode.ABORTED
        assert state == grpc.ChannelConnectivity.READY
        assert EOF == grpc.aio.EOF and aio.EOF is EOF and not EOF
        assert isinstance(metadata, grpc.aio.Metadata)
        assert metadata == grpc.aio.Metadata(*metadata) == metadata
        late, usage, metadata = await fail(channel)
        assert isinstance(late, grpc.aio.AioRpcError), type(late).__mro__
        assert isinstance(late, aio.AioRpcError) and late.code() is grpc.StatusCode.ABORTED
        assert isinstance(usage, grpc.aio.UsageError) and isinstance(usage, aio.UsageError)
        assert type(metadata) is grpc.aio.Metadata is aio.Metadata
        assert isinstance(pickle.loads(pickle.dumps(early)), grpc.aio.AioRpcError)
        call = channel.stream_stream("/a/b")
    try:
        call()
    except grpc.aio.UsageError as error:
        assert isinstance(error, ClosedError)
    await server.stop(None)

asyncio.run(main())
"""

NAMESPACE = """
import sys, types
sys.modules["grpc"] = types.ModuleType("grpc")  # a folder of this name, or grpcio half imported
from pygo_plugin import RpcError, StatusCode, rpc
try:
    rpc.insecure_channel("unix:/nowhere/at/all").unary_unary("/a/b")(b"", timeout=60)
except RpcError as error:
    assert error.code() is StatusCode.UNAVAILABLE
"""


@pytest.mark.parametrize(
    "script", [BLOCKING, ASYNCIO, NAMESPACE], ids=["blocking", "asyncio", "no grpcio"]
)
def test_before_and_after(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
