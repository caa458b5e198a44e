"""gRPC without plugins: channels and servers on the C core, with grpcio's interfaces.

Programs written for grpcio change one import::

    from pygo_plugin import rpc as grpc

All other names of grpcio (intercept_channel, ServerInterceptor, ...) are available here too. grpcio
is imported when the first of them is used, except for enumerations, exceptions and handlers: they
are this package's own until the program has imported grpcio. See docs/rpc.md.
"""

from __future__ import annotations

from pygo_plugin._base import at_exit
from pygo_plugin._base.core import _core
from pygo_plugin._grpc import channel as _channel
from pygo_plugin._grpc import server as _server
from pygo_plugin._grpc.abstract import imported
from pygo_plugin.errors import MissingPackageError, _importing, _needing

TYPE_CHECKING = False  # typing is not imported at run time, nor is grpcio
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import ThreadPoolExecutor
    from typing import Any

    # These names are for type checkers. At run time __getattr__ finds them.
    # fmt: off
    from grpc import (  # isort: skip
        AuthMetadataContext as AuthMetadataContext, AuthMetadataPlugin as AuthMetadataPlugin,
        AuthMetadataPluginCallback as AuthMetadataPluginCallback, Call as Call,
        Channel as Channel, ChannelConnectivity as ChannelConnectivity,
        ClientCallDetails as ClientCallDetails, Compression as Compression, Future as Future,
        FutureCancelledError as FutureCancelledError, FutureTimeoutError as FutureTimeoutError,
        GenericRpcHandler as GenericRpcHandler, HandlerCallDetails as HandlerCallDetails,
        LocalConnectionType as LocalConnectionType, RpcContext as RpcContext,
        RpcError as RpcError, RpcMethodHandler as RpcMethodHandler, Server as Server,
        ServerCertificateConfiguration as ServerCertificateConfiguration,
        ServerInterceptor as ServerInterceptor, ServiceRpcHandler as ServiceRpcHandler,
        ServicerContext as ServicerContext, Status as Status, StatusCode as StatusCode,
        StreamStreamClientInterceptor as StreamStreamClientInterceptor,
        StreamStreamMultiCallable as StreamStreamMultiCallable,
        StreamUnaryClientInterceptor as StreamUnaryClientInterceptor,
        StreamUnaryMultiCallable as StreamUnaryMultiCallable,
        UnaryStreamClientInterceptor as UnaryStreamClientInterceptor,
        UnaryStreamMultiCallable as UnaryStreamMultiCallable,
        UnaryUnaryClientInterceptor as UnaryUnaryClientInterceptor,
        UnaryUnaryMultiCallable as UnaryUnaryMultiCallable,
        channel_ready_future as channel_ready_future, intercept_channel as intercept_channel,
        method_handlers_generic_handler as method_handlers_generic_handler, protos as protos,
        protos_and_services as protos_and_services, services as services,
        stream_stream_rpc_method_handler as stream_stream_rpc_method_handler,
        stream_unary_rpc_method_handler as stream_unary_rpc_method_handler,
        unary_stream_rpc_method_handler as unary_stream_rpc_method_handler,
        unary_unary_rpc_method_handler as unary_unary_rpc_method_handler,
    )
    # fmt: on
    from pygo_plugin import aio as aio

    _Options = Iterable[tuple[str | bytes, Any]]

__all__ = [
    "insecure_channel",
    "secure_channel",
    "server",
    # for options
    "MemoryQuota",
    "SSLSessionCacheLRU",
    # credentials
    "CallCredentials",
    "ChannelCredentials",
    "ServerCredentials",
    "access_token_call_credentials",
    "composite_call_credentials",
    "composite_channel_credentials",
    "metadata_call_credentials",
    "ssl_channel_credentials",
    "ssl_server_credentials",
]

ChannelCredentials = _core.ChannelCredentials
ServerCredentials = _core.ServerCredentials
CallCredentials = _core.CallCredentials

MemoryQuota = _core.MemoryQuota
SSLSessionCacheLRU = _core.SSLSessionCacheLRU

_COMPRESSION = "grpc.default_compression_algorithm"


# ---- Channels ------------------------------------------------------------------------------------


def insecure_channel(
    target: str, options: _Options | None = None, compression: int | None = None
) -> _channel.Channel:
    """A channel to the server at `target`: `host:port`, `unix:/path`, `dns:///host:port`.

    `options` are gRPC's channel arguments as (name, value) pairs. Names are str or bytes; values
    are int, str, bytes, or a MemoryQuota or an SSLSessionCacheLRU of this module. `compression` is
    the grpc.Compression of all calls that do not set their own.
    """
    return _open(target, None, options, compression)


def secure_channel(
    target: str,
    credentials: ChannelCredentials,
    options: _Options | None = None,
    compression: int | None = None,
) -> _channel.Channel:
    """A channel to the server at `target` over TLS, with credentials of this module."""
    if credentials is None:
        raise TypeError("secure_channel needs credentials; without TLS it is insecure_channel")
    return _open(target, credentials, options, compression)


