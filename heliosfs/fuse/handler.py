"""What every request handler is wrapped in.

A handler is a plain function: it runs to its end without giving way, so it sees and leaves a consistent
state. One that must wait for something returns a coroutine, which is awaited. A plain one that finds the disk
full has changed nothing, and is called once more when room could be made.
"""

import errno
import functools
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from pyfuse3 import FUSEError

from heliosfs.fuse.errors import Faults
from heliosfs.fuse.loop import Activity

P = ParamSpec("P")
R = TypeVar("R")


class Handlers(Protocol):
    """What is needed of the object whose methods are wrapped."""

    requests: dict[str, int]
    faults: Faults
    activity: Activity

    async def make_room(self) -> bool:
        """Whether there is room on a disk that was found full."""


S = TypeVar("S", bound=Handlers)


def handler(
    function: Callable[Concatenate[S, P], R | Coroutine[Any, Any, R]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Make the handler that pyfuse3 calls: counted, awaited where that is needed, every exception an
    errno."""
    kind = function.__name__

    async def handle(self: S, /, *arguments: P.args, **none: P.kwargs) -> R:
        self.requests[kind] += 1
        suspended = False
        try:
            result = function(self, *arguments, **none)
            if result.__class__ is CoroutineType:
                suspended = True
                self.activity.waiting += 1
                try:
                    return await result  # type: ignore[no-any-return]
                finally:
                    self.activity.waiting -= 1
            return result  # type: ignore[return-value]
        except FUSEError:
            raise
        except Exception as error:
            failure = error
        try:
            if not suspended and _is_full_disk(failure) and await _make_room(self):
                result = function(self, *arguments, **none)
                return await result if result.__class__ is CoroutineType else result  # type: ignore
        except FUSEError:
            raise
        except Exception as error:
            failure = error
        code = self.faults.errno_of(failure, kind, arguments)
        raise FUSEError(errno.EOPNOTSUPP if code == errno.ENOSYS else code) from None

    functools.update_wrapper(handle, function)
    return handle


def _is_full_disk(failure: Exception) -> bool:
    return isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT)


async def _make_room(handlers: Handlers) -> bool:
    handlers.activity.waiting += 1
    try:
        return await handlers.make_room()
    finally:
        handlers.activity.waiting -= 1
