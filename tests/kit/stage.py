"""Either library on either side of a call, for tests/conformance.

"ours" is pygo_plugin.rpc, "grpcio" is grpc. A test that takes the fixture `stage` or `channel` runs
with all four pairs, so that a difference in behaviour fails it.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import grpc
import probe_pb2
import pytest

from pygo_plugin import rpc

DEADLINE = 60.0  # seconds for what happens soon

Code = grpc.StatusCode
unary = grpc.unary_unary_rpc_method_handler
replies = grpc.unary_stream_rpc_method_handler
requests = grpc.stream_unary_rpc_method_handler
streams = grpc.stream_stream_rpc_method_handler

LIBRARIES: dict[str, Any] = {"ours": rpc, "grpcio": grpc}

# The channel's library and the server's.
PAIRS = [(channel, server) for channel in LIBRARIES for server in LIBRARIES]


def pair_id(pair: tuple[str, str]) -> str:
    return "-".join(pair)


def raised(call: Callable[[], Any]) -> Any:
    """The RpcError that the call raises."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def expired(call: Callable[[float], Any], entered: threading.Event) -> Any:
    """The RpcError of a call, made with a timeout, whose deadline passes during its handler.

    A busy machine may need more than the time to get there. The next call has twice as much.
    """
    timeout = 0.1
    while True:
        error = raised(lambda timeout=timeout: call(timeout))
        assert error.code() is Code.DEADLINE_EXCEEDED
        if entered.is_set():
            return error
        timeout *= 2


def echo(request: bytes, context: Any) -> bytes:
    return request


def fail(*args: Any) -> Any:
    raise LookupError("by design")


# ---- Servers with the methods of one test --------------------------------------------------------


class BaseStage:
    """Servers of one library, and channels of one to them, over unix sockets."""

    libraries: ClassVar[dict[str, Any]]

    def __init__(self, channel: str, server: str, directory: Path) -> None:
        self.ours = server == "ours"
        self.our_channel = channel == "ours"
        self.client = self.libraries[channel]
        self.host = self.libraries[server]
        self._directory = directory
        self.servers: list[Any] = []
        self.channels: list[Any] = []

    def make(self, *arguments: Any, **options: Any) -> Any:
        """A server that listens and has not been started."""
        server = self.host.server(*arguments, **options)
        server.add_insecure_port(self.target(len(self.servers)))
        self.servers.append(server)
        return server

    def target(self, number: int = 0) -> str:
        return f"unix:{self._directory}/{number}"

    def connect(self, number: int = 0, **options: Any) -> Any:
        channel = self.client.insecure_channel(self.target(number), **options)
        self.channels.append(channel)
        return channel


class Stage(BaseStage):
    """The same with blocking calls, and servers of threads."""

    libraries = LIBRARIES

    def make(self, max_workers: int = 16, **options: Any) -> Any:
        return super().make(ThreadPoolExecutor(max_workers), **options)

    def serve(self, methods: dict[str, Any], **options: Any) -> Any:
        """Serves the methods, by name, as /test.T/name: a channel to them."""
        server = self.make(**options)
        handler = grpc.method_handlers_generic_handler("test.T", methods)
        server.add_generic_rpc_handlers((handler,))
        server.start()
        return self.connect(len(self.servers) - 1)

    def call(self, behavior: Any, request: bytes = b"", **options: Any) -> Any:
        """Serves this as a unary method, and calls it."""
        return (
            self.serve({"M": unary(behavior)})
            .unary_unary("/test.T/M")
            .with_call(request, timeout=DEADLINE, **options)
        )

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        gc.collect()  # grpcio's server waits for calls that only the collector frees
        for server in self.servers:
            server.stop(0).wait(DEADLINE)  # None would have grpcio's wait without a bound
        self.servers.clear()


# ---- One service for many tests ------------------------------------------------------------------


class Seen:
    """What the last handler saw of its call."""

    metadata: dict[str, str | bytes]
    auth: dict[str, list[bytes]]
    identities: list[bytes] | None
    identity_key: str | None
    peer: str


