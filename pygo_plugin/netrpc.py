"""net/rpc, go-plugin's first protocol: Go's package of that name, with gob. See docs/netrpc.md.

Names are imported at first use, so that a plugin does not load the client's side.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pygo_plugin._gob.basic_error import BasicError
    from pygo_plugin._netrpc import aio as aio
    from pygo_plugin._netrpc.client import Client, connect
    from pygo_plugin._netrpc.future import Future
    from pygo_plugin._netrpc.methods import method
    from pygo_plugin._netrpc.mux_broker import MuxBroker, Serving
    from pygo_plugin._netrpc.plugin import Plugin, plugin
    from pygo_plugin._netrpc.server import Server, listen
    from pygo_plugin._netrpc.stream import Stream
    from pygo_plugin.errors import CallTimeoutError, ServerError

__all__ = [
    "BasicError",
    "CallTimeoutError",
    "Client",
    "Future",
    "MuxBroker",
    "Plugin",
    "Server",
    "ServerError",
    "Serving",
    "Stream",
    "aio",
    "connect",
    "listen",
    "method",
    "plugin",
]

_HOMES = {
    "BasicError": "_gob.basic_error",
    "CallTimeoutError": "errors",
    "Client": "_netrpc.client",
    "Future": "_netrpc.future",
    "MuxBroker": "_netrpc.mux_broker",
    "Plugin": "_netrpc.plugin",
    "Server": "_netrpc.server",
    "ServerError": "errors",
    "Serving": "_netrpc.mux_broker",
    "Stream": "_netrpc.stream",
    "connect": "_netrpc.client",
    "listen": "_netrpc.server",
    "method": "_netrpc.methods",
    "plugin": "_netrpc.plugin",
}


if not TYPE_CHECKING:  # with a visible __getattr__, mypy would let misspelt names pass

    def __getattr__(name):
        from sys import modules

        from pygo_plugin.errors import _importing

        home = "_netrpc.aio" if name == "aio" else _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = f"pygo_plugin.{home}"
        with _importing(module):
            __import__(module)
        value = modules[module] if name == "aio" else getattr(modules[module], name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
