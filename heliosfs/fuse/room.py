"""When writers wait for room: on a disk that gets full, what they wrote has to be cut while packs have space for it.

Written bytes lie in the journal, once they are cut in packs as well, and in packs only after the next flush. So writers
go on while the disk has more room than the journal takes. Before it has less, they wait until what is in the journal
has been cut and flushed: nothing is held twice then, and a disk is full only when its contents fill it.

Invariants:
  1. The reserve is left alone: what would need it is not tried.
  2. Nobody waits for what cannot help, and between two times that writers wait they write `STEP_BYTES` at least.
"""

from typing import Final

import trio

from heliosfs.fuse.errors import Faults
from heliosfs.fuse.flushing import Flusher
from heliosfs.store.store import FLUSH_FREE_BYTES
from heliosfs.volume.volume import Volume

STEP_BYTES: Final = 4 << 20
"""What may be written before the next look, however little room there is: a flush for each is bearable."""
MARGIN_BYTES: Final = FLUSH_FREE_BYTES + (1 << 20)
"""The room that is left alone by what makes room: for the flush, and one step of the cutter."""
OVERHEAD_BYTES: Final = 3 << 20
"""What is written beside the contents until the next look, by packs and by the database. With too little room for the
rest of a segment all of it stays."""
LOOK_BYTES_MAX: Final = 64 << 20
"""What may be written before the next look, however much room there is: others use the disk as well."""
CUTS_PER_TURN: Final = 4
"""Between two turns of the other tasks: some milliseconds."""


class Room:
    """The room that a volume's store has for writers."""

    def __init__(self, volume: Volume, flusher: Flusher, faults: Faults) -> None:
        self.made = 0
        """How often writers waited."""
        self.look_at = 0
        """Where the journal's head has to be before anybody looks again."""
        self._volume = volume
        self._store = volume.store
        self._journal = volume.engine.journal
        self._flusher = flusher
        self._faults = faults
        self._lock = trio.Lock()

    def is_short(self) -> bool:
        """Whether a writer has to `make` room first."""
        free = self._store.free_for_writers()
        bearable = self._bearable(free)
        if bearable < STEP_BYTES and free >= MARGIN_BYTES:
            return True
        self._go_on(bearable)
        return False

    async def make(self) -> None:
        """Have all that is in the journal cut and flushed, as far as there is room to do so."""
        async with self._lock:
            if self._journal.head < self.look_at:
                return
            self.made += 1
            try:
                await self._cut_and_flush()
            except Exception as error:
                # The writer is told what it meets itself: that the disk is full, or nothing.
                self._faults.errno_of(error, "making room")
            self._go_on(self._bearable(self._store.free_for_writers()))

    async def settled(self) -> bool:
        """Return once all have gone on who wait now; whether anybody waited."""
        if not self._lock.locked():
            return False
        async with self._lock:
            return True

    async def _cut_and_flush(self) -> None:
        while True:
            everything = await self._cut()
            if not await self._flush() or everything:
                return

    async def _cut(self) -> bool:
        """Cut all that there is, as long as there is room; whether nothing is left."""
        steps = 0
        while self._store.free_for_writers() >= MARGIN_BYTES:
            if not self._volume.background.cut_step():
                return True
            steps += 1
            if not steps % CUTS_PER_TURN:
                await trio.lowlevel.checkpoint()
        return False

    async def _flush(self) -> bool:
        """Whether that gave room."""
        before = self._store.free_for_writers()
        await self._flusher.flush()
        return self._store.free_for_writers() > before

    def _bearable(self, free: int) -> int:
        """What may be written before it has no room in packs. It counts twice, as it lies in the journal first."""
        return (free - MARGIN_BYTES - OVERHEAD_BYTES - self._journal.size()) // 2

    def _go_on(self, size: int) -> None:
        self.look_at = self._journal.head + max(STEP_BYTES, min(size, LOOK_BYTES_MAX))
