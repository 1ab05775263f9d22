"""What every request handler is wrapped in.

A handler is a plain function: it runs to its end without giving way, so it sees and leaves a consistent
state. One that must wait for something returns a coroutine, which is awaited.
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


S = TypeVar("S", bound=Handlers)


def handler(
    function: Callable[Concatenate[S, P], R | Coroutine[Any, Any, R]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Make the handler that pyfuse3 calls: counted, awaited where that is needed, every exception an
    errno."""
    kind = function.__name__

    async def handle(self: S, /, *arguments: P.args, **none: P.kwargs) -> R:
        self.requests[kind] += 1
        try:
            result = function(self, *arguments, **none)
            if result.__class__ is CoroutineType:
                self.activity.waiting += 1
                try:
                    return await result  # type: ignore[no-any-return]
                finally:
                    self.activity.waiting -= 1
            return result  # type: ignore[return-value]
        except FUSEError:
            raise
        except Exception as error:
            code = self.faults.errno_of(error, kind, arguments)
            raise FUSEError(errno.EOPNOTSUPP if code == errno.ENOSYS else code) from None

    functools.update_wrapper(handle, function)
    return handle