def _open(
    target: str,
    credentials: ChannelCredentials | None,
    options: _Options | None,
    compression: int | None,
    agent: str | None = None,
) -> _channel.Channel:
    at_exit.register()
    channel = _channel.Channel(
        target, _with_compression(options, compression), credentials, general=True, agent=agent
    )
    channel._peer = target
    return channel


def _with_compression(options: _Options | None, compression: int | None) -> _Options:
    """Add the default compression to the options, which take precedence over it."""
    given = tuple(options or ())
    if compression is None:
        return given
    if compression not in (0, 1, 2):
        raise ValueError(f"compression must be one of grpc.Compression, not {compression!r}")
    return ((_COMPRESSION, int(compression)), *given)


# ---- Servers -------------------------------------------------------------------------------------


def server(
    thread_pool: ThreadPoolExecutor | None = None,
    handlers: Sequence[Any] | None = None,
    interceptors: Sequence[Any] | None = None,
    options: _Options | None = None,
    maximum_concurrent_rpcs: int | None = None,
    compression: int | None = None,
    *,
    max_workers: int | None = None,
) -> _server.Server:
    """A server. Add handlers and ports to it, then start it.

    Handlers run on threads of the core, at most `max_workers` at once, by default 1,000. Of a
    ThreadPoolExecutor, which grpcio needs, only the number of its threads is used as `max_workers`;
    no handler is submitted to it. `compression` is the grpc.Compression of all replies unless a
    handler sets another.

    Raises: TypeError if both are given, or for an executor with an initializer or a submit() of its
    own, which would not be called.
    """
    if thread_pool is not None:
        if max_workers is not None:
            raise TypeError("give either max_workers or a thread_pool, whose number is used")
        max_workers = _workers_of(thread_pool)
    made = _server.Server(
        max_workers=max_workers,
        interceptors=interceptors or (),
        options=_with_compression(options, compression),
        maximum_concurrent_rpcs=maximum_concurrent_rpcs,
        general=True,
    )
    if handlers:
        made.add_generic_rpc_handlers(handlers)
    return made


def _workers_of(pool: Any) -> int:
    """How many threads a ThreadPoolExecutor has. Raises: TypeError if it has more than that."""
    from concurrent.futures import ThreadPoolExecutor

    what = "thread_pool must be a concurrent.futures.ThreadPoolExecutor"
    advice = "handlers run on the server's own threads; give max_workers instead"
    if not isinstance(pool, ThreadPoolExecutor):
        raise TypeError(f"{what}, of which max_workers is taken, not {pool!r}: {advice}")
    if type(pool).submit is not ThreadPoolExecutor.submit:
        raise TypeError(f"{what} with its own submit(), not that of {pool!r}: {advice}")
    context = getattr(pool, "_create_worker_context", None)  # Python 3.14
    initializer = (
        getattr(pool, "_initializer", None)
        if context is None
        else getattr(context(), "initializer", None)
    )
    if initializer is not None:
        raise TypeError(f"{what} without an initializer, which would not be run: {advice}")
    workers: int = pool._max_workers
    return workers


# ---- Credentials ---------------------------------------------------------------------------------


def ssl_channel_credentials(
    root_certificates: bytes | None = None,
    private_key: bytes | None = None,
    certificate_chain: bytes | None = None,
) -> ChannelCredentials:
    """TLS for a channel. All arguments are PEM.

    The server's certificate must be signed by one of `root_certificates`, by default those of the
    system. `private_key` and `certificate_chain` identify the client to servers that ask for it.

    Raises: ValueError (a ConfigError) when an argument is not PEM, or key and certificate do not
    match.
    """
    return _core.ssl_channel_credentials(root_certificates, private_key, certificate_chain)


def ssl_server_credentials(
    private_key_certificate_chain_pairs: Sequence[tuple[bytes, bytes]],
    root_certificates: bytes | None = None,
    require_client_auth: bool = False,
) -> ServerCredentials:
    """TLS for a server. All keys and certificates are PEM.

    With `require_client_auth`, clients need a certificate that is signed by one of
    `root_certificates`. Otherwise they are not asked for a certificate.

    Raises: ValueError (a ConfigError) when an argument is not PEM, or a key and its certificate do
    not match.
    """
    return _core.ssl_server_credentials(
        tuple(tuple(pair) for pair in private_key_certificate_chain_pairs),
        root_certificates,
        require_client_auth,
    )


def metadata_call_credentials(
    metadata_plugin: Callable[[Any, Any], Any], name: str | None = None
) -> CallCredentials:
    """Credentials of a grpc.AuthMetadataPlugin, called as `metadata_plugin(context, callback)`.

    It is called for each call, on a new thread, and must call `callback(metadata, error)` once. It
    runs in the context variables of the caller of this function. If it raises, the call fails, and
    the exception is logged, with `name` if that is given.
    """
    if not callable(metadata_plugin):
        raise TypeError(f"a credentials plugin must be callable, which {metadata_plugin!r} is not")
    from contextvars import copy_context

    plugin = (metadata_plugin, name or repr(metadata_plugin), copy_context())
    return _core.plugin_call_credentials(plugin)


