"""Plugins over net/rpc: what a plugin's process serves under a name, and what its hosts get."""

from __future__ import annotations

from pygo_plugin.errors import ConfigError, ConfigTypeError
from pygo_plugin.plugin import PluginBase

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar

    from pygo_plugin._netrpc.methods import Method
    from pygo_plugin.plugin import A, T

__all__ = ["Plugin", "TypedPlugin", "plugin"]


class Plugin(PluginBase["T", "A"]):
    """A named object that a plugin serves by net/rpc and a host calls, as go-plugin's Plugin.

        class GreeterPlugin(netrpc.Plugin):
            def server(self, broker):
                return Greeter()  # Plugin.Greet calls its method greet()

            def client(self, broker, rpc_client):
                return GreeterClient(rpc_client)

    The plugin's process needs `server`, the host may override `client`. `netrpc.plugin()` makes
    both of a class. Subclasses need not call `super().__init__()`.

    For type checkers it is generic in what `dispense` returns: `Plugin[GreeterClient]`. See
    docs/typing.md.
    """

    _protocol = "netrpc"

    def server(self, broker: Any) -> Any:
        """A new object, whose methods are those of the service `Plugin`: see `netrpc.method`.

        Called for each `dispense` of a host, and served to that host alone. `broker` is a
        `netrpc.MuxBroker`, in asyncio programs a `netrpc.aio.MuxBroker`. What this raises is the
        error of the host's `dispense`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no server(broker), which is needed to serve it"
        )

    def client(self, broker: Any, rpc_client: Any) -> T | A:
        """What `Client.dispense` returns on the host: `rpc_client` unless overridden.

        `rpc_client` is a `netrpc.Client` that calls the object: `rpc_client.call("Plugin.Greet",
        "you")`. `broker` is the MuxBroker of the connection. In asyncio programs both are those of
        `netrpc.aio`.
        """
        return rpc_client  # type: ignore[no-any-return]


def plugin(interface: Any, implementation: Any = None) -> Plugin[Any, Any]:
    """The Plugin of a class with annotated methods, for both sides.

        class Greeter:
            def greet(self, name: str) -> str:  # Plugin.Greet
                return f"Hello, {name}!"

        plugins={"greeter": netrpc.plugin(Greeter)}
        greeter = client.dispense("greeter")
        greeter.greet("you")

    interface       the class whose methods hosts call: the object that they get has these methods,
                    with the same arguments and a `timeout` in seconds, and they are coroutines in
                    asyncio programs
    implementation  what makes the object that the plugin's process serves: a class, or another
                    callable. It is called with the MuxBroker if it has a parameter `broker` or
                    needs an argument, else without arguments. By default it is the interface.

    Type checkers let the object have any method unless the plugin is annotated:
    `GREETER: netrpc.Plugin[Greeter] = netrpc.plugin(Greeter)`. See docs/typing.md.
    """
    return TypedPlugin(interface, implementation)


class TypedPlugin(Plugin):
    """The Plugin that `netrpc.plugin()` makes."""

    def __init__(self, interface: Any, implementation: Any = None) -> None:
        if not isinstance(interface, type):
            raise ConfigTypeError(
                f"netrpc.plugin() takes a class with annotated methods, not {interface!r}"
            )
        if implementation is not None and not callable(implementation):
            raise ConfigTypeError(
                "netrpc.plugin() takes a class as its implementation, or what makes the object, "
                f"not {implementation!r}; each host gets an object of its own"
            )
        self.interface = interface
        self._implementation = interface if implementation is None else implementation

    def server(self, broker: Any) -> Any:
        make = self._implementation
        made = make(broker) if _wants_broker(make) else make()
        if made is None:
            raise ConfigError(f"{self!r}: its implementation made no object, but None")
        return made

    def client(self, broker: Any, rpc_client: Any) -> Any:
        # netrpc.aio's clients have no go().
        return proxy_class(self.interface, not hasattr(rpc_client, "go"))(rpc_client)

    def __repr__(self) -> str:
        return f"<net/rpc plugin of {self.interface.__name__}>"


def _wants_broker(make: Any) -> bool:
    """Whether to call a class or another callable with the broker."""
    function = make
    bound = 0
    if isinstance(make, type):
        function, bound = make.__init__, 1  # type: ignore[misc]
    elif hasattr(make, "__func__"):
        function, bound = make.__func__, 1
    elif not hasattr(make, "__code__"):
        function, bound = type(make).__call__, 1
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = getattr(function, "__code__", None)
    if code is None:
        return False  # object's, or a function in C
    parameters = code.co_varnames[bound : code.co_argcount]
    needed = len(parameters) - len(function.__defaults__ or ())
    return needed > 0 or "broker" in parameters


class Proxy:
    """The base class of what hosts call: an object in the plugin's process."""

    __slots__ = ("rpc_client",)

    rpc_client: Any
    """The `netrpc.Client` that it calls through."""
    # Methods of the interface that net/rpc cannot call, and the reasons.
    _refusals: ClassVar[dict[str, str]] = {}

    def __init__(self, rpc_client: Any) -> None:
        self.rpc_client = rpc_client

    def __getattr__(self, name: str) -> Any:
        reason = self._refusals.get(name)
        if reason:
            raise AttributeError(
                f"{type(self).__name__}.{name}() cannot be called over net/rpc, since it {reason}: "
                f"a method takes one argument or none, so put several values into a @gob.struct"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} in a plugin>"


