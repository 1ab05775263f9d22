"""The volume's background work as the request loop runs it.

A step that fails must not end the mount: it is reported and work pauses for a while, since the cause (a full
disk, a damaged object) seldom goes away at once.
"""

import time
from typing import Final, Protocol

from heliosfs.fuse.errors import Faults

PAUSE_NANOSECONDS: Final = 1_000_000_000


class Stepping(Protocol):
    """A volume, as far as its background work goes."""

    def dirty(self) -> bool: ...

    def step(self) -> None: ...

    def pressure(self) -> float: ...


class BackgroundWork:
    """Steps of a volume's background work."""

    def __init__(self, volume: Stepping, faults: Faults) -> None:
        self.failures = 0
        self.failing = ""
        """What is wrong while the last step failed."""
        self._volume = volume
        self._faults = faults
        self._resume = 0

    def pending(self) -> bool:
        """Whether there is something to do now."""
        if not self._volume.dirty():
            return False
        return not self._resume or time.monotonic_ns() >= self._resume

    def pressure(self) -> float:
        """Its backlog, as a share of what that may be before requests have to wait for it."""
        return self._volume.pressure()

    def step(self) -> None:
        """Do one bounded piece."""
        self._resume = 0
        try:
            self._volume.step()
            self.failing = ""
        except Exception as error:
            self.failures += 1
            self.failing = str(error) or type(error).__name__
            self._faults.errno_of(error, "background work")
            self._resume = time.monotonic_ns() + PAUSE_NANOSECONDS
