"""What wraps every request handler: counting, waiting, and that no exception gets through."""

import errno
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest
import trio
from pyfuse3 import FUSEError

from heliosfs.base.errors import Refusal
from heliosfs.fuse.errors import Faults
from heliosfs.fuse.handler import handler
from heliosfs.fuse.loop import Activity


class Handlers:
    def __init__(self) -> None:
        self.requests: dict[str, int] = Counter()
        self.faults = Faults()
        self.activity = Activity()
        self.seen = -1

    @handler
    def lookup(self, number: int) -> int:
        """Docstring."""
        if number < 0:
            raise Refusal(-number)
        return number + 1

    @handler
    def fsync(self, number: int) -> Coroutine[Any, Any, int]:
        return self._wait(number)

    async def _wait(self, number: int) -> int:
        self.seen = self.activity.waiting
        await trio.lowlevel.checkpoint()
        if number < 0:
            raise Refusal(-number)
        return number + 2

    @handler
    def direct(self) -> None:
        raise FUSEError(errno.ENOTEMPTY)

    @handler
    def mistaken(self) -> None:
        raise IndexError


def test_answers_and_counts() -> None:
    handlers = Handlers()
    assert trio.run(handlers.lookup, 1) == 2
    assert trio.run(handlers.fsync, 1) == 3
    assert dict(handlers.requests) == {"lookup": 1, "fsync": 1}


def test_a_handler_that_waits_is_known_to_wait_until_it_ends() -> None:
    handlers = Handlers()
    trio.run(handlers.fsync, 1)
    assert (handlers.seen, handlers.activity.waiting) == (1, 0)
    with pytest.raises(FUSEError):
        trio.run(handlers.fsync, -errno.EIO)
    assert handlers.activity.waiting == 0


@pytest.mark.parametrize("name", ["lookup", "fsync"])
def test_every_exception_becomes_an_errno(name: str) -> None:
    handlers = Handlers()
    with pytest.raises(FUSEError) as caught:
        trio.run(getattr(handlers, name), -errno.EBUSY)
    assert caught.value.errno == errno.EBUSY
    with pytest.raises(FUSEError) as caught:
        trio.run(handlers.direct)
    assert caught.value.errno == errno.ENOTEMPTY
    with pytest.raises(FUSEError) as caught:
        trio.run(handlers.mistaken)
    assert caught.value.errno == errno.EIO and handlers.faults.mistakes == 1


def test_the_kernel_is_never_told_that_a_request_does_not_exist() -> None:
    """ENOSYS would turn the request off for the whole life of the mount."""
    with pytest.raises(FUSEError) as caught:
        trio.run(Handlers().lookup, -errno.ENOSYS)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_it_looks_like_what_it_wraps() -> None:
    assert Handlers.lookup.__name__ == "lookup" and Handlers.lookup.__doc__ == "Docstring."
