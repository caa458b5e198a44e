"""Encoding and decoding: single values, files, and streams in any pieces."""

from __future__ import annotations

from _thread import allocate_lock

from pygo_plugin._base.checks import refuse_copy
from pygo_plugin._base.core import _core
from pygo_plugin._gob.resolve import type_of
from pygo_plugin.errors import ConfigError, ConfigTypeError, GobError

TYPE_CHECKING = False  # typing is not imported at run time: a plugin's start would pay for it
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Any, Generic, TypeVar, overload

    T = TypeVar("T")
    U = TypeVar("U")

    class _Base(Generic[T]):
        pass
else:

    class _Base:
        __slots__ = ()

        def __class_getitem__(cls, of):  # Decoder[Order], where annotations are evaluated
            return cls


__all__ = ["Decoder", "Encoder", "Limits", "dump", "dumps", "load", "loads"]

PIECE = 1 << 16  # bytes to read at a time

_NAMES = ("message", "depth", "types", "definitions", "fields", "name", "slots")


class Limits:
    """What a decoder accepts. None stands for the default.

    message      bytes of one message; 1 GiB. Memory grows only as they come
    depth        values within values; 10,000
    types        definitions of types in the stream; 4,096
    definitions  bytes of all definitions together; 1 MiB
    fields       fields of a struct; 4,096
    name         bytes of the name of a type, of a field, or of an interface's type; 1,024
    slots        fields of all structs of one message together, those that are left out because they
                 are zero included; 64 Mi
    """

    __slots__ = _NAMES

    def __init__(
        self,
        *,
        message: int | None = None,
        depth: int | None = None,
        types: int | None = None,
        definitions: int | None = None,
        fields: int | None = None,
        name: int | None = None,
        slots: int | None = None,
    ) -> None:
        given: tuple[Any, ...] = (message, depth, types, definitions, fields, name, slots)
        for what, value in zip(_NAMES, given):
            if value is not None:
                if not isinstance(value, int) or isinstance(value, bool):
                    raise ConfigTypeError(f"Limits.{what} must be an int, not {value!r}")
                if not 1 <= value < 1 << 63:
                    raise ConfigError(f"Limits.{what} must be from 1 to 2**63 - 1, not {value}")
            object.__setattr__(self, what, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"Limits are immutable: {name} cannot be set")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_limits, tuple(getattr(self, name) for name in _NAMES)

    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)}" for name in _NAMES if getattr(self, name)]
        return f"Limits({', '.join(shown)})"


def _restore_limits(*values: int | None) -> Limits:
    """Copied or pickled limits."""
    return Limits(**dict(zip(_NAMES, values)))


def _new_decoder(limits: Any) -> _core.GobDecoder:
    if limits is None:
        return _core.GobDecoder()
    if type(limits) is not Limits:
        raise ConfigTypeError(f"limits must be a gob.Limits, not {limits!r}")
    return _core.GobDecoder(**{name: getattr(limits, name) or 0 for name in _NAMES})


def _type_of_value(value: Any) -> tuple[_core.GobType, Any]:
    """The type that a value is encoded as if none is given, and the value."""
    from pygo_plugin._gob.kinds import Typed

    if isinstance(value, Typed):
        return type_of(value.type), value.value
    if value is None:
        raise GobError("None cannot be encoded: Go's gob has no nil at the top")
    cls = type(value)
    found = type_of(list if cls is tuple else cls)
    if found.kind == "interface":
        raise GobError("an object() has nothing that gob can encode")
    return found, value


def _arguments(value: Any, type: Any) -> tuple[_core.GobType, Any]:  # noqa: A002
    if type is None:
        return _type_of_value(value)
    found = type_of(type)
    return _type_of_value(value) if found.kind == "interface" else (found, value)


def _wanted(type: Any) -> _core.GobType | None:  # noqa: A002
    """What a decoder is to make; None: untyped objects."""
    if type is None:
        return None
    found = type_of(type)
    return None if found.kind == "interface" else found


_NOTHING: Any = object()