def access_token_call_credentials(access_token: str) -> CallCredentials:
    """An OAuth2 access token, sent as `authorization: Bearer <token>`."""
    return _core.token_call_credentials(access_token)


def composite_call_credentials(*call_credentials: CallCredentials) -> CallCredentials:
    """Credentials that send the metadata of all given ones, which must be two or more."""
    if len(call_credentials) < 2:
        raise ValueError("at least two call credentials are needed to compose them")
    composed, *others = call_credentials
    for other in others:
        composed = _core.compose_call_credentials(composed, other)
    return composed


def composite_channel_credentials(
    channel_credentials: ChannelCredentials, *call_credentials: CallCredentials
) -> ChannelCredentials:
    """`channel_credentials` that add one or more `call_credentials` to each call."""
    if not call_credentials:
        raise ValueError("at least one of call_credentials is needed")
    for credentials in call_credentials:
        channel_credentials = _core.compose_channel_credentials(channel_credentials, credentials)
    return channel_credentials


# ---- Other names ---------------------------------------------------------------------------------

# Functions that make objects of grpcio's own core, which this package's channels and servers cannot
# use.
_FOREIGN = frozenset({
    "alts_channel_credentials",
    "alts_server_credentials",
    "compute_engine_channel_credentials",
    "dynamic_ssl_server_credentials",
    "insecure_server_credentials",
    "local_channel_credentials",
    "local_server_credentials",
    "ssl_server_certificate_configuration",
    "xds_channel_credentials",
    "xds_server_credentials",
})  # fmt: skip

# Names of grpcio that this package has a class of its own for, until the program has imported
# grpcio: its module and name.
_TWINS = {
    "ChannelConnectivity": ("_grpc.status", "ChannelConnectivity"),
    "Compression": ("_grpc.enums", "Compression"),
    "FutureCancelledError": ("_grpc.errors", "FutureCancelledError"),
    "FutureTimeoutError": ("_grpc.errors", "FutureTimeoutError"),
    "RpcError": ("errors", "RpcError"),
    "StatusCode": ("_grpc.status", "StatusCode"),
    "method_handlers_generic_handler": ("_grpc.handlers", "method_handlers_generic_handler"),
    "stream_stream_rpc_method_handler": ("_grpc.handlers", "stream_stream_rpc_method_handler"),
    "stream_unary_rpc_method_handler": ("_grpc.handlers", "stream_unary_rpc_method_handler"),
    "unary_stream_rpc_method_handler": ("_grpc.handlers", "unary_stream_rpc_method_handler"),
    "unary_unary_rpc_method_handler": ("_grpc.handlers", "unary_unary_rpc_method_handler"),
}

# The names of grpcio that need it. Others are not looked for where it is not installed, so that
# hasattr() gives False.
_GRPCIO = frozenset({
    "AuthMetadataContext",
    "AuthMetadataPlugin",
    "AuthMetadataPluginCallback",
    "Call",
    "Channel",
    "ClientCallDetails",
    "Future",
    "GenericRpcHandler",
    "HandlerCallDetails",
    "LocalConnectionType",
    "RpcContext",
    "RpcMethodHandler",
    "Server",
    "ServerCertificateConfiguration",
    "ServerInterceptor",
    "ServiceRpcHandler",
    "ServicerContext",
    "Status",
    "StreamStreamClientInterceptor",
    "StreamStreamMultiCallable",
    "StreamUnaryClientInterceptor",
    "StreamUnaryMultiCallable",
    "UnaryStreamClientInterceptor",
    "UnaryStreamMultiCallable",
    "UnaryUnaryClientInterceptor",
    "UnaryUnaryMultiCallable",
    "channel_ready_future",
    "intercept_channel",
    "protos",
    "protos_and_services",
    "services",
})  # fmt: skip


if not TYPE_CHECKING:  # with a visible __getattr__, mypy would let misspelt names pass

    def __getattr__(name):
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name in _FOREIGN:
            raise AttributeError(
                f"pygo_plugin.rpc has no {name}: grpcio's belong to the gRPC core inside grpcio"
            )
        if name in _TWINS and imported() is None:
            from importlib import import_module

            home, name = _TWINS[name]
            with _importing(f"pygo_plugin.{home}"):
                return getattr(import_module(f"pygo_plugin.{home}"), name)
        value = _find(name)
        globals()[name] = value
        return value

    def _find(name):
        if name == "aio":
            from pygo_plugin import aio

            return aio
        try:
            with _needing(f"pygo_plugin.rpc.{name}"):
                import grpc
            return getattr(grpc, name)
        except (AttributeError, MissingPackageError):
            if name in _GRPCIO:
                raise
            raise AttributeError(
                f"neither pygo_plugin.rpc nor grpc has an attribute {name!r}"
            ) from None

    def __dir__():
        return sorted({*globals(), *__all__})
