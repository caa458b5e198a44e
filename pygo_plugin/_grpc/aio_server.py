"""The server of asyncio programs: grpc.aio's Server and ServicerContext on the C core."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from pygo_plugin._base.aio_loops import UNBROKEN, checkpoint, queue_of
from pygo_plugin._base.core import _core
from pygo_plugin._core import LoopFuture
from pygo_plugin._grpc import server as _server
from pygo_plugin.errors import PluginError, _importing, _not_imported

if TYPE_CHECKING:
    from typing_extensions import Self

_OK = 0
_CANCELLED = 1
_UNKNOWN = 2
_UNIMPLEMENTED = 12
_INTERNAL = 13

_END = object()  # of the requests; EOF is for those who call read()


class ServicerContext(_core.AsyncServerCall, _server.ServicerContext):
    """What a coroutine servicer's method gets as its context: grpc.aio.ServicerContext."""

    _implements = ("aio.ServicerContext", "ServicerContext")

    _loop: asyncio.AbstractEventLoop
    _deserializer: Any
    _serializer: Any
    _over = False  # answered, or given up
    _sending: LoopFuture | None = None
    _reading: LoopFuture | None = None
    _unbroken = 0  # requests that were there at once
    _writing = False  # something has been sent ahead of the end
    _unsuspended = 0  # replies whose write() had nothing to wait for
    _then: list[Callable[[Any], Any]] | None = None
    _task: asyncio.Task[None]
    _begun = False  # the task has

    async def read(self) -> Any:
        """The next request, or EOF."""
        try:  # nearer to the messages than _importing() should be
            from pygo_plugin._grpc.aio_errors import EOF
        except OSError as error:
            raise _not_imported("pygo_plugin._grpc.aio_errors", error) from error
        request = await self._next()
        return EOF if request is _END else request

    async def write(self, message: Any) -> None:
        """Send one reply. Waits until the next one may be sent.

        Raises: asyncio.CancelledError when the client has gone.
        """
        await self._idle()
        if not await self._started(self._send, self._serialized(message)):
            # The task is about to be cancelled. A method that only writes must not keep the loop
            # from getting to that.
            await checkpoint()
            raise asyncio.CancelledError

    async def send_initial_metadata(  # type: ignore[override]  # a coroutine here
        self, initial_metadata: Iterable[tuple[str, str | bytes]]
    ) -> None:
        """Send metadata ahead of the first reply."""
        await self._idle()  # an answered call has nothing that could be flushed
        await self._flushed()
        await checkpoint()
        if self._over:
            raise asyncio.InvalidStateError("the call has been answered")
        if not await self._started(self._send_metadata, initial_metadata):
            if not self.is_active():
                raise asyncio.CancelledError
            raise ValueError(
                "initial metadata has been sent already, by an earlier call or with the first reply"
            )

    def set_trailing_metadata(self, trailing_metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Have these metadata sent with the status.

        Raises: TypeError, where they are no iterable of pairs; a dict is none.
        """
        if isinstance(trailing_metadata, dict) or not hasattr(trailing_metadata, "__iter__"):
            raise TypeError(
                "trailing metadata are an iterable of pairs of key and value, not "
                f"{type(trailing_metadata).__name__}: {trailing_metadata!r}"
            )
        super().set_trailing_metadata(trailing_metadata)

    async def abort(  # type: ignore[override]  # a coroutine here
        self,
        code: Any,
        details: str = "",
        trailing_metadata: Iterable[tuple[str, str | bytes]] = (),
    ) -> NoReturn:
        """End the call now with this grpc.StatusCode and text. Raises, to leave the method.

        The first one counts: another one, in a method that has caught what it raised, is refused
        with what grpc.aio calls a UsageError.
        """
        if self._aborted:
            with _importing("pygo_plugin._grpc.aio_errors"):
                from pygo_plugin._grpc.aio_errors import usage_error

            raise usage_error("Abort already called!")
        if trailing_metadata or isinstance(trailing_metadata, dict):
            self.set_trailing_metadata(trailing_metadata)
        try:
            super().abort(code, details)
        except _server.Aborted as error:
            raise _aborted()(*error.args) from None

    async def abort_with_status(  # type: ignore[override]  # a coroutine here
        self, status: Any
    ) -> NoReturn:
        """End the call now with a grpc.Status: code, details and trailing metadata."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def cancelled(self) -> bool:
        """Whether the call ended before it was answered."""
        return self._was_cancelled()

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._over or not self.is_active()

    def add_done_callback(self, callback: Callable[[Self], Any]) -> None:
        """Have `callback(context)` called when the method is done with the call."""
        if self._over:
            callback(self)
        elif self._then is None:
            self._then = [callback]
        else:
            self._then.append(callback)

    # Inside.

    async def _next(self) -> Any:
        if self._reading is not None and not self._reading.done():
            await checkpoint()
            raise asyncio.InvalidStateError("another task is reading from this call")
        self._reading = future = LoopFuture(self._loop)
        self._receive(self._deserializer, future, _END)
        if future.done():  # at once, because the connection has brought it before
            self._unbroken += 1
            if self._unbroken % UNBROKEN == 0:
                await asyncio.sleep(0)
        request = await future
        if request is _END and self._was_cancelled():
            # The client went away in the middle: that is no end of its requests.
            raise asyncio.CancelledError
        return request

    def _serialized(self, message: Any) -> bytes:
        data = message if self._serializer is None else self._serializer(message)
        if not isinstance(data, bytes):
            raise TypeError(f"a reply must be serialized to bytes, not {type(data).__name__}")
        return data

    async def _idle(self) -> None:
        """Wait for the send under way."""
        while self._sending is not None and not self._sending.done():
            await asyncio.wait((self._sending,))
        if self._over:
            await checkpoint()
            raise asyncio.InvalidStateError("the call has been answered")

    async def _flushed(self) -> None:
        """Wait until everything has been sent."""
        while self._sending is not None and not self._sending.done():
            await asyncio.wait((self._sending,))
        future = LoopFuture(self._loop)
        if self._flush(future):
            self._sending = future
            await asyncio.wait((future,))

    async def _started(self, start: Callable[[Any, Any], bool], what: Any) -> bool:
        future = LoopFuture(self._loop)
        self._writing = True
        if not start(what, future):
            return False
        if future.done():
            self._unsuspended += 1
            if self._unsuspended % UNBROKEN == 0:
                await asyncio.sleep(0)
            return True
        self._sending = future
        # Cancelling the task takes nothing back: the core goes on sending.
        await asyncio.shield(future)
        return True

    async def _end(self, message: bytes | None, code: int, details: str) -> None:
        if self._writing:
            # The status must not overtake a reply that waits for flow control.
            await self._flushed()
        self._over = True
        self._finish(message, code, details)

    def _run_callbacks(self) -> None:
        self._over = True
        callbacks, self._then = self._then or (), None
        for callback in callbacks:
            try:
                callback(self)
            except Exception as error:
                _core.unraisable(error, callback)


class _Requests:
    """The requests of one call, for `async for`."""

    def __init__(self, context: ServicerContext) -> None:
        self._context = context

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        request = await self._context._next()
        if request is _END:
            raise StopAsyncIteration
        return request


@functools.cache
def _aborted_like(base: type[BaseException]) -> type[Exception]:
    return type("Aborted", (_server.Aborted, base), {"__module__": __name__})


def _aborted() -> type[Exception]:
    """What leaves a method after abort(): also a grpc.aio.AbortError where grpcio is in use."""
    grpc = sys.modules.get("grpc.aio")
    return _server.Aborted if grpc is None else _aborted_like(grpc.AbortError)


class Server(_server.GrpcServerBase):
    """A gRPC server with the interface of grpc.aio.Server. It serves on the loop that starts it.

    Coroutine methods and async generators run on the loop, other methods on threads of the core, at
    most `max_workers` at once, by default 1,000. Beyond `maximum_concurrent_rpcs` calls are refused
    with RESOURCE_EXHAUSTED. `options` are gRPC's channel arguments, (name, str or int) each.
    """

    _implements = ("aio.Server",)

    def __init__(self, *, interceptors: Sequence[Any] = (), **options: Any) -> None:
        """options: `max_workers`, `maximum_concurrent_rpcs`, `options`, `general`.

        Raises: ValueError for an interceptor without `intercept_service`.
        """
        for interceptor in interceptors:
            if not callable(getattr(interceptor, "intercept_service", None)):
                raise ValueError(
                    f"an interceptor needs the method intercept_service, and {interceptor!r} has "
                    "none"
                )
        self._dispatcher = _Dispatcher()
        super().__init__(
            interceptors=interceptors,
            arrived=self._dispatcher.arrived,
            async_contexts=ServicerContext,
            **options,
        )
        self._dispatcher.routes = self._routes
        self._terminated: asyncio.Future[bool] | None = None

    async def start(self) -> None:
        """Begin to serve, on the running loop."""
        loop = asyncio.get_running_loop()
        if self._terminated is not None:
            raise PluginError("the server has been started before")
        queue = queue_of(loop)
        self._terminated = loop.create_future()
        self._dispatcher.loop = loop
        self._core.on_stopped(queue, self._terminated)
        try:
            self._core.start(queue)
        except BaseException:
            self._terminated = None  # which nobody would ever resolve
            raise

    async def stop(self, grace: float | None) -> None:
        """Refuse new calls; cancel those that still run after `grace` seconds, None: at once.

        Returns when no call is left and all methods have ended.
        """
        self._core.stop(grace)
        if self._terminated is not None:
            await asyncio.wait((self._terminated,))
            await self._dispatcher.finished()
        else:
            await checkpoint()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Wait until the server has stopped, at most `timeout` seconds. True if that ran out."""
        if self._terminated is None:
            raise PluginError("the server has not been started")
        done, _ = await asyncio.wait((self._terminated,), timeout=timeout)
        return not done


class _Dispatcher:
    """Runs the calls of one server. Apart from Server: no cycle must go through C."""

    loop: asyncio.AbstractEventLoop
    routes: _server._Routes

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        # What has been found out of the handlers of registered methods, which stay, by their ids.
        self._known: dict[int, tuple[Any, Any]] = {}

    def arrived(self, context: ServicerContext, handler: Any) -> None:
        """A call is there, of a registered method if there is a handler. Called by the core."""
        if handler is not None:
            found = self._known.get(id(handler))
            if found is None:
                found = (handler, _coroutine_of(handler))
                self._known[id(handler)] = found
                if found[1] is not None and not handler.request_streaming:
                    context._expect_one()
            behavior = found[1]
            if behavior is not None:
                self._start(context, self._answer(context, handler, behavior))
            else:
                context._delegate(handler, not handler.request_streaming)
            return
        if self.routes.interceptors:
            self._start(context, self._intercepted(context))
            return
        try:
            handler = self.routes.find(context._handler_details())
        except Exception as error:
            _core.unraisable(error, self.routes)
            context._finish(None, _UNKNOWN, "Exception in service handler!")
            return
        coroutine = self._serve(context, handler)
        if coroutine is not None:
            self._start(context, coroutine)

    async def finished(self) -> None:
        """Wait until no method runs any more."""
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def _start(self, context: ServicerContext, coroutine: Any) -> None:
        context._loop = self.loop
        context._task = task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        cancel = functools.partial(self._cancel, context)
        if not context._on_cancel(cancel):
            cancel()

    def _cancel(self, context: ServicerContext) -> None:
        """The call has ended before it was answered."""
        if not context._begun:  # nor will it be: a task that is cancelled first never runs
            self._tasks.discard(context._task)
        context._task.cancel()

    async def _intercepted(self, context: ServicerContext) -> None:
        async def proceed(details: Any, index: int) -> Any:
            if index < len(self.routes.interceptors):
                return await self.routes.interceptors[index].intercept_service(
                    lambda following: proceed(following, index + 1), details
                )
            return self.routes._continue(details, index)

        context._begun = True
        try:
            handler = await proceed(context._handler_details(), 0)
            coroutine = self._serve(context, handler)
            if coroutine is not None:
                await coroutine
        except asyncio.CancelledError:
            context._give_up(_CANCELLED, "Cancelled")
            raise
        except Exception as error:
            _core.unraisable(error, self.routes.interceptors)
            context._finish(None, _UNKNOWN, "Exception in service handler!")
        finally:
            self._tasks.discard(context._task)

    def _serve(self, context: ServicerContext, handler: Any) -> Any:
        """What answers the call; None if that is nothing for the loop, or has been done."""
        if handler is None:
            context._finish(None, _UNIMPLEMENTED, "Method not found!")
            return None
        behavior = _coroutine_of(handler)
        if behavior is not None:
            if not handler.request_streaming:
                context._expect_one()
            return self._answer(context, handler, behavior)
        context._delegate(handler, not handler.request_streaming)
        return None

    async def _answer(
        self, context: ServicerContext, handler: Any, behavior: Callable[..., Any]
    ) -> None:
        context._begun = True
        context._deserializer = handler.request_deserializer
        context._serializer = handler.response_serializer
        doing = "Exception deserializing request!"
        code = _INTERNAL
        try:
            argument: Any
            if handler.request_streaming:
                argument = _Requests(context)
            else:
                argument = context._take_first(handler.request_deserializer, _END)
                if argument is _END:
                    argument = await context._next()
            if argument is _END:
                doing = "the method requires exactly one request message"
                await context._end(None, _UNIMPLEMENTED, doing)
                return
            doing, code = "Exception calling application", _UNKNOWN
            result = behavior(argument, context)
            if not handler.response_streaming:
                reply = await result
                doing, code = "Failed to serialize response!", _INTERNAL
                data = context._serialized(reply)
                if context._writing:
                    await context._flushed()
                context._over = True
                context._finish(data, _OK, "")
            else:
                if hasattr(result, "__aiter__"):
                    doing = "Exception iterating responses"
                    await _send_all(context, result)
                else:
                    await result
                await context._end(None, _OK, "")
        except GeneratorExit:  # the loop is gone, and nothing can be awaited any more
            context._give_up(_CANCELLED, "Cancelled")
            raise
        except BaseException as error:
            await self._failed(context, error, code, doing)
            if not isinstance(error, Exception):
                raise
        finally:
            self._tasks.discard(context._task)  # a callback would cost the loop another round
            context._run_callbacks()

    async def _failed(
        self, context: ServicerContext, error: BaseException, code: int, doing: str
    ) -> None:
        if isinstance(error, asyncio.CancelledError):
            context._give_up(_CANCELLED, "Cancelled")
        elif context._aborted:
            await context._end(None, _UNKNOWN, "")
        else:
            text = _server.handler_failed(context, error, doing)
            if _server.number_of(context._code) == _OK:
                context._code = None  # which it is not
            await context._end(None, code, text)


async def _send_all(context: ServicerContext, replies: Any) -> None:
    close = getattr(replies, "aclose", None)
    try:
        async for reply in replies:
            await context.write(reply)
    except GeneratorExit:
        close = None
        raise
    finally:
        if close is not None:
            await close()


def _coroutine_of(handler: Any) -> Any:
    """What is to run on the loop; None: the method has no coroutine."""
    behavior = _behavior(handler)
    return behavior if _is_async(behavior) else None


def _behavior(handler: Any) -> Any:
    if handler.request_streaming:
        return handler.stream_stream if handler.response_streaming else handler.stream_unary
    return handler.unary_stream if handler.response_streaming else handler.unary_unary


def _is_async(behavior: Any) -> bool:
    """Whether the method is to run on the loop: a coroutine function or an async generator."""
    while isinstance(behavior, functools.partial):
        behavior = behavior.func
    if inspect.iscoroutinefunction(behavior) or inspect.isasyncgenfunction(behavior):
        return True
    call = getattr(type(behavior), "__call__", None)  # noqa: B004  # an object with a method
    return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)
