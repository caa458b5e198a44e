"""Supervisors of both kinds for tests: that of asyncio runs on a loop of its own, on a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pygo_plugin import Supervisor, aio

DEADLINE = 60.0


class Moods:
    """The file by which the starts of moody_plugin.py are told what to do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def come(self, *moods: str) -> None:
        """What the next starts will be like."""
        self.path.write_text("".join(f"{mood}\n" for mood in moods))


class Blocking:
    """A Supervisor."""

    def __init__(self, cmd: Any, **options: Any) -> None:
        self.it = Supervisor(cmd, **options)

    def start(self) -> None:
        self.it.start()

    def restart(self) -> None:
        self.it.restart()

    def reload(self, cmd: Any = None) -> None:
        self.it.reload(cmd)

    def close(self) -> None:
        self.it.close()

    def wait_for(self, state: str) -> bool:
        return self.it.wait_for(state, DEADLINE)

    def current(self) -> Any:
        """The incarnation that takes calls."""
        return self.it._wait_current(threading.TIMEOUT_MAX)

    def events(self) -> Iterator[Any]:
        return self.it.events()

    def echo(self, payload: Any) -> Any:
        """Calls Echo of the plugin's "probe", of the current incarnation."""
        incarnation = self.current()
        while not incarnation.enter():  # it has been replaced at this very moment
            incarnation = self.current()
        try:
            return self.call(incarnation, "Echo", payload)
        finally:
            incarnation.leave()

    def call(self, incarnation: Any, method: str, request: Any) -> Any:
        _, probe = incarnation.client.dispense("probe")
        return getattr(probe, method)(request, timeout=DEADLINE)

    def finish(self) -> None:
        self.close()


class Aio(Blocking):
    """An aio.Supervisor."""

    def __init__(self, cmd: Any, **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="tests-loop")
        self.thread.start()
        self.it: Any = None
        try:
            self.it = aio.Supervisor(cmd, **options)
        except BaseException:
            self._stop()
            raise

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(2 * DEADLINE)

    def start(self) -> None:
        self.run(self.it.start())

    def restart(self) -> None:
        self.run(self.it.restart())

    def reload(self, cmd: Any = None) -> None:
        self.run(self.it.reload(cmd))

    def close(self) -> None:
        self.run(self.it.close())

    def wait_for(self, state: str) -> bool:
        return bool(self.run(self.it.wait_for(state, DEADLINE)))

    def current(self) -> Any:
        return self.run(self.it._wait_current(None))

    def events(self) -> Iterator[Any]:
        async def make() -> Any:
            return self.it.events()

        found = self.run(make())

        async def step() -> Any:
            async for event in found:
                return event
            return None

        while (event := self.run(step())) is not None:
            yield event

    def call(self, incarnation: Any, method: str, request: Any) -> Any:
        async def call() -> Any:
            _, probe = await incarnation.client.dispense("probe")
            return await getattr(probe, method)(request, timeout=DEADLINE)

        return self.run(call())

    def finish(self) -> None:
        self.close()
        self._stop()

    def _stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(DEADLINE)
        self.loop.close()


KINDS = {"blocking": Blocking, "asyncio": Aio}
