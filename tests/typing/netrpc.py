"""What type checkers know of net/rpc. An unused "type: ignore" is an error, too."""

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

from pygo_plugin import netrpc


class Arith:
    def add(self, value: int) -> int:
        return value

    @netrpc.method("URLOf")
    def url_of(self, value: str) -> str:
        return value

    @netrpc.method
    def _hidden(self, value: bytes) -> bytes:
        return value


assert_type(Arith().url_of("x"), str)
assert_type(Arith()._hidden(b"x"), bytes)

client = netrpc.connect("unix:/path", timeout=1)
assert_type(client, netrpc.Client)
assert_type(client.call("Arith.Add", 1), Any)
assert_type(client.call("Arith.Add", 1, int), int)
assert_type(client.call("Arith.Add", 1, reply=int, timeout=0.5), int)
assert_type(client.call("Arith.Add", 1, list[int]), list[int])
assert_type(client.call("Arith.Add", reply=str), str)
client.call(1)  # type: ignore[call-overload]  # pyright: ignore
client.call("Arith.Add", 1, int, "soon")  # type: ignore[call-overload]  # pyright: ignore
assert_type(client.go("Arith.Add", 1, int), netrpc.Future)
assert_type(netrpc.listen("127.0.0.1:0", Arith()).address, str)
netrpc.listen("127.0.0.1:0", Arith(), workers=3)  # type: ignore[call-arg]  # pyright: ignore


async def use() -> None:
    async with await netrpc.aio.connect("unix:/path") as client:
        assert_type(await client.call("Arith.Add", 1), Any)
        assert_type(await client.call("Arith.Add", 1, int), int)
        assert_type(await client.call("Arith.Add", reply=str), str)
