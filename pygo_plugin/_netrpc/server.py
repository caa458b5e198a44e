"""Servers of net/rpc: objects of Python whose methods are called by name."""

from __future__ import annotations

from pygo_plugin._base import at_exit
from pygo_plugin._base.checks import refuse_copy
from pygo_plugin._base.core import _core
from pygo_plugin._netrpc.address import core_limits, core_tls, parse
from pygo_plugin._netrpc.methods import methods_of
from pygo_plugin.errors import ConfigError, ConfigTypeError, GobError, ServerError

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any, ClassVar

    from typing_extensions import Self

    from pygo_plugin.gob import Limits
    from pygo_plugin.security import TLSConfig

__all__ = ["Server", "core_services", "listen", "method_failed"]


def core_services(
    objects: Mapping[str, Any],
    queue: _core.LoopQueue | None = None,
    loop: AbstractEventLoop | None = None,
) -> _core.NetRpcServices:
    """What the core serves: the methods of each object, as those of the service of that name.

    Coroutines run on `loop`, whose queue is `queue`.

    Raises: ConfigTypeError for an object without methods, or with coroutines if there is no loop.
    """
    from pygo_plugin._gob.resolve import NONE

    rows: list[Any] = []
    for service, target in objects.items():
        if not service or type(service) is not str:
            raise ConfigTypeError(f"the name of a service must be a str, not {service!r}")
        if isinstance(target, type):
            raise ConfigTypeError(
                f"{service}: an object is needed, not the class {target.__name__}; call it"
            )
        for method in methods_of(type(target)):
            if method.is_async and loop is None:
                raise ConfigTypeError(
                    f"{type(target).__name__}.{method.name} is a coroutine function, which only "
                    "an asyncio program can serve: see netrpc.aio"
                )
            rows.append((
                service,
                method.wire_name,
                f"{type(target).__name__}.{method.name}",
                getattr(target, method.name),
                method.argument if method.takes_argument else False,
                method.reply,
                method.is_async,
            ))  # fmt: skip
    return _core.NetRpcServices(tuple(rows), NONE, queue, loop)


def named_services(services: Any) -> Mapping[str, Any]:
    """The objects by their names: one object is the service of its class's name, as in Go."""
    if isinstance(services, dict):
        found = services
    elif hasattr(services, "keys") and hasattr(services, "items"):
        found = dict(services)
    else:
        found = {type(services).__name__: services}
    if not found:
        raise ConfigError("there is no service to serve")
    return found


def method_failed(name: str, error: BaseException, decoding: bool) -> str:
    """The text of the answer to a request that has failed. Called by the core.

    The exception is logged, unless the client is at fault or the method has meant it for the
    client.
    """
    text = str(error) or type(error).__name__
    answer = f"{name}: {text}" if isinstance(error, GobError) else text
    if isinstance(error, ServerError) or (decoding and isinstance(error, GobError)):
        return answer
    import logging

    logging.getLogger("pygo_plugin.server").error(
        "%s has failed: %s", name, text, exc_info=(type(error), error, error.__traceback__)
    )
    return answer


class ServerBase:
    """What servers of threads and of asyncio share."""

    _PUBLIC: ClassVar[str]  # what repr() calls the class

    def __init__(
        self,
        address: str,
        services: _core.NetRpcServices,
        tls_config: TLSConfig | None,
        max_workers: int | None,
        limits: Limits | None,
    ) -> None:
        network, where = parse(address)
        if network == "unix" and where.startswith("@"):
            raise ConfigError(f"the address {address!r} must be the path of a file")
        if max_workers is not None and max_workers < 1:
            raise ConfigError(f"max_workers must be at least 1, not {max_workers}")
        if tls_config is not None and getattr(tls_config, "certificate", b"") is None:
            raise ConfigError("tls_config: a server needs a certificate and its key")
        at_exit.register()
        self._core = _core.NetRpcListener(
            network, where, services, core_tls(tls_config), core_limits(limits), max_workers or 0
        )
        self._address = (
            address if network == "unix" else f"{where.rpartition(':')[0]}:{self._core.port}"
        )

    @property
    def address(self) -> str:
        """Where the server listens, as `connect` takes it."""
        return self._address

    def __repr__(self) -> str:
        return f"<{self._PUBLIC} at {self._address}>"

    __reduce_ex__ = refuse_copy


class Server(ServerBase):
    """Serves net/rpc at an address. Made by `listen`."""

    _PUBLIC = "netrpc.Server"

    def close(self) -> None:
        """Stop listening and end all connections, without waiting for methods. Idempotent."""
        _core.call_blocking(self._core.close)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server is closed and no method runs. Returns: False after `timeout` s."""
        finished: bool = _core.call_blocking(self._core.wait, timeout)
        return finished

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def listen(
    address: str,
    services: Any,
    *,
    tls_config: TLSConfig | None = None,
    max_workers: int | None = None,
    limits: Limits | None = None,
) -> Server:
    """Serve objects at an address, on threads of the core.

    address      "unix:/path" or "host:port"; the port may be 0, see `Server.address`
    services     an object, whose class's name is that of its service, or a dict from names of
                 services to objects
    tls_config   the certificate of the server, and those that clients need
    max_workers  how many methods may run at once for one connection; by default 1,000
    limits       what arguments may be; see `gob.Limits`

    Only this user may connect to a unix socket, which is removed at the end.

    Raises: SystemCallError (an OSError); ConfigError (a ValueError) for objects without methods
    that could be called.
    """
    return Server(address, core_services(named_services(services)), tls_config, max_workers, limits)
