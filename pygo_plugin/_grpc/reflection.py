"""Server reflection, v1 and v1alpha, from the protobuf descriptors in the process's pool.

The messages are the same in both versions; the core reads and writes them. protobuf is imported
with the first request, so that it does not slow the plugin's start.
"""

from __future__ import annotations

from pygo_plugin._base.core import _core

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Union

    Found = Union[list[bytes], list[str], list[int], str]

_PATHS = (
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
# The services that every plugin has in addition to its own.
_PLUGIN_SERVICES = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "plugin.GRPCController",
)


class Reflection:
    """A generic handler for both versions of the reflection service."""

    request_streaming = True
    response_streaming = True
    request_deserializer = None
    response_serializer = None

    def __init__(self, service_names: Callable[[], list[str]], core: set[str]) -> None:
        """`core` is the set of the services in the core. The server adds to it later."""
        self._service_names = service_names
        self._core = core

    def service(self, details: Any) -> Reflection | None:
        return self if details.method in _PATHS else None

    def stream_stream(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for request in requests:
            yield _core.reflection_reply(request, self._look_up)

    def _look_up(self, kind: str, name: str, number: int) -> Found:
        """Answer one request for the core. Returns: a list, or the text of a NOT_FOUND error."""
        if kind == "services":
            return sorted({*self._service_names(), *self._core, *_PLUGIN_SERVICES})
        try:
            from google.protobuf import descriptor_pool
        except ImportError:
            return "this plugin has no descriptors: pygo-plugin[protobuf] is not installed"
        pool: Any = descriptor_pool.Default()  # Any, since its type stubs are incomplete
        try:
            if kind == "file":
                return _with_imports(pool.FindFileByName(name))
            if kind == "symbol":
                return _with_imports(_file_of(pool, name))
            message = pool.FindMessageTypeByName(name)
            if kind == "extension":
                return _with_imports(pool.FindExtensionByNumber(message, number).file)
            return sorted(found.number for found in pool.FindAllExtensions(message))
        except KeyError:
            return f"not found: {name}" + (f" ({number})" if kind == "extension" else "")


def _file_of(pool: Any, symbol: str) -> Any:
    """The file that defines the symbol. Raises: KeyError."""
    try:
        return pool.FindFileContainingSymbol(symbol)
    except KeyError:
        # Python's pools do not look for methods in services, as those of other languages do.
        service, _, method = symbol.rpartition(".")
        return pool.FindServiceByName(service).methods_by_name[method].containing_service.file


def _with_imports(file: Any) -> list[bytes]:
    """The file and everything that it imports, each once, the file first."""
    seen: dict[str, bytes] = {}

    def add(found: Any) -> None:
        if found.name not in seen:
            seen[found.name] = found.serialized_pb
            for imported in found.dependencies:
                add(imported)

    add(file)
    return list(seen.values())
