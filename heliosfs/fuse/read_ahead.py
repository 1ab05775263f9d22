"""Items made in a thread of their own, one ahead of the task that takes them.

Invariants:
  1. The generator runs in that thread alone, its end and its closing included.
  2. At most one item waits besides the one that is being made: memory stays bounded.
  3. A thread that waits for something that never comes (a pipe) is left behind, and ends with the process.
"""

import queue
import threading
from collections.abc import Generator
from typing import Generic, TypeVar

import outcome
import trio

Item = TypeVar("Item")


class ReadAhead(Generic[Item]):
    """Takes what a generator yields. `close` has to follow."""

    def __init__(self, items: Generator[Item, None, None]) -> None:
        self._items = items
        self._ready: queue.Queue[outcome.Value[Item | None] | outcome.Error] = queue.Queue(1)
        self._closed = False
        threading.Thread(target=self._run, name="read ahead", daemon=True).start()

    async def next(self) -> Item | None:
        """The next item, None at the end; raises what the generator raised."""
        try:
            found = self._ready.get_nowait()
        except queue.Empty:
            found = await trio.to_thread.run_sync(self._ready.get, abandon_on_cancel=True)
        return found.unwrap()

    def close(self) -> None:
        """No more. Does not wait for the thread."""
        self._closed = True
        try:
            self._ready.get_nowait()  # it may wait for room
        except queue.Empty:
            pass

    def _run(self) -> None:
        try:
            for item in self._items:
                if self._closed:
                    return
                self._ready.put(outcome.Value(item))
        except Exception as error:
            self._ready.put(outcome.Error(error))
        else:
            self._ready.put(outcome.Value(None))
        finally:
            self._items.close()
