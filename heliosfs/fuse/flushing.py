"""When the database is brought up to date with the journal, and in which thread.

A flush bounds what has to be replayed at the next start, and lets old journal segments go. No request waits
for one.
"""

import time
from typing import Final

import trio

from heliosfs.fuse.errors import Faults
from heliosfs.volume.volume import Volume

IDLE_SECONDS: Final = 5
"""Silence after which whatever is unflushed is flushed."""
PAUSE_SECONDS: Final = 10
"""After a flush that failed: a full disk seldom gets empty at once."""


class Flusher:
    """Flushes a volume when that is due."""

    def __init__(self, volume: Volume, faults: Faults) -> None:
        self._volume = volume
        self._faults = faults
        self._requests = 0
        self._quiet_since = time.monotonic()
        self._not_before = 0.0
        self._lock = trio.Lock()
        self.failures = 0
        self.failing = ""
        """What is wrong while the last one failed."""

    async def flush_if_due(self, requests: int) -> None:
        """`requests` is how many there have been so far."""
        now = time.monotonic()
        if requests != self._requests:
            self._requests = requests
            self._quiet_since = now
        if now < self._not_before:
            return
        if self._volume.flush_due(idle=now - self._quiet_since > IDLE_SECONDS):
            try:
                await self.flush()
            except Exception as error:
                self._faults.errno_of(error, "a flush of the journal")
                self._not_before = now + PAUSE_SECONDS

    async def flush(self) -> None:
        """Flush now, after the one that is under way. Raises what made it fail."""
        async with self._lock:
            try:
                await self._flush()
            except Exception as error:
                self.failures += 1
                self.failing = str(error) or type(error).__name__
                raise
            self.failing = ""

    async def _flush(self) -> None:
        flush = self._volume.begin_flush()
        try:
            # Not to be torn: what was begun has to be finished or failed on this thread.
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(flush.sync)
                flush.index()
                await trio.to_thread.run_sync(flush.write)
                flush.outdate()
                await trio.to_thread.run_sync(flush.unlink)
        except BaseException:
            self._volume.end_flush(flush, failed=True)
            raise
        self._volume.end_flush(flush)
