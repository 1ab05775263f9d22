"""Snapshots that a copying program is filling.

Such a snapshot began empty. It takes changes from the process that made it alone, until that process exits
(or, when it is one file made by any other program, until that is closed); then it is frozen for good.
"""

import errno
import os
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from heliosfs.base.errors import Refusal
from heliosfs.fuse import processes
from heliosfs.fuse.errors import Faults
from heliosfs.view.inode import Inode
from heliosfs.view.view import View
from heliosfs.volume.branch import Snapshot

FORKING_COPIERS: Final = (b"rsync",)
"""These fill from a child of the process that made the directory."""

Spawn = Callable[[Callable[[], Awaitable[None]]], None]
"""Starts a task that lives as long as the mount."""


class Filling:
    """One snapshot that is being filled. `process` is 0 when who made it is not known."""

    def __init__(self, snapshot: Snapshot, process: int, command: bytes, until_closed: bool) -> None:
        self.snapshot = snapshot
        self.process = process
        self.until_closed = until_closed
        self.writers = 0
        self._children_too = command in FORKING_COPIERS
        self._admitted: set[int] = set()

    def admits(self, thread: int) -> bool:
        """Whether a thread may fill it."""
        if thread in self._admitted:
            return True
        process, parent = processes.identity(thread)
        if not process or self.process not in ((process, parent) if self._children_too else (process,)):
            return False
        self._admitted.add(thread)
        return True


class Fillings:
    """All snapshots that are being filled, by the numbers of their views."""

    def __init__(self, settle: Callable[[Snapshot], None], faults: Faults) -> None:
        self.active: dict[int, Filling] = {}
        self.spawn: Spawn | None = None
        self._settle = settle
        self._faults = faults

    def begin(self, snapshot: Snapshot, view: View, process: int, command: bytes, *, until_closed: bool) -> None:
        """From now on until the process exits, or until its file is closed."""
        filling = Filling(snapshot, process, command, until_closed)
        self.active[view.number] = filling
        if process:
            assert self.spawn is not None
            self.spawn(lambda: self._wait_for_exit(view.number, filling))

    def check(self, view: View, thread: int) -> None:
        """EROFS for everybody but those who fill it."""
        filling = self.active.get(view.number)
        if filling is not None and not filling.admits(thread):
            raise Refusal(errno.EROFS, "the snapshot is being filled by another process")

    def opened(self, inode: Inode) -> None:
        """A file was opened for writing."""
        filling = self.active.get(inode.view.number)
        if filling is not None:
            filling.writers += 1

    def closed(self, inode: Inode) -> None:
        """A file that was open for writing was closed."""
        filling = self.active.get(inode.view.number)
        if filling is not None:
            filling.writers -= 1
            if filling.until_closed and not filling.writers:
                self.end(inode.view.number)

    def end(self, number: int) -> None:
        """Freeze it for good."""
        filling = self.active.pop(number, None)
        if filling is None or filling.snapshot.dropped:
            return
        try:
            self._settle(filling.snapshot)
        except Exception as error:
            self._faults.errno_of(error, "settling a snapshot")

    async def _wait_for_exit(self, number: int, filling: Filling) -> None:
        try:
            descriptor = os.pidfd_open(filling.process)
        except OSError:
            pass
        else:
            try:
                await trio.lowlevel.wait_readable(descriptor)
            finally:
                os.close(descriptor)
        if self.active.get(number) is filling:
            self.end(number)
