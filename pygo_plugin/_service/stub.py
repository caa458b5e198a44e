"""The classes whose instances call the methods of a service through a channel."""

from __future__ import annotations

from pygo_plugin._grpc.known import remember
from pygo_plugin._service.method import KINDS, describe_type
from pygo_plugin.errors import ConfigTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from inspect import Signature
    from typing import Any

    from pygo_plugin._service.method import Method
    from pygo_plugin._service.service import Service

__all__ = ["make_stub"]


def make_stub(owner: Service[Any]) -> type[_StubBase]:
    """The stub class of a service."""
    name = owner.name.rpartition(".")[2]
    remember(owner.methods.values())
    body: dict[str, Any] = {method.name: _StubMethod(method) for method in owner.methods.values()}
    body.update(
        __doc__=owner._document(f"Calls {owner.name} through a channel."),
        __module__=__name__,
        __qualname__=f"{name}Stub",
        _service=owner,
    )
    return type(f"{name}Stub", (_StubBase,), body)


class _StubMethod:
    """What a stub class shows for a method, to `help()` and to editors.

    Instances have the channel's callable in its place.
    """

    def __init__(self, method: Method) -> None:
        self._method = method
        self.__name__ = method.name

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return f"{self._method.describe()}\n\n{self._method.summary}"

    @property
    def __signature__(self) -> Signature:
        from pygo_plugin._grpc.describe import signature_for

        return signature_for(self._method)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise ConfigTypeError(
            f"{self._method.name} was called on the stub's class; make an instance of it, with a "
            f"channel, and call its {self._method.name}"
        )

    def __repr__(self) -> str:
        return f"<stub of {self._method.describe()}>"


class _StubBase:
    """The base class of all stubs."""

    _service: Service[Any]

    def __init__(self, channel: Any) -> None:
        owner = self._service
        try:
            for name, method in owner.methods.items():
                make = getattr(channel, method.kind)
                self.__dict__[name] = make(
                    method.path,
                    request_serializer=method.request_serializer,
                    response_deserializer=method.response_deserializer,
                )
        except AttributeError:
            if all(callable(getattr(channel, kind, None)) for kind in KINDS):
                raise
            raise ConfigTypeError(_not_a_channel(owner, channel)) from None

    def __repr__(self) -> str:
        return f"<stub of {self._service.name}>"


def _not_a_channel(owner: Service[Any], given: Any) -> str:
    """The message about an argument that is no channel, with a hint at what was meant."""
    text = f"{owner.name}: Stub() takes a channel, not {describe_type(given)}"
    if callable(getattr(given, "new_channel", None)):
        return f"{text}; pass its .channel"
    if isinstance(given, str):
        return f"{text}; make one for that target first"
    if isinstance(given, tuple):
        return f"{text}; dispense() returns (channel, stub)"
    return text
