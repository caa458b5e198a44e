"""Plugins as subprocesses that speak hashicorp/go-plugin's protocol over gRPC.

A host launches plugins with `Client`, a plugin serves with `serve`; either may be written in Go
with go-plugin instead. See README.md and docs/.

Names are imported at first use, so that a plugin does not load the host's side, and a host does
not load the plugin's.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pygo_plugin import (
        broker,
        client,
        config,
        errors,
        gob,
        netrpc,
        plugin,
        pool,
        rpc,
        runners,
        security,
        server,
        stubs,
        supervise,
        testing,
        utils,
    )
    from pygo_plugin._core import __version__
    from pygo_plugin._grpc.status import StatusCode
    from pygo_plugin._service.service import Service, ServicePlugin, service
    from pygo_plugin.client import Client, cleanup_clients
    from pygo_plugin.config import (
        ClientConfig,
        Cmd,
        HandshakeConfig,
        ReattachConfig,
        ServeConfig,
        ServeTestConfig,
    )
    from pygo_plugin.errors import (
        BrokerError,
        CallTimeoutError,
        ChecksumError,
        ClosedError,
        ConfigError,
        ConfigTypeError,
        ExitedEarlyError,
        ForkedError,
        GobError,
        HandshakeError,
        LibraryError,
        MissingPackageError,
        PluginError,
        PluginExitedError,
        PluginFailedError,
        ReattachError,
        RpcError,
        ServerError,
        StartError,
        StartTimeoutError,
        SystemCallError,
        TLSError,
        VersionError,
    )
    from pygo_plugin.plugin import Plugin
    from pygo_plugin.pool import Pool
    from pygo_plugin.security import SecureConfig, TLSConfig
    from pygo_plugin.server import Server, serve
    from pygo_plugin.supervise import Health, Restart, Supervisor, idempotent
    from pygo_plugin.utils import discover

__all__ = [
    # hosts
    "Client",
    "ClientConfig",
    "Cmd",
    "Pool",
    "ReattachConfig",
    "Health",
    "Restart",
    "SecureConfig",
    "Supervisor",
    "cleanup_clients",
    "discover",
    "idempotent",
    # plugins
    "Server",
    "ServeConfig",
    "ServeTestConfig",
    "serve",
    # both
    "HandshakeConfig",
    "Plugin",
    "Service",
    "ServicePlugin",
    "StatusCode",
    "TLSConfig",
    "service",
    # errors
    "BrokerError",
    "CallTimeoutError",
    "ChecksumError",
    "ClosedError",
    "ConfigError",
    "ConfigTypeError",
    "ExitedEarlyError",
    "ForkedError",
    "GobError",
    "HandshakeError",
    "LibraryError",
    "MissingPackageError",
    "PluginError",
    "PluginExitedError",
    "PluginFailedError",
    "ReattachError",
    "RpcError",
    "ServerError",
    "StartError",
    "StartTimeoutError",
    "SystemCallError",
    "TLSError",
    "VersionError",
    # modules
    "broker",
    "client",
    "config",
    "errors",
    "gob",
    "netrpc",
    "plugin",
    "pool",
    "rpc",
    "runners",
    "security",
    "server",
    "stubs",
    "supervise",
    "testing",
    "utils",
    "__version__",
]

_HOMES = {
    "_core": ("__version__",),
    "_service.service": ("Service", "ServicePlugin", "service"),
    "_grpc.status": ("StatusCode",),
    "client": ("Client", "cleanup_clients"),
    "config": (
        "ClientConfig",
        "Cmd",
        "HandshakeConfig",
        "ReattachConfig",
        "ServeConfig",
        "ServeTestConfig",
    ),
    "errors": (
        "BrokerError",
        "CallTimeoutError",
        "ChecksumError",
        "ClosedError",
        "ConfigError",
        "ConfigTypeError",
        "ExitedEarlyError",
        "ForkedError",
        "GobError",
        "HandshakeError",
        "LibraryError",
        "MissingPackageError",
        "PluginError",
        "PluginExitedError",
        "PluginFailedError",
        "ReattachError",
        "RpcError",
        "ServerError",
        "StartError",
        "StartTimeoutError",
        "SystemCallError",
        "TLSError",
        "VersionError",
    ),
    "plugin": ("Plugin",),
    "pool": ("Pool",),
    "security": ("SecureConfig", "TLSConfig"),
    "server": ("Server", "serve"),
    "supervise": ("Health", "Restart", "Supervisor", "idempotent"),
    "utils": ("discover",),
}
_MODULES = (
    "broker",
    "client",
    "config",
    "errors",
    "gob",
    "netrpc",
    "plugin",
    "pool",
    "rpc",
    "runners",
    "security",
    "server",
    "stubs",
    "supervise",
    "testing",
    "utils",
)


if not TYPE_CHECKING:  # with a visible __getattr__, mypy would let misspelt names pass

    def __getattr__(name):
        from sys import modules

        for home, names in _HOMES.items():
            if name in names:
                _import(f"{__name__}.{home}")
                value = getattr(modules[f"{__name__}.{home}"], name)
                globals()[name] = value
                return value
        if name in _MODULES:
            _import(f"{__name__}.{name}")  # which sets the attribute
            return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def _import(name):
        try:
            __import__(name)
        except OSError as error:  # for instance at the limit of descriptors
            from sys import modules

            errors = modules.get(f"{__name__}.errors")
            if errors is None:
                raise
            raise errors._not_imported(name, error) from error

    def __dir__():
        return sorted({*globals(), *__all__})


def _announce_failures() -> None:
    """In a plugin, announce failures to the host: see _serve/panic.py."""
    from os import environ

    # Hosts set the first one for their plugins. Plugins that serve set the second one, which their
    # children inherit.
    if "PLUGIN_PROTOCOL_VERSIONS" in environ and "PYGO_PLUGIN_LOG" not in environ:
        from pygo_plugin._serve.panic import announce

        announce()


_announce_failures()
