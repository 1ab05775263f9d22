"""Group commit: one sync serves everybody who waits for one.

Invariant: whoever waits is served by a sync that began after they asked.
"""

from collections.abc import Callable

import trio


class GroupCommit:
    """Shares the calls of a function that makes everything written so far durable, and that takes long."""

    def __init__(self, sync: Callable[[], None]) -> None:
        self.asked = 0
        self.done = 0
        self._sync = sync
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
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._sync)
            self.done += 1
        except Exception as error:
            mine.failure = error
        finally:
            self._running = None
            mine.finished.set()


class _Round:
    def __init__(self) -> None:
        self.finished = trio.Event()
        self.failure: Exception | None = None
