"""gRPC's status codes without the price of grpcio's import.

`error.code() is grpc.StatusCode.NOT_FOUND` is to work wherever grpcio is installed, so there the
codes are grpcio's own. But an `import` at the top of a plugin is not the moment to load 70 ms of
grpcio: the class below does it when a code is first asked for.
"""

from __future__ import annotations

import sys

__all__ = ["StatusCode"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pygo_plugin._grpc.errors import _StatusCode as StatusCode
else:

    class _Lazy(type):
        """Passes everything on to the enumeration."""

        def __getattr__(cls, name):
            if name.startswith("_"):
                raise AttributeError(f"type object 'StatusCode' has no attribute {name!r}")
            value = getattr(_codes(), name)
            setattr(cls, name, value)
            return value

        def __getitem__(cls, name):
            return _codes()[name]

        def __call__(cls, value):
            return _codes()(value)

        def __iter__(cls):
            return iter(_codes())

        def __len__(cls):
            return len(_codes())

        def __contains__(cls, code):
            return code in _codes()

        def __instancecheck__(cls, value):
            return isinstance(value, _codes())

        def __dir__(cls):
            return dir(_codes())

        def __repr__(cls):
            return "<StatusCode of pygo_plugin>"

    def _codes():
        from pygo_plugin._grpc.errors import StatusCode

        return StatusCode

    if "grpc" in sys.modules:
        StatusCode = sys.modules["grpc"].StatusCode
    else:

        class StatusCode(metaclass=_Lazy):
            """gRPC's status codes: `grpc.StatusCode`'s own members where grpcio is installed."""

            __slots__ = ()
