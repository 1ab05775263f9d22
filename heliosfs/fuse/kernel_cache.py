"""What the kernel remembers of us, and how it is told to forget.

The kernel keeps names and attributes for as long as we allow, which is for ever: nobody else changes the
volume. So every change that does not come in as a request (a restore, a verb) must be announced.

Both kinds of invalidation can block: one waits for a directory's lock, which a client may hold that waits
for an answer of ours; the other writes dirty pages back, which are requests to us. So they run in a worker
thread, and never within a request on the same directory or file. Expiring all names takes no lock and is
safe anywhere.
"""

import ctypes
import errno
import logging
import os
import select
import struct
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import pyfuse3
import trio

log = logging.getLogger(__name__)

_INC_EPOCH: Final = 8
_NOTIFY_EXPIRE_ALL: Final = struct.pack("<IiQ", 16, _INC_EPOCH, 0)
"""struct fuse_out_header: length, notification code, no request."""

_UNKNOWN_TO_KERNEL: Final = (errno.ENOENT, errno.ENOTDIR, errno.ENOTCONN, errno.ENODEV)
"""There is nothing to forget, or no mount any more."""


QUEUED_TURNS_MAX: Final = 4096
"""Turns given to the request loop until its queue is empty. Under a load that never pauses it may never be; after
so many, all that was queued at the beginning is served."""

_libc = ctypes.CDLL(None, use_errno=True)


class KernelCache:
    """Notifications to the kernel of one mount."""

    def __init__(self, mountpoint: str, held_up: Callable[[], Awaitable[bool]]) -> None:
        """`held_up` returns once no write waits for room that does so now, and says whether one did."""
        self.can_expire_names = False
        self._held_up = held_up
        self._mountpoint = mountpoint
        self._descriptor = -1

    def probe(self, descriptor: int) -> None:
        """See whether this kernel can expire all names at once (Linux 6.16 and later)."""
        self._descriptor = descriptor
        if descriptor >= 0:
            self.can_expire_names = True
            self.expire_names()

    def expire_names(self) -> bool:
        """Every name of the mount is looked up again at its next use; False if this kernel cannot."""
        if self.can_expire_names:
            try:
                os.write(self._descriptor, _NOTIFY_EXPIRE_ALL)
            except OSError:
                self.can_expire_names = False
        return self.can_expire_names

    async def write_back(self) -> None:
        """Have dirty pages of shared mappings written to us, and take them in, before this returns."""
        await trio.to_thread.run_sync(_sync_filesystem, self._mountpoint)
        await self._serve_what_is_queued()

    async def _serve_what_is_queued(self) -> None:
        """syncfs starts the writes of a FUSE filesystem and does not wait for them: some may still be queued. Once
        nothing is, and none of those that were taken from the queue waits, all of them were served."""
        if self._descriptor < 0:
            return
        queue = select.poll()
        queue.register(self._descriptor, select.POLLIN)
        for _ in range(QUEUED_TURNS_MAX):
            if not queue.poll(0) and not await self._held_up():
                return
            await trio.lowlevel.checkpoint()

    async def forget(
        self,
        inodes: Iterable[int] = (),
        attributes: Iterable[int] = (),
        names: Iterable[tuple[int, bytes]] = (),
    ) -> None:
        """Forget the content and attributes of `inodes`, only the latter of `attributes`, and `names` in
        directories."""
        await trio.to_thread.run_sync(_forget, list(inodes), list(attributes), list(names))


def _sync_filesystem(mountpoint: str) -> None:
    # Not pyfuse3.syncfs, which holds the interpreter's lock while the kernel waits for our answers.
    try:
        root = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        log.warning("cannot open %s to write dirty pages back: %s", mountpoint, error)
        return
    try:
        if _libc.syncfs(root) != 0:
            log.warning("syncfs of %s: %s", mountpoint, os.strerror(ctypes.get_errno()))
    finally:
        os.close(root)


def _forget(inodes: list[int], attributes: list[int], names: list[tuple[int, bytes]]) -> None:
    for number in inodes:
        try:
            pyfuse3.invalidate_inode(pyfuse3.InodeT(number))
        except OSError as error:
            _report(error, number)
    for number in attributes:
        try:
            pyfuse3.invalidate_inode(pyfuse3.InodeT(number), attr_only=True)
        except OSError as error:
            _report(error, number)
    for parent, name in names:
        try:
            pyfuse3.invalidate_entry(pyfuse3.InodeT(parent), pyfuse3.FileNameT(name))
        except OSError as error:
            _report(error, parent)


def _report(error: OSError, number: int) -> None:
    if error.errno not in _UNKNOWN_TO_KERNEL:
        log.warning("the kernel did not forget inode %d: %s", number, error)
