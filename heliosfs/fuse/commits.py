"""Group commit: one sync serves everybody who waits for one.

Where the disk is quick and nobody else asks for anything, the loop's own thread does it: to hand it to another thread
and back takes longer than the sync.

Invariant: whoever waits is served by a sync that began after they asked.
"""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

import outcome
import trio

QUICK_SECONDS: Final = 0.0006
"""A sync that takes longer than this would keep others waiting who may come meanwhile."""
FORGETTING: Final = 0.7
"""How much of the longest sync so far still counts after the next one."""


class GroupCommit:
    """Shares the calls of a function that makes everything written so far durable, and that takes long."""

    def __init__(self, sync: Callable[[], None], busy: Callable[[], bool] = lambda: True) -> None:
        """`busy` says whether the loop has anything else to do."""
        self.asked = 0
        self.done = 0
        self.done_at_once = 0
        self._sync = sync
        self._busy = busy
        self._longest = 1.0
        """What a sync takes, in seconds, at worst: a slow one is forgotten by and by."""
        self._thread = _Thread(self._timed)
        self._next: _Round | None = None
        self._running: _Round | None = None

    def at_once(self) -> bool:
        """Make all that was written before durable without giving way, if that is the best way; whether it was.
        Raises what the sync raised."""
        if self._longest > QUICK_SECONDS or self._running is not None or self._next is not None or self._busy():
            return False
        self.asked += 1
        self._timed()
        self.done += 1
        self.done_at_once += 1
        return True

    def _timed(self) -> None:
        start = time.perf_counter()
        try:
            self._sync()
        finally:
            self._longest = max(self._longest * FORGETTING, time.perf_counter() - start)

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
