"""gRPC's enumerations, whose modules are imported when they are first used.

They are grpcio's own once the program has imported grpcio, so that
`error.code() is grpc.StatusCode.NOT_FOUND` works. Neither grpcio nor `enum` is imported for a
plugin's start.
"""

from __future__ import annotations

from pygo_plugin._grpc.abstract import imported

__all__ = ["ChannelConnectivity", "StatusCode"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from grpc import ChannelConnectivity, StatusCode
else:

    class _Lazy(type):
        """Forwards everything to the enumeration: grpcio's, or its twin in `enums`."""

        def __getattr__(cls, name):
            if name.startswith("_"):
                raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
            value = getattr(_members(cls), name)
            if imported() is not None:  # until then, the next time may have another answer
                setattr(cls, name, value)
            return value

        def __getitem__(cls, name):
            return _members(cls)[name]

        def __call__(cls, value):
            return _members(cls)(value)

        def __iter__(cls):
            return iter(_members(cls))

        def __len__(cls):
            return len(_members(cls))

        def __contains__(cls, member):
            return member in list(_members(cls))

        def __instancecheck__(cls, value):
            return isinstance(value, (_members(cls), _twin(cls)))

        def __dir__(cls):
            return dir(_members(cls))

        def __repr__(cls):
            return f"<{cls.__name__} of pygo_plugin>"

    def _twin(cls):
        from pygo_plugin._grpc import enums

        return getattr(enums, cls.__name__)

    def _members(cls):
        from pygo_plugin._grpc.enums import enumeration

        return enumeration(_twin(cls))

    if imported() is not None:
        StatusCode = imported().StatusCode
        ChannelConnectivity = imported().ChannelConnectivity
    else:

        class StatusCode(metaclass=_Lazy):
            """gRPC's status codes: `grpc.StatusCode`s members once grpcio is imported."""

            __slots__ = ()

        class ChannelConnectivity(metaclass=_Lazy):
            """The states of a channel: `grpc.ChannelConnectivity`'s, once grpcio is imported."""

            __slots__ = ()
