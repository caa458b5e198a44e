"""The policy of supervisors: driven at random, and its rules one by one. No process, no clock."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from pygo_plugin._supervise.policy import (
    Drain,
    Emit,
    Kill,
    Measure,
    Ping,
    Policy,
    Settle,
    Start,
    State,
)
from pygo_plugin.errors import (
    ClosedError,
    ConfigError,
    PluginError,
    PluginExitedError,
    PluginFailedError,
)
from pygo_plugin.supervise import Health, Restart

SERVING = {State.HEALTHY, State.UNHEALTHY, State.RELOADING}
WITHIN, BUDGET, DRAIN = 60.0, 3, 30.0


class World:
    """What the driver of a policy has: processes, questions under way, and the time.

    launched  numbers of the launches that have not succeeded or failed
    running   processes that run, by number; True for those that have been told to end
    """

    def __init__(self, restart: Restart, health: Health | None, **options: Any) -> None:
        self.now = 1000.0
        self.policy = Policy("kv", restart, health, chance=lambda: 0.5, **options)
        self.launched: set[int] = set()
        self.launches: list[tuple[int, Any]] = []
        self.running: dict[int, bool] = {}
        self.asked: set[int] = set()
        self.measured: set[int] = set()
        self.draining: set[int] = set()
        self.killed: set[int] = set()
        self.events: list[Any] = []
        self.settled: dict[Any, PluginError | None] = {}
        self.outcomes: dict[int, str] = {}  # of launches
        self.restarts: deque[float] = deque()
        self.closed = False

    def take(self, actions: list[Any]) -> None:
        for action in actions:
            if isinstance(action, Start):
                assert not self.closed, "a start after close()"
                assert action.number == len(self.launches) + 1
                self.launches.append((action.number, action.cmd))
                self.launched.add(action.number)
            elif isinstance(action, Ping):
                assert action.number in self.running
                assert action.number not in self.asked, "asked twice at the same time"
                self.asked.add(action.number)
            elif isinstance(action, Measure):
                self.measured.add(action.number)
            elif isinstance(action, Drain):
                assert self.policy.serving not in (None, action.number)
                self.draining.add(action.number)
            elif isinstance(action, Kill):
                self.killed.add(action.number)
                if action.number in self.running:
                    self.running[action.number] = True
            elif isinstance(action, Settle):
                assert action.request not in self.settled, "answered twice"
                self.settled[action.request] = action.error
            else:
                assert isinstance(action, Emit)
                self.events.append(action.event)

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    # What happens.

    def start(self, request: Any = "start") -> None:
        self.take(self.policy.start_requested(request, self.now))

    def come(self, number: int) -> None:
        self.launched.discard(number)
        self.running[number] = False  # even if it was killed: that may have come too early
        self.outcomes[number] = "started"
        self.take(self.policy.start_succeeded(number, 100 + number, self.now))

    def fail(self, number: int, curable: bool = True) -> None:
        self.launched.discard(number)
        self.outcomes[number] = "failed"
        error = PluginError("kv: no") if curable else ConfigError("kv: never")
        self.take(self.policy.start_failed(number, error, curable, self.now))

    def answer(self, number: int, problem: str = "") -> None:
        self.asked.discard(number)
        if problem:
            self.take(self.policy.ping_failed(number, problem, self.now))
        else:
            self.take(self.policy.ping_succeeded(number, self.now))

    def exit(self, number: int, status: int = 1) -> None:
        self.running.pop(number, None)
        self.asked.discard(number)
        error = PluginExitedError("kv: exited")
        error.exit_status = status
        self.take(self.policy.exited(number, error, status, "", self.now))

    def gone(self, number: int) -> None:
        self.running.pop(number, None)
        self.killed.discard(number)
        self.asked.discard(number)
        self.take(self.policy.ended(number, self.now))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.policy.timer(self.now))

    def until(self) -> None:
        """Let the time pass until the policy has something to do."""
        assert self.policy.wake_at is not None
        self.pass_time(max(0.0, self.policy.wake_at - self.now))

    def serve(self) -> int:
        """Let what has been launched last become healthy."""
        number = len(self.launches)
        self.come(number)
        self.answer(number)
        assert self.policy.serving == number
        return number


class Random(RuleBasedStateMachine):
    """Events that may come, in any order and at any time."""

    @initialize(
        when=st.sampled_from(["always", "on_failure", "never"]),
        health=st.booleans(),
        budget=st.sampled_from([0, 1, BUDGET, None]),
        age=st.sampled_from([None, 40.0]),
    )
    def begin(self, when: Any, health: bool, budget: int | None, age: float | None) -> None:
        self.world = World(
            Restart(when, max_restarts=budget, within=WITHIN, delay=1.0),
            Health(interval=10.0, timeout=2.0, failures=2, startup=20.0) if health else None,
            max_age=age,
            max_rss=100,
            drain_timeout=DRAIN,
        )
        self.budget = budget
        self.restarts: list[float] = []
        self.requests = 0
        self.world.start()

    def request(self) -> int:
        self.requests += 1
        return self.requests

    @precondition(lambda self: self.world.launched)
    @rule(data=st.data(), outcome=st.sampled_from(["come", "come", "come", "fail", "never"]))
    def launch_ends(self, data: Any, outcome: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.world.launched)))
        if outcome == "come":
            self.world.come(number)
        else:
            self.world.fail(number, curable=outcome == "fail")

    @precondition(lambda self: self.world.asked)
    @rule(data=st.data(), problem=st.sampled_from(["", "", "sick"]))
    def answer(self, data: Any, problem: str) -> None:
        self.world.answer(data.draw(st.sampled_from(sorted(self.world.asked))), problem)

    @precondition(lambda self: self.world.running)
    @rule(data=st.data(), status=st.sampled_from([0, 1, -9]))
    def exits(self, data: Any, status: int) -> None:
        self.world.exit(data.draw(st.sampled_from(sorted(self.world.running))), status)

    @precondition(lambda self: self.world.killed)
    @rule(data=st.data(), reported=st.booleans())
    def killed_one_ends(self, data: Any, reported: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.world.killed)))
        if reported and number in self.world.running:
            self.world.exit(number, -9)
        if number in self.world.launched:
            self.world.fail(number)
        self.world.gone(number)

    @precondition(lambda self: self.world.draining)
    @rule(data=st.data())
    def drains(self, data: Any) -> None:
        number = data.draw(st.sampled_from(sorted(self.world.draining)))
        self.world.draining.discard(number)
        self.world.take(self.world.policy.drained(number))

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 25.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        before = len(self.world.launches)
        backing_off = self.world.policy.state is State.BACKING_OFF
        self.world.pass_time(seconds)
        if backing_off and len(self.world.launches) > before:
            self.restarts.append(self.world.now)

    @precondition(lambda self: self.world.policy.wake_at is not None)
    @rule()
    def time_comes(self) -> None:
        wake = self.world.policy.wake_at
        assert wake is not None
        self.time_passes(max(0.0, wake - self.world.now))

    @precondition(lambda self: self.world.measured)
    @rule(data=st.data(), rss=st.sampled_from([None, 50, 200]))
    def measured(self, data: Any, rss: int | None) -> None:
        number = data.draw(st.sampled_from(sorted(self.world.measured)))
        self.world.measured.discard(number)
        self.world.take(self.world.policy.measured(number, rss, self.world.now))

    @rule()
    def calls_reached(self) -> None:
        serving = self.world.policy.serving
        if serving is not None:
            self.world.take(self.world.policy.calls_reached(serving, self.world.now))

    @rule()
    def suspected(self) -> None:
        self.world.take(self.world.policy.suspected(len(self.world.launches), self.world.now))

    @rule(cmd=st.sampled_from([None, "other"]))
    def reload(self, cmd: Any) -> None:
        request = self.request()
        self.world.take(self.world.policy.reload_requested(cmd, request, self.world.now))
        self.world.take(self.world.policy.reload_requested(None, None, self.world.now))

    @rule()
    def restart(self) -> None:
        self.restarts.clear()
        request = self.request()
        self.world.take(self.world.policy.restart_requested(request, self.world.now))

    @precondition(lambda self: len(self.world.launches) > 3)
    @rule()
    def close(self) -> None:
        self.world.take(self.world.policy.close_requested())
        self.world.closed = True

    @invariant()
    def one_serves(self) -> None:
        policy = self.world.policy
        assert (policy.serving is not None) == (policy.state in SERVING)
        assert policy.serving is None or policy.serving in self.world.running
        wanted = [
            number
            for number, ending in self.world.running.items()
            if not ending and number not in policy._draining
        ]
        at_most = 2 if policy.state is State.RELOADING else 1
        assert len([*wanted, *(self.world.launched - self.world.killed)]) <= at_most
        if policy.state is State.STARTING:
            assert policy.serving is None

    @invariant()
    def the_budget_is_kept(self) -> None:
        if self.budget is not None:
            recent = [time for time in self.restarts if time > self.world.now - WITHIN]
            assert len(recent) <= self.budget

    @invariant()
    def something_will_happen(self) -> None:
        """Nothing is forgotten: what is awaited has a process, a launch or a time."""
        world, policy = self.world, self.world.policy
        if policy.state in (State.STARTING, State.RELOADING):
            assert world.launched or world.running or world.killed
        elif policy.state is State.BACKING_OFF:
            assert policy.wake_at is not None or world.killed
        elif policy.state is State.CLOSED:
            assert policy.wake_at is None
        for number in world.running:
            ours = number in (policy.serving, policy._coming and policy._coming.number)
            assert ours or number in policy._draining or number in world.killed

    @invariant()
    def requests_are_answered(self) -> None:
        policy = self.world.policy
        if policy.state in (State.FAILED, State.CLOSED):
            assert not policy._requests
        if policy.state in (State.HEALTHY, State.UNHEALTHY):
            assert not policy._requests

    @invariant()
    def what_is_over_says_why(self) -> None:
        policy = self.world.policy
        if policy.state is State.FAILED:
            assert isinstance(policy.over, PluginFailedError)
        elif policy.state is State.CLOSED:
            assert isinstance(policy.over, ClosedError)
        else:
            assert policy.over is None

    def teardown(self) -> None:
        """Whatever has happened: after close(), all that runs has been told to end."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.take(world.policy.close_requested())
        world.closed = True
        for number in sorted(world.launched):
            world.come(number)
        assert all(world.running.values())
        assert set(range(1, self.requests + 1)) <= set(world.settled)


