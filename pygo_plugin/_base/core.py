"""The C core, and the classes and functions of this package that it uses.

Every module takes `_core` from here: the extension itself imports nothing of the package. When it
first needs one of the classes and functions below, it asks `_provide`, which imports it then.
"""

from __future__ import annotations

from pygo_plugin import _core
from pygo_plugin.errors import _importing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["_core"]

# What csrc/py/state.c names, by the module that has it.
_HOMES = {
    "errors": (
        "PluginError",
        "ConfigError",
        "ConfigTypeError",
        "StartError",
        "ExitedEarlyError",
        "StartTimeoutError",
        "HandshakeError",
        "VersionError",
        "ChecksumError",
        "TLSError",
        "ReattachError",
        "BrokerError",
        "ClosedError",
        "SystemCallError",
        "LibraryError",
        "ForkedError",
        "GobError",
        "ServerError",
        "CallTimeoutError",
    ),
    "_base.threads": ("register_thread", "unregister_thread"),
    "_gob.registry": ("interface_type", "registered_type"),
    "_gob.times": ("Time",),
    "_gob.untyped": ("Opaque", "Struct", "StructType"),
    "_grpc.abstract": ("class_of",),
    "_grpc.calls": ("Call", "ResponseStream", "start_feeding"),
    "_grpc.channel": ("Channel",),
    "_grpc.credentials": ("ask_plugin",),
    "_grpc.errors": ("request_refused", "rpc_error"),
    "_grpc.describe": ("signature_of",),
    "_grpc.server": (
        "handler_failed",
        "is_pool",
        "requests_cancelled",
        "run_in_pool",
        "workers_full",
    ),
    "_gob.resolve": ("type_of",),
    "_log.grpc": ("log_line",),
    "_netrpc.server": ("method_failed",),
    "_netrpc.values": ("infer_type",),
}


def _provide(name: str) -> Any:
    """The class or function of this name. Called by the core, on any thread."""
    from sys import modules

    for home, names in _HOMES.items():
        if name in names:
            module = f"pygo_plugin.{home}"
            with _importing(module):
                __import__(module)
            return getattr(modules[module], name)
    raise LookupError(name)


_core.set_provider(_provide)
