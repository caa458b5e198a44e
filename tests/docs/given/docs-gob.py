from datetime import datetime, timezone

from pygo_plugin import gob


@gob.struct
class Item:
    name: str = ""


@gob.struct
class Order:
    id: gob.Uint = gob.field(name="ID")
    when: datetime = gob.ZERO_TIME
    items: list[Item] = gob.field(default_factory=list)


with open("orders.gob", "wb") as file:
    gob.Encoder(file).encode(Order(7, datetime.now(timezone.utc), [Item("tea")]))