TestRandom = Random.TestCase
TestRandom.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# ---- Rules one by one ----------------------------------------------------------------------------


def until_asked(world: World) -> None:
    while not world.asked:
        world.until()


ALWAYS = Restart(max_restarts=None, delay=1.0, jitter=0.0, factor=2.0, max_delay=5.0)
WATCHED = Health(interval=10.0, timeout=2.0, failures=3, startup=20.0)


@pytest.fixture
def world() -> World:
    made = World(ALWAYS, WATCHED, max_rss=100, drain_timeout=DRAIN)
    made.start()
    made.serve()
    return made


def test_a_new_process_serves_once_it_is_healthy() -> None:
    world = World(ALWAYS, WATCHED)
    world.start()
    world.come(1)
    assert world.policy.serving is None
    world.answer(1, "NOT_SERVING")
    assert not world.settled
    world.until()
    world.answer(1)
    assert world.policy.serving == 1
    assert world.settled == {"start": None}


def test_delays_grow_up_to_their_cap_and_begin_anew(world: World) -> None:
    delays = []
    for _ in range(5):
        world.exit(len(world.launches))
        delays.append(world.events[-1].delay)
        world.until()
        world.serve()
    assert delays == [1.0, 2.0, 4.0, 5.0, 5.0]
    world.now += ALWAYS.within
    world.exit(len(world.launches))
    assert world.events[-1].delay == 1.0


