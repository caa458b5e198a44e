"""The messages of Go's rpcpeer that are measured over net/rpc, and Go's sample of the largest."""

from __future__ import annotations

from pygo_plugin import gob


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
class CallBackArgs:
    id: gob.Uint32 = gob.field(name="ID", default=0)
    payload: bytes = b""


def sample() -> Order:
    """What Go's gobtypes.NewOrder(100) is."""
    return Order(
        id=1 << 40,
        number=-12345,
        customer="Ada Lovelace",
        paid=True,
        total=1234.56,
        created=1_700_000_000,
        key=b"0123456789abcdef",
        tags=["new", "urgent", "gift"],
        grid=(1, -2, 3),
        labels={"colour": "red"},
        items=[Item(f"item {i}", i + 0.1, i, ["red", "large"]) for i in range(100)],
    )
