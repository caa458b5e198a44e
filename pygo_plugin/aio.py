"""Plugins and gRPC for asyncio, with the interfaces of grpc.aio. See docs/asyncio.md.

All other names of grpc.aio (UnaryUnaryClientInterceptor, ...) are available here too. grpc.aio is
imported when the first of them is used, except for `AbortError`, `Metadata` and `UsageError`: they
are classes of this package until the program has imported grpcio.
"""

from __future__ import annotations

from pygo_plugin._grpc.abstract import imported
from pygo_plugin._grpc.aio_channel import Channel
from pygo_plugin.errors import MissingPackageError, _importing, _needing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from concurrent.futures import ThreadPoolExecutor
    from typing import Any

    from pygo_plugin._base.core import _core
    from pygo_plugin._grpc.aio_broker import Broker
    from pygo_plugin._grpc.aio_context import ServicerContext
    from pygo_plugin._grpc.aio_errors import EOF, AioRpcError
    from pygo_plugin._grpc.aio_server import Server as RpcServer
    from pygo_plugin._host.aio_client import Client
    from pygo_plugin._serve.aio_server import Server, serve
    from pygo_plugin._supervise.aio_pool import Pool
    from pygo_plugin._supervise.aio_supervisor import Supervisor

    _Options = Iterable[tuple[str | bytes, Any]]

__all__ = [
    # plugins
    "Broker",
    "Client",
    "Server",
    "Pool",
    "Supervisor",
    "serve",
    # gRPC
    "insecure_channel",
    "secure_channel",
    "server",
    "Channel",
    "ServicerContext",
    "AioRpcError",
    "EOF",
]

_HOMES = {
    "Broker": "_grpc.aio_broker",
    "Pool": "_supervise.aio_pool",
    "Supervisor": "_supervise.aio_supervisor",
    "Client": "_host.aio_client",
    "Server": "_serve.aio_server",
    "serve": "_serve.aio_server",
    "ServicerContext": "_grpc.aio_context",
    "AioRpcError": "_grpc.aio_errors",
}

# Names of grpc.aio that this package has a class of its own for, until the program has imported
# grpcio: its module and name.
_TWINS = {
    "AbortError": ("_grpc.server", "Aborted"),
    "Metadata": ("_grpc.aio_metadata", "Metadata"),
    "UsageError": ("_grpc.aio_errors", "UsageError"),
}

# The names of grpc.aio that need grpcio. Others are not looked for where it is not installed, so
# that hasattr() gives False.
_GRPCIO = frozenset({
    "BaseError",
    "Call",
    "ClientCallDetails",
    "ClientInterceptor",
    "InterceptedUnaryUnaryCall",
    "InternalError",
    "RpcContext",
    "ServerInterceptor",
    "StreamStreamCall",
    "StreamStreamClientInterceptor",
    "StreamStreamMultiCallable",
    "StreamUnaryCall",
    "StreamUnaryClientInterceptor",
    "StreamUnaryMultiCallable",
    "UnaryStreamCall",
    "UnaryStreamClientInterceptor",
    "UnaryStreamMultiCallable",
    "UnaryUnaryCall",
    "UnaryUnaryClientInterceptor",
    "UnaryUnaryMultiCallable",
    "init_grpc_aio",
    "shutdown_grpc_aio",
})  # fmt: skip

_AGENT = "grpc-python-asyncio"


def insecure_channel(
    target: str,
    options: _Options | None = None,
    compression: int | None = None,
    interceptors: Sequence[Any] | None = None,
) -> Channel:
    """A channel to the server at `target`: `host:port`, `unix:/path`, `dns:///host:port`."""
    with _importing("pygo_plugin.rpc"):
        from pygo_plugin import rpc

    return Channel(rpc._open(target, None, options, compression, _AGENT), interceptors)


def secure_channel(
    target: str,
    credentials: _core.ChannelCredentials,
    options: _Options | None = None,
    compression: int | None = None,
    interceptors: Sequence[Any] | None = None,
) -> Channel:
    """A channel to the server at `target` over TLS, with credentials of `pygo_plugin.rpc`."""
    with _importing("pygo_plugin.rpc"):
        from pygo_plugin import rpc

    if credentials is None:
        raise TypeError("secure_channel needs credentials; without TLS it is insecure_channel")
    return Channel(rpc._open(target, credentials, options, compression, _AGENT), interceptors)


def server(
    migration_thread_pool: ThreadPoolExecutor | None = None,
    handlers: Sequence[Any] | None = None,
    interceptors: Sequence[Any] | None = None,
    options: _Options | None = None,
    maximum_concurrent_rpcs: int | None = None,
    compression: int | None = None,
    *,
    max_workers: int | None = None,
) -> RpcServer:
    """A server. Add handlers and ports to it, then start it on a loop.

    Methods that are not coroutines run on threads of the core, at most `max_workers` at once. Of an
    executor only that number is used, as in `pygo_plugin.rpc.server`.
    """
    with _importing("pygo_plugin.rpc"):
        from pygo_plugin import rpc
    with _importing("pygo_plugin._grpc.aio_server"):
        from pygo_plugin._grpc.aio_server import Server as RpcServer

    if migration_thread_pool is not None:
        if max_workers is not None:
            raise TypeError("give either max_workers or a thread pool, whose number is used")
        max_workers = rpc._workers_of(migration_thread_pool)
    made = RpcServer(
        max_workers=max_workers,
        interceptors=interceptors or (),
        options=rpc._with_compression(options, compression),
        maximum_concurrent_rpcs=maximum_concurrent_rpcs,
        general=True,
    )
    if handlers:
        made.add_generic_rpc_handlers(handlers)
    return made


if not TYPE_CHECKING:  # with a visible __getattr__, mypy would let misspelt names pass

    def __getattr__(name):
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = _HOMES.get(name)
        if home is not None:
            value = _import(home, name)
        elif name == "EOF":
            return _import("_grpc.aio_errors", "exported_end_of_file")()
        elif name in _TWINS and imported() is None:
            return _import(*_TWINS[name])
        else:
            try:
                with _needing(f"pygo_plugin.aio.{name}"):
                    import grpc.aio
                value = getattr(grpc.aio, name)
            except (AttributeError, MissingPackageError):
                if name in _GRPCIO:
                    raise
                raise AttributeError(
                    f"neither pygo_plugin.aio nor grpc.aio has an attribute {name!r}"
                ) from None
        globals()[name] = value
        return value

    def _import(home, name):
        from importlib import import_module

        with _importing(f"pygo_plugin.{home}"):
            return getattr(import_module(f"pygo_plugin.{home}"), name)

    def __dir__():
        return sorted({*globals(), *__all__})
