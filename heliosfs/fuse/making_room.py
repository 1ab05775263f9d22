"""Space that the journal takes twice: what a full disk gives back before a writer is told that it is full.

Written bytes lie in the journal and, once cut, in packs as well, until a flush lets the journal's segments go. A
request that finds the disk full waits for that, once, and is tried again.

Must never make a writer wait for what did not help a moment ago: on a disk that is really full each write fails at
once.
"""

import time
from contextlib import suppress
from typing import Final

import trio

from heliosfs.fuse.background import BackgroundWork
from heliosfs.fuse.flushing import Flusher
from heliosfs.store.store import LARGE_WRITE_BYTES
from heliosfs.volume.volume import Volume

PAUSE_SECONDS: Final = 10
"""After an attempt that freed nothing."""
STEPS_PER_TURN: Final = 4
"""Background steps between two turns of the other tasks: some milliseconds."""


class Room:
    """Makes room in a volume's store, for one request after another."""

    def __init__(self, volume: Volume, background: BackgroundWork, flusher: Flusher) -> None:
        self.attempts = 0
        self.successes = 0
        self._volume = volume
        self._background = background
        self._flusher = flusher
        self._lock = trio.Lock()
        self._not_before = 0.0

    async def make(self) -> bool:
        """Whether there is more room now than when the caller found none."""
        successes = self.successes
        async with self._lock:
            if self.successes != successes:
                return True
            if time.monotonic() < self._not_before:
                return False
            self.attempts += 1
            if await self._flush_helps() or (await self._cut() and await self._flush_helps()):
                self.successes += 1
                return True
            self._not_before = time.monotonic() + PAUSE_SECONDS
            return False

    async def _flush_helps(self) -> bool:
        before = self._volume.store.free_for_writers()
        # What makes it fail is in the flusher's report; the caller's own trouble is that the disk is full.
        with suppress(Exception):
            await self._flusher.flush_full_disk()
        return self._volume.store.free_for_writers() >= before + LARGE_WRITE_BYTES

    async def _cut(self) -> bool:
        """Bring what is in the journal only into packs, as far as they have room; whether there was anything."""
        steps = 0
        while self._background.pending():
            self._background.step()
            steps += 1
            if not steps % STEPS_PER_TURN:
                await trio.lowlevel.checkpoint()
        return steps > 0
