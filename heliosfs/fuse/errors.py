"""The one place where exceptions become the errno that a caller sees.

    Refusal                       its errno
    Corruption                    EIO, logged once for each damaged thing
    OSError of the store's disk   ENOSPC or EDQUOT when that is the cause, otherwise EIO, logged
    anything else                 EIO: a mistake of ours, logged once for each place, counted; the mount goes on

Every request handler is wrapped (see `handler`), so that no exception reaches pyfuse3's loop, which would
end.
"""

import errno
import logging
import traceback

from pyfuse3 import FUSEError

from heliosfs.base.errors import Corruption, HeliosError, Refusal

log = logging.getLogger(__name__)

LOGGED_MAX = 1000
"""Different faults that are logged; more would only fill the log."""
SHOWN_CHARACTERS = 200
"""Of each argument in the log: a write's data may be a megabyte."""


class Faults:
    """Counts and reports what went wrong, each thing once."""

    def __init__(self) -> None:
        self.corruptions = 0
        self.disk_errors = 0
        self.mistakes = 0
        self._logged: set[tuple[object, ...]] = set()

    def errno_of(self, error: Exception, where: str, arguments: tuple[object, ...] = ()) -> int:
        """What to tell the caller about an exception."""
        if isinstance(error, Refusal):
            return error.errno
        if isinstance(error, FUSEError):
            return error.errno
        if isinstance(error, Corruption):
            self.corruptions += 1
            if self._is_new("corruption", error.what, error.where, error.digest):
                log.error("%s: %s (in %s)", where, error, _shown(arguments))
            return errno.EIO
        if isinstance(error, OSError):
            return self._of_disk(error, where)
        self.mistakes += 1
        place = traceback.extract_tb(error.__traceback__)
        last = (place[-1].filename, place[-1].lineno) if place else ()
        if self._is_new(where, type(error), *last):
            log.error("%s(%s) failed", where, _shown(arguments), exc_info=error)
        return errno.ENOMEM if isinstance(error, MemoryError) else errno.EIO

    def _of_disk(self, error: OSError, where: str) -> int:
        self.disk_errors += 1
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error.errno
        if self._is_new("disk", where, error.errno):
            log.error("%s: the store failed: %s", where, error, exc_info=error)
        return errno.EIO

    def _is_new(self, *what: object) -> bool:
        if what in self._logged or len(self._logged) >= LOGGED_MAX:
            return False
        self._logged.add(what)
        return True

    def statistics(self) -> dict[str, int]:
        """Numbers for `stats`."""
        return {"corruptions": self.corruptions, "disk_errors": self.disk_errors, "mistakes": self.mistakes}


def told(error: Exception) -> str:
    """An exception in words for whoever asked for what failed."""
    if isinstance(error, Refusal | HeliosError | OSError):
        return str(error)
    return "an internal mistake; the daemon's log has the details"


def _shown(arguments: tuple[object, ...]) -> str:
    return ", ".join(repr(each)[:SHOWN_CHARACTERS] for each in arguments)
