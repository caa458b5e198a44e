"""What type checkers know of gob. An unused "type: ignore" is an error, too."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Annotated, Any, Optional

from typing_extensions import assert_type

from pygo_plugin import gob


@gob.struct("example.com/shop.Item")
class Item:
    name: str
    price: float = 0.0
    tags: list[str] = gob.field(default_factory=list)


@gob.struct
class Order:
    id: gob.Uint = gob.field(name="ID")
    when: datetime = gob.ZERO_TIME
    items: list[Item] = gob.field(default_factory=list)
    grid: tuple[gob.Int32, gob.Int32] = (0, 0)
    digest: Annotated[tuple[int, ...], gob.Array[gob.Uint8, 32]] = ()
    ratio: gob.Float32 = 0.5
    any: Any = None
    next: Order | None = None


item = Item("tea", price=2.5)
assert_type(item.name, str)
assert_type(item.tags, list[str])
Item()  # type: ignore[call-arg]  # pyright: ignore
Item("tea", tags="hot")  # type: ignore[arg-type]  # pyright: ignore

order = Order(7, items=[item])
assert_type(order.id, int)
assert_type(order.ratio, float)
assert_type(order.next, Optional[Order])
Order(id="7")  # type: ignore[arg-type]  # pyright: ignore

gob.register("*shop.Item", Item)
gob.register(5, Item)  # type: ignore[arg-type]  # pyright: ignore
assert_type(gob.Uint8(5), int)
assert_type(gob.field(default=5), int)

data: bytes = gob.dumps(order)
assert_type(gob.loads(data, Order), Order)
assert_type(gob.loads(data), Any)
assert_type(gob.load(io.BytesIO(data), Order), Order)
assert_type(gob.loads(data, list[int]), list[int])
for each in gob.Decoder(io.BytesIO(data), Order):
    assert_type(each, Order)
for other in gob.Decoder(io.BytesIO(data)):
    assert_type(other, Any)
assert_type(gob.Decoder(io.BytesIO(data)).decode(Order), Order)
assert_type(gob.Encoder().encode(order), bytes)
gob.Decoder("path")  # type: ignore[call-overload]  # pyright: ignore
gob.Limits(depth="5")  # type: ignore[arg-type]  # pyright: ignore
when = gob.Time(2026, 1, 1, nanosecond=5)
assert_type(when.nanosecond, int)
