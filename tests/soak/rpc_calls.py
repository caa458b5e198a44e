"""What a thread does to plugins that speak net/rpc."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import netrpc_loans
from netrpc_peer import Item, Order

from pygo_plugin import CallTimeoutError, ServerError

if TYPE_CHECKING:
    from fleet import NetRpcPlugin

Random = random.Random
Call = Callable[["NetRpcPlugin", Random], None]

PATIENCE = 30.0  # seconds


def payload(random: Random) -> bytes:
    return random.getrandbits(64).to_bytes(8, "big") * random.choice([0, 10, 1000, 40000])


def echo(plugin: NetRpcPlugin, random: Random) -> None:
    sent = payload(random)
    assert plugin.test.echo(sent) == sent


def order(plugin: NetRpcPlugin, random: Random) -> None:
    items = [Item("item", i / 3, i, ["red"]) for i in range(random.randrange(200))]
    sent = Order(id=random.getrandbits(64), customer="\u00e4", items=items)
    assert plugin.test.order(sent) == sent


def another_object(plugin: NetRpcPlugin, random: Random) -> None:
    test = plugin.blocking.dispense("test")
    sent = payload(random)
    assert test.echo(sent) == sent
    if random.random() < 0.5:
        test.close()


def timeout(plugin: NetRpcPlugin, random: Random) -> None:
    try:
        plugin.test.sleep(random.randrange(30), timeout=random.uniform(0, 0.03))
    except CallTimeoutError:
        pass


def futures(plugin: NetRpcPlugin, random: Random) -> None:
    sent = payload(random)
    called_back = threading.Event()
    go = plugin.test.rpc_client.go
    calls: list[Any] = [go("Plugin.Echo", sent, reply=bytes) for _ in range(4)]
    calls[0].add_done_callback(lambda _: called_back.set())
    for call in calls:
        assert call.result(PATIENCE) == sent
    assert called_back.wait(PATIENCE), "a callback was not called"


def cancelled_future(plugin: NetRpcPlugin, random: Random) -> None:
    call = plugin.test.rpc_client.go("Plugin.Sleep", 20, reply=int)
    if random.random() < 0.5:
        time.sleep(random.uniform(0, 0.01))
    assert call.cancel() or call.done()


def forgotten_future(plugin: NetRpcPlugin, random: Random) -> None:
    plugin.test.rpc_client.go("Plugin.Echo", payload(random), reply=bytes)


def refused(text: str, call: Callable[[], Any]) -> None:
    """The call fails with this text."""
    try:
        call()
    except ServerError as error:
        if str(error) != text:
            raise
    else:
        raise AssertionError(f"what has to fail with {text!r} succeeded")


def failure(plugin: NetRpcPlugin, random: Random) -> None:
    text = "x" * random.randrange(1, 200)
    refused(text, lambda: plugin.test.fail(text))


def unknown_method(plugin: NetRpcPlugin, random: Random) -> None:
    argument = {"an argument": payload(random)}
    call = plugin.test.rpc_client.call
    refused("rpc: can't find method Plugin.Nowhere", lambda: call("Plugin.Nowhere", argument))


def call_back(plugin: NetRpcPlugin, random: Random) -> None:
    netrpc_loans.call_back(plugin.blocking, plugin.test, payload(random))


def call_served(plugin: NetRpcPlugin, random: Random) -> None:
    netrpc_loans.call_served(plugin.blocking, plugin.test)


def descend(plugin: NetRpcPlugin, random: Random) -> None:
    netrpc_loans.descend(plugin.blocking, plugin.test, random.randrange(5))


def lend_reader(plugin: NetRpcPlugin, random: Random) -> None:
    netrpc_loans.lend_reader(plugin.blocking, plugin.test, random.choice([0, 100, 400_000]))


def lend_writer(plugin: NetRpcPlugin, random: Random) -> None:
    netrpc_loans.lend_writer(plugin.blocking, plugin.test, random.choice([0, 100, 400_000]))


def borrow_reader(plugin: NetRpcPlugin, random: Random) -> None:
    netrpc_loans.borrow_reader(plugin.blocking, plugin.test, random.choice([0, 100, 400_000]))


def borrow_writer(plugin: NetRpcPlugin, random: Random) -> None:
    netrpc_loans.borrow_writer(plugin.blocking, plugin.test, random.choice([0, 100, 400_000]))


def half_read_loan(plugin: NetRpcPlugin, random: Random) -> None:
    with plugin.blocking.broker.open_io(plugin.test.lend_reader(1_000_000)) as file:
        file.read(random.randrange(1, 100_000))


def unused_id(plugin: NetRpcPlugin, random: Random) -> None:
    """An object that is served, and that nobody dials."""
    with plugin.blocking.broker.serve(Nothing()):
        pass


class Nothing:
    def method(self) -> None:
        """Is never called."""


CALLS: list[Call] = [
    *[echo] * 3,
    order,
    another_object,
    timeout,
    futures,
    cancelled_future,
    forgotten_future,
    failure,
    unknown_method,
    call_back,
    call_served,
    descend,
    lend_reader,
    lend_writer,
    borrow_reader,
    borrow_writer,
    half_read_loan,
    unused_id,
]
