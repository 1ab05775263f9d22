"""The clock that stamps files and operations.

File times come from the kernel's coarse clock, the one that stamps files on the host's own
filesystems and that the kernel hands us with a `touch`: mixing it with the precise clock would let a
file that was touched after another was written look older.
"""

import time

from heliosfs.base.limits import TIME_NANOSECONDS_MAX, TIME_NANOSECONDS_MIN

_COARSE = getattr(time, "CLOCK_REALTIME_COARSE", time.CLOCK_REALTIME)
_read = time.clock_gettime_ns


def now() -> int:
    """The time in nanoseconds since 1970 (UTC), in steps of a kernel tick (1 to 4 ms)."""
    return _read(_COARSE)


def representable(time: int) -> int:
    """The nearest time to one that a program asks for which a record can hold."""
    return max(TIME_NANOSECONDS_MIN, min(time, TIME_NANOSECONDS_MAX))
