"""Servers: grpcio's grpc.Server and grpc.ServicerContext on the C core."""

from __future__ import annotations

import sys

from pygo_plugin._base import at_exit
from pygo_plugin._base.checks import refuse_copy
from pygo_plugin._base.core import _core
from pygo_plugin._grpc.abstract import Abstract, derived
from pygo_plugin.errors import ConfigError, RpcError, _importing

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, ClassVar, NoReturn

    import grpc

    # For type checkers these are grpcio's classes by inheritance.
    class _Context(_core.ServerCall, grpc.ServicerContext):
        def cancel(self) -> Any: ...
        def time_remaining(self) -> float | Any: ...

    _Server = grpc.Server
else:
    _Context = _core.ServerCall
    _Server = Abstract

# The limit on the threads of a server whose author sets no limit. It is high because a call that
# ends other calls must not wait for them. Threads are started only when handlers need them.
_WORKERS = 1000

NOT_SERIALIZED = "Failed to serialize response!"


class ServicerContext(_Context, Abstract):
    """The context that a servicer's method gets. It implements grpc.ServicerContext."""

    _implements: ClassVar[tuple[str, ...]] = ("ServicerContext",)

    def __repr__(self) -> str:
        state = "active" if self.is_active() else "ended"
        return f"<{type(self).__name__} of {self._method} from {self.peer()}, {state}>"

    __reduce_ex__ = refuse_copy

    def code(self) -> Any:
        """The status code that was set, or None."""
        return self._code

    def details(self) -> Any:
        """The details that were set, or None."""
        return self._details

    def trailing_metadata(self) -> Any:
        """The trailing metadata that was set, or None."""
        return self._trailing

    def set_code(self, code: Any) -> None:
        """End the call with this grpc.StatusCode."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Send this text with the status."""
        self._details = details

    def set_trailing_metadata(self, trailing_metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Send this metadata with the status."""
        self._trailing = tuple(trailing_metadata)

    def abort(self, code: Any, details: str) -> NoReturn:
        """End the call now with this grpc.StatusCode and text. Raises, to leave the method."""
        if number_of(code) == 0:
            code, details = 2, "abort() was called with StatusCode.OK, which is no failure"
        self._code, self._details, self._aborted = code, details, True
        raise Aborted(details)

    def abort_with_status(self, status: Any) -> NoReturn:
        """End the call now with a grpc.Status: code, details and trailing metadata."""
        self._trailing = status.trailing_metadata
        self.abort(status.code, status.details)

    def add_callback(self, callback: Callable[[], Any]) -> bool:
        """Have `callback()` called when the call ends. Returns: False if it has ended already."""
        # No lock is needed: setdefault, append, remove and pop are atomic.
        fresh: list[Callable[[], Any]] = []
        waiting = self.__dict__.setdefault("_callbacks", fresh)
        waiting.append(callback)
        if waiting is fresh and not self._on_finished(lambda: _call_all(waiting)):
            waiting.remove(callback)
            _call_all(waiting)  # those that other threads have added, for which this returned True
            return False
        if self.is_active():
            return True
        try:
            waiting.remove(callback)
        except ValueError:
            return True  # it has been removed in order to be called
        return False

    def peer_identities(self) -> Iterable[bytes] | None:
        """The names in the client's certificate; None if it has presented none."""
        key, properties = self._auth_context()
        return [value for name, value in properties if name == key] or None

    def peer_identity_key(self) -> str | None:
        """The property of auth_context() that identifies the client; None without a certificate."""
        return self._auth_context()[0]

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:  # type: ignore[override]
        """What gRPC knows about the connection, including the client's certificate."""
        found: dict[str, list[bytes]] = {}
        for name, value in self._auth_context()[1]:
            found.setdefault(name, []).append(value)
        return found


class Aborted(Exception):
    """Raised by abort() to leave a servicer's method. Do not catch it."""


def number_of(code: Any) -> Any:
    """The number of a grpc.StatusCode, whose value is (number, text), or of any int."""
    value = getattr(code, "value", code)
    return value[0] if isinstance(value, tuple) else value


def _call_all(callbacks: list[Callable[[], Any]]) -> None:
    while callbacks:
        callback = callbacks.pop(0)
        try:
            callback()
        except Exception as error:
            _core.unraisable(error, callback)


class GrpcServerBase(Abstract):
    """The base class of the blocking server and of asyncio's."""

    def __init__(
        self,
        *,
        max_workers: int | None = None,
        interceptors: Sequence[Any] = (),
        options: Iterable[tuple[str | bytes, Any]] | None = None,
        maximum_concurrent_rpcs: int | None = None,
        general: bool = False,
        **core_options: Any,
    ) -> None:
        if max_workers is not None and max_workers < 1:
            raise ConfigError(f"max_workers must be at least 1, not {max_workers}")
        if maximum_concurrent_rpcs is not None and maximum_concurrent_rpcs < 1:
            raise ConfigError(
                f"maximum_concurrent_rpcs must be at least 1 or None, not {maximum_concurrent_rpcs}"
            )
        self._routes = _Routes(interceptors)
        self._core_services: set[str] = set()  # besides those that every plugin has
        self._addresses: list[str] = []  # where it listens, for repr()
        self._started = False
        at_exit.register()  # needed even if it is never started, to free it in the core
        self._core = _core.Server(
            self._routes.find,
            self._routes.direct,
            ServicerContext,
            max_workers=max_workers or _WORKERS,
            reports_full=max_workers is None,
            max_concurrent=maximum_concurrent_rpcs or 0,
            options=() if options is None else options,
            general=general,
            **core_options,
        )

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[Any]) -> None:
        """Add generic handlers. Their `service(details)` is called for a method in this order."""
        handlers = tuple(generic_rpc_handlers)
        for handler in handlers:
            if not callable(getattr(handler, "service", None)):
                raise AttributeError(
                    f"a generic handler needs a method service(handler_call_details), and "
                    f"{handler!r} has none"
                )
        self._routes.generic += handlers

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, Any]
    ) -> None:
        """Serve `/service_name/method` for each of `method_handlers`, by method name."""
        self._routes.register(service_name, method_handlers)

    def add_insecure_port(self, address: str) -> int:
        """Listen on `unix:/path` or `host:port`, before the start. Returns the port.

        Raises: RuntimeError, as grpcio does, when it cannot.
        """
        return self._listen(address, None)

    def add_secure_port(self, address: str, server_credentials: _core.ServerCredentials) -> int:
        """As add_insecure_port, over TLS, with credentials from rpc.ssl_server_credentials()."""
        if server_credentials is None:
            raise TypeError("add_secure_port needs credentials; without TLS use add_insecure_port")
        return self._listen(address, server_credentials)

    def _listen(self, address: str, credentials: _core.ServerCredentials | None) -> int:
        try:
            port = self._core.listen(address, credentials)
        except OSError as error:
            raise RuntimeError(f"Failed to bind to address {address}: {error}") from None
        self._addresses.append(f"{address[:-1]}{port}" if address.endswith(":0") else address)
        return port

    def add_plugin_services(
        self, service_name: str, stdio: _core.Stdio | None = None, grace: float = 1.0
    ) -> None:
        """Add a plugin's services: health for `service_name`, controller, reflection, stdio.

        The controller's Shutdown stops the server as `stop(grace)` does.
        """
        self._core.add_plugin_services(service_name, grace)
        if stdio is not None:
            self._core.add_stdio(stdio)
            self._core_services.add("plugin.GRPCStdio")
        self._routes.generic += (_LazyReflection(self._routes.service_names, self._core_services),)

    def add_broker(
        self, tls: _core.TLS | None, mux: _core.Mux | None, options: Any = ()
    ) -> _core.Broker:
        """Add the broker service, before the start. Returns: the core's broker.

        `options` are the channel arguments of the connections that it dials.
        """
        self._core_services.add("plugin.GRPCBroker")
        return self._core.add_broker(tls, mux, options)

    def __repr__(self) -> str:
        if _core.forked():
            state = "of the parent process"
        elif self._core.stopping():
            state = "stopped"
        else:
            state = "serving" if self._started else "not started"
        return f"<{self._shown()}, {state}>"

    __reduce_ex__ = refuse_copy

    def _shown(self) -> str:
        """What repr() calls it."""
        return f"{type(self).__name__} at {', '.join(self._addresses) or 'no address'}"

    def stopping(self) -> bool:
        """Whether stop() was called, here or by the host's Shutdown."""
        return self._core.stopping()


