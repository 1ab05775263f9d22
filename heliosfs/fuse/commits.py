"""Group commit: one sync serves everybody who waits for one.

Invariant: whoever waits is served by a sync that began after they asked.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue

import outcome
import trio


class GroupCommit:
    """Shares the calls of a function that makes everything written so far durable, and that takes long."""

    def __init__(self, sync: Callable[[], None]) -> None:
        self.asked = 0
        self.done = 0
        self._thread = _Thread(sync)
        self._next: _Round | None = None
        self._running: _Round | None = None

    async def wait(self) -> None:
        """Return when all that was written before this call is durable; raises what the sync raised."""
        self.asked += 1
        if self._next is None:
            self._next = _Round()
        mine = self._next
        if self._running is not None:
            await self._running.finished.wait()
        if mine is self._next:
            await self._run(mine)
        else:
            await mine.finished.wait()
        if mine.failure is not None:
            raise mine.failure

    async def _run(self, mine: "_Round") -> None:
        """The first of those who wait does the work for all of them."""
        self._next = None
        self._running = mine
        try:
            await self._thread.call()
            self.done += 1
        except Exception as error:
            mine.failure = error
        finally:
            self._running = None
            mine.finished.set()


    def close(self) -> None:
        """No more."""
        self._thread.end()


class _Thread:
    """Calls one function for the tasks of a loop, one after another; at half the price of `trio.to_thread`, which is a
    good part of a sync where those are quick. Whoever waits cannot be cancelled."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._asked: SimpleQueue[tuple[trio.lowlevel.Task, trio.lowlevel.TrioToken] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def call(self) -> None:
        """Have the function called, and raise what it raises."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
            self._thread.start()
        self._asked.put((trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()))
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    def end(self) -> None:
        self._asked.put(None)

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            task, token = asked
            token.run_sync_soon(trio.lowlevel.reschedule, task, outcome.capture(self._function))


class _Round:
    def __init__(self) -> None:
        self.finished = trio.Event()
        self.failure: Exception | None = None
