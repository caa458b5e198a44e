"""gRPC's status codes, without importing grpcio before it is needed.

Where grpcio is installed the codes are its own, so that `error.code() is grpc.StatusCode.NOT_FOUND`
works. Importing grpcio takes 70 ms, which must not slow a plugin's start. Therefore the class below
imports it when a code is first used.
"""

from __future__ import annotations

import sys

__all__ = ["StatusCode"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pygo_plugin._grpc.errors import _StatusCode as StatusCode
else:

    class _Lazy(type):
        """Forwards everything to the enumeration."""

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
