# The C core. Private: everything public is exported by the package's Python modules.

import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextvars import Context
from inspect import Signature
from typing import Any, Literal, TypeVar, final, overload

from typing_extensions import Self, TypeAlias, disjoint_base

_T = TypeVar("_T")
_Call = TypeVar("_Call", bound=NetRpcCall)

__version__: str

# One record of a plugin's stderr: level (as in `logging`, TRACE is 5), message, hclog's @module,
# the plugin's own time stamp in seconds since the epoch (0.0 if it sent none), structured fields.
_LogRecord: TypeAlias = tuple[int, str, str | None, float, dict[str, Any] | None]

# How a call ended: code, details, trailing metadata, gRPC's debug text.
_CallStatus: TypeAlias = tuple[int, str, tuple[Metadatum, ...], str | None]

_Pairs: TypeAlias = Iterable[tuple[str, str | bytes]]
_Options: TypeAlias = Iterable[tuple[str | bytes, Any]]
_Serializer: TypeAlias = Callable[[Any], bytes]
_Deserializer: TypeAlias = Callable[[bytes], Any]

def set_provider(provide: Callable[[str], Any], /) -> None: ...
def forked() -> bool: ...
def refuse_forked() -> None: ...
def before_fork() -> None: ...
def check_timeout(timeout: Any, /) -> None: ...
def unraisable(error: BaseException, where: object, /) -> None: ...
def kill_all(managed_only: bool, /) -> None: ...
def shutdown() -> None: ...
def call_blocking(function: Callable[..., Any], /, *args: Any) -> Any: ...
def share_threads(
    get_hub: Callable[[], Any],
    get_current: Callable[[], Any],
    wait: Callable[[int, float | None], None],
    call_on_thread: Callable[..., Any],
    call_in_greenlet: Callable[..., Any] | None,
    /,
) -> None: ...
def digest_size(hash: str, /) -> int: ...  # noqa: A002
def handshake_line(
    version: int,
    network: str,
    address: str,
    protocol: str,
    cert: str | None = None,
    multiplex: bool | None = None,
    /,
) -> bytes: ...
def watch_host(gone: Callable[[], Any], patience: float, /) -> None: ...
def negotiate(own: Iterable[int], offered: str | None, /) -> tuple[int, list[str]]: ...
def socket_cleanup_add(path: str, directory: str | None, /) -> int: ...
def socket_cleanup_drop(number: int, /) -> None: ...
def fatal_report_enable() -> None: ...
def socket_directory(group: str | None, /) -> str: ...
def listen_port(min_port: int, max_port: int, /) -> int: ...
def hclog_line(
    level: int, message: str, module: str | None, created: float, fields: dict[str, Any] | None, /
) -> bytes: ...
def reflection_reply(
    request: bytes, lookup: Callable[[str, str, int], list[bytes] | list[str] | list[int] | str], /
) -> bytes: ...
def ssl_channel_credentials(
    root_certificates: bytes | None,
    private_key: bytes | None,
    certificate_chain: bytes | None,
    /,
) -> ChannelCredentials: ...
def compose_channel_credentials(
    channel_credentials: ChannelCredentials, call_credentials: CallCredentials, /
) -> ChannelCredentials: ...

# Each of `pairs` is a private key and a certificate chain.
def ssl_server_credentials(
    pairs: tuple[tuple[bytes, ...], ...],
    root_certificates: bytes | None,
    require_client_auth: bool,
    /,
) -> ServerCredentials: ...
def token_call_credentials(access_token: str, /) -> CallCredentials: ...
def plugin_call_credentials(plugin: object, /) -> CallCredentials: ...
def compose_call_credentials(
    first: CallCredentials, second: CallCredentials, /
) -> CallCredentials: ...

@final
class Metadatum(tuple[str, str | bytes]):
    n_fields: int
    n_sequence_fields: int
    n_unnamed_fields: int
    __match_args__ = ("key", "value")
    @property
    def key(self) -> str: ...
    @property
    def value(self) -> str | bytes: ...
    def __new__(cls, sequence: Iterable[Any], dict: Any = ...) -> Self: ...  # noqa: A002
    if sys.version_info >= (3, 13):
        def __replace__(self, **changes: Any) -> Self: ...