@pytest.mark.parametrize(
    ("when", "status", "state"),
    [
        ("always", 0, State.BACKING_OFF),
        ("on_failure", 1, State.BACKING_OFF),
        ("on_failure", -9, State.BACKING_OFF),
        ("on_failure", 0, State.FAILED),
        ("never", 1, State.FAILED),
    ],
)
def test_when_it_is_restarted(when: Any, status: int, state: State) -> None:
    world = World(Restart(when), None)
    world.start()
    world.come(1)
    world.exit(1, status)
    assert world.policy.state is state


def test_budget_is_of_a_window() -> None:
    world = World(Restart(max_restarts=2, within=60.0, delay=1.0, max_delay=1.0, jitter=0.0), None)
    world.start()
    world.come(1)
    for number in (1, 2):
        world.exit(number)
        world.until()
        world.come(number + 1)
    world.pass_time(61.0)
    world.exit(3)
    assert world.policy.state is State.BACKING_OFF
    for number in (4, 5):
        world.until()
        world.come(number)
        world.exit(number)
    assert world.policy.state is State.FAILED
    assert world.kinds()[-1] == "GaveUp"
    world.take(world.policy.restart_requested("again", world.now))
    world.come(6)
    assert world.settled["again"] is None
    assert world.policy.over is None


