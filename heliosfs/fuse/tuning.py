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
PROCESSORS: Final = "/proc/cpuinfo"
PROCESSORS_READ_BYTES: Final = 8192
"""The first one, whole."""
KEPT_AWAKE_MAX: Final = 8
"""Processors that are kept awake without being asked to."""


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


def waking_takes_long() -> bool:
    """Whether idle processors should be kept awake by default, and can be: those of a virtual machine, where the host
    has to be asked to run one again, which takes ten times as long as a request. Where there are many, too many would
    be kept from sleeping for one or two that are needed."""
    try:
        with open(PROCESSORS, "rb") as file:
            is_guest = b" hypervisor" in file.read(PROCESSORS_READ_BYTES)
    except OSError:
        return False
    return is_guest and (os.cpu_count() or 1) <= KEPT_AWAKE_MAX and os.access(LATENCY_DEVICE, os.W_OK)


class Latency:
    """While held, idle processors stay out of the sleep states that take long to leave."""

    def __init__(self, wanted: bool = True) -> None:
        self._descriptor = -1
        self.available = wanted and os.access(LATENCY_DEVICE, os.W_OK)

    def hold(self) -> None:
        """Ask for no latency at all; called all the time while requests come."""
        if self._descriptor >= 0 or not self.available:
            return
        try:
            self._descriptor = os.open(LATENCY_DEVICE, os.O_WRONLY | os.O_CLOEXEC)
            os.write(self._descriptor, bytes(4))
        except OSError:
            self.available = False
            self.release()

    def release(self) -> None:
        """Let them sleep."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
