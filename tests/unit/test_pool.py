"""Pools: who gets a call, lending, mapping, growing, and what the ends of processes cost."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import failing_plugin
import probe_pb2 as pb
import pytest

from pygo_plugin import (
    ClosedError,
    ConfigError,
    ForkedError,
    Health,
    PluginExitedError,
    PluginFailedError,
    Pool,
    Restart,
    RpcError,
    aio,
    netrpc,
)
from pygo_plugin._supervise import driver
from pygo_plugin._supervise.balance import Balance, Entry
from pygo_plugin.supervise import State

pytestmark = pytest.mark.usefixtures("no_leftovers")

TIMEOUT = 60.0
AT_ONCE = Restart(max_restarts=None, delay=0.0)
ECHO = pb.EchoRequest(payload=b"x")


@pytest.fixture(autouse=True)
def _short_idleness(monkeypatch: Any) -> None:
    """Lets the threads that supervise end at once, for which tests wait."""
    monkeypatch.setattr(driver, "IDLE", 0.01)


@pytest.fixture
def options(peers: Any, handshake: Any, plugins: Any) -> dict[str, Any]:
    """Those of a pool of the Go peer."""
    command = peers.plugin("go")
    return {
        "cmd": command,
        "handshake_config": handshake,
        "plugins": plugins,
        "restart": AT_ONCE,
        "kill_timeout": 0.0,
    }


@pytest.fixture
def make(options: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    """Makes pools of the Go peer, and closes them after the test."""
    made: list[Pool] = []

    def pool(**more: Any) -> Pool:
        found = Pool(**{"size": 2, **options, **more})
        made.append(found)
        return found

    yield pool
    for one in made:
        one.close()


def stub(pool: Any) -> Any:
    _, found = pool.dispense("probe")
    return found


def pid(probe: Any) -> int:
    return int(probe.Echo(ECHO, timeout=TIMEOUT).pid)


# ---- Who gets a call -----------------------------------------------------------------------------


def test_a_life(make: Any) -> None:
    pool = make(size=3)
    events = pool.events()
    assert pool.state is State.NEW
    with pool:
        assert pool.state is State.HEALTHY
        assert len(set(pool.pids)) == pool.size == 3
        assert pid(stub(pool)) in pool.pids
        assert "healthy size=3 serving=3" in repr(pool)
    assert pool.state is State.CLOSED
    names = {event.name for event in events}
    assert {name.rpartition(" ")[2] for name in names} == {"#1", "#2", "#3"}
    with pytest.raises(ClosedError, match="pool has been closed"):
        pool.start()


def test_calls_go_to_the_member_with_the_fewest(make: Any) -> None:
    with make(size=3) as pool:
        probe = stub(pool)
        hanging = [probe.Hang.future(pb.HangRequest()) for _ in range(2)]
        free = pid(probe)
        assert {pid(probe) for _ in range(5)} == {free}
        more = [probe.Hang.future(pb.HangRequest()) for _ in range(3)]
        counts = [member._current.calls for member in pool._group.members]
        assert sorted(counts) == [1, 2, 2]
        for call in hanging + more:
            call.cancel()


def test_the_balance_at_random() -> None:
    rng = random.Random(7)
    balance = Balance()
    present: list[Entry] = []
    calls: list[Entry] = []
    for _ in range(5000):
        what = rng.random()
        if what < 0.05 or not present:
            entry = Entry(None, None)
            balance.add(entry)
            present.append(entry)
        elif what < 0.1:
            entry = present.pop(rng.randrange(len(present)))
            balance.remove(entry)
            balance.remove(entry)
        elif what < 0.55:
            expected = min(entry.calls for entry in present)
            least, found = balance.least(), balance.take()
            assert found is least
            assert found is not None
            assert found.calls == expected + 1
            calls.append(found)
        elif calls:
            balance.leave(calls.pop(rng.randrange(len(calls))))
        assert len(balance) == len(present)
        assert set(balance.idle()) == {entry for entry in present if not entry.calls}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 2, "max_size": 3}, "size does not go with max_size"),
        ({"size": 2, "min_size": 1}, "size does not go with min_size"),
        ({"min_size": 1}, "min_size=1 needs max_size"),
        ({"min_size": 4, "max_size": 3}, "min_size is 4, more than max_size 3"),
        ({"size": 0}, "size must be greater than 0"),
        ({"detach": True}, "detach"),
    ],
)
def test_wrong_options(make: Any, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**{"size": None, **wrong})


# ---- Lending -------------------------------------------------------------------------------------


def test_lending(make: Any) -> None:
    with make() as pool:
        probe = stub(pool)
        with pool.member() as first:
            own = stub(first)
            mine = pid(own)
            assert {pid(probe) for _ in range(5)} == set(pool.pids) - {mine}
            with pool.member() as second:
                assert pid(stub(second)) != mine
                with pytest.raises(TimeoutError, match="2 lent"), pool.member(timeout=0.01):
                    raise AssertionError
            os.kill(mine, signal.SIGKILL)
            assert first._supervisor.wait_for("backing_off", TIMEOUT)
            assert pid(own) != mine
        with pytest.raises(ClosedError, match="given back"):
            pid(own)
        assert pool._group._balance._size == 2


def test_a_member_is_lent_once_its_calls_are_over(make: Any) -> None:
    with make(size=1) as pool, ThreadPoolExecutor(1) as threads:
        probe = stub(pool)
        hanging = probe.Hang.future(pb.HangRequest())
        with pytest.raises(TimeoutError), pool.member(timeout=0.01):
            raise AssertionError
        pid(probe)  # it was given back
        entered = threading.Event()

        def borrow() -> int:
            entered.set()
            with pool.member() as client:
                return pid(stub(client))

        lent = threads.submit(borrow)
        entered.wait(TIMEOUT)
        hanging.cancel()
        assert lent.result(TIMEOUT) == pool.pids[0]


# ---- Mapping -------------------------------------------------------------------------------------


def numbers(count: int, taken: list[int] | None = None) -> Iterator[Any]:
    for number in range(count):
        if taken is not None:
            taken.append(number)
        yield pb.EchoRequest(payload=str(number).encode())


@pytest.mark.parametrize("ordered", [True, False])
def test_map(make: Any, ordered: bool) -> None:
    with make() as pool:
        taken: list[int] = []
        replies = pool.map("probe", "Echo", numbers(50, taken), ordered=ordered, lookahead=3)
        seen = []
        for reply in replies:
            seen.append(int(reply.payload))
            assert len(taken) <= len(seen) + 3
        assert (seen if ordered else sorted(seen)) == list(range(50))
        assert list(pool.map("probe", "Echo", [], ordered=ordered)) == []
        with pytest.raises(ConfigError, match="no method 'Nothing'"):
            pool.map("probe", "Nothing", [])


@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_that_is_abandoned(make: Any, eventually: Any, ordered: bool) -> None:
    with make() as pool:
        probe = stub(pool)
        requests = [ECHO, *(pb.EchoRequest(delay_ms=int(TIMEOUT * 1000)) for _ in range(3))]
        replies = pool.map("probe", "Echo", requests, ordered=ordered)
        assert next(replies).payload == b"x"
        del replies
        gc.collect()
        members = pool._group.members
        eventually(lambda: not sum(member._current.calls for member in members))
        pid(probe)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_that_fails(make: Any, ordered: bool) -> None:
    with make() as pool:
        requests = [pb.FailRequest(code=0), pb.FailRequest(code=7), pb.FailRequest(code=7)]
        replies = pool.map("probe", "Fail", requests, ordered=ordered, lookahead=1)
        next(replies)
        with pytest.raises(RpcError):
            next(replies)
        assert list(replies) == []


@pytest.mark.parametrize("ordered", [True, False])
def test_a_pool_that_is_closed_during_a_map(make: Any, ordered: bool) -> None:
    with make() as pool:
        replies = pool.map("probe", "Hang", [pb.HangRequest()] * 4, ordered=ordered)
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(lambda: list(replies))
            while sum(member._current.calls for member in pool._group.members) < 4:
                os.sched_yield()
            pool.close()
            with pytest.raises((RpcError, ClosedError)):
                waiting.result(TIMEOUT)


# ---- Growing and shrinking -----------------------------------------------------------------------


def test_growing_and_shrinking(make: Any, eventually: Any) -> None:
    with make(size=None, max_size=3, idle_timeout=0.05) as pool:
        probe = stub(pool)
        assert pool.size == 1
        hanging = []
        for size in (1, 2, 3, 3):
            hanging.append(probe.Hang.future(pb.HangRequest()))
            pid(probe)
            eventually(lambda size=size: len(pool.pids) >= min(size + 1, 3))
        assert pool.size == 3
        for call in hanging:
            call.cancel()
        eventually(lambda: pool.size == 1)
        pid(probe)


# ---- The ends of processes -----------------------------------------------------------------------


def test_a_crash_costs_the_calls_of_one_member(make: Any, eventually: Any) -> None:
    with make() as pool:
        probe = stub(pool)
        calls = [probe.Hang.future(pb.HangRequest()) for _ in range(4)]
        victim = pool.pids[0]
        of_victim = {call: call._incarnation.client.pid == victim for call in calls}
        os.kill(victim, signal.SIGKILL)
        assert sum(of_victim.values()) == 2
        for call, was_lost in of_victim.items():
            if was_lost:
                error = call.exception(TIMEOUT)
                assert type(error.__cause__) is PluginExitedError
                assert error.__cause__.exit_status == -signal.SIGKILL
        for call, was_lost in of_victim.items():
            assert call.done() is was_lost
            call.cancel()
        pid(probe)
        eventually(lambda: len(pool.pids) == 2)


def test_members_that_are_killed_under_load(make: Any, eventually: Any) -> None:
    """Nothing hangs, and no call fails that was to be repeated."""
    with make(size=3, retry={"Echo": 1000}) as pool:
        probe = stub(pool)
        over = threading.Event()

        def call() -> int:
            made = 0
            while not over.is_set():
                pid(probe)
                made += 1
            return made

        with ThreadPoolExecutor(8) as threads:
            callers = [threads.submit(call) for _ in range(8)]
            events = pool.events()
            for _ in range(12):
                while not (pids := pool.pids):
                    os.sched_yield()
                os.kill(random.choice(pids), signal.SIGKILL)
                next(event for event in events if type(event).__name__ == "Exited")
            over.set()
            assert all(caller.result(TIMEOUT) for caller in callers)
        # A process that is killed before its handshake leaves its socket.
        eventually(lambda: len(pool.pids) == 3)


def test_a_member_that_hangs(make: Any, freeze: Any) -> None:
    health = Health(interval=0.05, timeout=0.05, failures=2)
    with make(health=health, retry={"Echo": 100}) as pool:
        probe = stub(pool)
        stopped = pid(probe)  # which is the next one, too
        freeze(stopped)
        assert pid(probe) != stopped


def test_all_members_given_up(make: Any, eventually: Any) -> None:
    with make(restart=Restart("never")) as pool:
        probe = stub(pool)
        for number in pool.pids:
            os.kill(number, signal.SIGKILL)
        eventually(lambda: pool.state is State.FAILED)
        for way in (pid, lambda probe: probe.Echo.future(ECHO).result(), lambda _: pool.start()):
            with pytest.raises(PluginFailedError):
                way(probe)
        with pytest.raises(PluginFailedError), pool.member():
            raise AssertionError
        pool.restart()
        assert pool.state is State.HEALTHY
        pid(probe)
    with pytest.raises(PluginFailedError, match="another start would fail as well"):
        make(cmd="/nowhere").start()


def test_a_forked_host(make: Any) -> None:
    with make(size=None, max_size=3) as pool:
        probe = stub(pool)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for way in (pid, lambda _: pool.start(), lambda _: pool.dispense("probe")):
                    with pytest.raises(ForkedError):
                        way(probe)
                pool.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        pid(probe)


def test_netrpc(make: Any) -> None:
    plugins = {"store": netrpc.plugin(failing_plugin.Store)}
    options = {"plugins": plugins, "allowed_protocols": ["netrpc"], "size": 2}
    command = [sys.executable, failing_plugin.__file__, "--netrpc"]
    with make(cmd=command, **options) as pool:
        store = pool.dispense("store")
        assert list(pool.map("store", "get", "abc", lookahead=2)) == ["a", "b", "c"]
        with pytest.raises(ClosedError) as caught:
            store.exit(3)
        assert type(caught.value.__cause__) is PluginExitedError
        assert store.get("a", timeout=TIMEOUT) == "a"
        with pool.member() as client:
            assert client.dispense("store").get("b", timeout=TIMEOUT) == "b"


# ---- asyncio -------------------------------------------------------------------------------------


def run(options: dict[str, Any], main: Callable[[Any, Any], Any], **more: Any) -> None:
    async def use() -> None:
        async with aio.Pool(**{"size": 2, **options, **more}) as pool:
            _, probe = await pool.dispense("probe")
            await main(pool, probe)
        assert pool.state is State.CLOSED
        with pytest.raises(ClosedError):
            await probe.Echo(ECHO)

    asyncio.run(asyncio.wait_for(use(), TIMEOUT))


def test_aio(options: dict[str, Any]) -> None:
    async def main(pool: Any, probe: Any) -> None:
        replies = await asyncio.gather(*(probe.Echo(ECHO) for _ in range(20)))
        assert {reply.pid for reply in replies} == set(pool.pids)
        async with pool.member() as client:
            _, own = await client.dispense("probe")
            mine = (await own.Echo(ECHO)).pid
            assert {(await probe.Echo(ECHO)).pid for _ in range(5)} == set(pool.pids) - {mine}
            with pytest.raises(TimeoutError):
                async with pool.member(), pool.member(timeout=0.01):
                    raise AssertionError
        with pytest.raises(ClosedError, match="given back"):
            await own.Echo(ECHO)
        for ordered in (True, False):
            found = pool.map("probe", "Echo", numbers(30), ordered=ordered, lookahead=4)
            seen = [int(reply.payload) async for reply in found]
            assert (seen if ordered else sorted(seen)) == list(range(30))
        hanging = pool.map("probe", "Hang", [pb.HangRequest()] * 3)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(hanging.__anext__(), 0.05)
        await hanging.aclose()

    run(options, main)


def test_aio_ends(options: dict[str, Any]) -> None:
    async def main(pool: Any, probe: Any) -> None:
        over = asyncio.Event()

        async def call() -> int:
            made = 0
            while not over.is_set():
                await probe.Echo(ECHO, timeout=TIMEOUT)
                made += 1
            return made

        callers = [asyncio.ensure_future(call()) for _ in range(8)]
        events = pool.events()
        for _ in range(6):
            while not (pids := pool.pids):  # noqa: ASYNC110
                await asyncio.sleep(0)
            os.kill(random.choice(pids), signal.SIGKILL)
            async for event in events:
                if type(event).__name__ == "Exited":
                    break
        over.set()
        assert all(await asyncio.gather(*callers))
        while len(pool.pids) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    run(options, main, retry={"Echo": 1000})


def test_aio_grows_and_shrinks(options: dict[str, Any]) -> None:
    async def main(pool: Any, probe: Any) -> None:
        hanging = probe.Hang(pb.HangRequest())
        await probe.Echo(ECHO)
        while len(pool.pids) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        hanging.cancel()
        while pool.size > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await probe.Echo(ECHO)

    run(options, main, size=None, max_size=2, idle_timeout=0.05)