_proxies: Any = None  # a WeakKeyDictionary from interfaces to their classes, once there is one


def proxy_class(interface: Any, asynchronous: bool) -> type[Proxy]:
    """The class of objects that call the methods of `interface` by net/rpc.

    Raises: ConfigTypeError if it has none.
    """
    global _proxies
    if not isinstance(interface, type):
        raise ConfigTypeError(f"a class with annotated methods is needed, not {interface!r}")
    if _proxies is None:
        from weakref import WeakKeyDictionary

        _proxies = WeakKeyDictionary()
    found: dict[bool, type[Proxy]] = _proxies.setdefault(interface, {})
    if asynchronous not in found:
        # setdefault is atomic: if two threads make a class, both get the first.
        found.setdefault(asynchronous, _make_proxy(interface, asynchronous))
    return found[asynchronous]


def _make_proxy(interface: type[Any], asynchronous: bool) -> type[Proxy]:
    from pygo_plugin._netrpc.methods import methods_of, refusals_of

    close = _close_async if asynchronous else _close
    members: dict[str, Any] = {"__slots__": (), "__doc__": interface.__doc__, "close": close}
    members["_refusals"] = refusals_of(interface)
    for method in methods_of(interface):
        given = getattr(interface, method.name)
        function = _proxy_method(method, given)
        function.__name__ = method.name
        function.__qualname__ = f"{interface.__qualname__}.{method.name}"
        function.__doc__ = given.__doc__
        members[method.name] = function
    made: type[Proxy] = type(interface.__name__, (Proxy,), members)
    made.__module__ = interface.__module__
    return made


def _proxy_method(method: Method, function: Any) -> Callable[..., Any]:
    """A function that calls the method by name. With a client of asyncio it returns a coroutine.

    It has the parameter of the interface's function, by name, with its annotation and its default.
    """
    from pygo_plugin._gob.resolve import NONE

    name = f"Plugin.{method.wire_name}"
    argument = ... if method.argument is None else method.argument
    reply = ... if method.reply is None else None if method.reply is NONE else method.reply
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    given = function.__annotations__
    shown = {"timeout": "float | None", **{n: given[n] for n in ("return",) if n in given}}
    if not method.takes_argument:

        def call_without(self: Proxy, *, timeout: float | None = None) -> Any:
            return self.rpc_client.call(name, None, reply, timeout)

        call_without.__annotations__ = shown
        return call_without

    def call(self: Proxy, value: Any, *, timeout: float | None = None) -> Any:
        return self.rpc_client.call(name, value, reply, timeout, argument)

    code = function.__code__
    parameter = code.co_varnames[1]
    if code.co_argcount > 1 and parameter not in ("self", "timeout"):
        names = call.__code__.co_varnames
        call.__code__ = call.__code__.replace(co_varnames=(names[0], parameter, *names[2:]))
    else:
        parameter = "value"  # of *arguments, or of a name that is taken
    defaults = function.__defaults__ or ()
    if defaults and len(defaults) >= code.co_argcount - 1:  # the first parameter has one, too
        call.__defaults__ = defaults[:1]
    call.__annotations__ = {**{n: given[n] for n in (parameter,) if n in given}, **shown}
    return call


def _close(self: Proxy) -> None:
    """End the connection to the object, which the plugin then drops."""
    self.rpc_client.close()


async def _close_async(self: Proxy) -> None:
    """End the connection to the object, which the plugin then drops."""
    await self.rpc_client.close()
