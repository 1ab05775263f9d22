"""Collections of a mounted volume: driven between requests, one at a time, for people and by itself.

Invariants:
  1. Steps run in slices of about a millisecond. While requests come, the slices are a fifteenth of the time.
  2. One that began by itself gives way to one that somebody asked for.
  3. Stopped or failed at any point, or the mount ended, it has done no harm: nothing goes before the flush.
"""

import errno
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final

import trio

from heliosfs.base.errors import Corruption, Refusal
from heliosfs.fuse.errors import Faults, told
from heliosfs.fuse.flushing import Flusher
from heliosfs.volume import collection
from heliosfs.volume.collection import FullDiskAllowed, Report, Rounds
from heliosfs.volume.volume import Volume

SLICE_SECONDS: Final = 0.001
BUSY_PAUSES: Final = 14
"""How much longer than the slice before it a pause is, while requests come: with the turns of the scheduler, and with
what the slices drive out of the processor's caches, nine times as long cost requests more than a tenth."""
LOOK_SECONDS: Final = 10.0
"""Between two looks whether a collection pays."""
LOOK_SECONDS_FULL: Final = 0.5
"""The same on a full disk: whoever deletes something there wants to have the room."""
REST_FACTOR: Final = 20
"""How much longer than a collection the rest after it is: they never take more than a twentieth of the time."""
REST_SECONDS_MIN: Final = 600.0
"""Between two that begin by themselves, unless the disk is full."""


class Collecting:
    """Runs them."""

    def __init__(
        self,
        volume: Volume,
        flusher: Flusher,
        faults: Faults,
        requests: Callable[[], int],
        forget_dropped: Callable[[], Awaitable[None]],
    ) -> None:
        self.last: dict[str, Any] | None = None
        """What the last one found, or why it failed."""
        self.number = 0
        """Of the last one that began."""
        self.failures = 0
        self._volume = volume
        self._flusher = flusher
        self._faults = faults
        self._requests = requests
        self._forget_dropped = forget_dropped
        """Has the kernel let go of states that are no longer kept: what it holds stays."""
        self._report: Report | None = None
        self._automatic = False
        self._stopping = False
        self._finished = trio.Event()
        self._looked = -LOOK_SECONDS
        self._rest_until = 0.0
        self._rest_until_short = 0.0
        """The same while the disk is full."""

    @property
    def running(self) -> bool:
        return self._report is not None

    @property
    def stopped(self) -> bool:
        """Whether the last one ended because it was told to."""
        return self._stopping and not self.running

    def status(self) -> dict[str, Any]:
        """How far it is, and what the last one found."""
        report = self._report
        if report is None:
            return {"running": False, "last": self.last}
        running = {"running": True, "number": self.number, "automatic": self._automatic}
        return {**running, **report.as_json(), "last": self.last}

    async def make_way(self) -> None:
        """Before one that somebody asks for. EBUSY when somebody has asked for one already."""
        if self.running and not self._automatic:
            raise Refusal(errno.EBUSY, "a collection is going on already")
        if self.running:
            self.stop()
            await self._finished.wait()

    def stop(self) -> None:
        """End the one that is going on, if any, as soon as its slice does."""
        self._stopping = self.running

    def begin(self, *, automatic: bool = False) -> Rounds:
        """From now on one is going on; `run` has to follow. EBUSY when one is going on already."""
        if self.running:
            raise Refusal(errno.EBUSY, "a collection is going on already")
        rounds = Rounds(self._volume.stored_bytes)
        self.number += 1
        self._automatic = automatic
        self._report, self._stopping, self._finished = rounds.report, False, trio.Event()
        return rounds

    async def run(
        self, rounds: Rounds, *, dry_run: bool = False, keep_undo_seconds: float | None = None
    ) -> dict[str, Any]:
        """One collection from its beginning to the flush. Raises what made it fail."""
        try:
            if not dry_run:
                self._volume.upkeep.let_go(self._volume.store.is_short_of_space(), keep_undo_seconds)
                await self._forget_dropped()
            # What is in no flush yet is not looked at.
            with FullDiskAllowed():
                await self._flush()
            while rounds.go_on():
                await self._drive(self._volume.collect(dry_run=dry_run, report=rounds.report))
                if not dry_run:
                    rounds.report.phase = collection.FLUSHING
                    await self._flush()
                    while self._volume.engine.objects.condemned:
                        await self._flush()
            self.last = {"number": self.number, **rounds.report.as_json(), "dry_run": dry_run}
            return self.last
        except Exception as error:
            said = told(error)
            if isinstance(error, Corruption):
                said = f"{error}. Nothing was removed: what this refers to is not known. See heliosfs fsck."
            self.last = {"number": self.number, **rounds.report.as_json(), "error": said}
            if isinstance(error, Corruption):
                raise Refusal(errno.EIO, said) from error
            raise
        finally:
            self._report = None
            self._finished.set()

    async def _flush(self) -> None:
        """On a full disk the first attempt gives the reserve away, and the second one has it."""
        with FullDiskAllowed():
            await self._flusher.flush()
            return
        await self._flusher.flush()

    async def _drive(self, steps: Generator[None, None, Report]) -> None:
        served = self._requests()
        begun = time.perf_counter()
        try:
            while self._slice(steps, begun + SLICE_SECONDS):
                if self._stopping:
                    raise Refusal(errno.ECANCELED, "the collection was stopped; nothing is lost by that")
                requests = self._requests()
                busy, served = requests != served, requests
                await trio.sleep((time.perf_counter() - begun) * BUSY_PAUSES if busy else 0)
                begun = time.perf_counter()
        finally:
            steps.close()

    @staticmethod
    def _slice(steps: Generator[None, None, Report], end: float) -> bool:
        """Run steps until that time, one at least; whether there are more."""
        try:
            next(steps)
            while time.perf_counter() < end:
                next(steps)
        except StopIteration:
            return False
        return True

    def due(self) -> bool:
        """Whether one should begin by itself. Looks at its own pace, however often it is called."""
        now = time.monotonic()
        store = self._volume.store
        if self.running or store.read_only:
            return False
        if now - self._looked < (LOOK_SECONDS_FULL if store.is_full() else LOOK_SECONDS):
            return False
        self._looked = now
        self._volume.upkeep.expire()
        short = store.is_short_of_space()
        return now >= (self._rest_until_short if short else self._rest_until) and self._volume.upkeep.pays(short)

    async def run_by_itself(self) -> None:
        """One that nobody asked for and nobody waits for."""
        if self.running:
            return
        begun = time.monotonic()
        try:
            await self.run(self.begin(automatic=True))
        except Refusal as refusal:
            if refusal.errno != errno.ECANCELED:
                self._failed(refusal)
        except Exception as error:
            self._failed(error)
        finally:
            end = time.monotonic()
            self._rest_until_short = end + REST_FACTOR * (end - begun)
            self._rest_until = max(self._rest_until_short, end + REST_SECONDS_MIN)

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        self._faults.errno_of(cause, "a collection")