class Server(GrpcServerBase, _Server):  # type: ignore[misc]  # other credentials
    """A gRPC server with the interface of grpc.Server.

    At most `max_workers` handlers run at once. The default is 1,000, and a warning is logged when
    calls have to wait for it. Calls beyond `maximum_concurrent_rpcs` are refused with
    RESOURCE_EXHAUSTED. `options` are gRPC's channel arguments as (name, value) pairs. Arguments
    that are not given have the values that plugins need or, if `general`, gRPC's defaults.
    """

    _implements = ("Server",)

    def start(self) -> None:
        """Start to serve. Never blocks.

        Raises: ConfigError (a ValueError) after a start or a stop.
        """
        self._core.start()
        self._started = True

    def stop(self, grace: float | None) -> threading.Event:
        """Refuse new calls, and cancel those that still run after `grace` seconds (None: now).

        Never blocks. Returns: an event that is set when no call is left.
        """
        self._core.stop(grace)
        with _importing("pygo_plugin._base.stopped"):
            from pygo_plugin._base.stopped import Stopped
        return Stopped(self._core)

    def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Wait until the server has stopped. Returns: True if `timeout` seconds passed first."""
        return not _core.call_blocking(self._core.wait, timeout)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until every handler has returned. Returns: False after `timeout` seconds."""
        joined: bool = _core.call_blocking(self._core.join, timeout)
        return joined


