"""Serves plugins in the process of a test, so that breakpoints work on both sides.

Nothing is launched. Everything else is as with real plugins: a server, a socket, a client that
reattaches. For pytest there are fixtures: see docs/testing.md.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pygo_plugin._host.naming import printable
from pygo_plugin.client import Client
from pygo_plugin.config import (
    PROTOCOLS,
    HandshakeConfig,
    ReattachConfig,
    ServeConfig,
    ServeTestConfig,
)
from pygo_plugin.errors import ConfigError
from pygo_plugin.plugin import PluginBase

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["client", "serve", "stub"]

T = TypeVar("T")
S = TypeVar("S")


@contextlib.contextmanager
def serve(
    plugins: Mapping[str, PluginBase] | None = None,
    *,
    asyncio: bool = False,
    sync_stdio: bool = False,
    **options: Any,
) -> Iterator[ReattachConfig]:
    """Serve plugins in this process while the block runs.

    The block's variable is the ReattachConfig for a client, or for a host in another process. Its
    `test` is set, so that killing such a client does not end this process.

    asyncio     serve on an event loop on another thread, for methods that are coroutines
    sync_stdio  that of ServeTestConfig
    options     those of ServeConfig

    Raises: StartError if it cannot serve; what `server_register` raises. If serving fails later,
    its exception is raised at the end of the block.
    """
    ready = _Ready()
    options.setdefault("handshake_config", HandshakeConfig())
    test = ServeTestConfig(ready=ready.set, stop=ready.stop, sync_stdio=sync_stdio)
    config = ServeConfig(plugins=plugins, test=test, **options)
    thread = threading.Thread(
        target=_serve, args=(config, asyncio, ready), name="pygo-testing", daemon=True
    )
    thread.start()
    try:
        yield ready.wait()
    finally:
        ready.stop.set()
        thread.join()
    ready.check()


class _Ready:
    """What the serving thread reports: where it serves, or why it does not."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._done = threading.Event()
        self._config = ReattachConfig()
        self._error: BaseException | None = None

    def set(self, config: ReattachConfig) -> None:
        self._config = config
        self._done.set()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._done.set()

    def wait(self) -> ReattachConfig:
        self._done.wait()
        self.check()
        return self._config

    def check(self) -> None:
        """Raise the exception that serving has failed with, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error


def _serve(config: ServeConfig, on_loop: bool, ready: _Ready) -> None:
    try:
        if on_loop:
            import asyncio

            from pygo_plugin import aio

            asyncio.run(aio.serve(config))
        else:
            from pygo_plugin import server

            server.serve(config)
    except BaseException as error:
        ready.fail(error)


@contextlib.contextmanager
def client(
    plugins: Mapping[str, PluginBase[T, Any]] | None = None,
    *,
    asyncio: bool = False,
    name: str | None = None,
    **options: Any,
) -> Iterator[Client[T]]:
    """Serve plugins as `serve`. The block's variable is a started client.

    `name` is the client's, by default the names of the plugins. Raises: as `serve`.
    """
    with serve(plugins, asyncio=asyncio, **options) as reattach:
        kinds = ("versioned_plugins", "handshake_config")
        shared = {name: options[name] for name in kinds if name in options}
        joined = Client(
            name=name or printable(", ".join(map(str, plugins or ()))) or None,
            reattach_config=reattach,
            plugins=plugins,
            allowed_protocols=PROTOCOLS,
            **shared,
        )
        try:
            joined.start()
            yield joined
        finally:
            joined.kill()


@overload
def stub(
    plugin: PluginBase[tuple[Any, S], Any] | Mapping[str, PluginBase[tuple[Any, S], Any]],
    name: str | None = None,
    *,
    asyncio: bool = False,
    **options: Any,
) -> contextlib.AbstractContextManager[S]: ...
@overload
def stub(
    plugin: PluginBase[T, Any] | Mapping[str, PluginBase[T, Any]],
    name: str | None = None,
    *,
    asyncio: bool = False,
    **options: Any,
) -> contextlib.AbstractContextManager[T]: ...
@contextlib.contextmanager
def stub(
    plugin: PluginBase[Any] | Mapping[str, PluginBase[Any]],
    name: str | None = None,
    *,
    asyncio: bool = False,
    **options: Any,
) -> Iterator[Any]:
    """Serve plugins as `serve`. The block's variable is the stub of the plugin `name`.

    If the plugin overrides `client()`, or is one of net/rpc, it is what that returns. `plugin` is a
    plugin set, or a single plugin, which needs no name.

    Raises: as `serve`; ConfigError for an unknown name.
    """
    plugins, name = named(plugin, name)
    with client(plugins, asyncio=asyncio, **options) as joined:
        yield stub_of(joined.dispense(name))


def named(
    plugin: PluginBase | Mapping[str, PluginBase], name: str | None
) -> tuple[Mapping[str, PluginBase], str]:
    """A plugin set, and the name of the plugin in it whose stub `stub()` returns."""
    plugins = {name or "plugin": plugin} if isinstance(plugin, PluginBase) else plugin
    if name is None:
        if len(plugins) != 1:
            raise ConfigError(f"name one of the plugins: {', '.join(sorted(plugins))}")
        (name,) = plugins
    return plugins, name


def stub_of(dispensed: Any) -> Any:
    """The stub, if the plugin dispenses (channel, stub), as plugins do by default."""
    return dispensed[1] if isinstance(dispensed, tuple) and len(dispensed) == 2 else dispensed