@final
class HandlerCallDetails(tuple[Any, ...]):
    n_fields: int
    n_sequence_fields: int
    n_unnamed_fields: int
    __match_args__ = ("method", "invocation_metadata")
    @property
    def method(self) -> str: ...
    @property
    def invocation_metadata(self) -> tuple[Metadatum, ...]: ...
    def __new__(cls, sequence: Iterable[Any], dict: Any = ...) -> Self: ...  # noqa: A002
    if sys.version_info >= (3, 13):
        def __replace__(self, **changes: Any) -> Self: ...

# All arguments but the last two are PEM. `automatic` makes the key and certificate of AutoMTLS,
# which trusts only `peer`.
@final
class TLS:
    def __new__(
        cls,
        roots: bytes | None = None,
        certificate: bytes | None = None,
        private_key: bytes | None = None,
        server_name: str | None = None,
        password: str | None = None,
    ) -> Self: ...
    @classmethod
    def automatic(cls, peer: bytes | None, /) -> Self: ...
    def field(self) -> str | None: ...
    def server_credentials(self) -> ServerCredentials: ...

@final
class Template:
    def __new__(cls, argv: Sequence[str], env: Sequence[str], directory: str | None, /) -> Self: ...
    def wait(self, timeout: float, /) -> bytes | None: ...
    def close(self) -> None: ...
    @property
    def alive(self) -> bool: ...
    @property
    def pid(self) -> int: ...

def load_grpc() -> None: ...
def template_obstacle() -> str | None: ...
def template_clone() -> int: ...
def template_begin(detached: bool, host: int, /) -> None: ...