class _Routes:
    """Finds the handler of a call.

    The core keeps the object's methods. It is not the Server itself, because the garbage collector
    cannot see a cycle through the core.
    """

    def __init__(self, interceptors: Sequence[Any]) -> None:
        for interceptor in interceptors:
            if not callable(getattr(interceptor, "intercept_service", None)):
                raise TypeError(
                    f"an interceptor needs a method intercept_service(continuation, "
                    f"handler_call_details), and {interceptor!r} has none"
                )
        self.interceptors = tuple(interceptors)
        self.generic: tuple[Any, ...] = ()
        self.registered: dict[str, Any] = {}
        # Where the core looks first. Empty if there are interceptors, which see each call.
        self.direct = {} if self.interceptors else self.registered

    def register(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        for name, handler in method_handlers.items():
            self.registered[f"/{service_name}/{name}"] = handler

    def service_names(self) -> list[str]:
        names = {path.split("/")[1] for path in self.registered}
        for handler in self.generic:
            name = getattr(handler, "service_name", None)
            if callable(name):
                names.add(name())
        return sorted(names)

    def find(self, details: _core.HandlerCallDetails) -> Any:
        """The handler for a call, or None. Called by the core for methods not in `direct`."""
        return self._find_through(details, 0)

    def _find_through(self, details: Any, index: int) -> Any:
        """The handler that the interceptors from `index` on leave for a call, or None."""
        if index < len(self.interceptors):
            return self.interceptors[index].intercept_service(
                lambda following: self._find_through(following, index + 1), details
            )
        handler = self.registered.get(details.method)
        for generic in self.generic:
            if handler is not None:
                break
            handler = generic.service(details)
        return handler


class _LazyReflection:
    """A generic handler for reflection, whose module is imported with the first call."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments
        self._handler: Any = None

    def service(self, details: Any) -> Any:
        if not details.method.startswith("/grpc.reflection."):
            return None
        if self._handler is None:
            with _importing("pygo_plugin._grpc.reflection"):
                from pygo_plugin._grpc.reflection import Reflection

            self._handler = Reflection(*self._arguments)
        return self._handler.service(details)


def handler_failed(context: ServicerContext, error: BaseException, doing: str) -> str:
    """Log an exception of a servicer. Returns: the details for the client. Called by the core."""
    if isinstance(error, RequestsCancelled):
        return "Cancelled"  # the client does not read it, and this side has no error to log
    import logging

    logging.getLogger("pygo_plugin.server").error(
        "%s: %s: %s",
        context._path(),
        doing,
        error,
        exc_info=(type(error), error, error.__traceback__),
    )
    if doing == NOT_SERIALIZED:
        return f"{doing} {context._path()}: {error}"
    return doing if doing.endswith("!") else f"{doing}: {error}"


def workers_full(max_workers: int) -> None:
    """Log that calls wait for handlers to return. Called on the core's callback thread."""
    import logging

    logging.getLogger("pygo_plugin.server").warning(
        "%d handlers of a server run at the same time, and further calls wait until one returns: "
        "do handlers wait for something that does not happen? max_workers changes the limit",
        max_workers,
    )


def is_pool(pool: Any) -> bool:
    """Whether a method's experimental_thread_pool is a ThreadPoolExecutor. Called by the core."""
    futures = sys.modules.get("concurrent.futures.thread")
    return futures is not None and isinstance(pool, futures.ThreadPoolExecutor)


def run_in_pool(pool: Any, context: ServicerContext, handler: Any, variables: Any) -> None:
    """Have a thread of the pool run the call's handler, in its context. Called by the core."""
    future = pool.submit(variables.run, context._answer, handler)
    future.add_done_callback(lambda done: context._refuse() if done.cancelled() else None)


class RequestsCancelled(RpcError):
    """The call was cancelled, or its client disconnected, while its requests were being read."""


def requests_cancelled() -> RpcError:
    """The exception of an iterator over requests whose call was cancelled. Called by the core."""
    error: RpcError = derived(RequestsCancelled, "RpcError")("the call was cancelled")
    return error
