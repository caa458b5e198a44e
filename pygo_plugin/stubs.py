"""Types that describe a service to type checkers and editors. Not needed at run time.

    class KVStub(Protocol):
        Get: UnaryUnary[kv_pb2.GetRequest, kv_pb2.GetResponse]
        Watch: UnaryStream[kv_pb2.WatchRequest, kv_pb2.Event]

    KV: Service[KVStub] = service(kv_pb2, "KV")

Then editors complete `KV.Stub(channel).Get(...)`, and type checkers check it. The classes with
`Async` are for channels of asyncio.
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Union

from pygo_plugin._grpc.server import ServicerContext

if TYPE_CHECKING:
    from pygo_plugin._grpc.status import StatusCode

__all__ = [
    "AsyncReplies",
    "AsyncReply",
    "AsyncRequestReplies",
    "AsyncRequestReply",
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

    def code(self) -> StatusCode: ...
    def details(self) -> str: ...
    def initial_metadata(self) -> Any: ...
    def trailing_metadata(self) -> Any: ...
    def debug_error_string(self) -> str: ...
    def is_active(self) -> bool: ...
    def time_remaining(self) -> float | None: ...
    def cancel(self) -> bool: ...
    def add_callback(self, callback: Callable[[], Any]) -> bool: ...

    # Those of grpc.Future, which calls with a stream of replies have, too.
    def cancelled(self) -> bool: ...
    def running(self) -> bool: ...
    def done(self) -> bool: ...
    def exception(self, timeout: float | None = None) -> BaseException | None: ...
    def traceback(self, timeout: float | None = None) -> Any: ...
    def add_done_callback(self, fn: Callable[[Any], Any]) -> None: ...


class ReplyFuture(_Call, Protocol[Reply]):
    """A call with one reply to wait for: grpc.Call and grpc.Future."""

    def result(self, timeout: float | None = None) -> Reply: ...


class Replies(_Call, Protocol[Reply]):
    """A call whose replies are iterated over."""

    def __iter__(self) -> Iterator[Reply]: ...
    def __next__(self) -> Reply: ...


class _AsyncCall(Protocol):
    """What every running call of asyncio has, as grpc.aio.Call."""

    async def code(self) -> StatusCode: ...
    async def details(self) -> str: ...
    async def initial_metadata(self) -> Any: ...
    async def trailing_metadata(self) -> Any: ...
    async def debug_error_string(self) -> str: ...
    async def wait_for_connection(self) -> None: ...
    def time_remaining(self) -> float | None: ...
    def cancel(self) -> bool: ...
    def cancelled(self) -> bool: ...
    def done(self) -> bool: ...
    def add_done_callback(self, callback: Callable[[Any], Any]) -> None: ...


class _AsyncRequests(_AsyncCall, Protocol[Request]):
    """A call whose requests may be written one by one."""

    async def write(self, request: Request) -> None: ...
    async def done_writing(self) -> None: ...


class AsyncReply(_AsyncCall, Protocol[Reply]):
    """A call with one reply to await: grpc.aio.UnaryUnaryCall."""

    def __await__(self) -> Generator[Any, None, Reply]: ...


class AsyncReplies(_AsyncCall, Protocol[Reply]):
    """A call whose replies are iterated over by `async for`, or read one by one."""

    def __aiter__(self) -> AsyncIterator[Reply]: ...
    async def __anext__(self) -> Reply: ...

    async def read(self) -> Reply | Any:
        """The next reply, or `aio.EOF`."""


class AsyncRequestReply(AsyncReply[Reply], _AsyncRequests[Request], Protocol[Request, Reply]):
    """A call with a stream of requests and one reply to await."""


class AsyncRequestReplies(AsyncReplies[Reply], _AsyncRequests[Request], Protocol[Request, Reply]):
    """A call with streams in both directions."""


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
    ) -> AsyncReply[Reply]: ...


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
    ) -> AsyncReplies[Reply]: ...


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
    ) -> AsyncRequestReply[Request, Reply]: ...


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
    ) -> AsyncRequestReplies[Request, Reply]: ...
