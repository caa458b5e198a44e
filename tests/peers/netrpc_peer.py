#!/usr/bin/env python3
"""What tests/peers/go/internal/rpcpeer has, in Python: a plugin that serves net/rpc.

The types and the methods are those of Go's gobtypes and rpcpeer, so either side can be either host
or plugin. As a program it takes the options of Go's plugin; over gRPC it serves the services of
pygo_plugin_peer.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import logging
import os
import sys
import threading
import time
from functools import partial
from queue import Queue
from typing import Annotated, Any

from pygo_plugin import HandshakeConfig, ServeConfig, gob, netrpc, serve

HANDSHAKE = HandshakeConfig(1, "PYGO_TEST_COOKIE", "pygo")
GOBTYPES = "pygo-plugin.example/peers/internal/gobtypes."
BROKEN = "this plugin is broken by design"


# ---- The types of gobtypes ----------------------------------------------------------------------


@gob.struct(GOBTYPES + "Point")
class Point:
    x: int = 0
    y: int = 0

    def __hash__(self) -> int:
        return hash((self.x, self.y))


@gob.struct("*gobtypes.Circle")
class Circle:
    centre: Point = gob.field(default_factory=Point)
    radius: float = 0.0


class Celsius(float):
    """A named float."""


gob.register("example.com/units.Celsius", Celsius)


class Opaque:
    """A value that only Go knows to interpret."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.data == self.data

    def __hash__(self) -> int:
        return hash(self.data)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.data!r})"


class Sealed(Opaque):
    def __gob_encode__(self) -> bytes:
        return self.data

    @classmethod
    def __gob_decode__(cls, data: bytes) -> Sealed:
        return cls(data)


gob.register(GOBTYPES + "Sealed", Sealed)


def opaque(name: str, flavour: str) -> Any:
    """An annotation for a type of Go's that encodes itself."""
    return Annotated[bytes, gob.Codec(bytes, bytes, flavour, name=name, zero=bytes)]


BigFloat = opaque("Float", "gob")
URL = opaque("URL", "binary")
Addr = opaque("Addr", "binary")


class Address(Opaque):
    def __marshal_binary__(self) -> bytes:
        return self.data

    @classmethod
    def __unmarshal_binary__(cls, data: bytes) -> Address:
        return cls(data)


gob.register("net/netip.Addr", Address)


@gob.struct
class Scalars:
    bool_: bool = gob.field(name="Bool", default=False)
    int_: int = gob.field(name="Int", default=0)
    int8: gob.Int8 = 0
    int16: gob.Int16 = 0
    int32: gob.Int32 = 0
    int64: gob.Int64 = 0
    uint: gob.Uint = 0
    uint8: gob.Uint8 = 0
    uint16: gob.Uint16 = 0
    uint32: gob.Uint32 = 0
    uint64: gob.Uint64 = 0
    float32: gob.Float32 = 0.0
    float64: float = 0.0
    complex64: gob.Complex64 = 0
    complex128: complex = 0
    string: str = ""
    bytes_: bytes = gob.field(name="Bytes", default=b"")


@gob.struct(GOBTYPES + "Tree")
class Tree:
    name: str = ""
    children: list[Tree] = gob.field(default_factory=list)


@gob.struct
class Chain:
    value: int = 0
    next: Chain | None = None


@gob.struct
class Labelled:
    point: Point = gob.field(default_factory=Point)
    label: str = ""


@gob.struct
class Everything:
    scalars: Scalars = gob.field(default_factory=Scalars)
    array: gob.Array[gob.Int32, 3] = (0, 0, 0)
    grid: gob.Array[gob.Array[gob.Float32, 2], 2] = ((0.0, 0.0), (0.0, 0.0))
    strings: list[str] = gob.field(default_factory=list)
    points: list[Point] = gob.field(default_factory=list)
    pointers: list[Point] = gob.field(default_factory=list)
    slices: list[list[int]] = gob.field(default_factory=list)
    by_name: dict[str, int] = gob.field(default_factory=dict)
    by_number: dict[gob.Int32, str] = gob.field(default_factory=dict)
    by_point: dict[Point, str] = gob.field(default_factory=dict)
    lists: dict[str, list[Point]] = gob.field(default_factory=dict)
    pointer: Point | None = None
    number: int | None = None
    deep: str | None = None
    tree: Tree = gob.field(default_factory=Tree)
    chain: Chain | None = None
    labelled: Labelled = gob.field(default_factory=Labelled)
    any: Any = None
    anys: list[Any] = gob.field(default_factory=list)
    mixed: dict[str, Any] = gob.field(default_factory=dict)
    when: gob.Time = gob.ZERO_TIME
    big: gob.BigInt | None = None
    ratio: BigFloat | None = None
    url: URL | None = gob.field(name="URL", default=None)
    address: Addr = b""
    sealed: Sealed = gob.field(default_factory=Sealed)
    celsius: float = 0.0
    duration: int = 0


@gob.struct
class Item:
    name: str = ""
    price: float = 0.0
    count: int = 0
    tags: list[str] = gob.field(default_factory=list)


