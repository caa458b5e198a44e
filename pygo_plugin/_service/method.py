"""The methods of a service: names, what they stream, and how their messages become bytes.

Nothing here knows an encoding. A Method is given the types of its messages, each with its own
serializer and deserializer; protobuf.py makes those from protobuf descriptors.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Serializer = Callable[[Any], bytes]
    Deserializer = Callable[[bytes], Any]

__all__ = ["KINDS", "MessageType", "Method", "describe_type"]

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
_SUMMARIES = (
    "One request, one reply.",
    "One request, a stream of replies.",
    "A stream of requests, one reply.",
    "A stream of requests, a stream of replies.",
)


class MessageType:
    """The type of a method's requests or replies: a class, and how its objects become bytes.

    `load` returns the class, the serializer and the deserializer. It is called when one of them is
    first needed, since finding them may take an import.
    """

    __slots__ = ("_load", "_loaded", "name")

    name: str
    """What declarations call it, such as `kv.GetRequest`."""

    def __init__(
        self, name: str, load: Callable[[], tuple[type[Any], Serializer, Deserializer]]
    ) -> None:
        self.name = name
        self._load = load
        self._loaded: tuple[type[Any], Serializer, Deserializer] | None = None

    def load(self) -> tuple[type[Any], Serializer, Deserializer]:
        """The class, its serializer and its deserializer, the same each time."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded


class Method:
    """One method of a service."""

    __slots__ = (
        "__weakref__",  # see _grpc/known.py
        "_request_type",
        "_response_type",
        "name",
        "path",
        "request_streaming",
        "response_streaming",
        "source",
    )

    name: str
    path: str
    """How gRPC calls it: `/kv.KV/Get`."""
    request_streaming: bool
    response_streaming: bool
    source: Any
    """What describes it, of whatever made this object: with protobuf its descriptor."""

    def __init__(
        self,
        service_name: str,
        name: str,
        request_type: MessageType,
        response_type: MessageType,
        *,
        request_streaming: bool = False,
        response_streaming: bool = False,
        source: Any = None,
    ) -> None:
        self.name = name
        self.path = f"/{service_name}/{name}"
        self._request_type = request_type
        self._response_type = response_type
        self.request_streaming = request_streaming
        self.response_streaming = response_streaming
        self.source = source

    @property
    def kind(self) -> str:
        """`unary_unary`, `unary_stream`, `stream_unary` or `stream_stream`."""
        return KINDS[2 * self.request_streaming + self.response_streaming]

    @property
    def request(self) -> type[Any]:
        """The class of the requests."""
        return self._request_type.load()[0]

    @property
    def response(self) -> type[Any]:
        """The class of the replies."""
        return self._response_type.load()[0]

    @property
    def request_serializer(self) -> Serializer:
        """Makes bytes of a request. Raises: TypeError for objects of other classes."""
        return _checked(self._request_type, f"{self.path} takes")

    @property
    def request_deserializer(self) -> Deserializer:
        """Makes a request of its bytes."""
        return self._request_type.load()[2]

    @property
    def response_serializer(self) -> Serializer:
        """Makes bytes of a reply. Raises: TypeError for objects of other classes."""
        return _checked(self._response_type, f"{self.path} returns")

    @property
    def response_deserializer(self) -> Deserializer:
        """Makes a reply of its bytes."""
        return self._response_type.load()[2]

    @property
    def summary(self) -> str:
        """What it takes and returns, as a sentence."""
        return _SUMMARIES[KINDS.index(self.kind)]

    def describe(self) -> str:
        """The method as a `.proto` file declares it."""
        requests = "stream " * self.request_streaming + self._request_type.name
        replies = "stream " * self.response_streaming + self._response_type.name
        return f"rpc {self.name}({requests}) returns ({replies})"

    def __repr__(self) -> str:
        return f"<{self.describe()}>"


def _checked(kind: MessageType, takes: str) -> Serializer:
    """The serializer of a type, for objects of its class alone. `takes` begins the error."""
    from pygo_plugin._base.core import _core

    cls, serialize, _ = kind.load()

    def serialize_other(value: Any) -> bytes:
        # A descriptor that is in two pools has two classes.
        if not isinstance(value, type) and _name_of(value) == kind.name:
            return serialize(value)
        raise TypeError(f"{takes} a {kind.name}, not {_describe_object(value)}")

    return _core.Serializer(cls, serialize, serialize_other)


def _name_of(value: Any) -> Any:
    """What declarations call the class of a message; None for other objects."""
    return getattr(getattr(value, "DESCRIPTOR", None), "full_name", None)


def _describe_object(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {_name_of(value) or value.__name__}"
    if value is None:
        return "None"
    return f"a {_name_of(value) or type(value).__name__}"


def describe_type(value: Any) -> str:
    """What error messages call a value of the wrong type."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if type(value).__name__ == "module":
        return f"the module {value.__name__}"
    return type(value).__name__