@final
class SocketPlace:
    def __new__(cls, directory: str | None, group: str | None, /) -> Self: ...
    def publish(self) -> None: ...
    def remove(self) -> None: ...
    @property
    def path(self) -> str: ...
    @property
    def bind(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def directory(self) -> str | None: ...

@final
class Mux:
    def __new__(cls) -> Self: ...
    def listen(self, network: str, address: str, /) -> int: ...
    def close(self) -> None: ...
    def remove(self) -> None: ...
    def log_to(self, descriptor: int, /) -> None: ...
    @property
    def target(self) -> str: ...
    @property
    def directory(self) -> str: ...

@final
class Broker:
    def next_id(self) -> int: ...
    def announce(self, service_id: int, network: str, address: str, /) -> None: ...
    def dial(self, service_id: int, timeout: float | None, /) -> Channel: ...
    def server_credentials(self) -> ServerCredentials | None: ...
    def on_gone(self, callback: Callable[[], object], /) -> bool: ...
    def forget(self, service_id: int, /) -> None: ...
    @property
    def multiplexed(self) -> bool: ...
    @property
    def directory(self) -> str | None: ...
    def close(self) -> None: ...

@final
class Client:
    # `reattach` is (network, address, protocol, version, pid, test, start time). `log` returns the
    # lowest level that it wants from now on. `output` gets 1 (stdout) or 2 (stderr), and the bytes.
    # `options` are those of the table in _host/options.py.
    def __new__(
        cls,
        *,
        name: str = "",
        argv: Sequence[str] | None = None,
        env: Sequence[str] = (),
        directory: str | None = None,
        cookie_key: str = "",
        cookie_value: str = "",
        versions: Iterable[int] = (),
        reattach: tuple[str, str, str, int, int, bool, int] | None = None,
        log: Callable[[bytes | None, list[_LogRecord]], int] | None = None,
        log_level: int = 5,
        want_raw: bool = False,
        output: Callable[[int, bytes], object] | None = None,
        on_exit: Callable[[int | None], Any] | None = None,
        runner: Any = None,
        kill_group: str | None = None,
        template: Template | None = None,
        channel_options: _Options | None = None,
        **options: Any,
    ) -> Self: ...
    # (network, address, gRPC target, protocol, application version). Idempotent.
    def start(self) -> tuple[str, str, str, str, int]: ...
    def channel(self) -> Channel: ...
    def broker(self) -> Broker: ...
    def mux_broker(self) -> MuxBroker: ...
    def dispense(
        self,
        kind: type[_RpcClient],
        name: str,
        timeout: float | None,
        limits: _Limits | None,
        explain: _Explain | None,
        /,
    ) -> _RpcClient: ...
    def ping(self, timeout: float | None, /) -> None: ...
    def kill(self) -> None: ...
    def exited(self) -> bool: ...
    @property
    def exit_status(self) -> int | None: ...
    @property
    def exit_text(self) -> str: ...
    @property
    def stderr(self) -> str: ...
    def await_exit(self) -> bool: ...
    @property
    def pid(self) -> int: ...
    @property
    def start_time(self) -> int: ...

# A child process that dies with this one. When the object is collected, the child is killed.
@final
class Process:
    def __new__(cls, argv: tuple[bytes, ...], env: tuple[bytes, ...], /) -> Self: ...
    def wait(self, timeout: float | None, /) -> int | None: ...
    def kill(self) -> None: ...
    @property
    def pid(self) -> int: ...
    @property
    def stdout(self) -> int: ...
    @property
    def stderr(self) -> int: ...

@final
class MemoryQuota:
    def __new__(cls, size: int) -> Self: ...

@final
class SSLSessionCacheLRU:
    def __new__(cls, capacity: int) -> Self: ...

@disjoint_base
class Channel:
    def __new__(
        cls,
        target: str,
        options: _Options | None = (),
        credentials: ChannelCredentials | None = None,
        *,
        general: bool = False,
        agent: str | None = None,
    ) -> Self: ...
    def unary_unary(
        self,
        method: str,
        request_serializer: _Serializer | None = None,
        response_deserializer: _Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnaryMultiCallable: ...
    def unary_stream(
        self,
        method: str,
        request_serializer: _Serializer | None = None,
        response_deserializer: _Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryStreamMultiCallable: ...
    def stream_unary(
        self,
        method: str,
        request_serializer: _Serializer | None = None,
        response_deserializer: _Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> StreamUnaryMultiCallable: ...
    def stream_stream(
        self,
        method: str,
        request_serializer: _Serializer | None = None,
        response_deserializer: _Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> StreamStreamMultiCallable: ...
    def close(self) -> None: ...
    def state(self, connect: bool = False) -> int: ...
    def wait_state(self, last: int, timeout: float | None = None) -> int: ...
    def _disconnect(self) -> None: ...
    def _async_calls(self) -> list[Any]: ...
    def _watch_state(self, last: int, queue: LoopQueue, future: Any, /) -> None: ...

@final
class ChannelCredentials: ...

@final
class ServerCredentials: ...

@final
class CallCredentials: ...

@final
class AuthAnswer:
    answered: bool
    def __call__(self, metadata: _Pairs | None, error: BaseException | None) -> None: ...

@final
class UnaryUnaryMultiCallable:
    _method: bytes  # read-only
    @property
    def __signature__(self) -> Signature: ...
    def _begin(
        self,
        kind: type[AsyncCall],
        queue: LoopQueue,
        loop: AbstractEventLoop,
        keep: bool,
        request: Any,
        timeout: float | None,
        metadata: _Pairs | None,
        credentials: Any,
        wait_for_ready: bool | None,
        compression: int | None,
        /,
    ) -> Any: ...
    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: _Pairs | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: int | None = None,
    ) -> Any: ...
    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: _Pairs | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: int | None = None,
    ) -> tuple[Any, Any]: ...
    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: _Pairs | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: int | None = None,
    ) -> Any: ...

@final
class UnaryStreamMultiCallable:
    _method: bytes  # read-only
    @property
    def __signature__(self) -> Signature: ...
    def _begin(
        self,
        kind: type[AsyncCall],
        queue: LoopQueue,
        loop: AbstractEventLoop,
        keep: bool,
        request: Any,
        timeout: float | None,
        metadata: _Pairs | None,
        credentials: Any,
        wait_for_ready: bool | None,
        compression: int | None,
        /,
    ) -> Any: ...
    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: _Pairs | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: int | None = None,
    ) -> Any: ...

@final
class StreamUnaryMultiCallable:
    _method: bytes  # read-only
    @property
    def __signature__(self) -> Signature: ...
    def _begin(
        self,
        kind: type[AsyncCall],
        queue: LoopQueue,
        loop: AbstractEventLoop,
        keep: bool,
        request: Any,
        timeout: float | None,
        metadata: _Pairs | None,
        credentials: Any,
        wait_for_ready: bool | None,
        compression: int | None,
        /,
    ) -> Any: ...
    def __call__(
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: _Pairs | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: int | None = None,
    ) -> Any: ...
    def with_call(
        self,
        request: Iterable[Any],
        timeout: float | None = None,
        metadata: _Pairs | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: int | None = None,
    ) -> tuple[Any, Any]: ...
    def future(
        self,
        request: Iterable[Any],
        timeout: float | None = None,
        metadata: _Pairs | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: int | None = None,
    ) -> Any: ...

@final
class StreamStreamMultiCallable:
    _method: bytes  # read-only
    @property
    def __signature__(self) -> Signature: ...
    def _begin(
        self,
        kind: type[AsyncCall],
        queue: LoopQueue,
        loop: AbstractEventLoop,
        keep: bool,
        request: Any,
        timeout: float | None,
        metadata: _Pairs | None,
        credentials: Any,
        wait_for_ready: bool | None,
        compression: int | None,
        /,
    ) -> Any: ...
    def __call__(
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: _Pairs | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: int | None = None,
    ) -> Any: ...

# The completions that the core has posted for one event loop. fileno() is readable while there are
# any.
@final
class LoopQueue:
    def fileno(self) -> int: ...
    def drain(self) -> None: ...

# Like an asyncio.Future, but LoopQueue.drain() resumes the task that awaits it.
@final
class LoopFuture:
    _asyncio_future_blocking: bool
    def __new__(cls, loop: AbstractEventLoop, /) -> Self: ...
    def __await__(self) -> Generator[Any, None, Any]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def add_done_callback(
        self, callback: Callable[[Self], Any], /, *, context: Context | None = None
    ) -> None: ...
    def remove_done_callback(self, callback: Callable[[Self], Any], /) -> int: ...
    def set_result(self, value: Any, /) -> None: ...
    def cancel(self, msg: Any = None) -> bool: ...
    def result(self) -> Any: ...
    def exception(self) -> BaseException | None: ...
    def done(self) -> bool: ...
    def cancelled(self) -> bool: ...
    def get_loop(self) -> AbstractEventLoop: ...

@disjoint_base
class CallBase:
    _method: bytes  # read-only
    def _cut_off(self) -> tuple[int | None, str] | None: ...
    def _status(self) -> _CallStatus | None: ...
    def _take_reply(self) -> Any: ...
    def _cancel(self, code: int, details: str, /) -> None: ...
    def time_remaining(self) -> float | None: ...

class Call(CallBase):
    def _wait(self, timeout: float | None, /) -> bool: ...
    def _done(self) -> bool: ...
    def _on_done(self, callback: Callable[[], Any], /) -> None: ...
    def initial_metadata(self) -> tuple[Metadatum, ...]: ...

# `future` is a LoopFuture, or an asyncio.Future, of the loop that the call was begun with.
@disjoint_base
class AsyncCall(CallBase):
    # The attributes are read-only.
    _loop: AbstractEventLoop
    _channel: Channel
    _ended: LoopFuture
    def _the_reply(self) -> Any: ...
    def _receive(self, future: Any, end: Any, /) -> None: ...
    def _on_metadata(self, future: Any, /) -> None: ...
    def _metadata(self) -> tuple[Metadatum, ...]: ...
    def _code(self) -> int: ...
    def _sender(self) -> AsyncSender: ...

@disjoint_base
class SenderBase:
    def fail(self, code: int, details: str, /) -> None: ...

# send() and close() return False if the call is over; then the future is not resolved.
@final
class AsyncSender(SenderBase):
    def send(self, message: Any, future: Any, /) -> bool: ...
    def close(self, future: Any, /) -> bool: ...

class StreamCall(Call):
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...

@final
class Sender(SenderBase):
    def send(self, message: Any, /) -> bool: ...
    def close(self) -> None: ...

@final
class Serializer:
    def __new__(
        cls, message_type: type, serialize: _Serializer, otherwise: _Serializer, /
    ) -> Self: ...
    def __call__(self, message: Any, /) -> bytes: ...

@disjoint_base
class ServerCall:
    _method: str  # read-only
    _code: Any
    _details: Any
    _trailing: Any
    _aborted: bool
    def invocation_metadata(self) -> tuple[Metadatum, ...]: ...
    def peer(self) -> str: ...
    # (identity key, properties of the connection)
    def _path(self) -> str: ...
    def _auth_context(self) -> tuple[str | None, tuple[tuple[str, bytes], ...]]: ...
    def time_remaining(self) -> float | None: ...
    def is_active(self) -> bool: ...
    def cancel(self) -> None: ...
    def send_initial_metadata(self, initial_metadata: _Pairs, /) -> None: ...
    def set_compression(self, compression: int, /) -> None: ...
    def disable_next_message_compression(self) -> None: ...
    def _on_finished(self, callback: Callable[[], Any], /) -> bool: ...
    def _answer(self, handler: Any, /) -> None: ...
    def _refuse(self) -> None: ...

@disjoint_base
class AsyncServerCall(ServerCall):
    def _handler_details(self) -> HandlerCallDetails: ...
    def _expect_one(self) -> None: ...
    def _take_first(self, deserializer: Any, otherwise: Any, /) -> Any: ...
    def _receive(self, deserializer: Any, future: Any, end: Any, /) -> None: ...
    def _send(self, message: bytes, future: Any, /) -> bool: ...
    def _flush(self, future: Any, /) -> bool: ...
    def _send_metadata(self, metadata: _Pairs, future: Any, /) -> bool: ...
    def _on_cancel(self, callback: Callable[[], Any], /) -> bool: ...
    def _was_cancelled(self) -> bool: ...
    def _finish(self, message: bytes | None, code: int, details: str, /) -> None: ...
    def _give_up(self, code: int, details: str, /) -> None: ...
    def _delegate(self, handler: Any, wants_message: bool, /) -> None: ...

@final
class SendResponse:
    def __call__(self, response: Any) -> None: ...

@final
class RequestIterator:
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...

@final
class Server:
    def __new__(
        cls,
        find: Callable[[HandlerCallDetails], Any],
        registered: Mapping[str, Any],
        contexts: type[ServerCall],
        *,
        max_workers: int = 1,
        max_concurrent: int = 0,
        options: _Options | None = (),
        general: bool = False,
        arrived: Callable[[Any, Any], Any] | None = None,
        async_contexts: type[AsyncServerCall] | None = None,
        reports_full: bool = False,
    ) -> Self: ...
    def listen(self, address: str, credentials: ServerCredentials | None = None, /) -> int: ...
    def add_broker(
        self, tls: TLS | None, mux: Mux | None, options: _Options | None = (), /
    ) -> Broker: ...
    def add_plugin_services(self, name: str, grace: float, /) -> None: ...
    def add_stdio(self, stdio: Stdio, /) -> None: ...
    def on_stopped(self, queue: LoopQueue, future: Any, /) -> None: ...
    def start(self, queue: LoopQueue | None = None, /) -> None: ...
    # As with grpcio, None cancels running calls at once.
    def stop(self, grace: float | None, /) -> None: ...
    def wait(self, timeout: float | None, /) -> bool: ...
    def join(self, timeout: float | None, /) -> bool: ...
    def stopping(self) -> bool: ...

@final
class Stdio:
    def __new__(cls) -> Self: ...
    def open(self, line: bytes, /) -> None: ...
    # `patience` is in seconds: end() waits so long for hosts to read, finish() does not wait.
    def end(self, patience: float, /) -> None: ...
    def finish(self, patience: float, /) -> None: ...
    def reader(self) -> StdioReader: ...

@final
class StdioReader:
    def __iter__(self) -> Self: ...
    def __next__(self) -> bytes: ...
    def close(self) -> None: ...

# ---- gob ----

def gob_registry() -> tuple[dict[type[Any], tuple[str, GobType]], dict[str, GobType]]: ...

@final
class GobGroup:
    def __new__(cls) -> Self: ...

# `kind` is one of "bool", "int", "uint", "float", "complex", "bytes", "string", "interface",
# "array", "slice", "map", "struct", "none", "optional", "time", or a flavour of opaque types:
# "gob", "binary", "text".
@final
class GobType:
    def __new__(
        cls,
        kind: str,
        spelling: str,
        *,
        group: GobGroup = ...,
        name: str | None = None,
        bits: int = 0,
        element: GobType = ...,
        key: GobType = ...,
        length: int = 0,
        python: Any = ...,
        encode: Callable[[Any], Any] = ...,
        decode: Callable[[Any], Any] = ...,
        zero: Callable[[], Any] = ...,
    ) -> Self: ...
    @property
    def kind(self) -> str: ...
    @property
    def spelling(self) -> str: ...
    @property
    def optional(self) -> bool: ...
    @property
    def bits(self) -> int: ...
    @property
    def python(self) -> Any: ...
    @property
    def element(self) -> GobType | None: ...
    def define(
        self,
        fields: tuple[tuple[str, str, GobType], ...],
        hidden: tuple[tuple[str, Any, Any], ...],
        missing: object,
        /,
    ) -> None: ...

@final
class GobOutput:
    def __new__(cls, type: GobType, value: object) -> Self: ...  # noqa: A002

@final
class GobEncoder:
    def __new__(cls) -> Self: ...
    def commit(self, output: GobOutput, /) -> bytes: ...

@final
class GobDecoder:
    def __new__(
        cls,
        message: int = 0,
        depth: int = 0,
        types: int = 0,
        definitions: int = 0,
        fields: int = 0,
        name: int = 0,
        slots: int = 0,
    ) -> Self: ...
    def feed(self, data: Any, /) -> None: ...
    def take(self, type: GobType | None, none: Any, /) -> Any: ...  # noqa: A002
    @property
    def at_end(self) -> bool: ...

# ---- net/rpc

_Limits: TypeAlias = tuple[int, ...]  # of gob.Limits, each 0 for the default

# Service, method, name for log records, callable, type of the argument (None: untyped; False: there
# is none), type of the reply (None: that of the result's class), whether it is a coroutine.
_NetRpcRow: TypeAlias = tuple[
    str, str, str, Callable[..., Any], GobType | Literal[False] | None, GobType | None, bool
]

@disjoint_base
class NetRpcClient:
    @overload
    def call(
        self,
        method: str,
        args: object,
        reply: type[_T],
        timeout: float | None = None,
        args_type: Any = ...,
    ) -> _T: ...
    @overload
    def call(
        self,
        method: str,
        args: object = None,
        *,
        reply: type[_T],
        timeout: float | None = None,
        args_type: Any = ...,
    ) -> _T: ...
    @overload
    def call(
        self,
        method: str,
        args: object = None,
        reply: Any = ...,
        timeout: float | None = None,
        args_type: Any = ...,
    ) -> Any: ...
    @classmethod
    def _connect(
        cls,
        network: str,
        address: str,
        tls: TLS | None,
        limits: _Limits | None,
        timeout: float | None,
        /,
    ) -> Self: ...
    def _start(
        self,
        kind: type[_Call],
        /,
        method: str,
        args: object = None,
        reply: Any = ...,
        timeout: Any = ...,
        args_type: Any = ...,
    ) -> _Call: ...
    def _begin(
        self,
        queue: LoopQueue,
        future: LoopFuture,
        /,
        method: str,
        args: object = None,
        reply: Any = ...,
        timeout: Any = ...,
        args_type: Any = ...,
    ) -> NetRpcCall: ...
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...

@disjoint_base
class NetRpcCall:
    _method: str  # read-only
    def _wait(self, timeout: float | None, /) -> bool: ...
    def _over(self) -> bool: ...
    def _result(self) -> Any: ...
    def _error(self) -> BaseException | None: ...
    def _cancel(self) -> bool: ...
    def _expire(self, method: str, /) -> None: ...
    def _cancelled(self) -> bool: ...
    def _on_done(self, callback: Callable[[], Any], /) -> None: ...

@final
class NetRpcServices:
    def __new__(
        cls,
        rows: tuple[_NetRpcRow, ...],
        nothing: GobType,
        queue: LoopQueue | None = None,
        loop: AbstractEventLoop | None = None,
    ) -> Self: ...

@final
class NetRpcTask:
    def __call__(self, task: Any, /) -> None: ...

@disjoint_base
class NetRpcListener:
    port: int
    def __new__(
        cls,
        network: str,
        address: str,
        services: NetRpcServices,
        tls: TLS | None,
        limits: _Limits | None,
        max_workers: int,
    ) -> Self: ...
    def close(self) -> None: ...
    def wait(self, timeout: float | None, /) -> bool: ...

# ---- net/rpc as a plugin system ----

_RpcClient = TypeVar("_RpcClient", bound=NetRpcClient)

# Makes the exception for a call over a lost connection of its text.
_Explain: TypeAlias = Callable[[str], BaseException]

@final
class MuxBroker:
    @property
    def connected(self) -> bool: ...
    def next_id(self) -> int: ...
    def dial(
        self,
        kind: type[_RpcClient],
        service_id: int,
        timeout: float | None,
        limits: _Limits | None,
        explain: _Explain | None,
        /,
    ) -> _RpcClient: ...
    def dial_file(self, service_id: int, timeout: float | None, /) -> NetRpcFile: ...
    def accept_file(self, service_id: int, timeout: float | None, /) -> NetRpcFile: ...
    def serve(
        self,
        service_id: int,
        services: NetRpcServices,
        timeout: float | None,
        max_workers: int,
        limits: _Limits | None,
        /,
    ) -> MuxServing: ...

@final
class MuxServing:
    def stop(self) -> None: ...

# A timeout of 0 does not wait.
@final
class NetRpcFile:
    def read_into(self, buffer: Any, timeout: float | None, /) -> int | None: ...
    def write(self, data: Any, timeout: float | None, /) -> int: ...
    def when_ready(self, writing: bool, queue: LoopQueue, future: LoopFuture, /) -> bool: ...
    def shutdown(self) -> None: ...
    def close(self) -> None: ...

# To be answered once.
@final
class Dispense:
    @property
    def name(self) -> str: ...
    @property
    def broker(self) -> MuxBroker | None: ...
    def reply(self, service_id: int, /) -> None: ...
    def fail(self, text: str, /) -> None: ...

@final
class NetRpcPlugin:
    def __new__(
        cls,
        dispense: Callable[[Dispense], object],
        stdio: Stdio,
        tls: TLS | None,
        grace: float,
        max_workers: int,
    ) -> Self: ...
    def listen(self, network: str, address: str, /) -> int: ...
    def start(self) -> None: ...
    def stop(self, grace: float | None, /) -> None: ...
    def wait(self, timeout: float | None, /) -> bool: ...
    def on_stopped(self, queue: LoopQueue, future: LoopFuture, /) -> None: ...
    def stopping(self) -> bool: ...
    def drain(self, timeout: float | None, /) -> None: ...
    def close(self, linger: float | None, /) -> None: ...
