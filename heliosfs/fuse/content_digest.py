"""The extended attribute `user.heliosfs.digest`: the BLAKE3 digest of a file's content, as `b3sum` prints it.

It is found by name and not listed, so that no tool copies it along. It is computed when asked for, a piece
at a time with other requests in between, and remembered while the file does not change.
"""

import errno
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any, Final

import trio

from heliosfs.base.clock import now
from heliosfs.base.digests import hasher
from heliosfs.base.errors import Refusal
from heliosfs.fuse.handles import SETTLED_NANOSECONDS
from heliosfs.view.inode import Inode

PREFIX: Final = b"user.heliosfs."
"""Attributes of this kind are ours: nobody sets or removes them."""
NAME: Final = b"user.heliosfs.digest"
PIECE_BYTES: Final = 1 << 20
REMEMBERED_MAX: Final = 4096
ATTEMPTS: Final = 3
"""A file that changes under every one of these is too busy to have a digest."""


class ContentDigests:
    """Computes and remembers them."""

    def __init__(self) -> None:
        self._remembered: OrderedDict[tuple[int, int], tuple[int, int, bytes]] = OrderedDict()

    def get(self, inode: Inode, name: bytes) -> bytes | Coroutine[Any, Any, bytes]:
        """The value of an attribute whose name begins with PREFIX."""
        if name != NAME or not inode.is_file:
            raise Refusal(errno.ENODATA)
        remembered = self._remembered.get(_place(inode))
        if remembered is not None and remembered[:2] == (inode.ctime, inode.size):
            return remembered[2]
        if inode.size <= PIECE_BYTES:
            return self._remember(inode, hasher(inode.view.read(inode, 0, PIECE_BYTES)).hexdigest())
        return self._compute(inode)

    async def _compute(self, inode: Inode) -> bytes:
        for _ in range(ATTEMPTS):
            state = (inode.ctime, inode.size)
            content = hasher()
            for offset in range(0, inode.size, PIECE_BYTES):
                content.update(inode.view.read(inode, offset, PIECE_BYTES))
                await trio.lowlevel.checkpoint()
            if (inode.ctime, inode.size) == state:
                return self._remember(inode, content.hexdigest())
        raise Refusal(errno.EBUSY, "the file keeps changing")

    def _remember(self, inode: Inode, digest: str) -> bytes:
        value = digest.encode("ascii")
        if _is_settled(inode):
            self._remembered[_place(inode)] = (inode.ctime, inode.size, value)
            if len(self._remembered) > REMEMBERED_MAX:
                self._remembered.popitem(last=False)
        return value


def _place(inode: Inode) -> tuple[int, int]:
    return inode.view.number, inode.ino


def _is_settled(inode: Inode) -> bool:
    """Whether another change would show in the change time: the clock is coarse."""
    return inode.ctime < now() - SETTLED_NANOSECONDS