@gob.struct
class Order:
    id: gob.Uint64 = gob.field(name="ID", default=0)
    number: int = 0
    customer: str = ""
    paid: bool = False
    total: float = 0.0
    created: int = 0
    key: bytes = b""
    tags: list[str] = gob.field(default_factory=list)
    grid: gob.Array[gob.Int32, 3] = (0, 0, 0)
    labels: dict[str, str] = gob.field(default_factory=dict)
    items: list[Item] = gob.field(default_factory=list)


@gob.struct
class Nothing:
    pass


gob.register("[]" + GOBTYPES.rpartition("/")[2] + "Point", list[Point])

# Of the methods of Types, by name.
KINDS: dict[str, Any] = {
    "Bool": bool,
    "Int": int,
    "Int8": gob.Int8,
    "Int16": gob.Int16,
    "Int32": gob.Int32,
    "Int64": gob.Int64,
    "Uint": gob.Uint,
    "Uint8": gob.Uint8,
    "Uint16": gob.Uint16,
    "Uint32": gob.Uint32,
    "Uint64": gob.Uint64,
    "Float32": gob.Float32,
    "Float64": float,
    "Complex64": gob.Complex64,
    "Complex128": complex,
    "String": str,
    "Bytes": bytes,
    "Array": gob.Array[gob.Int32, 3],
    "ByteArray": gob.Array[gob.Uint8, 4],
    "Ints": list[int],
    "Strings": list[str],
    "Floats": list[float],
    "Bools": list[bool],
    "Slices": list[bytes],
    "Points": list[Point],
    "ByName": dict[str, int],
    "ByNumber": dict[int, str],
    "ByPoint": dict[Point, str],
    "Lists": dict[str, list[Point]],
    "Point": Point,
    "Nothing": Nothing,
    "Scalars": Scalars,
    "Tree": Tree,
    "Chain": Chain,
    "Labelled": Labelled,
    "Any": Any,
    "Time": gob.Time,
    "BigInt": gob.BigInt,
    "BigFloat": BigFloat,
    "URL": URL,
    "Address": Addr,
    "Sealed": Sealed,
    "Celsius": float,
    "Duration": int,
    "Everything": Everything,
    "Order": Order,
}


def _echo(kind: str, annotation: Any) -> Any:
    def echo(self: Any, value: Any) -> Any:
        return value

    echo.__name__ = f"echo_{kind.lower()}"
    echo.__annotations__ = {"value": annotation, "return": annotation}
    return netrpc.method(kind)(echo)


# Has a method for each kind, which returns its argument.
Types = type("Types", (), {f"echo_{kind.lower()}": _echo(kind, of) for kind, of in KINDS.items()})


# ---- The methods of rpcpeer.Test ----------------------------------------------------------------


@gob.struct
class DivideArgs:
    a: int = 0
    b: int = 0


@gob.struct
class DivideReply:
    quotient: int = 0
    error: netrpc.BasicError | None = None


@gob.struct
class FailInsideReply:
    err: Any = None


@gob.struct
class PrintArgs:
    stdout: bytes = b""
    stderr: bytes = b""
    repeat: int = 0


@gob.struct
class LogArgs:
    level: str = ""
    message: str = ""
    fields: dict[str, str] = gob.field(default_factory=dict)


@gob.struct
class Info:
    pid: int = 0
    goroutines: int = 0
    descriptors: int = 0


@gob.struct
class CallBackArgs:
    id: gob.Uint32 = gob.field(name="ID", default=0)
    payload: bytes = b""


@gob.struct
class DescendArgs:
    id: gob.Uint32 = gob.field(name="ID", default=0)
    depth: int = 0


@gob.struct
class WriteArgs:
    id: gob.Uint32 = gob.field(name="ID", default=0)
    size: int = 0


@gob.struct
class Digest:
    size: int = 0
    sha256: str = gob.field(name="SHA256", default="")


