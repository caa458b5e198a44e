"""Servers of asyncio programs: grpc.aio's Server on the C core."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pygo_plugin._base.aio_loops import checkpoint, queue_of
from pygo_plugin._base.core import _core
from pygo_plugin._grpc import server as _server
from pygo_plugin._grpc.aio_context import END, Requests, ServicerContext
from pygo_plugin.errors import PluginError

if TYPE_CHECKING:
    from grpc.aio import Server as _Server  # which it is by inheritance for type checkers
else:
    from pygo_plugin._grpc.abstract import Abstract as _Server

_OK = 0
_CANCELLED = 1
_UNKNOWN = 2
_UNIMPLEMENTED = 12
_INTERNAL = 13


class Server(_server.GrpcServerBase, _Server):  # type: ignore[misc]  # other credentials
    """A gRPC server with the interface of grpc.aio.Server. It serves on the loop that starts it.

    Coroutine methods and async generators run on the loop. Other methods run on threads of the
    core, at most `max_workers` at once, by default 1,000. Calls beyond `maximum_concurrent_rpcs`
    are refused with RESOURCE_EXHAUSTED. `options` are gRPC's channel arguments as (name, value)
    pairs.
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
        """Start to serve on the running loop."""
        loop = asyncio.get_running_loop()
        if self._terminated is not None:
            raise PluginError("the server has been started before")
        queue = queue_of(loop)
        self._terminated = loop.create_future()
        self._dispatcher.loop = loop
        self._core.on_stopped(queue, self._terminated)
        try:
            self._core.start(queue)
            self._started = True
        except BaseException:
            self._terminated = None  # the core will not resolve it
            raise

    async def stop(self, grace: float | None) -> None:
        """Refuse new calls, and cancel those that still run after `grace` seconds (None: now).

        Returns when no call is left and all methods have ended.
        """
        self._core.stop(grace)
        if self._terminated is not None:
            await asyncio.wait((self._terminated,))
            await self._dispatcher.finished()
        else:
            await checkpoint()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Wait until the server has stopped. Returns: True if `timeout` seconds passed first."""
        if self._terminated is None:
            raise PluginError("the server has not been started")
        _core.check_timeout(timeout)
        done, _ = await asyncio.wait((self._terminated,), timeout=timeout)
        return not done


class _Dispatcher:
    """Runs the calls of one server.

    The core keeps the object's methods. It is not the Server itself, because the garbage collector
    cannot see a cycle through the core.
    """

    loop: asyncio.AbstractEventLoop
    routes: _server._Routes

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        # The handlers of registered methods, each with its _coroutine_of(), by id(handler). The id
        # stays valid because the handler is kept.
        self._known: dict[int, tuple[Any, Any]] = {}

    def arrived(self, context: ServicerContext, handler: Any) -> None:
        """Start to answer a call. Called by the core on the loop.

        `handler` is that of a registered method, or None.
        """
        if handler is not None:
            found = self._known.get(id(handler))
            if found is None:
                found = (handler, _coroutine_of(handler))
                self._known[id(handler)] = found
                if found[1] is not None and not handler.request_streaming:
                    context._expect_one()
            behavior = found[1]
            if behavior is not None:
                self._start_task(context, self._answer(context, handler, behavior))
            else:
                context._delegate(handler, not handler.request_streaming)
            return
        if self.routes.interceptors:
            self._start_task(context, self._answer_intercepted(context))
            return
        try:
            handler = self.routes.find(context._handler_details())
        except Exception as error:
            _core.unraisable(error, self.routes)
            context._finish(None, _UNKNOWN, "Exception in service handler!")
            return
        coroutine = self._serve(context, handler)
        if coroutine is not None:
            self._start_task(context, coroutine)

    async def finished(self) -> None:
        """Wait until no methods run."""
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def _start_task(self, context: ServicerContext, coroutine: Any) -> None:
        context._loop = self.loop
        context._task = task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        cancel = functools.partial(self._cancel, context)
        if not context._on_cancel(cancel):
            cancel()

    def _cancel(self, context: ServicerContext) -> None:
        """Cancel the task of a call that has ended before it was answered."""
        if not context._task_runs:  # a task that is cancelled before it runs cannot remove itself
            self._tasks.discard(context._task)
        context._task.cancel()

    async def _answer_intercepted(self, context: ServicerContext) -> None:
        """Answer a call whose handler comes through interceptors."""

        async def proceed(details: Any, index: int) -> Any:
            if index < len(self.routes.interceptors):
                return await self.routes.interceptors[index].intercept_service(
                    lambda following: proceed(following, index + 1), details
                )
            return self.routes._find_through(details, index)

        context._task_runs = True
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
        """The coroutine that answers the call.

        Returns: None if the core answers it on a thread, or it has been answered already.
        """
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
        """Answer a call with a coroutine method."""
        context._task_runs = True
        context._deserializer = handler.request_deserializer
        context._serializer = handler.response_serializer
        doing = "Exception deserializing request!"
        code = _INTERNAL
        try:
            argument: Any
            if handler.request_streaming:
                argument = Requests(context)
            else:
                argument = context._take_first(handler.request_deserializer, END)
                if argument is END:
                    argument = await context._next()
            if argument is END:
                doing = "the method requires exactly one request message"
                await context._end(None, _UNIMPLEMENTED, doing)
                return
            doing, code = "Exception calling application", _UNKNOWN
            result = behavior(argument, context)
            if not handler.response_streaming:
                reply = await result
                doing, code = _server.NOT_SERIALIZED, _INTERNAL
                data = context._serialized(reply)
                if context._writing:
                    await context._wait_flushed()
                context._over = True
                context._finish(data, _OK, "")
            else:
                if hasattr(result, "__aiter__"):
                    doing = "Exception iterating responses"
                    await _send_all(context, result)
                else:
                    await result
                await context._end(None, _OK, "")
        except GeneratorExit:  # the loop has been closed, and nothing can be awaited
            context._give_up(_CANCELLED, "Cancelled")
            raise
        except BaseException as error:
            await self._answer_failed(context, error, code, doing)
            if not isinstance(error, Exception):
                raise
        finally:
            self._tasks.discard(context._task)  # cheaper than by add_done_callback()
            context._run_callbacks()

    async def _answer_failed(
        self, context: ServicerContext, error: BaseException, code: int, doing: str
    ) -> None:
        """Answer a call whose method has raised."""
        if isinstance(error, asyncio.CancelledError):
            context._give_up(_CANCELLED, "Cancelled")
        elif context._aborted:
            await context._end(None, _UNKNOWN, "")
        else:
            text = _server.handler_failed(context, error, doing)
            if _server.number_of(context._code) == _OK:
                context._code = None  # a call that failed must not end with OK
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
    """The handler's method, if it is to run on the loop; otherwise None."""
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
