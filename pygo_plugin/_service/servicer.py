"""The base classes of servicers, and how a server is given a servicer's methods."""

from __future__ import annotations

from pygo_plugin._grpc.abstract import imported
from pygo_plugin._grpc.handlers import GenericHandler, MethodHandler
from pygo_plugin._service.method import describe_type
from pygo_plugin.errors import ConfigTypeError

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pygo_plugin._service.method import Method
    from pygo_plugin._service.service import Service

__all__ = ["add_servicer", "make_servicer"]

_UNIMPLEMENTED = 12
_CO_COROUTINE = 0x80
_CO_ASYNC_GENERATOR = 0x200


def make_servicer(owner: Service[Any]) -> type[_ServicerBase]:
    """The base class for servicers of a service."""
    name = owner.name.rpartition(".")[2]
    body: dict[str, Any] = {
        method.name: _unimplemented(method, f"{name}Servicer") for method in owner.methods.values()
    }
    body.update(
        __doc__=owner._document(f"Answers the calls of {owner.name}."),
        __module__=__name__,
        __qualname__=f"{name}Servicer",
        _service=owner,
    )
    return type(f"{name}Servicer", (_ServicerBase,), body)


class _ServicerBase:
    """The base class of all servicers."""

    _service: Service[Any]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, a servicer of {self._service.name}>"


def _unimplemented(method: Method, owner: str) -> Callable[..., Any]:
    def unimplemented(self: Any, request: Any, context: Any) -> Any:
        # This package's servers also take a number, grpcio's do not. With asyncio, abort() returns
        # an awaitable.
        grpc = imported()
        code = _UNIMPLEMENTED if grpc is None else grpc.StatusCode.UNIMPLEMENTED
        return context.abort(code, "Method not implemented!")

    unimplemented.__name__ = method.name
    unimplemented.__qualname__ = f"{owner}.{method.name}"
    unimplemented.__doc__ = (
        f"{method.describe()}\n\n{method.summary} Unless overridden, calls end with UNIMPLEMENTED."
    )
    return unimplemented


def add_servicer(owner: Service[Any], servicer: Any, server: Any) -> None:
    """Have a server answer a service's calls. See `Service.add_to_server()`."""
    add_generic = getattr(server, "add_generic_rpc_handlers", None)
    if not callable(add_generic):
        raise ConfigTypeError(
            f"{owner.name}: add_to_server(servicer, server) takes a server second, not "
            f"{describe_type(server)}"
        )
    _check_servicer(owner, servicer, server)
    handlers = {
        name: MethodHandler(
            method.request_streaming,
            method.response_streaming,
            method.request_deserializer,
            method.response_serializer,
            **{method.kind: getattr(servicer, name)},
        )
        for name, method in owner.methods.items()
    }
    add_generic((GenericHandler(owner.name, handlers),))
    # Registered methods are found without asking each generic handler. Older grpcio has none.
    add_registered = getattr(server, "add_registered_method_handlers", None)
    if callable(add_registered):
        add_registered(owner.name, handlers)


def _check_servicer(owner: Service[Any], servicer: Any, server: Any) -> None:
    if isinstance(servicer, type):
        raise ConfigTypeError(
            f"{owner.name}: the servicer must be an instance; pass {servicer.__name__}() "
            f"instead of the class"
        )
    missing = [name for name in owner.methods if not callable(getattr(servicer, name, None))]
    if missing:
        raise ConfigTypeError(
            f"{owner.name}: {describe_type(servicer)} lacks {', '.join(missing)}"
            f"{_misspelt(servicer, missing)}; let it derive from the service's Servicer if those "
            f"are to be UNIMPLEMENTED"
        )
    life = ("start", "stop", "wait_for_termination")
    if not any(_is_async(getattr(server, name, None)) for name in life):
        wrong = [name for name in owner.methods if _is_async(getattr(servicer, name))]
        if wrong:
            raise ConfigTypeError(
                f"{owner.name}: {', '.join(wrong)} of {describe_type(servicer)} "
                f"{'is a coroutine function' if len(wrong) == 1 else 'are coroutine functions'}, "
                f"which only an asyncio server can call, and {describe_type(server)} is not one"
            )


def _misspelt(servicer: Any, missing: list[str]) -> str:
    """A hint at methods whose names differ only by case or underscores."""
    plain = {name.replace("_", "").lower(): name for name in missing}
    found = [name for name in dir(servicer) if name.replace("_", "").lower() in plain]
    if not found:
        return ""
    hints = (f"{name} is not {plain[name.replace('_', '').lower()]}" for name in found)
    return f" ({', '.join(hints)})"


def _is_async(function: Any) -> bool:
    """Whether calling it gives a coroutine or an asynchronous generator.

    The module inspect would tell, but is slow to import.
    """
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return bool(getattr(code, "co_flags", 0) & (_CO_COROUTINE | _CO_ASYNC_GENERATOR))
