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

    def code(self) -> StatusCode:
        """The grpc.StatusCode. Waits for the end of the call."""

    def details(self) -> str:
        """The text that came with the status. Waits for the end of the call."""

    def initial_metadata(self) -> Any:
        """The metadata sent ahead of the first reply. Waits for it."""

    def trailing_metadata(self) -> Any:
        """The metadata that came with the status. Waits for the end of the call."""

    def debug_error_string(self) -> str:
        """How gRPC describes a failure. Waits for the end of the call."""

    def is_active(self) -> bool:
        """Whether the call is still running."""

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""

    def cancel(self) -> bool:
        """End the call with CANCELLED. Returns: False if it has ended already."""

    def add_callback(self, callback: Callable[[], Any]) -> bool:
        """Have `callback()` called when the call ends. Returns: False if it has ended."""

    # Those of grpc.Future, which calls with a stream of replies have, too.
    def cancelled(self) -> bool:
        """Whether the call was cancelled."""

    def running(self) -> bool:
        """Whether the call is still running."""

    def done(self) -> bool:
        """Whether the call has ended."""

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The exception of a call that has failed, or None. Waits for its end."""

    def traceback(self, timeout: float | None = None) -> Any:
        """The traceback of exception(), or None."""

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        """Have the function called with the call when it ends, or now if it has ended."""


class ReplyFuture(_Call, Protocol[Reply]):
    """A call with one reply to wait for: grpc.Call and grpc.Future."""

    def result(self, timeout: float | None = None) -> Reply:
        """The reply. Waits for it. Raises: RpcError; TimeoutError after `timeout` seconds."""


class Replies(_Call, Protocol[Reply]):
    """A call whose replies are iterated over."""

    def __iter__(self) -> Iterator[Reply]: ...
    def __next__(self) -> Reply: ...


class _AsyncCall(Protocol):
    """What every running call of asyncio has, as grpc.aio.Call."""

    async def code(self) -> StatusCode:
        """The grpc.StatusCode. Waits for the end of the call."""

    async def details(self) -> str:
        """The text that came with the status. Waits for the end of the call."""

    async def initial_metadata(self) -> Any:
        """The metadata sent ahead of the first reply. Waits for it."""

    async def trailing_metadata(self) -> Any:
        """The metadata that came with the status. Waits for the end of the call."""

    async def debug_error_string(self) -> str:
        """How gRPC describes a failure. Waits for the end of the call."""

    async def wait_for_connection(self) -> None:
        """Wait until the channel is connected. Raises: RpcError if the call fails first."""

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""

    def cancel(self) -> bool:
        """End the call with CANCELLED. Returns: False if it has ended already."""

    def cancelled(self) -> bool:
        """Whether the call was cancelled."""

    def done(self) -> bool:
        """Whether the call has ended."""

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        """Have the function called with the call when it ends, or now if it has ended."""


class _AsyncRequests(_AsyncCall, Protocol[Request]):
    """A call whose requests may be written one by one."""

    async def write(self, request: Request) -> None:
        """Send one request. Waits until the next one may be sent."""

    async def done_writing(self) -> None:
        """Tell the server that no more requests follow."""


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
    ) -> tuple[Reply, Any]:
        """Call and wait. Returns: the reply and the call. `timeout` is in seconds."""

    def future(
        self,
        request: Request,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> ReplyFuture[Reply]:
        """Call without waiting. `timeout` is in seconds."""


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
    ) -> tuple[Reply, Any]:
        """Call and wait. Returns: the reply and the call. `timeout` is in seconds."""

    def future(
        self,
        request_iterator: Iterable[Request],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> ReplyFuture[Reply]:
        """Call without waiting. `timeout` is in seconds."""


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