def test_what_cannot_be_cured_is_given_up_at_once() -> None:
    world = World(ALWAYS, None)
    world.start()
    world.fail(1, curable=False)
    assert world.policy.state is State.FAILED
    assert isinstance(world.settled["start"], PluginFailedError)
    world.start("late")
    assert isinstance(world.settled["late"], PluginFailedError)


def test_a_hung_process_is_killed_and_its_end_awaited(world: World) -> None:
    for _ in range(WATCHED.failures):
        assert world.policy.serving == 1
        until_asked(world)
        world.answer(1, "no answer within 2 s")
    assert world.killed == {1}
    assert world.policy.serving is None
    assert len(world.launches) == 1
    world.pass_time(60.0)
    assert len(world.launches) == 1
    world.exit(1, -9)
    world.until()
    assert len(world.launches) == 2


def test_one_answer_forgives(world: World) -> None:
    for _ in range(3):
        for problem in ("no", "no", ""):
            until_asked(world)
            world.answer(1, problem)
    assert world.policy.state is State.HEALTHY
    assert world.policy.serving == 1


def test_a_replacement_serves_before_the_old_one_is_drained(world: World) -> None:
    world.take(world.policy.calls_reached(1, world.now))
    assert (world.policy.state, world.policy.serving) == (State.RELOADING, 1)
    world.serve()
    assert world.draining == {1}
    assert not world.killed
    assert world.events[-1].reason == "max_calls"
    world.take(world.policy.drained(1))
    assert world.killed == {1}
    world.exit(1, 0)
    assert world.events[-1].expected
    assert world.policy.serving == 2


def test_draining_has_a_bound(world: World) -> None:
    world.take(world.policy.reload_requested(None, "r", world.now))
    world.serve()
    world.pass_time(DRAIN)
    assert 1 in world.killed


@pytest.mark.parametrize("how", ["fails", "exits", "stays sick"])
def test_a_bad_replacement_leaves_the_old_one_serving(world: World, how: str) -> None:
    world.take(world.policy.reload_requested("new", "r", world.now))
    assert world.launches[-1] == (2, "new")
    if how == "fails":
        world.fail(2, curable=False)
    else:
        world.come(2)
        if how == "exits":
            world.exit(2, 1)
        while how == "stays sick" and world.policy.state is State.RELOADING:
            if 2 in world.asked:
                world.answer(2, "sick")
            if 1 in world.asked:
                world.answer(1)
            if world.policy.state is State.RELOADING:
                world.until()
    assert (world.policy.state, world.policy.serving) == (State.HEALTHY, 1)
    assert "NotReplaced" in world.kinds()
    assert world.settled["r"] is not None
    assert 2 in world.killed or how == "fails"
    world.exit(1)
    world.until()
    assert world.launches[-1] == (3, None), "the old command, which has worked"


def test_a_good_replacement_is_what_is_restarted(world: World) -> None:
    world.take(world.policy.reload_requested("new", "r", world.now))
    world.serve()
    world.exit(2)
    world.until()
    assert world.launches[-1] == (3, "new")


def test_a_crash_during_a_reload_waits_for_the_replacement(world: World) -> None:
    world.take(world.policy.reload_requested("new", "r", world.now))
    world.exit(1)
    assert world.policy.state is State.STARTING
    assert len(world.launches) == 2
    world.serve()
    assert world.settled["r"] is None


def test_a_reload_during_a_start_follows_it(world: World) -> None:
    world.exit(1)
    world.until()
    world.take(world.policy.reload_requested("new", "r", world.now))
    world.serve()
    assert "r" not in world.settled
    assert world.launches[-1] == (3, "new")
    world.serve()
    assert world.settled["r"] is None


def test_a_reload_that_failed_is_not_repeated_but_a_recycling_is(world: World) -> None:
    world.take(world.policy.reload_requested(None, "r", world.now))
    world.fail(2)
    world.pass_time(20.0)
    assert len(world.launches) == 2
    world.take(world.policy.measured(1, 200, world.now))
    world.fail(3)
    world.pass_time(ALWAYS.delay)
    assert len(world.launches) == 4


def test_age() -> None:
    world = World(ALWAYS, WATCHED, max_rss=100, max_age=50.0)
    world.start()
    world.serve()
    while len(world.launches) == 1:
        until = world.policy.wake_at
        assert until is not None
        world.pass_time(until - world.now)
        if world.asked:
            world.answer(1)
        if world.measured:
            world.measured.clear()
            world.take(world.policy.measured(1, 50, world.now))
    assert world.now == 1050.0
    world.serve()
    assert "Reloaded" in world.kinds()