def dumps(value: Any, type: Any = None) -> bytes:  # noqa: A002
    """Encode a value as a stream of its own, with the definitions of its types.

    `type` is an annotation, such as `list[int]`. By default it is the value's class; lists are then
    `[]interface {}`, and dicts `map[string]interface {}`.

    Raises: GobError, a ValueError; ConfigTypeError, a TypeError, for types that gob cannot encode.
    """
    return _core.GobEncoder().commit(_core.GobOutput(*_arguments(value, type)))


def dump(value: Any, file: IO[bytes], type: Any = None) -> None:  # noqa: A002
    """As dumps(), into a file."""
    Encoder(file).encode(value, type)


if TYPE_CHECKING:

    @overload
    def loads(data: Any, type: type[T], *, limits: Limits | None = None) -> T: ...
    @overload
    def loads(data: Any, type: Any = None, *, limits: Limits | None = None) -> Any: ...
    def loads(data: Any, type: Any = None, *, limits: Limits | None = None) -> Any: ...  # noqa: A002

else:

    def loads(data, type=None, *, limits=None):  # noqa: A002
        """Decode the one value of a stream: bytes, a bytearray or the like.

        `type` is a class or another annotation. Without it the stream's own definitions decide, and
        structs are `Struct` objects.

        Raises: GobError, a ValueError, also for a stream of several values; those are for a
        Decoder.
        """
        decoder = _new_decoder(limits)
        decoder.feed(data)
        value = decoder.take(_wanted(type), _NOTHING)
        if value is _NOTHING:
            raise _cut_off() if len(data) else GobError("there is no value in 0 bytes")
        if not decoder.at_end:
            raise GobError("more bytes follow the value: use a gob.Decoder")
        return value


def _cut_off() -> GobError:
    return GobError("the stream ends in the middle of a value")


if TYPE_CHECKING:

    @overload
    def load(
        file: IO[bytes],
        type: type[T],
        *,
        limits: Limits | None = None,
    ) -> T: ...
    @overload
    def load(
        file: IO[bytes],
        type: Any = None,
        *,
        limits: Limits | None = None,
    ) -> Any: ...
    def load(file: IO[bytes], type: Any = None, *, limits: Limits | None = None) -> Any: ...  # noqa: A002

else:

    def load(file, type=None, *, limits=None):  # noqa: A002
        """As loads(), from a file, of which no more is read than the value.

        Raises: EOFError if the file has no more bytes.
        """
        wanted = _wanted(type)
        decoder = _new_decoder(limits)
        for piece in _pieces(file):
            decoder.feed(piece)
            value = decoder.take(wanted, _NOTHING)
            if value is not _NOTHING:
                return value
        if decoder.at_end:
            raise EOFError("the file has no more values")
        raise _cut_off()


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    """The bytes of a file, of which no more has been read than belongs to the same message.

    A message starts with its length: a byte below 0x80, or the negated number of its bytes and then
    those.
    """
    while True:
        first = file.read(1)
        if not first:
            return
        yield first
        length = first[0]
        if length >= 0x80:
            digits = b""
            while len(digits) < 256 - length:
                piece = file.read(256 - length - len(digits))
                if not piece:
                    return
                yield piece
                digits += piece
            length = int.from_bytes(digits, "big")
        while length:
            piece = file.read(min(length, PIECE))
            if not piece:
                return
            yield piece
            length -= len(piece)