class Service(grpc.GenericRpcHandler):
    """Echo, Count (the request's bytes, one at a time), Join, Chat; and what a test adds."""

    def __init__(self, **more: Callable[[bytes, Any], bytes]) -> None:
        self.seen = Seen()
        self._methods = {
            "/t/Echo": unary(self.echo),
            "/t/Count": replies(self.count),
            "/t/Join": requests(self.join),
            "/t/Chat": streams(self.chat),
        }
        for name, method in more.items():
            self._methods[f"/t/{name}"] = unary(method)

    def service(self, handler_call_details: Any) -> Any:
        return self._methods.get(handler_call_details.method)

    def echo(self, request: bytes, context: Any) -> bytes:
        seen = self.seen
        seen.metadata = dict(context.invocation_metadata())
        seen.auth = {key: list(values) for key, values in context.auth_context().items()}
        identities = context.peer_identities()
        seen.identities = None if identities is None else list(identities)
        seen.identity_key = context.peer_identity_key()
        seen.peer = context.peer()
        return request

    def count(self, request: bytes, context: Any) -> Iterator[bytes]:
        for byte in request:
            yield bytes([byte])

    def join(self, requests: Iterator[bytes], context: Any) -> bytes:
        return b"".join(requests)

    def chat(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield from requests


class Running(NamedTuple):
    port: int
    service: Service


@contextmanager
def serving(
    library: Any,
    *,
    address: str = "127.0.0.1:0",
    credentials: Any = None,
    service: Service | None = None,
    **options: Any,
) -> Iterator[Running]:
    service = service or Service()
    server = library.server(ThreadPoolExecutor(4), handlers=[service], **options)
    if credentials is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, credentials)
    server.start()
    try:
        yield Running(port, service)
    finally:
        assert server.stop(None).wait(DEADLINE)


def ask(channel: Any, request: bytes = b"hello", **options: Any) -> Any:
    """Calls Echo of a Service."""
    options.setdefault("timeout", DEADLINE)
    return channel.unary_unary("/t/Echo")(request, **options)


def failure(channel: Any, **options: Any) -> Any:
    """The RpcError of a call of Echo."""
    return raised(lambda: ask(channel, **options))


# ---- Credentials of calls ------------------------------------------------------------------------


class MetadataPlugin(grpc.AuthMetadataPlugin):
    """Answers with metadata; keeps the contexts it was asked with."""

    def __init__(self, *metadata: tuple[str, str | bytes]) -> None:
        self.metadata = metadata
        self.asked: list[Any] = []

    def __call__(self, context: Any, callback: Any) -> None:
        self.asked.append(context)
        callback(self.metadata, None)


# ---- The probe service ---------------------------------------------------------------------------


def hang(probe: Any, eventually: Any, **options: Any) -> Any:
    """The future of a Hang call that has reached its handler."""
    asked = probe_pb2.CancelledRequest()
    before = probe.Cancelled(asked, timeout=DEADLINE).started
    future = probe.Hang.future(probe_pb2.HangRequest(), **options)
    eventually(
        lambda: probe.Cancelled(asked, timeout=DEADLINE).started > before, "the call's arrival"
    )
    return future


def none_hangs(probe: Any) -> bool:
    found = probe.Cancelled(probe_pb2.CancelledRequest(), timeout=DEADLINE)
    return bool(found.started == found.cancelled)


def received(reply: Any, key: str) -> list[bytes]:
    """The values of a key among the metadata that Echo received."""
    return [item.value for item in reply.metadata if item.key == key]


# ---- What tests wait for -------------------------------------------------------------------------


class States(list[Any]):
    """Remembers the states of a channel, and waits for one."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def __call__(self, state: Any) -> None:
        with self._changed:
            self.append(state)
            self._changed.notify_all()

    def wait_for(self, state: Any) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: state in self, DEADLINE)


class Lost(list[BaseException]):
    """Exceptions that came to sys.unraisablehook."""
