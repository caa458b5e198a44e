"""Types that describe a service to type checkers and editors. Not needed at run time.

    class KVStub(Protocol):
        Get: UnaryUnary[kv_pb2.GetRequest, kv_pb2.GetResponse]
        Watch: UnaryStream[kv_pb2.WatchRequest, kv_pb2.Event]

    KV: Service[KVStub] = service(kv_pb2, "KV")

Then editors complete `KV.Stub(channel).Get(...)`, and type checkers check it. The classes with
`Async` are for channels of asyncio.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Iterator
from typing import Any, Protocol, TypeVar, Union

from pygo_plugin._grpc.server import ServicerContext

__all__ = [
    "AsyncStreamStream",
    "AsyncStreamUnary",
    "AsyncUnaryStream",
    "AsyncUnaryUnary",
    "Replies",
    "ReplyFuture",
    "ServicerContext",
    "StreamStream",
    "StreamUnary",
    "UnaryStream",
    "UnaryUnary",
]

Request = TypeVar("Request", contravariant=True)
Reply = TypeVar("Reply", covariant=True)

Metadata = Iterable[tuple[str, Union[str, bytes]]]


class _Call(Protocol):
    """What every running call has, as grpc.Call."""

    def code(self) -> Any: ...
    def details(self) -> str: ...
    def initial_metadata(self) -> Any: ...
    def trailing_metadata(self) -> Any: ...
    def is_active(self) -> bool: ...
    def time_remaining(self) -> float | None: ...
    def cancel(self) -> bool: ...


class ReplyFuture(_Call, Protocol[Reply]):
    """A call with one reply to wait for: grpc.Call and grpc.Future."""

    def result(self, timeout: float | None = None) -> Reply: ...
    def exception(self, timeout: float | None = None) -> BaseException | None: ...
    def done(self) -> bool: ...


class Replies(_Call, Protocol[Reply]):
    """A call whose replies are iterated over."""

    def __iter__(self) -> Iterator[Reply]: ...
    def __next__(self) -> Reply: ...


class UnaryUnary(Protocol[Request, Reply]):
    """One request, one reply."""

    def __call__(
        self,
        request: Request,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Reply: ...

    def with_call(
        self,
        request: Request,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> tuple[Reply, Any]: ...

    def future(
        self,
        request: Request,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> ReplyFuture[Reply]: ...


class UnaryStream(Protocol[Request, Reply]):
    """One request, a stream of replies."""

    def __call__(
        self,
        request: Request,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Replies[Reply]: ...


class StreamUnary(Protocol[Request, Reply]):
    """A stream of requests, one reply."""

    def __call__(
        self,
        request_iterator: Iterable[Request],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Reply: ...

    def with_call(
        self,
        request_iterator: Iterable[Request],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> tuple[Reply, Any]: ...

    def future(
        self,
        request_iterator: Iterable[Request],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> ReplyFuture[Reply]: ...


class StreamStream(Protocol[Request, Reply]):
    """A stream of requests, a stream of replies."""

    def __call__(
        self,
        request_iterator: Iterable[Request],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Replies[Reply]: ...


class AsyncUnaryUnary(Protocol[Request, Reply]):
    """One request, one reply to await."""

    def __call__(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Awaitable[Reply]: ...


class AsyncUnaryStream(Protocol[Request, Reply]):
    """One request, a stream of replies for `async for`."""

    def __call__(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> AsyncIterator[Reply]: ...


class AsyncStreamUnary(Protocol[Request, Reply]):
    """A stream of requests, one reply to await."""

    def __call__(
        self,
        request_iterator: AsyncIterable[Request] | Iterable[Request] | None = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Awaitable[Reply]: ...


class AsyncStreamStream(Protocol[Request, Reply]):
    """A stream of requests, a stream of replies for `async for`."""

    def __call__(
        self,
        request_iterator: AsyncIterable[Request] | Iterable[Request] | None = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> AsyncIterator[Reply]: ...