class Encoder:
    """Encodes the values of one stream: each type is defined once, before its first value.

        encoder = gob.Encoder(file)
        encoder.encode(order)

    With a file, which has to be binary, the bytes are written to it. They are also returned, so
    that a stream can go anywhere. All methods may be called by any thread.
    """

    def __init__(self, file: IO[bytes] | None = None) -> None:
        if file is not None and not hasattr(file, "write"):
            raise ConfigTypeError(f"Encoder: a binary file is needed, not {file!r}")
        self._file = file
        self._core = _core.GobEncoder()
        self._lock = allocate_lock()
        self._failed: BaseException | None = None

    def __repr__(self) -> str:
        return f"<gob.Encoder{'' if self._file is None else f' to {self._file!r}'}>"

    __reduce_ex__ = refuse_copy

    def encode(self, value: Any, type: Any = None) -> bytes:  # noqa: A002
        """Encode a value, as dumps() does. Returns: its bytes, which have been written."""
        output = _core.GobOutput(
            *_arguments(value, type)
        )  # runs code of the user: without the lock
        with self._lock:
            if self._failed is not None:
                raise GobError("the stream lacks a value, since writing failed") from self._failed
            data = self._core.commit(output)
            if self._file is not None:
                try:
                    _write(self._file, data)
                except BaseException as error:
                    self._failed = error
                    raise
        return data


def _write(file: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while len(rest):
        written = file.write(rest)
        if written is None:  # of a raw file that does not block
            raise BlockingIOError(f"the file cannot take {len(rest)} bytes now")
        rest = rest[written:]


class Decoder(_Base["T"]):
    """Decodes the values of one stream; an iterator.

        for order in gob.Decoder(file, Order):
            ...

    It reads ahead, so the file belongs to it. Without a file, feed it bytes in any pieces:
    iteration then ends where more are needed, and goes on after the next `feed()`. If several
    threads use one, they have to take turns.
    """

    if TYPE_CHECKING:
        _core: Any
        _file: Any
        _read: Any
        _type: Any

        @overload
        def __init__(
            self: Decoder[T],
            file: IO[bytes] | None = None,
            *,
            type: type[T],
            limits: Limits | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self: Decoder[T],
            file: IO[bytes] | None,
            type: type[T],
            *,
            limits: Limits | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self: Decoder[Any],
            file: IO[bytes] | None = None,
            type: Any = None,
            *,
            limits: Limits | None = None,
        ) -> None: ...
        def __init__(
            self,
            file: IO[bytes] | None = None,
            type: Any = None,  # noqa: A002
            *,
            limits: Limits | None = None,
        ) -> None: ...

    else:

        def __init__(self, file=None, type=None, *, limits=None):  # noqa: A002
            if file is not None and not hasattr(file, "read"):
                raise ConfigTypeError(f"Decoder: a binary file is needed, not {file!r}")
            # What a pipe has, without waiting for more.
            self._read = None if file is None else getattr(file, "read1", file.read)
            self._file = file
            self._core = _new_decoder(limits)
            self._type = type

    def __repr__(self) -> str:
        what = "" if self._type is None else f" of {self._type!r}"
        return f"<gob.Decoder{what}{'' if self._file is None else f' from {self._file!r}'}>"

    __reduce_ex__ = refuse_copy

    def feed(self, data: Any) -> None:
        """Add bytes of the stream."""
        self._core.feed(data)

    if TYPE_CHECKING:

        @overload
        def decode(self, type: type[U]) -> U: ...
        @overload
        def decode(self, type: None = None) -> T: ...
        @overload
        def decode(self, type: Any) -> Any: ...
        def decode(self, type: Any = None) -> Any: ...  # noqa: A002

    else:

        def decode(self, type=None):  # noqa: A002
            """The next value, as a class or another annotation; by default as the decoder's.

            Raises: EOFError if there is none: at the end of the file, or until more is fed.
            GobError; if it has a path, the next call gives the next value.
            """
            value = self._take(type)
            if value is _NOTHING:
                raise EOFError("the stream has no more values")
            return value

    def _take(self, type: Any) -> Any:  # noqa: A002
        wanted = _wanted(self._type if type is None else type)
        while True:
            value = self._core.take(wanted, _NOTHING)
            if value is not _NOTHING or self._read is None:
                return value
            data = self._read(PIECE)
            if data is None:  # of a raw file that does not block
                raise BlockingIOError("the file has no bytes now")
            if not data:
                if self._core.at_end:
                    return _NOTHING
                raise _cut_off()
            self._core.feed(data)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        value: T = self._take(None)
        if value is _NOTHING:
            raise StopIteration
        return value