def pattern(size: int) -> bytes:
    """So many bytes, which count up to 250 again and again."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def digest_of(file: Any) -> Digest:
    """Reads to the end."""
    digest, size = hashlib.sha256(), 0
    for piece in iter(partial(file.read, 65536), b""):
        digest.update(piece)
        size += len(piece)
    return Digest(size, digest.hexdigest())


def digest_of_pattern(size: int) -> Digest:
    return Digest(size, hashlib.sha256(pattern(size)).hexdigest())


class Test:
    """An object whose methods behave in ways that tests need. Either side serves one."""

    def __init__(self, broker: Any, side: str = "plugin") -> None:
        self._broker = broker
        self._side = side
        self._lock = threading.Lock()
        self._blocked: dict[str, threading.Event] = {}
        self._written: dict[int, Queue[Digest]] = {}

    # ---- Ordinary calls ----

    def echo(self, payload: bytes) -> bytes:
        return payload

    def order(self, order: Order) -> Order:
        return order

    def greet(self, nothing: Any) -> str:
        return f"Hello from the {self._side}!"

    def info(self, nothing: Nothing) -> Info:
        descriptors = len(os.listdir("/proc/self/fd"))
        return Info(os.getpid(), threading.active_count(), descriptors)

    # ---- Errors ----

    def fail(self, text: str) -> None:
        raise netrpc.ServerError(text)

    def fail_basic(self, text: str) -> None:
        raise ValueError(text)

    def divide(self, args: DivideArgs) -> DivideReply:
        if args.b == 0:
            return DivideReply(error=netrpc.BasicError("division by zero"))
        return DivideReply(args.a // args.b)

    def fail_inside(self, text: str) -> FailInsideReply:
        return FailInsideReply(netrpc.BasicError(text) if text else None)

    def exit(self, status: int) -> None:
        os._exit(status)

    # ---- Time ----

    def _gate(self, key: str) -> threading.Event:
        with self._lock:
            return self._blocked.setdefault(key, threading.Event())

    def block(self, key: str) -> str:
        """Return after release() has been called with the key."""
        self._gate(key).wait()
        return key

    def release(self, key: str) -> None:
        self._gate(key).set()
        with self._lock:
            del self._blocked[key]

    def blocked(self, nothing: Nothing) -> int:
        with self._lock:
            return len(self._blocked)

    def sleep(self, milliseconds: int) -> int:
        time.sleep(milliseconds / 1000)
        return milliseconds

    # ---- Output ----

    def print(self, args: PrintArgs) -> None:
        for _ in range(max(args.repeat, 1)):
            for file, text in ((sys.stdout, args.stdout), (sys.stderr, args.stderr)):
                file.buffer.write(text)
                file.buffer.flush()

    def log(self, args: LogArgs) -> None:
        level = logging.getLevelName(args.level.upper().replace("WARN", "WARNING"))
        logging.getLogger("peer").log(level, args.message, extra=args.fields)

    # ---- Objects lent by the other side, and to it ----

    def call_back(self, args: CallBackArgs) -> bytes:
        with self._broker.client(args.id) as client:
            answer: bytes = client.call("Plugin.Echo", args.payload, reply=bytes)
            return answer

    def serve(self, nothing: Nothing) -> gob.Uint32:
        """Serve another Test, once. Returns: the id."""
        service_id: int = self._broker.next_id()
        self._broker.accept_and_serve(service_id, Test(self._broker, self._side))
        return service_id

    def descend(self, args: DescendArgs) -> str:
        """Call the same method of the other side's object, until the depth is 0."""
        if args.depth == 0:
            return self._side
        with self._broker.serve(self) as own, self._broker.client(args.id) as client:
            below = client.call("Plugin.Descend", DescendArgs(own, args.depth - 1), reply=str)
        return f"{self._side} {below}"

    # ---- Readers and writers lent by the other side, and to it ----

    def read_from(self, service_id: gob.Uint32) -> Digest:
        with self._broker.open_io(service_id) as file:
            return digest_of(file)

    def write_to(self, args: WriteArgs) -> None:
        with self._broker.open_io(args.id, "wb") as file:
            file.write(pattern(args.size))

    def lend_reader(self, size: int) -> gob.Uint32:
        service_id: int = self._broker.next_id()

        def lend() -> None:
            with io.BufferedWriter(self._broker.accept(service_id)) as file:
                file.write(pattern(size))

        threading.Thread(target=lend).start()
        return service_id

    def lend_writer(self, nothing: Nothing) -> gob.Uint32:
        """Lend what can be written to; see written(). Returns: the id."""
        service_id: int = self._broker.next_id()
        digests: Queue[Digest] = Queue()
        with self._lock:
            self._written[service_id] = digests

        def lend() -> None:
            with self._broker.accept(service_id) as file:
                digests.put(digest_of(file))

        threading.Thread(target=lend).start()
        return service_id

    def written(self, service_id: gob.Uint32) -> Digest:
        with self._lock:
            digests = self._written.pop(service_id)
        return digests.get(timeout=60)


class Broken(netrpc.Plugin):
    def server(self, broker: Any) -> Any:
        raise RuntimeError(BROKEN)


def plugins() -> dict[str, Any]:
    return {
        "types": netrpc.plugin(Types),
        "test": netrpc.plugin(Test),
        "broken": Broken(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=["unix", "tcp"], default="unix")
    parser.add_argument("--versions", default="1", help="protocol versions, comma-separated")
    parser.add_argument("--netrpc", default="1", help="those of them that speak net/rpc")
    arguments = parser.parse_args()
    versions = {int(version) for version in arguments.versions.split(",")}
    over_netrpc = {int(version) for version in arguments.netrpc.split(",")}
    sets: dict[int, Any] = {version: plugins() for version in over_netrpc}
    if versions - over_netrpc:
        import pygo_plugin_peer

        sets.update(
            {version: pygo_plugin_peer.plugins(version) for version in versions - over_netrpc}
        )
    serve(
        ServeConfig(handshake_config=HANDSHAKE, versioned_plugins=sets, network=arguments.network)
    )


if __name__ == "__main__":
    main()
