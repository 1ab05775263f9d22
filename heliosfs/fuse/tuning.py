"""Settings of this process and of the mount that make requests faster. Each says whether it took effect."""

import ctypes
import gc
import os
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
MMAP_THRESHOLD_BYTES: Final = 32 << 20
TRIM_THRESHOLD_BYTES: Final = 256 << 20
TOP_PAD_BYTES: Final = 16 << 20
"""By default glibc gives each freed megabyte back to the kernel, and the next request pays 256 page
faults."""

COLLECTOR_THRESHOLDS: Final = (50_000, 20, 50)
"""Inodes and records live long and form no cycles: a look at all of them finds nothing and stalls a
request."""

LATENCY_DEVICE: Final = "/dev/cpu_dma_latency"


def keep_freed_memory() -> bool:
    """Let malloc keep big buffers for the next request."""
    return _set_malloc(
        (_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES),
        (_M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES),
        (_M_TOP_PAD, TOP_PAD_BYTES),
    )


def share_freed_memory() -> bool:
    """Let all threads have one arena. Else each that writes a flush keeps what it freed, and nobody else can use that.
    Before there are any: the database's threads would have their own already, and later ones would join them there."""
    return _set_malloc((_M_ARENA_MAX, 1))


def _set_malloc(*settings: tuple[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return all(mallopt(name, value) == 1 for name, value in settings)


def calm_collector() -> bool:
    """Look for garbage cycles seldom, and never among what was loaded at the start."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    return True


def read_ahead(device: str, kilobytes: int) -> bool:
    """How far the kernel reads ahead on a filesystem ("major:minor"); for root only."""
    if not kilobytes or not device:
        return False
    try:
        with open(f"/sys/class/bdi/{device}/read_ahead_kb", "w", encoding="ascii") as file:
            file.write(str(kilobytes))
    except OSError:
        return False
    return True


class Latency:
    """While held, idle processors stay out of the sleep states that take long to leave."""

    def __init__(self) -> None:
        self._descriptor = -1
        self.available = os.access(LATENCY_DEVICE, os.W_OK)

    def hold(self) -> None:
        """Ask for no latency at all."""
        if self.available and self._descriptor < 0:
            self._descriptor = os.open(LATENCY_DEVICE, os.O_WRONLY | os.O_CLOEXEC)
            os.write(self._descriptor, bytes(4))

    def release(self) -> None:
        """Let them sleep."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
